"""Row formats: CSV, JSON lines, and a table for people to read."""

import csv
import io
import json
import sys
from collections.abc import Iterator, Sequence
from typing import IO, NamedTuple

from cifar10_runtime.prediction import Prediction
from cifar10_runtime.text import printable

Value = str | float | None

_UNDECODABLE = sys.getfilesystemencodeerrors()
"""How Python represents file names that are not valid Unicode; Windows and POSIX differ."""


def columns(top_k: int) -> list[str]:
    """Return the column names: path, label, probability, error, then label_2, probability_2, ... up to ``top_k``."""
    more = [f"{name}_{rank}" for rank in range(2, top_k + 1) for name in ("label", "probability")]
    return ["path", "label", "probability", "error", *more]


def values(prediction: Prediction, top_k: int) -> list[Value]:
    """Return the values of ``prediction`` in the order of ``columns``; probabilities have six digits, gaps are None."""
    pairs: list[Value] = [None, None] * top_k
    if prediction.ranking:
        ranking = prediction.ranking[:top_k]
        pairs = [value for label, probability in ranking for value in (label, round(probability, 6))]
    return [prediction.path, *pairs[:2], prediction.error or None, *pairs[2:]]


def prediction_of(cells: Sequence[Value]) -> Prediction:
    """Return the prediction of a row with these ``cells``; its ranking has only the labels of the row."""
    path, label, probability, error, *more = cells
    if error:
        return Prediction(str(path), (), str(error))
    pairs = [(label, probability), *zip(more[::2], more[1::2], strict=True)]
    return Prediction(str(path), tuple((str(name), float(value or 0)) for name, value in pairs))


class StoredRow(NamedTuple):
    """A row that was read from a file."""

    prediction: Prediction
    end: int
    """Offset in the file of the first byte after the row."""


class Csv:
    """Comma-separated values in UTF-8; file names that are not valid Unicode are kept.

    Args:
        top_k: Labels per row.
    """

    def __init__(self, top_k: int) -> None:
        self._top_k = top_k
        self._text = io.StringIO()
        self._writer = csv.writer(self._text, lineterminator="\n")
        # Before Python 3.12, csv leaves a carriage return unquoted when the line terminator is "\n".
        self._quoting = csv.writer(self._text, lineterminator="\n", quoting=csv.QUOTE_ALL)

    def header(self) -> bytes:
        """Return the line with the column names."""
        self._writer.writerow(columns(self._top_k))
        return self._take_text()

    def row(self, prediction: Prediction) -> bytes:
        """Return one row: one line, or several lines if the path has line breaks."""
        (self._quoting if "\r" in prediction.path else self._writer).writerow(values(prediction, self._top_k))
        return self._take_text()

    def read(self, file: IO[bytes]) -> Iterator[StoredRow]:
        """Yield the complete rows of ``file``, which is positioned after the header; stop at an incomplete row."""
        lines = _WholeLines(file)
        try:
            for cells in csv.reader((line.decode("utf-8", _UNDECODABLE) for line in lines), strict=True):
                yield StoredRow(prediction_of(cells), lines.end)
        except (csv.Error, ValueError):
            return

    def _take_text(self) -> bytes:
        text = self._text.getvalue()
        self._text.seek(0)
        self._text.truncate()
        return text.encode("utf-8", _UNDECODABLE)


class JsonLines:
    """One JSON object per line.

    Args:
        top_k: Labels per row.
    """

    def __init__(self, top_k: int) -> None:
        self._top_k = top_k
        self._columns = columns(top_k)

    def header(self) -> bytes:
        """Return no bytes: the format has no header."""
        return b""

    def row(self, prediction: Prediction) -> bytes:
        """Return one line."""
        return json.dumps(dict(zip(self._columns, values(prediction, self._top_k), strict=True))).encode() + b"\n"

    def read(self, file: IO[bytes]) -> Iterator[StoredRow]:
        """Yield the complete rows of ``file``; stop at an incomplete row."""
        lines = _WholeLines(file)
        try:
            for line in lines:
                yield StoredRow(prediction_of(list(json.loads(line).values())), lines.end)
        except (ValueError, TypeError, AttributeError):
            return


class Table:
    """Lines for people to read: the best labels with their probabilities, then the path.

    Args:
        top_k: Labels per line.
    """

    def __init__(self, top_k: int) -> None:
        self._top_k = top_k

    def header(self) -> bytes:
        """Return no bytes: the table has no header."""
        return b""

    def row(self, prediction: Prediction) -> bytes:
        """Return one line."""
        best = [f"{label:<12}{probability:7.2%}" for label, probability in prediction.ranking[: self._top_k]]
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
