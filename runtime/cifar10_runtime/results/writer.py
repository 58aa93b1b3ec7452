"""Where rows go: to stdout, or to a file that is there when it is complete.

Until then it grows, by whole rows, under the name NAME.ID.partial. The id is a digest of all that decides on the rows,
so that a run that was interrupted can go on where it stopped.
"""

import glob
import json
import os
import select
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Protocol

from cifar10_runtime.errors import OutputError, UsageError
from cifar10_runtime.prediction import Prediction
from cifar10_runtime.results import parquet
from cifar10_runtime.results.rows import FORMATS, Csv, Format, JsonLines, prediction_of

SUFFIXES = (*(f".{name}" for name in FORMATS), ".parquet")
"""What the name of an output file may end in."""
ID_DIGITS = 8
"""Hexadecimal digits of the id."""
_BYTES_A_WRITE: int = getattr(select, "PIPE_BUF", 512)  # what a pipe takes whole or not at all
_BYTES_A_GROUP = 1 << 20


class Sink(Protocol):
    """Where predictions go."""

    def add(self, prediction: Prediction) -> None:
        """Take one."""


class Rows:
    """Writes rows to a file that is open and has no buffer of its own, several at a time."""

    def __init__(self, file: IO[bytes], layout: Format) -> None:
        self._file = file
        self._layout = layout
        self._pending = bytearray()

    def add(self, prediction: Prediction) -> None:
        """Write the row of ``prediction``, at the latest with ``flush``."""
        row = self._layout.row(prediction)
        if len(self._pending) + len(row) > _BYTES_A_WRITE:
            self.flush()
        self._pending += row

    def flush(self) -> None:
        """Write what is pending; what cannot be written whole is taken back, where the file allows it."""
        content = bytes(self._pending)
        self._pending.clear()
        written = 0
        try:
            while written < len(content):
                written += self._file.write(content[written:]) or 0
        except OSError:
            with suppress(OSError):  # a pipe
                if written:
                    self._file.truncate(self._file.tell() - written)
            raise


@contextmanager
def to_stream(file: IO[bytes], layout: Format) -> Iterator[Rows]:
    """Rows for ``file``, header included; those that were added get there, whatever ends the block."""
    file.write(layout.header())
    with _flushed(Rows(file, layout)) as rows:
        yield rows


@contextmanager
def _flushed(rows: Rows) -> Iterator[Rows]:
    try:
        yield rows
    except OSError:  # which may be that of this very file
        raise
    except BaseException:
        rows.flush()
        raise
    rows.flush()


class _NoMoreRows:
    """Rows of a file that is complete."""

    def __init__(self, name: Path) -> None:
        self._name = name

    def add(self, prediction: Prediction) -> None:
        """Refuse a row."""
        raise UsageError(f"--resume: {self._name} is complete without {prediction.path}: begin anew with --overwrite")


