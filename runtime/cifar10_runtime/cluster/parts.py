"""The results of cifar10-infer-ray: a folder, or a prefix of a bucket, with one Parquet file (part) per partition.

fsspec and pyarrow are imported only when they are needed.
"""

import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from cifar10_runtime import atomic
from cifar10_runtime.cluster.sources import PART, file_system
from cifar10_runtime.errors import OutputError, UsageError
from cifar10_runtime.results import parquet
from cifar10_runtime.text import one_line

_JOB = "job.json"
"""The file that describes the job whose parts are in the same folder."""
_COUNTS = b"cifar10_zoo.counts"
"""The key of a part's counts in its Parquet metadata."""
_READERS = 16

Counts = dict[str, int]
"""The counts of a ``Tally``, by name."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """The content of ``job.json``: the settings and inputs that determine the rows, without the content of images."""

    model_sha256: str
    labels: list[str]
    background: str
    max_pixels: int
    top_k: int
    column: str
    partitions: int
    """The number of partitions, and so of parts."""
    partitions_sha256: str
    """SHA-256 of the JSON of all partitions."""


class Parts:
    """The folder, or the prefix of a bucket, that holds the results.

    Args:
        name: A local path, or a URL that fsspec knows.

    Raises:
        UsageError: ``name`` is empty, or fsspec cannot open it.
    """

    root: str
    """The path of the folder in its file system."""

    def __init__(self, name: str) -> None:
        if not name:
            raise UsageError("--output must be a folder or URL, not empty")
        self._name = name
        try:
            self._system, self.root = file_system(name)
        except Exception as error:  # the protocol is unknown, or its package is not installed
            raise UsageError(f"--output {name}: {one_line(error)}") from None
        protocol = self._system.protocol
        self._is_local = "file" in ((protocol,) if isinstance(protocol, str) else protocol)

    def existing_parts(self, job: Job, resume: bool) -> dict[int, Counts]:
        """Create the folder if necessary, and return the counts of its complete parts, by number.

        Raises:
            UsageError: The folder has other files, parts of another job, or parts of this job without ``resume``.
            OutputError: The folder cannot be created or read.
        """
        try:
            self._create()
            names = self._names()
            if not names:
                return {}
            self._check_job(job, names, resume)
            numbers = [number for number in range(job.partitions) if _part_name(number) in names]
            with ThreadPoolExecutor(_READERS) as readers:
                found = readers.map(self._read_counts, numbers)
                return {number: counts for number, counts in zip(numbers, found, strict=True) if counts}
        except UsageError:
            raise
        except Exception as error:  # the client of each store has its own exception classes
            raise self._unwritable(error) from error

    def claim(self, job: Job) -> None:
        """Write ``job.json``, so that only this job can use the folder.

        Raises:
            OutputError: The file cannot be written.
        """
        self._write(_JOB, json.dumps(asdict(job), indent=2).encode())

    def write(self, number: int, rows: list[dict[str, Any]], top_k: int, counts: Mapping[str, int]) -> None:
        """Write the part of partition ``number``.

        Raises:
            OutputError: The part cannot be written.
        """
        buffer = BytesIO()
        with parquet.writer(buffer, top_k, {_COUNTS: json.dumps(counts).encode()}) as writer:
            writer.write_table(parquet.table(rows, top_k))
        self._write(_part_name(number), buffer.getvalue())

    def _create(self) -> None:
        if self._is_local:
            self._system.makedirs(self.root, exist_ok=True)
        else:  # without parents: a misspelled bucket must be an error, not a new bucket
            with suppress(FileExistsError):
                self._system.mkdir(self.root, create_parents=False)

    def _names(self) -> set[str]:
        try:
            paths: Iterable[str] = self._system.ls(self.root, detail=False)
        except FileNotFoundError:  # an object store has no empty folders
            return set()
        names = (path.rstrip("/").rpartition("/")[2] for path in paths)
        return {name for name in names if name and not name.startswith(".")}

    def _check_job(self, job: Job, names: set[str], resume: bool) -> None:
        existing = None
        if _JOB in names:
            with suppress(ValueError):
                existing = json.loads(self._system.cat_file(f"{self.root}/{_JOB}"))
        if not isinstance(existing, dict):
            raise UsageError(f"--output {self._name} is not empty: name a new folder")
        if existing != asdict(job):
            raise UsageError(
                f"--output {self._name} has results of other images, another model or other options: name a new folder"
            )
        if not resume:
            raise UsageError(f"--output {self._name} has results of this job: --resume continues it")

    def _read_counts(self, number: int) -> Counts | None:
        """Return the counts of a part, None if the part is damaged."""
        with self._system.open(f"{self.root}/{_part_name(number)}", "rb") as file:
            content = parquet.metadata(file).get(_COUNTS)
        return json.loads(content) if content else None

    def _write(self, name: str, content: bytes) -> None:
        try:
            if self._is_local:
                atomic.write_file(Path(self.root, name), content)
            else:  # in an object store, an incomplete file never appears
                self._system.pipe_file(f"{self.root}/{name}", content)
        except Exception as error:  # the client of each store has its own exception classes
            raise self._unwritable(error) from error

    def _unwritable(self, error: Exception) -> OutputError:
        return OutputError(f"--output {self._name} cannot be written: {one_line(error)}")


def _part_name(number: int) -> str:
    return f"{PART}{number:06d}.parquet"
