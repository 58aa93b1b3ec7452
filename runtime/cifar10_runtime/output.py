"""Predictions as rows: CSV, JSON lines, or lines for people."""

import csv
import json
import math
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
    failed = not prediction.ranking
    values: dict[str, Value] = {
        "path": prediction.path,
        "label": None if failed else prediction.label,
        "probability": None if failed else round(prediction.probability, 6),
        "error": prediction.error or None,
    }
    for rank in range(2, top_k + 1):
        label, probability = prediction.ranking[rank - 1] if not failed else (None, math.nan)
        values[f"label_{rank}"] = label
        values[f"probability_{rank}"] = None if failed else round(probability, 6)
    return values


def _csv_writer(file: IO[str], top_k: int) -> Write:
    writer = csv.DictWriter(file, row(Prediction("", ()), top_k), lineterminator="\n")
    writer.writeheader()
    return lambda prediction: writer.writerow(row(prediction, top_k))


def _jsonl_writer(file: IO[str], top_k: int) -> Write:
    return lambda prediction: print(json.dumps(row(prediction, top_k), ensure_ascii=False), file=file)


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
        UsageError: the suffix is none of ``WRITERS``, or there is no such folder.
    """
    make_writer = WRITERS.get(path.suffix.lower())
    if make_writer is None:
        raise UsageError(f"--output {path}: the name must end in {' or '.join(WRITERS)}")
    if not path.parent.is_dir():
        raise UsageError(f"--output {path}: the folder {path.parent} does not exist")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            yield make_writer(file, top_k)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