class OutputFile:
    """A file of rows that is there when all of them are.

    Args:
        name: its path, with one of ``SUFFIXES``.
        top_k: labels a row.
        identity: digest of all that decides on the rows, ``ID_DIGITS`` hexadecimal digits.
        batch_size: images that are classified together.
        resume: go on with what an interrupted run of the same identity left, if there is something.
        overwrite: replace a file of that name in the end, and what an interrupted run left at once.

    Raises:
        UsageError: there cannot be such a file, or there is one already.
    """

    def __init__(
        self, name: Path, top_k: int, identity: str, batch_size: int, resume: bool = False, overwrite: bool = False
    ) -> None:
        self._name = name
        self._top_k = top_k
        self._batch_size = batch_size
        self._layout = _layout_of(name, top_k)
        self._path = _place_of(name)
        self._partial = self._path.with_name(f"{self._path.name}.{identity}.partial")
        self._partials = f"{glob.escape(self._path.name)}.{'[0-9a-f]' * len(identity)}.partial"
        self._resumes, self._overwrites = resume, overwrite
        if not overwrite:
            self._require_room()

    @property
    def is_complete(self) -> bool:
        """Whether there is nothing left to resume."""
        return self._resumes and not self._overwrites and self._path.exists() and not self._partial.exists()

    def _others(self) -> list[Path]:
        """What interrupted runs of other identities left."""
        return sorted(path for path in self._path.parent.glob(self._partials) if path != self._partial)

    def _require_room(self) -> None:
        """Nothing is lost by a second run that was not meant to replace the first."""
        others = self._others()
        for path in (self._partial, *others):
            if path.exists():
                with _lock(path, self._name):  # or else it is not of an interrupted run
                    pass
        if others:
            raise UsageError(
                f"--output {self._name}: {others[0]} was left by a run with another model or other options: resume "
                "with the same, or --overwrite"
            )
        if not self.is_complete:
            self._require_no_result()
        if self._partial.exists() and not self._resumes:
            raise UsageError(
                f"--output {self._name}: a run was interrupted and left {self._partial}: --resume goes on with it, "
                "--overwrite begins anew"
            )

    def _require_no_result(self) -> None:
        if self._path.exists():
            also = (
                "--resume --overwrite goes on with the run that was to replace it, " if self._partial.exists() else ""
            )
            raise UsageError(f"--output {self._name} exists: {also}--overwrite replaces it")

    @contextmanager
    def open(self) -> Iterator[tuple[Iterator[Prediction], Sink]]:
        """The predictions that are there already, to be taken first, and rows for all others.

        At the end of the block the file is complete. If an error ends it, the rows are kept for another run to resume.
        Of a file that is complete already, all predictions are there, and there is no room for others.

        Raises:
            UsageError: another process is writing the file.
            OutputError: it cannot be written.
        """
        if self.is_complete:
            yield self._rows_of_result(), _NoMoreRows(self._name)
            return
        try:
            with self._locked():
                with (
                    open(os.open(self._partial, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0) as file,
                    self._kept_or_removed(file),
                ):
                    if not self._overwrites:
                        self._require_no_result()  # by another process, a moment ago
                    with _flushed(Rows(file, self._layout)) as rows:
                        yield self._finished(file), rows
                    os.fsync(file.fileno())
                self._complete()
        except OSError as error:
            raise OutputError(f"{self._name} cannot be written: {error.strerror or error}") from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """For this process alone, until the result is there; what --overwrite gives up as well."""
        with ExitStack() as locks:
            for path in (self._partial, *self._others()):
                locks.enter_context(_lock(path, self._name))
            yield

    @contextmanager
    def _kept_or_removed(self, file: IO[bytes]) -> Iterator[None]:
        """After an error the rows stay, if there are any."""
        try:
            yield
        except BaseException:
            if os.fstat(file.fileno()).st_size <= len(self._layout.header()):
                self._partial.unlink(missing_ok=True)
            raise

    def left(self) -> str:
        """A hint for whoever's run was interrupted, empty if it left nothing."""
        if not self._partial.exists():
            return ""
        options = "--resume --overwrite" if self._path.exists() else "--resume"
        return f"the rows so far are in {self._partial}: {options} goes on from there"

    def _rows_of_result(self) -> Iterator[Prediction]:
        if self._path.suffix.lower() == ".parquet":
            yield from map(prediction_of, parquet.rows(self._path))
            return
        with open(self._path, "rb") as file:
            header = self._layout.header()
            if file.read(len(header)) != header:
                raise UsageError(f"--output {self._name} has other columns: --overwrite replaces it")
            for prediction, _ in self._layout.read(file):
                yield prediction

    def _finished(self, file: IO[bytes]) -> Iterator[Prediction]:
        """The rows of whole batches, since those of a batch are computed together; cuts off all others."""
        header = self._layout.header()
        end = 0
        if self._resumes and file.read(len(header)) == header:
            end = len(header)
            with open(self._partial, "rb") as buffered:
                buffered.seek(end)
                batch: list[Prediction] = []
                for prediction, position in self._layout.read(buffered):
                    batch.append(prediction)
                    if len(batch) == self._batch_size:
                        yield from batch
                        batch, end = [], position
        file.truncate(end)
        file.seek(end)
        if not end:
            file.write(header)

    def _complete(self) -> None:
        if self._path.suffix.lower() == ".parquet":
            self._to_parquet()
        else:
            os.replace(self._partial, self._path)
        for path in self._others():  # which --overwrite gives up
            path.unlink()
            path.with_suffix(".tmp").unlink(missing_ok=True)

    def _to_parquet(self) -> None:
        """Of complete rows: half a Parquet file is no use to anyone."""
        temporary = self._partial.with_suffix(".tmp")
        try:
            with open(self._partial, "rb") as source, parquet.writer(temporary, self._top_k) as writer:
                while lines := source.readlines(_BYTES_A_GROUP):
                    writer.write_table(parquet.table([json.loads(line) for line in lines], self._top_k))
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, self._path)
        finally:
            temporary.unlink(missing_ok=True)
        self._partial.unlink()


def _place_of(name: Path) -> Path:
    """Where a file of that name will be; a link stays a link."""
    try:
        if not name.parent.is_dir():
            raise UsageError(f"--output {name}: the folder {name.parent} does not exist")
        if name.exists() and not name.is_file():
            raise UsageError(f"--output {name} exists and is not a regular file")
        path = name.resolve()
        if path.is_symlink():  # Python 3.13 no longer raises for a link to itself
            raise UsageError(f"--output {name} is a link to itself")
        return path
    except (OSError, RuntimeError) as error:  # too long a name, a link to itself
        raise UsageError(f"--output {name}: {getattr(error, 'strerror', None) or error}") from None


def _layout_of(name: Path, top_k: int) -> Csv | JsonLines:
    suffix = name.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"--output {name}: the name must end in {', '.join(SUFFIXES)}, or be - for stdout")
    if suffix == ".parquet":
        parquet.require_pyarrow()
        return JsonLines(top_k)
    return FORMATS[suffix[1:]](top_k)


@contextmanager
def _lock(path: Path, name: Path) -> Iterator[None]:
    """Keep others from ``path``, which is made if need be, where there is such a thing as a lock."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        with suppress(OSError):  # a file system without locks
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(f"--output {name} is being written by another process") from None
        if not (path.exists() and os.path.samestat(os.fstat(descriptor), path.stat())):
            raise UsageError(f"--output {name} was being written by another process until now")
        yield
    finally:
        os.close(descriptor)
