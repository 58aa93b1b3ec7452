"""A lock that lets only one process write a file or folder. The system releases the lock of a killed process."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cifar10_runtime.errors import UsageError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextmanager
def exclusive_lock(path: Path, name: str) -> Iterator[None]:
    """Lock the file ``path`` while the block runs.

    On POSIX, the file itself is locked, and is created first if it does not exist. A file system without locks is not
    an error: the block then runs without one. On Windows, a locked file cannot be renamed, so a second file is locked,
    ``PATH.lock``; it is removed after the block.

    Args:
        path: The file to lock.
        name: The option and its value, for the message.

    Raises:
        UsageError: Another process holds the lock, or removed the file a moment ago.
    """
    with _flock(path, name) if fcntl else _lock_beside(path, name):
        yield


@contextmanager
def _flock(path: Path, name: str) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        with suppress(OSError):  # the file system has no locks
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise _is_being_written(name) from None
        if not (path.exists() and os.path.samestat(os.fstat(descriptor), path.stat())):
            raise UsageError(f"{name} was being written by another process until now: run the command again")
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _lock_beside(path: Path, name: str) -> Iterator[None]:
    from filelock import FileLock, Timeout  # imported late, because only Windows needs it

    lock = FileLock(f"{path}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise _is_being_written(name) from None
    try:
        yield
    finally:
        lock.release()


def _is_being_written(name: str) -> UsageError:
    return UsageError(f"{name} is being written by another process")
