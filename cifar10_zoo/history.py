"""The evaluations of a training, kept beside its checkpoints in ``evaluations.csv``."""

import csv
from dataclasses import asdict, dataclass, fields
from pathlib import Path

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
    """Append a row, unless it is there already."""
    path = folder / FILE_NAME
    if evaluation in read(folder):
        return
    with open(path, "a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Evaluation)], lineterminator="\n")
        if file.tell() == 0:
            writer.writeheader()
        writer.writerow(asdict(evaluation))


def read(folder: Path) -> list[Evaluation]:
    """All rows, in the order of evaluation."""
    path = folder / FILE_NAME
    if not path.exists():
        return []
    with open(path, encoding="utf-8", newline="") as file:
        return [
            Evaluation(int(row["step"]), row["eval_data"], int(row["images"]), float(row["precision"]))
            for row in csv.DictReader(file)
        ]


def best_step(folder: Path) -> int | None:
    """The step of the highest precision on test images, the latest of equals; None before any evaluation."""
    tests = [row for row in read(folder) if row.eval_data == "test"]
    return max(tests, key=lambda row: (row.precision, row.step)).step if tests else None
