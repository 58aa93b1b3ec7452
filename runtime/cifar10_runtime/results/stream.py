"""Whole rows to an open file: a reader of the file, or the next run, never sees a torn row."""

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

    ``BrokenPipeError`` passes: it only means that the reader of a pipe wants no more rows.
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
        file: Open for writing, without a buffer of its own.
        layout: The format of the rows.
        name: The output, for messages.
    """

    def __init__(self, file: IO[bytes], layout: Format, name: object) -> None:
        self._file = file
        self._layout = layout
        self._name = name
        self._pending = bytearray()

    def add_header(self) -> None:
        """Write the header of the format."""
        self._pending += self._layout.header()
        self.flush()

    def add(self, prediction: Prediction) -> None:
        """Add the row of ``prediction``; ``flush`` writes it at the latest.

        Raises:
            OutputError: Earlier rows cannot be written.
        """
        row = self._layout.row(prediction)
        if len(self._pending) + len(row) > _BYTES_PER_WRITE:
            self.flush()
        self._pending += row

    def flush(self) -> None:
        """Write all rows.

        Raises:
            OutputError: They cannot be written. A file then ends where it ended before.
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
        file: Open for writing, without a buffer of its own.
        layout: The format of the rows.
        name: The output, for messages.
    """

    is_complete = False

    def __init__(self, file: IO[bytes], layout: Format, name: object) -> None:
        self._rows = RowBuffer(file, layout, name)

    def __enter__(self) -> "StreamWriter":
        self._rows.add_header()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._rows.flush()

    def resume(self) -> Iterator[Prediction]:
        """Nothing: a stream has no rows of an earlier run."""
        return iter(())

    def add(self, prediction: Prediction) -> None:
        """Add the row of ``prediction``."""
        self._rows.add(prediction)

    def commit(self) -> None:
        """Write all rows that were added."""
        self._rows.flush()

    def how_to_continue(self) -> str:
        """Nothing: a stream cannot be resumed."""
        return ""
