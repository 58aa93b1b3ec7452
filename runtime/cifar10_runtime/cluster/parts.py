"""The results of cifar10-infer-ray: a folder, or a prefix of a bucket, with a Parquet file for each partition.

fsspec and pyarrow are imported when they are needed.
"""

import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

from cifar10_runtime import atomic
from cifar10_runtime.cluster.sources import PART, file_system
from cifar10_runtime.errors import OutputError, UsageError
from cifar10_runtime.results import parquet
from cifar10_runtime.text import one_line

_JOB = "job.json"
"""What the parts are of."""
_COUNTS = b"cifar10_zoo.counts"
"""Where the metadata of a part have its counts."""
_READERS = 16

Counts = dict[str, int]


class Parts:
    """The folder or prefix ``name``.

    Raises:
        UsageError: there can be none.
    """

    def __init__(self, name: str) -> None:
        if not name:
            raise UsageError("--output must be a folder or URL, not empty")
        self._name = name
        try:
            self._system, self.root = file_system(name)
        except Exception as error:  # an unknown protocol, a package that is missing
            raise UsageError(f"--output {name}: {one_line(error)}") from None
        protocol = self._system.protocol
        self._is_local = "file" in ((protocol,) if isinstance(protocol, str) else protocol)

    def there(self, job: dict[str, Any], resume: bool) -> dict[int, Counts]:
        """The counts of the parts that are there and whole, by their numbers.

        Raises:
            UsageError: there are results that are not to be resumed, or others.
            OutputError: nothing can be written there.
        """
        try:
            self._make()
            names = self._names()
            if not names:
                return {}
            self._require_same(job, names, resume)
            numbers = [number for number in range(job["partitions"]) if _part(number) in names]
            with ThreadPoolExecutor(_READERS) as readers:
                found = readers.map(self._counts, numbers)
                return {number: counts for number, counts in zip(numbers, found, strict=True) if counts}
        except UsageError:
            raise
        except Exception as error:  # of whatever store it is
            raise OutputError(f"--output {self._name} cannot be written: {one_line(error)}") from error

    def claim(self, job: dict[str, Any]) -> None:
        """Say what the parts are of.

        Raises:
            OutputError: nothing can be written there.
        """
        self._put(_JOB, json.dumps(job, indent=2).encode())

    def write(self, number: int, rows: list[dict[str, Any]], top_k: int, counts: Mapping[str, int]) -> None:
        """Write a part.

        Raises:
            OutputError: it cannot be written.
        """
        buffer = BytesIO()
        with parquet.writer(buffer, top_k, {_COUNTS: json.dumps(counts).encode()}) as writer:
            writer.write_table(parquet.table(rows, top_k))
        self._put(_part(number), buffer.getvalue())

    def _make(self) -> None:
        if self._is_local:
            self._system.makedirs(self.root, exist_ok=True)
        else:  # without parents: a bucket by a wrong name is not made but an error
            with suppress(FileExistsError):
                self._system.mkdir(self.root, create_parents=False)

    def _names(self) -> set[str]:
        try:
            paths: Iterable[str] = self._system.ls(self.root, detail=False)
        except FileNotFoundError:  # an object store has no empty folders
            return set()
        names = (path.rstrip("/").rpartition("/")[2] for path in paths)
        return {name for name in names if name and not name.startswith(".")}

    def _require_same(self, job: dict[str, Any], names: set[str], resume: bool) -> None:
        there = None
        if _JOB in names:
            with suppress(ValueError):
                there = json.loads(self._system.cat_file(f"{self.root}/{_JOB}"))
        if not isinstance(there, dict):
            raise UsageError(f"--output {self._name} is not empty: name a new folder")
        if there != job:
            raise UsageError(
                f"--output {self._name} has results of other images, another model or other options: name a new folder"
            )
        if not resume:
            raise UsageError(f"--output {self._name} has results of this job: --resume goes on with it")

    def _counts(self, number: int) -> Counts | None:
        """Those of a part; none of one that is damaged."""
        with self._system.open(f"{self.root}/{_part(number)}", "rb") as file:
            content = parquet.metadata(file).get(_COUNTS)
        return json.loads(content) if content else None

    def _put(self, name: str, content: bytes) -> None:
        """The file is there whole or not at all."""
        try:
            if self._is_local:
                atomic.write_file(Path(self.root, name), content)
            else:  # as object stores do it by themselves
                self._system.pipe_file(f"{self.root}/{name}", content)
        except Exception as error:  # of whatever store it is
            raise OutputError(f"--output {self._name} cannot be written: {one_line(error)}") from error


def _part(number: int) -> str:
    return f"{PART}{number:06d}.parquet"
