"""Run a module or a script without what Windows lacks or refuses, as far as Linux can imitate it.

    python -X warn_default_encoding tests/helpers/windows_like.py cifar10_zoo.train --max-steps 4

- The modules fcntl, pwd and resource, and some functions and signals, are missing.
- Directories cannot be opened, and files that are open for reading cannot be flushed.
- A file that this process has opened or mapped can be neither renamed, replaced nor removed.
- Stdout, if it is a pipe, takes only the letters of Western Europe.
- Text files without ``encoding`` are an error in our code, because their encoding is not UTF-8.
"""

import errno
import fcntl
import os
import runpy
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

ERROR_SHARING_VIOLATION = 32
MODULES = ("fcntl", "pwd", "resource")
FUNCTIONS = ("sched_getaffinity", "fork", "mkfifo")
SIGNALS = ("SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT")


def refuse_directories(function: Callable[..., int]) -> Callable[..., int]:
    def opened(path: Any, flags: int, *words: Any, **options: Any) -> int:
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return function(path, flags, *words, **options)

    return opened


def refuse_readers(function: Callable[[int], None]) -> Callable[[int], None]:
    def flushed(descriptor: int) -> None:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        function(descriptor)

    return flushed


def refuse_used_files(function: Callable[..., None]) -> Callable[..., None]:
    def changed(*paths: Any, **options: Any) -> None:
        for path in paths:
            if path is not None and is_used(Path(os.path.realpath(path))):
                error = PermissionError(errno.EACCES, "The process cannot access the file", str(path))
                error.winerror = ERROR_SHARING_VIOLATION  # type: ignore[attr-defined]
                raise error
        function(*paths, **options)

    return changed


def is_used(path: Path) -> bool:
    """Return whether this process has opened or mapped a file, or a file in a folder."""
    opened = [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]
    mapped = [
        line.split(maxsplit=5)[5] for line in Path("/proc/self/maps").read_text("utf-8").splitlines() if "/" in line
    ]
    return any(path == used or path in used.parents for used in map(Path, [*opened, *mapped]))


def fsdecode(filename: Any) -> str:
    name = os.fspath(filename)
    return str(name, "utf-8", "surrogatepass") if isinstance(name, bytes) else str(name)


def imitate_windows() -> None:
    """Change this process; a module that is imported later cannot tell."""
    for module in MODULES:
        sys.modules[module] = None  # type: ignore[assignment]
    for owner, names in ((os, FUNCTIONS), (signal, SIGNALS)):
        for name in names:
            delattr(owner, name)
    os.open = refuse_directories(os.open)
    os.fsync = refuse_readers(os.fsync)  # type: ignore[assignment]
    for name in ("rename", "replace", "remove", "unlink"):
        setattr(os, name, refuse_used_files(getattr(os, name)))
    sys.getfilesystemencodeerrors = lambda: "surrogatepass"
    os.fsdecode = fsdecode
    sys.stdout.reconfigure(encoding="cp1252", errors="strict")  # type: ignore[union-attr]
    warnings.filterwarnings("error", category=EncodingWarning, module="cifar10_|__main__")
    warnings.filterwarnings("ignore", "only soft file lock is available")  # filelock, because it sees POSIX


if __name__ == "__main__":
    del sys.path[0]  # the folder of this file
    sys.argv = sys.argv[1:]
    imitate_windows()
    if os.path.isfile(sys.argv[0]):
        runpy.run_path(sys.argv[0], run_name="__main__")
    else:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
