"""Files that appear complete or not at all, even if the program or the machine stops."""

import os
from pathlib import Path


def write_file(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``; a file that exists is replaced once all of ``content`` is on the disk.

    Raises:
        OSError: ``path`` could not be written and has not changed; the error names ``path``.
    """
    path = path.resolve()  # a link stays a link
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:  # a full disk is reported without a path, other errors with the temporary one
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)


def sync(path: Path) -> None:
    """Make the content of a file, or the names in a directory, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
