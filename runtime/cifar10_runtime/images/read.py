"""Read image files with few system calls, because threads wait for each other at every one."""

import os
import stat
from typing import IO

from cifar10_runtime.errors import ImageError

MAX_IN_MEMORY = 1 << 26
"""Bytes of the largest file that is read at once; Pillow reads larger ones piece by piece."""
_FIRST_READ = 1 << 16


def read_file(path: str) -> bytes | IO[bytes]:
    """Return the content of a file, or the open file if it has more than ``MAX_IN_MEMORY`` bytes.

    Raises:
        ImageError: The path is a pipe, a device or the like, which may have no end.
        OSError: The file cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        content = os.read(descriptor, _FIRST_READ)
        if 0 < len(content) < _FIRST_READ:
            return content
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ImageError("not a regular file")
        if status.st_size > MAX_IN_MEMORY:
            os.lseek(descriptor, 0, os.SEEK_SET)
            return open(os.dup(descriptor), "rb")
        while len(content) < status.st_size and (more := os.read(descriptor, status.st_size - len(content))):
            content += more
        return content
    except BlockingIOError:  # a pipe without data
        raise ImageError("not a regular file") from None
    finally:
        os.close(descriptor)
