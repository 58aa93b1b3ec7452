"""Check the options of cifar10-infer before images or a model are loaded."""

import os
import sys
from pathlib import Path

from cifar10_runtime.engine.classifier import LARGEST_BATCH
from cifar10_runtime.errors import UsageError
from cifar10_runtime.options import InferOptions


def check_options(options: InferOptions) -> None:
    """Check every option that needs neither the images nor the model.

    Raises:
        UsageError: An option cannot be used; the message names it.
    """
    if not options.paths and options.files_from is None:
        raise UsageError("name the folders or files to classify: cifar10-infer images/")
    _check_numbers(options)
    _check_output(options)
    if options.report:
        _check_report(options.report, options.overwrite)
    _check_sorting(options)


def _check_numbers(options: InferOptions) -> None:
    if options.batch_size is not None and not 1 <= options.batch_size <= LARGEST_BATCH:
        raise UsageError(f"--batch-size must be between 1 and {LARGEST_BATCH}, not {options.batch_size}")
    if options.max_pixels < 1:
        raise UsageError(f"--max-pixels must be 1 or more, not {options.max_pixels}")
    if options.max_failures is not None and options.max_failures < 0:
        raise UsageError(f"--max-failures must be 0 or more, not {options.max_failures}")


def _check_output(options: InferOptions) -> None:
    to_file = options.output not in (None, "-")
    if options.resume and not to_file:
        raise UsageError("--resume needs --output with the name of the file whose run was interrupted")
    if options.format and to_file:
        raise UsageError("--format is for stdout; the suffix of --output sets the format of a file")
    rows_are_json = options.format == "jsonl" or str(options.output).lower().endswith((".parquet", ".jsonl"))
    if options.features and not rows_are_json:
        raise UsageError("--features needs --output NAME.parquet or NAME.jsonl, or --format jsonl")
    if not to_file and sys.stdout is None:
        raise UsageError("stdout is closed: name a file with --output")


def _check_report(report: Path, overwrite: bool) -> None:
    """Check that the report can be written, because it is written last: an error then could cost hours of work."""
    if report.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--report {report}: the name must end in .html")
    if not os.access(report.parent, os.W_OK):
        raise UsageError(f"--report {report}: the folder {report.parent} does not exist or is not writable")
    if report.exists() and not report.is_file():
        raise UsageError(f"--report {report} exists and is not a regular file")
    if report.exists() and not overwrite:
        raise UsageError(f"--report {report} exists: --overwrite replaces it")


def _check_sorting(options: InferOptions) -> None:
    folder = options.sort_into
    if folder is None:
        if options.sort_by != InferOptions.sort_by:
            raise UsageError(f"--sort-by {options.sort_by} needs --sort-into with the name of a folder")
        return
    parent = os.path.dirname(os.path.abspath(folder)) if folder else ""
    if not os.path.isdir(parent):
        raise UsageError(f"--sort-into {folder}: the folder {parent} does not exist")
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise UsageError(f"--sort-into {folder} exists and is not a folder")
