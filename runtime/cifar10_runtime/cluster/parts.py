"""The results of cifar10-infer-ray: a folder, or a prefix of a bucket, with one Parquet file (part) per partition.

fsspec and pyarrow are imported only when they are needed.
"""

import hashlib
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
from cifar10_runtime.results.rows import Columns
from cifar10_runtime.text import one_line

_CLAIM = "_job-"
"""Prefix of the claim: an empty file whose name ends in the digest of the job whose parts are in the same folder.

Readers of Parquet folders pass over names that begin with _, or over empty files: Spark writes the file _SUCCESS.
"""
_OLD_CLAIM = "job.json"
"""The claim of earlier versions: the job as JSON."""
_COUNTS = b"cifar10_zoo.counts"
"""The key of a part's counts in its Parquet metadata."""
_READERS = 16
_DIGEST_DIGITS = 16

Counts = dict[str, Any]
"""The counts of a ``Tally``, by name."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """The settings and inputs that determine the rows of a job, without the content of the images."""

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
    unknown_rule: tuple[float, str] | None = None
    """As in ``ClassifierOptions``."""
    features: bool = False

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits; equal jobs have equal digests."""
        values = asdict(self)
        for name in ("unknown_rule", "features"):
            if not values[name]:
                del values[name]  # as in earlier versions, whose folders can be resumed
        return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:_DIGEST_DIGITS]


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
            if _OLD_CLAIM in names:  # readers of Parquet folders do not pass over it
                self.claim(job)
                self._system.rm_file(f"{self.root}/{_OLD_CLAIM}")
            numbers = [number for number in range(job.partitions) if _part_name(number) in names]
            with ThreadPoolExecutor(_READERS) as readers:
                found = readers.map(self._read_counts, numbers)
                return {number: counts for number, counts in zip(numbers, found, strict=True) if counts}
        except UsageError:
            raise
        except Exception as error:  # the client of each store has its own exception classes
            raise self._unwritable(error) from error

    def claim(self, job: Job) -> None:
        """Write the claim, so that only this job can use the folder.

        Raises:
            OutputError: The file cannot be written.
        """
        self._write(f"{_CLAIM}{job.digest}", b"")

    def write(self, number: int, rows: list[dict[str, Any]], columns: Columns, counts: Mapping[str, Any]) -> None:
        """Write the part of partition ``number``.

        Raises:
            OutputError: The part cannot be written.
        """
        buffer = BytesIO()
        with parquet.writer(buffer, columns, {_COUNTS: json.dumps(counts).encode()}) as writer:
            writer.write_table(parquet.table(rows, columns))
        self._write(_part_name(number), buffer.getvalue())

    def remove_temporary_files(self) -> None:
        """Delete the temporary files of workers that were killed; call this when no worker is left."""
        if self._is_local:  # an object store has no temporary files
            for prefix in (PART, _CLAIM):
                for path in Path(self.root).glob(f".{prefix}*.tmp"):
                    path.unlink(missing_ok=True)

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
        claims = {name.removeprefix(_CLAIM) for name in names if name.startswith(_CLAIM)} or self._old_claims(names)
        if not claims:
            raise UsageError(f"--output {self._name} is not empty: name a new folder")
        if claims != {job.digest}:
            raise UsageError(
                f"--output {self._name} has results of other images, another model or other options: name a new folder"
            )
        if not resume:
            raise UsageError(f"--output {self._name} has results of this job: --resume continues it")

    def _old_claims(self, names: set[str]) -> set[str]:
        """Return the digest of the job in ``job.json``; empty if there is no such file, or another program wrote it."""
        if _OLD_CLAIM in names:
            with suppress(TypeError, ValueError):
                return {Job(**json.loads(self._system.cat_file(f"{self.root}/{_OLD_CLAIM}"))).digest}
        return set()

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
