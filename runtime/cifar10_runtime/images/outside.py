"""Leave out the images in a folder that takes copies of images."""

import os
from collections.abc import Iterable, Iterator


class OutsideFolder:
    """Passes on the paths of files outside a folder, and counts the files in it.

    Args:
        folder: The folder; it may be created later. Links and other spellings of its path are recognized.
    """

    left_out = 0
    """Number of files in the folder."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

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
                self.left_out += 1

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
