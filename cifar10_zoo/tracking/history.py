"""What a training leaves beside its checkpoints: ``losses.csv`` and ``evaluations.csv``."""

import csv
import io
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from cifar10_runtime import atomic

EVALUATIONS = "evaluations.csv"
LOSSES = "losses.csv"

Row = TypeVar("Row", "Evaluation", "Loss")


@dataclass(frozen=True)
class Evaluation:
    """One row of ``evaluations.csv``."""

    step: int
    eval_data: str
    """``test`` or ``train_eval``."""
    images: int
    precision: float
    """Precision @ 1 of the averaged weights, 0 to 1."""


@dataclass(frozen=True)
class Loss:
    """One row of ``losses.csv``."""

    step: int
    total_loss: float
    """Before the update of this step."""
    learning_rate: float
    """Of the update of this step."""


def record(folder: Path, evaluation: Evaluation) -> None:
    """Add an evaluation, unless it is there already."""
    rows = evaluations(folder)
    if evaluation not in rows:
        _write(folder / EVALUATIONS, [*rows, evaluation])


def evaluations(folder: Path) -> list[Evaluation]:
    """All evaluations, in their order; what is no row is passed over."""
    return _read(folder / EVALUATIONS, Evaluation)


def best_step(folder: Path) -> int | None:
    """The step of the highest precision on test images, the latest of equals; None before any evaluation."""
    tests = [row for row in evaluations(folder) if row.eval_data == "test"]
    return max(tests, key=lambda row: (row.precision, row.step)).step if tests else None


class Losses:
    """The losses of a training in ``folder``, kept in memory between two calls of ``save``.

    Args:
        next_step: the step that training goes on from; later rows, of a run that lost its last steps, are dropped.
    """

    def __init__(self, folder: Path, next_step: int) -> None:
        self._path = folder / LOSSES
        self._rows = [row for row in losses(folder) if row.step < next_step]

    def add(self, row: Loss) -> None:
        """Take in the loss of a step."""
        self._rows.append(row)

    def save(self) -> None:
        """Write the file; before the checkpoint, so that no step which that one holds is missing here."""
        _write(self._path, self._rows)


def losses(folder: Path) -> list[Loss]:
    """All losses on file, in the order of their steps; what is no row is passed over."""
    return _read(folder / LOSSES, Loss)


def _write(path: Path, rows: Sequence[Evaluation] | Sequence[Loss]) -> None:
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, [field.name for field in fields(rows[0])], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    atomic.write_file(path, text.getvalue().encode())


def _read(path: Path, row_type: type[Row]) -> list[Row]:
    if not path.exists():
        return []
    rows = []
    for row in csv.DictReader(path.read_text(encoding="utf-8", errors="replace").splitlines()):
        with suppress(KeyError, TypeError, ValueError):
            values: dict[str, Any] = {f.name: f.type(row[f.name]) for f in fields(row_type)}  # type: ignore[operator]
            rows.append(row_type(**values))
    return rows
