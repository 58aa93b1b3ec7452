"""Leave out the images in a folder that takes copies of images."""

import os
from collections.abc import Iterable, Iterator

from cifar10_runtime.text import count_of, printable


class OutsideFolder:
    """Passes on the paths of files outside a folder, and counts the files in it.

    Args:
        folder: The folder; it may be created later. Links and other spellings of its path are recognized.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._left_out = 0

    def filter(self, paths: Iterable[str]) -> Iterator[str]:
        """Yield the ``paths`` of files outside the folder, in the same order."""
        parent, is_outside = None, True
        for path in paths:
            if os.path.dirname(path) != parent:
                parent = os.path.dirname(path)
                is_outside = not self._contains(parent)
            if is_outside:
                yield path
            else:
                self._left_out += 1

    def summary(self) -> str:
        """Return the count in words; empty if no file was left out."""
        if not self._left_out:
            return ""
        return printable(f"{count_of(self._left_out, 'image')} in {self._folder} left out")

    def _contains(self, parent: str) -> bool:
        """Return whether ``parent`` is the folder or lies in it."""
        try:
            folder = os.stat(self._folder)
        except OSError:  # it does not exist yet
            return False
        path, before = os.path.realpath(parent), ""
        while path != before:
            if os.path.exists(path) and os.path.samestat(os.stat(path), folder):
                return True
            path, before = os.path.dirname(path), path
        return False
