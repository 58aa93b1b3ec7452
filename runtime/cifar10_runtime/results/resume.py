"""What an interrupted run left: which run it was, and the rows that the next run keeps."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path

from cifar10_runtime.results.rows import StoredFormat, StoredRow

_ID_DIGITS = 8


@dataclass(frozen=True)
class RowSettings:
    """Everything that determines the rows except the images.

    The order of the fields is fixed: ``run_id`` is a digest of their values, and partial files carry it in their names.
    """

    model_sha256: str
    labels: tuple[str, ...]
    device: str
    tf32: bool
    batch_size: int
    """Images that are classified together."""
    background: str
    max_pixels: int
    top_k: int
    """Labels per row."""

    @property
    def run_id(self) -> str:
        """Eight hexadecimal digits. Runs with the same id write the same rows for the same images."""
        return hashlib.sha256(json.dumps(astuple(self)).encode()).hexdigest()[:_ID_DIGITS]


def whole_batches(partial: Path, layout: StoredFormat, batch_size: int) -> Iterator[list[StoredRow]]:
    """Read the rows of a partial file by batches; stop before the first incomplete batch or damaged row.

    The next run classifies an incomplete batch again, because the images of a batch are computed together. Only then
    do its rows have the same bytes as those of an uninterrupted run.
    """
    header = layout.header()
    with open(partial, "rb") as file:
        if file.read(len(header)) != header:
            return
        batch: list[StoredRow] = []
        for row in layout.read(file):
            batch.append(row)
            if len(batch) == batch_size:
                yield batch
                batch = []
