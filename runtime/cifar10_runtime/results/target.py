"""The files of one ``--output``: the result, its partial file, and the partial files of other runs."""

import glob
from pathlib import Path

from cifar10_runtime.errors import UsageError
from cifar10_runtime.results import parquet
from cifar10_runtime.results.lock import exclusive_lock
from cifar10_runtime.results.rows import FORMATS, Columns, JsonLines, StoredFormat

_PARQUET = ".parquet"
_SUFFIXES = (*(f".{name}" for name in FORMATS), _PARQUET)


class Target:
    """The paths of the result file and of the partial file, which has the rows until the run is complete.

    Args:
        name: The value of ``--output``.
        run_id: ``RowSettings.run_id``, a part of the partial file's name.

    Raises:
        UsageError: ``name`` cannot be a result file.
    """

    name: Path
    """The value of ``--output``, for messages."""
    result: Path
    """The result file; if ``name`` is a link, the file that the link points to."""
    partial: Path
    """The partial file, RESULT.ID.partial."""
    is_parquet: bool
    """Whether the result is a Parquet file, whose partial file has JSON lines."""

    def __init__(self, name: Path, run_id: str) -> None:
        self.is_parquet = name.suffix.lower() == _PARQUET
        if name.suffix.lower() not in _SUFFIXES:
            raise UsageError(f"--output {name}: the name must end in {', '.join(_SUFFIXES)}, or be - for stdout")
        if self.is_parquet:
            parquet.require_pyarrow()
        self.name = name
        self.result = _resolve(name)
        self.partial = self.result.with_name(f"{self.result.name}.{run_id}.partial")
        self._partials = f"{glob.escape(self.result.name)}.{'[0-9a-f]' * len(run_id)}.partial"

    def row_format(self, columns: Columns) -> StoredFormat:
        """Return the format of the partial file."""
        return JsonLines(columns) if self.is_parquet else FORMATS[self.name.suffix.lower()[1:]](columns)

    def other_partials(self) -> list[Path]:
        """Return the partial files that runs with other settings left for this result."""
        return sorted(path for path in self.result.parent.glob(self._partials) if path != self.partial)

    def is_complete(self) -> bool:
        """Return whether the result exists and no interrupted run was going to replace it."""
        return self.result.exists() and not self.partial.exists()

    def check_available(self, resume: bool) -> None:
        """Check that a run without ``--overwrite`` neither replaces a file nor disturbs another run.

        Raises:
            UsageError: A run would replace a file or disturb another run; the message names the file and an option.
        """
        others = self.other_partials()
        for path in (self.partial, *others):
            if path.exists():
                with exclusive_lock(path, f"--output {self.name}"):  # UsageError if a running process writes the file
                    pass
        if others:
            raise UsageError(
                f"--output {self.name}: a run with another model or other options left {others[0]}: --resume with the "
                "same model and options, or --overwrite"
            )
        if not (resume and self.is_complete()):
            self.check_no_result()
        if self.partial.exists() and not resume:
            raise UsageError(
                f"--output {self.name}: an interrupted run left {self.partial}: --resume continues it, --overwrite "
                "starts again"
            )

    def check_no_result(self) -> None:
        """Check that the result does not exist yet.

        Raises:
            UsageError: The result exists.
        """
        if self.result.exists():
            also = "--resume --overwrite continues the run that replaces it, " if self.partial.exists() else ""
            raise UsageError(f"--output {self.name} exists: {also}--overwrite replaces it")

    def how_to_continue(self) -> str:
        """Return advice for the user of an interrupted run; empty if the run left no rows."""
        if not self.partial.exists():
            return ""
        options = "--resume --overwrite" if self.result.exists() else "--resume"
        return f"the rows so far are in {self.partial}: {options} continues from there"


def _resolve(name: Path) -> Path:
    """Return the file that ``name`` points to: a run replaces this file, and a link stays a link."""
    try:
        if not name.parent.is_dir():
            raise UsageError(f"--output {name}: the folder {name.parent} does not exist")
        if name.exists() and not name.is_file():
            raise UsageError(f"--output {name} exists and is not a regular file")
        path = name.resolve()
        if path.is_symlink():  # since Python 3.13, resolve() does not raise for a link to itself
            raise UsageError(f"--output {name} is a link to itself")
        return path
    except (OSError, RuntimeError) as error:  # a name that is too long, a link to itself
        raise UsageError(f"--output {name}: {getattr(error, 'strerror', None) or error}") from None
