"""Write only whole rows to an open file, so that its readers never get an incomplete row."""

import select
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import IO

from cifar10_runtime.errors import OutputError
from cifar10_runtime.prediction import Prediction
from cifar10_runtime.results.rows import Format

_BYTES_PER_WRITE: int = getattr(select, "PIPE_BUF", 512)
"""A pipe takes a write of at most this many bytes as a whole or not at all (POSIX)."""


@contextmanager
def output_errors(name: object) -> Iterator[None]:
    """Turn an ``OSError`` of the block into an ``OutputError`` that names the output ``name``.

    ``BrokenPipeError`` is not converted, because it only means that the reader has closed the pipe.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"{name} cannot be written: {error.strerror or error}") from error


class RowBuffer:
    """Collects rows and writes several at a time.

    Args:
        file: An unbuffered file, open for writing.
        row_format: The row format.
        name: The output, for messages.
    """

    def __init__(self, file: IO[bytes], row_format: Format, name: object) -> None:
        self._file = file
        self._row_format = row_format
        self._name = name
        self._pending = bytearray()

    def add_header(self) -> None:
        """Write the header of the format."""
        self._pending += self._row_format.header()
        self.flush()

    def add(self, prediction: Prediction) -> None:
        """Add the row of ``prediction``; it is written when the buffer is full, or by ``flush``.

        Raises:
            OutputError: Earlier rows cannot be written.
        """
        row = self._row_format.row(prediction)
        if len(self._pending) + len(row) > _BYTES_PER_WRITE:
            self.flush()
        self._pending += row

    def flush(self) -> None:
        """Write all rows.

        Raises:
            OutputError: The rows cannot be written. A regular file then has its previous size.
        """
        content = bytes(self._pending)
        self._pending.clear()
        written = 0
        with output_errors(self._name):
            try:
                while written < len(content):
                    written += self._file.write(content[written:]) or 0
            except OSError:
                with suppress(OSError):  # a pipe cannot be truncated
                    if written:
                        self._file.truncate(self._file.tell() - written)
                raise


class StreamWriter:
    """Writes rows to an open file such as stdout; an interruption loses no row that was added.

    Args:
        file: An unbuffered file, open for writing.
        row_format: The row format.
        name: The output, for messages.
    """

    is_complete = False

    def __init__(self, file: IO[bytes], row_format: Format, name: object) -> None:
        self._rows = RowBuffer(file, row_format, name)

    def __enter__(self) -> "StreamWriter":
        self._rows.add_header()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._rows.flush()

    def resume(self) -> Iterator[Prediction]:
        """Return no predictions: a stream has no rows of an earlier run."""
        return iter(())

    def add(self, prediction: Prediction) -> None:
        """Add the row of ``prediction``."""
        self._rows.add(prediction)

    def commit(self) -> None:
        """Write all rows that were added."""
        self._rows.flush()

    def how_to_continue(self) -> str:
        """Return an empty string: a stream cannot be resumed."""
        return ""
