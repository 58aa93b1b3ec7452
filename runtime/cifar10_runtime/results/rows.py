"""Row formats: CSV, JSON lines, and a table for people to read."""

import csv
import io
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any, NamedTuple

from cifar10_runtime.prediction import Prediction
from cifar10_runtime.text import printable

Value = str | float | list[float] | None

_UNDECODABLE = sys.getfilesystemencodeerrors()
"""How Python represents file names that are not valid Unicode; Windows and POSIX differ."""


@dataclass(frozen=True)
class Columns:
    """The columns of the rows: path, label, probability, error, then the ranking.

    The ranking is label_2, probability_2, ... up to ``top_k``. It starts with label_1, the most probable class, if
    images can be unknown: ``label`` is then not always a class. ``probability`` belongs to label_1.
    """

    top_k: int
    """Labels per row."""
    has_unknown: bool = False
    """Whether images can be unknown."""
    has_features: bool = False
    """Whether the last column is ``features``."""

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        more = [f"{name}_{rank}" for rank in range(2, self.top_k + 1) for name in ("label", "probability")]
        if self.has_unknown:
            more.insert(0, "label_1")
        return ["path", "label", "probability", "error", *more, *(["features"] if self.has_features else [])]

    def values(self, prediction: Prediction) -> list[Value]:
        """Return the values of ``prediction`` by ``names``; probabilities have six digits, gaps are None."""
        pairs: list[Value] = [None, None] * self.top_k
        if prediction.ranking:
            ranking = prediction.ranking[: self.top_k]
            pairs = [value for label, probability in ranking for value in (label, round(probability, 6))]
        top1, probability, *more = pairs
        if self.has_unknown:
            more.insert(0, top1)
        if self.has_features:
            more.append(None if prediction.features is None else prediction.features.tolist())
        return [prediction.path, prediction.unknown_label or top1, probability, prediction.error or None, *more]

    def prediction(self, cells: Sequence[Any]) -> Prediction:
        """Return the prediction of a row with these ``cells``: only the labels of the row, and no features.

        Raises:
            ValueError: The row has another number of columns.
        """
        path, label, probability, error, *more = cells[:-1] if self.has_features else cells
        if error:
            return Prediction(str(path), (), str(error))
        top1, *more = more if self.has_unknown else (label, *more)
        pairs = [(top1, probability), *zip(more[::2], more[1::2], strict=True)]
        ranking = tuple((str(name), float(value or 0)) for name, value in pairs)
        return Prediction(str(path), ranking, unknown_label="" if label == top1 else str(label))


class StoredRow(NamedTuple):
    """A row that was read from a file."""

    prediction: Prediction
    end: int
    """Offset in the file of the first byte after the row."""


class Csv:
    """Comma-separated values in UTF-8; file names that are not valid Unicode are kept."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._text = io.StringIO()
        self._writer = csv.writer(self._text, lineterminator="\n")
        # Before Python 3.12, csv leaves a carriage return unquoted when the line terminator is "\n".
        self._quoting = csv.writer(self._text, lineterminator="\n", quoting=csv.QUOTE_ALL)

    def header(self) -> bytes:
        """Return the line with the column names."""
        self._writer.writerow(self._columns.names)
        return self._take_text()

    def row(self, prediction: Prediction) -> bytes:
        """Return one row: one line, or several lines if the path has line breaks."""
        (self._quoting if "\r" in prediction.path else self._writer).writerow(self._columns.values(prediction))
        return self._take_text()

    def read(self, file: IO[bytes]) -> Iterator[StoredRow]:
        """Yield the complete rows of ``file``, which is positioned after the header; stop at an incomplete row."""
        lines = _WholeLines(file)
        try:
            for cells in csv.reader((line.decode("utf-8", _UNDECODABLE) for line in lines), strict=True):
                yield StoredRow(self._columns.prediction(cells), lines.end)
        except (csv.Error, ValueError):
            return

    def _take_text(self) -> bytes:
        text = self._text.getvalue()
        self._text.seek(0)
        self._text.truncate()
        return text.encode("utf-8", _UNDECODABLE)


class JsonLines:
    """One JSON object per line."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._names = columns.names

    def header(self) -> bytes:
        """Return no bytes: the format has no header."""
        return b""

    def row(self, prediction: Prediction) -> bytes:
        """Return one line."""
        return json.dumps(dict(zip(self._names, self._columns.values(prediction), strict=True))).encode() + b"\n"

    def read(self, file: IO[bytes]) -> Iterator[StoredRow]:
        """Yield the complete rows of ``file``; stop at an incomplete row."""
        lines = _WholeLines(file)
        try:
            for line in lines:
                yield StoredRow(self._columns.prediction(list(json.loads(line).values())), lines.end)
        except (ValueError, TypeError, AttributeError):
            return


class Table:
    """Lines for people to read: the best labels with their probabilities, then the path."""

    def __init__(self, columns: Columns) -> None:
        self._top_k = columns.top_k

    def header(self) -> bytes:
        """Return no bytes: the table has no header."""
        return b""

    def row(self, prediction: Prediction) -> bytes:
        """Return one line."""
        ranking = prediction.ranking[: self._top_k]
        if prediction.unknown_label:
            ranking = ((f"{prediction.label} ({prediction.top1})", prediction.probability), *ranking[1:])
        best = [f"{label:<12}{probability:7.2%}" for label, probability in ranking]
        line = "  ".join([*(best or [f"error: {prediction.error}"]), prediction.path])
        return printable(line).encode() + b"\n"


StoredFormat = Csv | JsonLines
"""A format whose rows can be read again, to resume a run."""
Format = StoredFormat | Table

FORMATS: dict[str, type[StoredFormat]] = {"csv": Csv, "jsonl": JsonLines}
"""The formats for programs, by the value of ``--format`` and by the suffix of ``--output``."""


class _WholeLines(Iterator[bytes]):
    """An iterator over the lines of ``file`` that end with a line break."""

    end: int
    """Offset of the first byte after the last line that was read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.end = file.tell()

    def __next__(self) -> bytes:
        line = self._file.readline()
        if not line.endswith(b"\n"):
            raise StopIteration
        self.end += len(line)
        return line
