"""Predictions as rows: CSV, JSON lines, or lines for people."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from typing import IO

from cifar10_runtime.prediction import Prediction
from cifar10_runtime.text import printable

Value = str | float | None


def columns(top_k: int) -> list[str]:
    """path, label, probability, error, then label_2, probability_2, ... to ``top_k``."""
    more = [f"{name}_{rank}" for rank in range(2, top_k + 1) for name in ("label", "probability")]
    return ["path", "label", "probability", "error", *more]


def values(prediction: Prediction, top_k: int) -> list[Value]:
    """What is in each of the ``columns``; None where there is nothing to say. Probabilities have six digits."""
    best: list[Value] = [None, None] * top_k
    if prediction.ranking:
        best = [value for label, share in prediction.ranking[:top_k] for value in (label, round(share, 6))]
    return [prediction.path, *best[:2], prediction.error or None, *best[2:]]


def prediction_of(cells: Sequence[Value]) -> Prediction:
    """The prediction of a row: the other way, with a ranking that ends after the labels of the row."""
    path, label, probability, error, *more = cells
    if error:
        return Prediction(str(path), (), str(error))
    pairs = [(label, probability), *zip(more[::2], more[1::2], strict=True)]
    return Prediction(str(path), tuple((str(name), float(share or 0)) for name, share in pairs))


class Csv:
    """Comma-separated values, UTF-8; names of other bytes keep them."""

    def __init__(self, top_k: int) -> None:
        self._top_k = top_k
        self._text = io.StringIO()
        self._writer = csv.writer(self._text, lineterminator="\n")
        # Before Python 3.12 a carriage return is not quoted where lines end without one.
        self._quoting = csv.writer(self._text, lineterminator="\n", quoting=csv.QUOTE_ALL)

    def header(self) -> bytes:
        """The first line."""
        self._writer.writerow(columns(self._top_k))
        return self._taken()

    def row(self, prediction: Prediction) -> bytes:
        """A line, or several where there are line breaks in the path."""
        (self._quoting if "\r" in prediction.path else self._writer).writerow(values(prediction, self._top_k))
        return self._taken()

    def read(self, file: IO[bytes]) -> Iterator[tuple[Prediction, int]]:
        """Each complete row and where the next one begins; the file stands behind the header."""
        consumed = file.tell()

        def lines() -> Iterator[str]:
            nonlocal consumed
            while (line := file.readline()).endswith(b"\n"):
                consumed += len(line)
                yield line.decode("utf-8", "surrogateescape")

        try:
            for cells in csv.reader(lines(), strict=True):
                yield prediction_of(cells), consumed
        except (csv.Error, ValueError):  # a row that was cut off
            return

    def _taken(self) -> bytes:
        text = self._text.getvalue()
        self._text.seek(0)
        self._text.truncate()
        return text.encode("utf-8", "surrogateescape")


class JsonLines:
    """One JSON object a line."""

    def __init__(self, top_k: int) -> None:
        self._top_k = top_k
        self._columns = columns(top_k)

    def header(self) -> bytes:
        """Nothing."""
        return b""

    def row(self, prediction: Prediction) -> bytes:
        """A line."""
        return json.dumps(dict(zip(self._columns, values(prediction, self._top_k), strict=True))).encode() + b"\n"

    def read(self, file: IO[bytes]) -> Iterator[tuple[Prediction, int]]:
        """Each complete row and where the next one begins."""
        consumed = file.tell()
        while (line := file.readline()).endswith(b"\n"):
            consumed += len(line)
            try:
                yield prediction_of(list(json.loads(line).values())), consumed
            except (ValueError, TypeError, AttributeError):
                return


class Table:
    """Lines for people: the best labels with their probabilities, then the path."""

    def __init__(self, top_k: int) -> None:
        self._top_k = top_k

    def header(self) -> bytes:
        """Nothing."""
        return b""

    def row(self, prediction: Prediction) -> bytes:
        """A line."""
        best = [f"{label:<12}{probability:7.2%}" for label, probability in prediction.ranking[: self._top_k]]
        line = "  ".join([*(best or [f"error: {prediction.error}"]), prediction.path])
        return printable(line).encode() + b"\n"


FORMATS: dict[str, type[Csv] | type[JsonLines]] = {"csv": Csv, "jsonl": JsonLines}
"""The formats that programs read."""
Format = Csv | JsonLines | Table
