"""Crash-safe result files.

Rows grow in a partial file, NAME.ID.partial. It becomes the result file NAME when all rows are there. The id stands for
everything that determines the rows, so that ``--resume`` can continue an interrupted run.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol

from cifar10_runtime.atomic import replace, sync
from cifar10_runtime.prediction import Prediction
from cifar10_runtime.results import parquet
from cifar10_runtime.results.lock import exclusive_lock
from cifar10_runtime.results.resume import CompleteResult, RowSettings, whole_batches
from cifar10_runtime.results.stream import RowBuffer, output_errors
from cifar10_runtime.results.target import Target


class Writer(AbstractContextManager["Writer"], Protocol):
    """Takes the rows of a run: first ``resume``, then ``add`` for each new prediction, finally ``commit``.

    It is a context manager. An exception in its block keeps the rows that were added.
    """

    is_complete: bool
    """Whether an earlier run wrote all rows."""

    def resume(self) -> Iterator[Prediction]:
        """Yield the predictions of an earlier run. The caller must exhaust the iterator before it calls ``add``."""

    def add(self, prediction: Prediction) -> None:
        """Add the row of ``prediction``.

        Raises:
            OutputError: Rows cannot be written.
        """

    def commit(self) -> None:
        """Complete the output.

        Raises:
            OutputError: The output cannot be written.
        """

    def how_to_continue(self) -> str:
        """Return advice for the user of an interrupted run; empty if no rows can be resumed."""


def result_writer(name: Path, settings: RowSettings, resume: bool = False, overwrite: bool = False) -> Writer:
    """Return a writer of the result file ``name``: CSV, JSON lines or Parquet by its suffix.

    Args:
        name: The value of ``--output``.
        settings: What determines the rows.
        resume: Keep the rows that an interrupted run with the same settings left.
        overwrite: Replace an existing result when the new one is complete, and drop partial files of other settings.

    Raises:
        UsageError: The name cannot be a result file, or a file exists that the options do not allow to replace.
    """
    target = Target(name, settings.run_id)
    if not overwrite:
        target.check_available(resume)
        if resume and target.is_complete():
            return CompleteResult(target, settings)
    return PartialResult(target, settings, resume, overwrite)


class PartialResult:
    """Writes a partial file that becomes the result; while it is open, no other process writes the same files."""

    is_complete = False

    def __init__(self, target: Target, settings: RowSettings, resume: bool, overwrite: bool) -> None:
        self._target = target
        self._settings = settings
        self._resumes, self._overwrites = resume, overwrite
        self._row_format = target.row_format(settings.columns)

    def __enter__(self) -> "PartialResult":
        """Lock and open the partial file.

        Raises:
            UsageError: Another process is writing the result, or has completed it.
            OutputError: The partial file cannot be opened.
        """
        with output_errors(self._target.name), ExitStack() as stack:
            for path in (self._target.partial, *self._target.other_partials()):
                stack.enter_context(exclusive_lock(path, f"--output {self._target.name}"))
            descriptor = os.open(self._target.partial, os.O_RDWR | os.O_CREAT, 0o666)
            self._file: IO[bytes] = stack.enter_context(open(descriptor, "r+b", buffering=0))
            self._rows = RowBuffer(self._file, self._row_format, self._target.name)
            stack.push(self._keep_rows)
            if not self._overwrites:
                self._target.check_no_result()  # another process may have completed it a moment ago
            self._open_files = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open_files.__exit__(kind, error, traceback)

    def _keep_rows(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        """After an error, write the rows that were added; remove the partial file if there are none."""
        if error is None or self._file.closed:
            return
        try:
            self._rows.flush()
        finally:
            is_empty = os.fstat(self._file.fileno()).st_size <= len(self._row_format.header())
            self._file.close()  # Windows does not remove open files
            if is_empty:
                self._target.partial.unlink(missing_ok=True)

    def resume(self) -> Iterator[Prediction]:
        """Yield the predictions of the interrupted run, then cut off the rows that are classified again."""
        end = 0
        with output_errors(self._target.name):
            if self._resumes:
                for batch in whole_batches(self._target.partial, self._row_format, self._settings.batch_size):
                    yield from (row.prediction for row in batch)
                    end = batch[-1].end
            self._file.truncate(end)
            self._file.seek(end)
        if not end:
            self._rows.add_header()

    def add(self, prediction: Prediction) -> None:
        """Add the row of ``prediction``."""
        self._rows.add(prediction)

    def commit(self) -> None:
        """Give the complete file its own name, and remove the partial files that ``--overwrite`` gives up."""
        self._rows.flush()
        with output_errors(self._target.name):
            os.fsync(self._file.fileno())
            self._file.close()  # Windows does not rename open files
            if self._target.is_parquet:
                self._convert_to_parquet()
            else:
                replace(self._target.partial, self._target.result)
            for path in self._target.other_partials():
                path.unlink(missing_ok=True)
                path.with_suffix(".tmp").unlink(missing_ok=True)

    def _convert_to_parquet(self) -> None:
        """Convert complete rows only: a Parquet file that was cut off cannot be read at all."""
        temporary = self._target.partial.with_suffix(".tmp")
        try:
            parquet.from_json_lines(self._target.partial, temporary, self._settings.columns)
            sync(temporary)
            replace(temporary, self._target.result)
        finally:
            temporary.unlink(missing_ok=True)
        self._target.partial.unlink()

    def how_to_continue(self) -> str:
        """Where the rows are, and which options continue the run; empty if there are none."""
        return self._target.how_to_continue()
