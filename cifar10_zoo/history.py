"""The evaluations of a training, kept beside its checkpoints in ``evaluations.csv``."""

import csv
import io
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from cifar10_zoo import atomic

FILE_NAME = "evaluations.csv"


@dataclass(frozen=True)
class Evaluation:
    """One row of the file."""

    step: int
    eval_data: str
    """``test`` or ``train_eval``."""
    images: int
    precision: float
    """Precision @ 1 of the averaged weights, 0 to 1."""


def record(folder: Path, evaluation: Evaluation) -> None:
    """Add a row, unless it is there already."""
    rows = read(folder)
    if evaluation in rows:
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Evaluation)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in [*rows, evaluation])
    atomic.write_file(folder / FILE_NAME, text.getvalue().encode())


def read(folder: Path) -> list[Evaluation]:
    """All rows, in the order of evaluation; what is no row is passed over."""
    path = folder / FILE_NAME
    if not path.exists():
        return []
    rows = []
    for row in csv.DictReader(path.read_text(encoding="utf-8", errors="replace").splitlines()):
        with suppress(KeyError, TypeError, ValueError):
            rows.append(Evaluation(int(row["step"]), row["eval_data"], int(row["images"]), float(row["precision"])))
    return rows


def best_step(folder: Path) -> int | None:
    """The step of the highest precision on test images, the latest of equals; None before any evaluation."""
    tests = [row for row in read(folder) if row.eval_data == "test"]
    return max(tests, key=lambda row: (row.precision, row.step)).step if tests else None
