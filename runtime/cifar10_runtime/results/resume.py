"""What earlier runs left: the settings of their rows, rows of an interrupted run, rows of a complete result."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from types import TracebackType

from cifar10_runtime.errors import UsageError
from cifar10_runtime.prediction import Prediction
from cifar10_runtime.results import parquet
from cifar10_runtime.results.rows import Columns, StoredFormat, StoredRow
from cifar10_runtime.results.target import Target

_ID_DIGITS = 8


@dataclass(frozen=True)
class RowSettings:
    """Everything that determines the rows except the images.

    The order of the fields is fixed: ``run_id`` is a digest of their values, and partial files carry it in their names.
    """

    model_sha256: str
    labels: tuple[str, ...]
    device: str
    fast_math: bool
    batch_size: int
    """Images that are classified together."""
    background: str
    max_pixels: int
    top_k: int
    """Labels per row."""
    unknown_rule: tuple[float, str] | None = None
    """As in ``ClassifierOptions``."""
    features: bool = False

    @property
    def columns(self) -> Columns:
        """The columns of the rows."""
        return Columns(self.top_k, self.unknown_rule is not None, self.features)

    @property
    def run_id(self) -> str:
        """Eight hexadecimal digits. Runs with the same id write the same rows for the same images."""
        *values, unknown_rule, features = astuple(self)
        values += filter(None, (unknown_rule, features))  # earlier versions lack them; their files can be resumed
        return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:_ID_DIGITS]

    def agrees_with(self, prediction: Prediction) -> bool:
        """Return whether the label of ``prediction``, which was read from a row, follows ``unknown_rule``."""
        if self.unknown_rule is None or prediction.error:
            return True
        lowest, unknown_label = self.unknown_rule
        if abs(prediction.probability - lowest) < 1e-6:  # rows round probabilities
            return prediction.label in (unknown_label, prediction.top1)
        return prediction.label == (unknown_label if prediction.probability < lowest else prediction.top1)


def whole_batches(partial: Path, row_format: StoredFormat, batch_size: int) -> Iterator[list[StoredRow]]:
    """Read the rows of a partial file by batches; stop before the first incomplete batch or damaged row.

    The next run classifies an incomplete batch again, because the images of a batch are computed together. Only then
    do its rows have the same bytes as those of an uninterrupted run.
    """
    header = row_format.header()
    with open(partial, "rb") as file:
        if file.read(len(header)) != header:
            return
        batch: list[StoredRow] = []
        for row in row_format.read(file):
            batch.append(row)
            if len(batch) == batch_size:
                yield batch
                batch = []


class CompleteResult:
    """Reads a result file that an earlier run completed; it takes no more rows."""

    is_complete = True

    def __init__(self, target: Target, settings: RowSettings) -> None:
        self._target = target
        self._settings = settings
        self._row_format = target.row_format(settings.columns)

    def __enter__(self) -> "CompleteResult":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Do nothing."""

    def resume(self) -> Iterator[Prediction]:
        """Yield the predictions of all rows.

        Raises:
            UsageError: The file has other columns, or rows of another ``unknown_rule``.
        """
        for prediction in self._predictions():
            if not self._settings.agrees_with(prediction):
                raise UsageError(
                    f"--output {self._target.name} has rows of another --min-probability or --unknown-label: "
                    "--overwrite replaces it"
                )
            yield prediction

    def _predictions(self) -> Iterator[Prediction]:
        columns = self._settings.columns
        if self._target.is_parquet:
            if parquet.column_names(self._target.result) != columns.names:
                raise self._other_columns()
            yield from map(columns.prediction, parquet.rows(self._target.result))
            return
        with open(self._target.result, "rb") as file:
            header = self._row_format.header()
            if file.read(len(header)) != header:
                raise self._other_columns()
            for row in self._row_format.read(file):
                yield row.prediction

    def add(self, prediction: Prediction) -> None:
        """Refuse the row.

        Raises:
            UsageError: Always.
        """
        raise UsageError(
            f"--resume: {self._target.name} is complete without {prediction.path}: --overwrite starts again"
        )

    def _other_columns(self) -> UsageError:
        return UsageError(f"--output {self._target.name} has other columns: --overwrite replaces it")

    def commit(self) -> None:
        """Do nothing: the result is complete."""

    def how_to_continue(self) -> str:
        """Return an empty string: the result is complete."""
        return ""
