"""What cifar10-infer does: from paths to rows."""

import hashlib
import json
import os
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from cifar10_runtime.atomic import write_file
from cifar10_runtime.cli.signals import signals_raise
from cifar10_runtime.engine.classifier import LARGEST_BATCH, Classifier
from cifar10_runtime.engine.open import open_classifier
from cifar10_runtime.errors import OutputError, TooManyFailures, UsageError
from cifar10_runtime.images import find as files
from cifar10_runtime.options import InferOptions
from cifar10_runtime.prediction import Prediction
from cifar10_runtime.results.rows import FORMATS, Table
from cifar10_runtime.results.tally import Tally
from cifar10_runtime.results.writer import ID_DIGITS, OutputFile, Sink, to_stream
from cifar10_runtime.text import printable, valid_unicode

if TYPE_CHECKING:
    from cifar10_runtime.results.page import Report


def run(options: InferOptions) -> int:
    """Classify what ``options`` say and return the number of images that failed."""
    _check(options)
    paths = _paths(options)
    warnings.filterwarnings("ignore", module="PIL")  # what matters is in the rows
    Image.MAX_IMAGE_PIXELS = None  # --max-pixels is the limit
    classifier = open_classifier(options)  # never closed: after an interruption its threads may be busy for long
    tally = Tally(classifier.labels)
    report = _new_report(options, classifier.labels) if options.report else None

    def take(prediction: Prediction) -> None:
        tally.add(prediction)
        if report:
            report.add(prediction)
        _check_failures(tally, prediction, options)

    start = time.perf_counter()
    with _destination(options, classifier) as (finished, rows):
        for prediction in _checked(finished, paths):
            take(prediction)
        before = tally.images
        for prediction in _with_progress_bar(classifier.classify(paths, options.batch_size), options):
            take(prediction)
            rows.add(prediction)
    rate = (tally.images - before) / (time.perf_counter() - start)
    facts = _facts(options, classifier, rate)
    print(f"{tally.summary()}, {facts['Speed']}, device {facts['Device']}, model {facts['Model']}", file=sys.stderr)
    if tally.in_class_folders:
        print(tally.accuracy(), file=sys.stderr)
    if report and options.report:
        title = " ".join(options.paths) or f"files from {options.files_from}"
        facts["Date"] = f"{datetime.now():%Y-%m-%d %H:%M}"
        _write_report(options.report, report.html(title, facts))
    return tally.failed


def _check(options: InferOptions) -> None:
    """What can be known to be wrong before anything is loaded."""
    if not options.paths and options.files_from is None:
        raise UsageError("name the folders or files to classify: cifar10-infer images/")
    if options.batch_size is not None and not 1 <= options.batch_size <= LARGEST_BATCH:
        raise UsageError(f"--batch-size must be between 1 and {LARGEST_BATCH}, not {options.batch_size}")
    if options.max_pixels < 1:
        raise UsageError(f"--max-pixels must be 1 or more, not {options.max_pixels}")
    if options.max_failures is not None and options.max_failures < 0:
        raise UsageError(f"--max-failures must be 0 or more, not {options.max_failures}")
    to_file = options.output not in (None, "-")
    if options.resume and not to_file:
        raise UsageError("--resume needs the file that was interrupted: name it by --output")
    if options.format and to_file:
        raise UsageError("--format is for stdout; the name of --output says the format of a file")
    if not to_file and sys.stdout is None:
        raise UsageError("stdout is closed: name a file by --output")
    if report := options.report:
        _check_report(report, options)


def _check_report(report: Path, options: InferOptions) -> None:
    """It is written last, when it would be a pity if it could not be."""
    if report.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--report {report}: the name must end in .html")
    if not os.access(report.parent, os.W_OK):
        raise UsageError(f"--report {report}: there is no folder {report.parent} that can be written to")
    if report.exists() and not report.is_file():
        raise UsageError(f"--report {report} exists and is not a regular file")
    if report.exists() and not options.overwrite:
        raise UsageError(f"--report {report} exists: --overwrite replaces it")


