"""Predictions as rows: CSV, JSON lines, or lines for people."""

import csv
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from cifar10_runtime.classifier import Prediction
from cifar10_runtime.errors import UsageError

Write = Callable[[Prediction], None]
Value = str | float | None


def row(prediction: Prediction, top_k: int) -> dict[str, Value]:
    """The columns path, label, probability, error, then label_2, probability_2, ... to ``top_k``."""
    values: dict[str, Value] = {"path": prediction.path, "label": None, "probability": None}
    values["error"] = prediction.error or None
    for rank in range(1, top_k + 1):
        suffix = "" if rank == 1 else f"_{rank}"
        label, probability = prediction.ranking[rank - 1] if prediction.ranking else (None, None)
        values[f"label{suffix}"] = label
        values[f"probability{suffix}"] = None if probability is None else round(probability, 6)
    return values


def _csv_writer(file: IO[str], top_k: int) -> Write:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(row(Prediction("", ()), top_k))
    # Before Python 3.12 a carriage return is not quoted where lines end without one.
    quoting = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)

    def write(prediction: Prediction) -> None:
        (quoting if "\r" in prediction.path else writer).writerow(row(prediction, top_k).values())

    return write


def _jsonl_writer(file: IO[str], top_k: int) -> Write:
    return lambda prediction: print(json.dumps(row(prediction, top_k)), file=file)


def table_writer(file: IO[str], top_k: int) -> Write:
    """Lines for people: the best labels with their probabilities, then the path."""

    def write(prediction: Prediction) -> None:
        best = [f"{label:<12}{probability:7.2%}" for label, probability in prediction.ranking[:top_k]]
        print(
            "  ".join([*best, prediction.path] if best else [f"error: {prediction.error}", prediction.path]), file=file
        )

    return write


WRITERS = {".csv": _csv_writer, ".jsonl": _jsonl_writer}
"""The writer for each suffix of an output file."""


@contextmanager
def open_output(path: Path, top_k: int) -> Iterator[Write]:
    """A function that writes predictions to ``path``, which appears, complete, when the block ends without an error.

    Raises:
        UsageError: the suffix is none of ``WRITERS``, there is no such folder, or the path is taken by no file.
        OSError: it cannot be written; names ``path``.
    """
    make_writer = WRITERS.get(path.suffix.lower())
    if make_writer is None:
        raise UsageError(f"--output {path}: the name must end in {' or '.join(WRITERS)}")
    if not path.parent.is_dir():
        raise UsageError(f"--output {path}: the folder {path.parent} does not exist")
    if path.exists() and not path.is_file():
        raise UsageError(f"--output {path} exists and is not a regular file")
    path = path.resolve()  # a link stays a link
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            yield make_writer(file, top_k)
        os.replace(temporary, path)
    except OSError as error:  # a full disk comes without a name, others with that of the temporary file
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)
