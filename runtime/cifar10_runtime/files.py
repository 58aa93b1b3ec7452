"""Image files: which ones the arguments of a command mean."""

import glob
import os
from collections.abc import Iterable, Iterator
from itertools import chain

from cifar10_runtime.errors import UsageError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
"""Files that are taken from folders, in lower or upper case."""


def find(paths: Iterable[str]) -> Iterator[str]:
    """The image files that ``paths`` mean, in a stable order; folders are read when it is their turn.

    A file stands for itself, a folder for the files with a known suffix in it and below, except hidden ones; anything
    else is a glob pattern, ``**`` included.

    Raises:
        UsageError: a path does not exist or a pattern matches nothing, at once; or, later, a folder cannot be read.
    """
    return chain.from_iterable([_meaning(path) for path in paths])


def _meaning(path: str) -> Iterable[str]:
    if os.path.isdir(path):
        return _walk(path)
    if os.path.lexists(path):
        return [path]
    matches = [match for match in sorted(glob.glob(path, recursive=True)) if _is_wanted(match)]
    if not matches:
        raise UsageError(f"{path} does not exist and matches no file")
    return dict.fromkeys(chain.from_iterable(map(_meaning, matches)))  # a pattern can match a folder and its files


def _is_wanted(match: str) -> bool:
    return os.path.isdir(match) or _has_known_suffix(match)


def _walk(folder: str) -> Iterator[str]:
    for parent, folders, files in os.walk(folder, onerror=_refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (os.path.join(parent, name) for name in sorted(files) if _is_image_name(name))


def _refuse(error: OSError) -> None:
    """A folder that cannot be read is no empty folder."""
    raise UsageError(f"{error.filename} cannot be read: {error.strerror}")


def _is_image_name(name: str) -> bool:
    return _has_known_suffix(name) and not name.startswith(".")


def _has_known_suffix(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)