def _paths(options: InferOptions) -> Iterator[str]:
    listed = files.read_path_list(options.files_from) if options.files_from is not None else iter(())
    paths = chain(files.find(options.paths), listed)
    first = next(paths, None)
    if first is None:
        where = " ".join([*options.paths, *([f"--files-from {options.files_from}"] if options.files_from else [])])
        raise UsageError(f"no images ({' '.join(files.SUFFIXES)}) in {where}")
    paths = chain([first], paths)
    return iter(files.shard(paths, *options.shard)) if options.shard else paths


@contextmanager
def _destination(options: InferOptions, classifier: Classifier) -> Iterator[tuple[Iterable[Prediction], Sink]]:
    """Predictions that are there from an earlier run, and where all others go."""
    if options.output not in (None, "-"):
        identity, batch_size = _identity(options, classifier), options.batch_size or classifier.batch_size
        file = OutputFile(
            Path(str(options.output)), options.top_k, identity, batch_size, options.resume, options.overwrite
        )
        if file.is_complete:
            print(f"{options.output} is complete: there is nothing left to classify", file=sys.stderr)
        try:
            with signals_raise(), file.open() as destination:
                yield destination
        except UsageError:  # nothing was done
            raise
        except BaseException:
            if left := file.left():
                print(left, file=sys.stderr)
            raise
        return
    for_people = options.output is None and options.format is None
    layout = Table(options.top_k) if for_people else FORMATS[options.format or "csv"](options.top_k)
    with open(1, "wb", buffering=0, closefd=False) as stdout:
        try:
            with signals_raise(), to_stream(stdout, layout) as rows:
                yield (), rows
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"stdout cannot be written: {error.strerror}") from error


def _identity(options: InferOptions, classifier: Classifier) -> str:
    """Digest of all that decides on the rows but the files themselves."""
    decisive = [
        classifier.model_sha256,
        classifier.labels,
        classifier.device,
        options.tf32,
        options.batch_size or classifier.batch_size,
        options.background,
        options.max_pixels,
        options.top_k,
    ]
    return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()[:ID_DIGITS]


def _checked(finished: Iterable[Prediction], paths: Iterator[str]) -> Iterator[Prediction]:
    """What was classified earlier, taken from ``paths``."""
    for prediction in finished:
        path = next(paths, None)
        if path is None or prediction.path not in (path, valid_unicode(path)):  # the latter in Parquet
            raise UsageError(
                f"--resume: the images have changed: there was {prediction.path}, now there is {path or 'none'}; begin "
                "anew with --overwrite instead of --resume"
            )
        yield prediction


def _check_failures(tally: Tally, prediction: Prediction, options: InferOptions) -> None:
    most = 0 if options.strict else options.max_failures
    if prediction.error and most is not None and tally.failed > most:
        option = "--strict" if options.strict else f"--max-failures {most}"
        raise TooManyFailures(f"{prediction.path}: {prediction.error} ({option})")


def _with_progress_bar(predictions: Iterable[Prediction], options: InferOptions) -> Iterable[Prediction]:
    """A bar on stderr where that is a terminal on which nothing else is shown."""
    rows_are_shown = options.output in (None, "-") and sys.stdout.isatty()
    if rows_are_shown or not sys.stderr.isatty():
        return predictions
    from tqdm import tqdm  # late, for it takes a tenth of the time to the first prediction

    bar: Iterable[Prediction] = tqdm(predictions, unit=" images")
    return bar


def _facts(options: InferOptions, classifier: Classifier, rate: float) -> dict[str, str]:
    about = classifier.metadata
    trained = printable(f"({about.get('dataset', 'unknown data')}, step {about.get('step', 'unknown')})")
    return {
        "Speed": f"{rate:.0f} images/s",
        "Device": classifier.device,
        "Model": f"{options.model} {trained}",
    }


def _new_report(options: InferOptions, labels: tuple[str, ...]) -> "Report":
    from cifar10_runtime.results.page import Report  # late, like the bar

    return Report(labels, options.background, options.max_pixels)


def _write_report(path: Path, page: str) -> None:
    path = path.resolve()  # a link stays a link
    try:
        with signals_raise():
            write_file(path, page.encode("utf-8"))
    except OSError as error:
        raise OutputError(f"--report {path} cannot be written: {error.strerror}") from error
