"""The history files of a run, beside its checkpoints: ``losses.csv``, ``validations.csv`` and ``evaluations.csv``."""

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
VALIDATIONS = "validations.csv"

Row = TypeVar("Row", "Evaluation", "Loss", "Validation")


@dataclass(frozen=True)
class Evaluation:
    """One row of ``evaluations.csv``."""

    step: int
    """The step of the checkpoint."""
    eval_data: str
    """``test`` or ``train_eval``."""
    images: int
    """The number of evaluated images."""
    precision: float
    """Top-1 accuracy of the EMA weights, from 0 to 1."""


@dataclass(frozen=True)
class Validation:
    """One row of ``validations.csv``."""

    step: int
    """The number of completed steps."""
    accuracy: float
    """Top-1 accuracy of the EMA weights on the validation images, from 0 to 1."""


@dataclass(frozen=True)
class Loss:
    """One row of ``losses.csv``."""

    step: int
    """The step, counted from 0."""
    total_loss: float
    """The total loss before the update of this step."""
    learning_rate: float
    """The learning rate of the update of this step."""


def record(directory: Path, evaluation: Evaluation) -> None:
    """Add ``evaluation`` to ``evaluations.csv``, unless the file has an equal row."""
    rows = evaluations(directory)
    if evaluation not in rows:
        _write(directory / EVALUATIONS, [*rows, evaluation])


def evaluations(directory: Path) -> list[Evaluation]:
    """Return the rows of ``evaluations.csv`` in file order, without damaged rows."""
    return _read(directory / EVALUATIONS, Evaluation)


def best_step(directory: Path) -> int | None:
    """Return the step with the highest validation accuracy, in a tie the latest step.

    The test accuracy decides in a run without validation images; without any evaluation, the result is None.
    """
    tests = [(row.precision, row.step) for row in evaluations(directory) if row.eval_data == "test"]
    scores = [(row.accuracy, row.step) for row in validations(directory)] or tests
    return max(scores)[1] if scores else None


def validations(directory: Path) -> list[Validation]:
    """Return the rows of ``validations.csv`` in file order, without damaged rows."""
    return _read(directory / VALIDATIONS, Validation)


def write_validations(directory: Path, rows: Sequence[Validation]) -> None:
    """Replace ``validations.csv``."""
    _write(directory / VALIDATIONS, rows)


def losses(directory: Path) -> list[Loss]:
    """Return the rows of ``losses.csv`` in file order, without damaged rows."""
    return _read(directory / LOSSES, Loss)


class Losses:
    """The losses of a run; ``save`` writes them to ``losses.csv``.

    Args:
        directory: The directory of the run.
        next_step: The step that the run continues with. Rows of this step and of later steps are dropped, because the
            run takes these steps again.
    """

    def __init__(self, directory: Path, next_step: int) -> None:
        self._path = directory / LOSSES
        self._rows = [row for row in losses(directory) if row.step < next_step]

    def add(self, row: Loss) -> None:
        """Add the loss of a step."""
        self._rows.append(row)

    def save(self) -> None:
        """Write the file. Call this before a checkpoint is saved, so that no step of the checkpoint is missing."""
        _write(self._path, self._rows)


def _write(path: Path, rows: Sequence[Row]) -> None:
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
