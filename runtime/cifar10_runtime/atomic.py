"""Write files that appear complete or not at all, even if the program or the machine stops."""

import errno
import os
import time
from pathlib import Path

_WAITS = (0.01, 0.1, 0.3, 1.0)
"""Seconds between the attempts of ``replace``."""


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
        replace(temporary, path)
    except OSError as error:  # it names no path for a full disk, else the temporary one
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)


def replace(source: Path, target: Path) -> None:
    """Rename ``source`` to ``target``; an existing file is replaced in one step.

    Windows refuses this while another program has one of the two files open. Virus scanners open each new file for a
    moment, so the function tries again for 1.4 seconds.

    Raises:
        OSError: ``source`` cannot be renamed.
    """
    for seconds in _WAITS:
        try:
            os.replace(source, target)
            return
        except PermissionError as error:
            if not getattr(error, "winerror", None):  # on other systems, waiting does not help
                raise
        time.sleep(seconds)
    os.replace(source, target)


def sync(path: Path) -> None:
    """Flush the content of a file, or the names in a directory, to the disk, so that it survives a power cut.

    Windows flushes only files that are open for writing. It opens no directories, and neither does POSIX without the
    permission to list them: their names are flushed later.
    """
    is_directory = path.is_dir()
    try:
        descriptor = os.open(path, os.O_RDONLY if is_directory else os.O_RDWR)
    except PermissionError:
        if is_directory:
            return
        raise
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def rename_without_replacing(source: str, target: str) -> None:
    """Rename ``source`` to ``target`` in one step, unless ``target`` exists.

    On file systems without hard links, such as FAT, a file that another program makes in the same moment is replaced.

    Raises:
        FileExistsError: ``target`` exists.
        OSError: ``source`` cannot be renamed.
    """
    if os.name == "nt":
        os.rename(source, target)  # Windows never replaces a file here
        return
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError as error:
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from error
        os.rename(source, target)
    else:
        os.unlink(source)
