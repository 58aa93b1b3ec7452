"""A lock that lets only one process write a file."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cifar10_runtime.errors import UsageError


@contextmanager
def exclusive_lock(path: Path, name: Path) -> Iterator[None]:
    """Lock ``path`` while the block runs; create the file first if it does not exist.

    Systems and file systems without locks are not an error: the block then runs without one.

    Args:
        path: The file to lock.
        name: The value of ``--output``, for the message.

    Raises:
        UsageError: Another process holds the lock, or removed the file a moment ago.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        with suppress(OSError):  # the file system has no locks
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(f"--output {name} is being written by another process") from None
        if not (path.exists() and os.path.samestat(os.fstat(descriptor), path.stat())):
            raise UsageError(f"--output {name} was being written by another process until now: run the command again")
        yield
    finally:
        os.close(descriptor)
