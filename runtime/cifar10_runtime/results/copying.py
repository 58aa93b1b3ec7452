"""Copy files, or make hard links to them, without ever replacing a file or leaving an incomplete one."""

import errno
import filecmp
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from stat import S_ISREG

from cifar10_runtime.atomic import rename_without_replacing
from cifar10_runtime.errors import ImageError
from cifar10_runtime.images.read import read_file
from cifar10_runtime.results.stream import output_errors
from cifar10_runtime.text import one_line

_BYTES_PER_READ = 1 << 20
_NAME_ERRORS = (errno.EINVAL, errno.EILSEQ, errno.ENAMETOOLONG)
"""A file system refuses the name of a file, but may take other names."""


class UncopiedError(Exception):
    """One file that cannot be copied, although others can; the message is a short reason without the path."""


class Copier:
    """Makes copies of files, or hard links to them.

    A copy is written to a temporary file, which gets the name of the copy when it is complete.

    Args:
        temporary: Path of the temporary file, in the file system of the copies. No other process may use it.
        links: Make hard links where the file system allows them.
        option: The option that names the folder of the copies, for messages.
    """

    copied = 0
    """Number of copies."""
    linked = 0
    """Number of hard links."""
    not_linked = ""
    """Why the first file that could not be linked was copied; empty if there is no such file."""

    def __init__(self, temporary: str, links: bool, option: str) -> None:
        self._temporary, self._links, self._option = temporary, links, option

    def create(self, path: str, target: str) -> bool:
        """Make ``target``, a copy of the regular file ``path`` or a hard link to it; return False if ``target`` exists.

        Raises:
            UncopiedError: ``path`` cannot be read, or the file system refuses the name of ``target``.
            OutputError: ``target`` cannot be written.
        """
        return self._link(path, target) if self._links else self._copy(path, target)

    def remove_temporary(self) -> None:
        """Remove the temporary file, which a killed process may have left."""
        with suppress(FileNotFoundError):
            os.unlink(self._temporary)

    def _link(self, path: str, target: str) -> bool:
        try:
            os.link(os.path.realpath(path) if os.path.islink(path) else path, target)
        except FileExistsError:
            return False
        except OSError as error:
            is_new = self._copy(path, target)  # which fails if the file or the disk is the reason
            self.not_linked = self.not_linked or one_line(error)
            return is_new
        self.linked += 1
        return True

    def _copy(self, path: str, target: str) -> bool:
        with output_errors(f"{self._option}: {target}"):
            try:
                with open(self._temporary, "xb") as file:  # never a file that exists: it could be a link to a copy
                    file.writelines(_contents(path))
                with suppress(OSError):  # the file system has no such times, modes or attributes
                    shutil.copystat(path, self._temporary)
                rename_without_replacing(self._temporary, target)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno in _NAME_ERRORS:
                    raise UncopiedError(f"{one_line(error)}: {target}") from error
                raise
            finally:
                self.remove_temporary()
        self.copied += 1
        return True


def check_regular(path: str) -> None:
    """Check that ``path`` is a regular file, because pipes and devices may have no end.

    Raises:
        UncopiedError: It is not, or does not exist.
    """
    try:
        is_regular = S_ISREG(os.stat(path).st_mode)
    except OSError as error:
        raise UncopiedError(one_line(error)) from error
    if not is_regular:
        raise UncopiedError("not a regular file")


def is_copy(target: str, path: str) -> bool:
    """Return whether ``target`` is a regular file with the content of ``path``; a symbolic link is not one.

    Raises:
        UncopiedError: ``path`` cannot be read.
    """
    if os.path.islink(target) or not os.path.isfile(target):
        return False
    try:
        return os.path.samefile(target, path) or filecmp.cmp(target, path, shallow=False)
    except OSError as error:
        if error.filename == target:  # a file of somebody else
            return False
        raise UncopiedError(one_line(error)) from error


def _contents(path: str) -> Iterator[bytes]:
    """Yield the content of a file in pieces."""
    try:
        content = read_file(path)
        if isinstance(content, bytes):
            yield content
            return
        with content as file:
            while piece := file.read(_BYTES_PER_READ):
                yield piece
    except (ImageError, OSError) as error:
        raise UncopiedError(one_line(error)) from error
