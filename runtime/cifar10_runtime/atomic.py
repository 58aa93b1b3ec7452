"""Write files that appear complete or not at all, even if the program or the machine stops."""

import os
from pathlib import Path


def write_file(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``, and replace an existing file only once ``content`` is on the disk.

    Raises:
        OSError: ``path`` could not be written and has not changed. The error names ``path``.
    """
    path = path.resolve()  # the target of a link is replaced, not the link
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:  # it names no path for a full disk, else the temporary one
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)


def sync(path: Path) -> None:
    """Flush the content of a file, or the names in a directory, to the disk, so that it survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
