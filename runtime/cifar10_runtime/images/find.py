"""Image files: which ones the arguments of a command mean."""

import codecs
import glob
import os
import sys
from collections.abc import Iterable, Iterator
from io import BufferedReader
from itertools import chain
from typing import cast

from cifar10_runtime.errors import UsageError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
"""Files that are taken from folders, in lower or upper case."""
_LONGEST_PATH = 1 << 16


def find(paths: Iterable[str], suffixes: tuple[str, ...] = SUFFIXES) -> Iterator[str]:
    """The image files that ``paths`` mean, in a stable order; folders are read when it is their turn.

    A file stands for itself, a folder for the files with a known suffix in it and below, except hidden ones and those
    behind links to folders; anything else is a glob pattern, ``**`` included. A folder that cannot be read comes
    itself, so that it is an error like a file that cannot be read.

    Raises:
        UsageError: a path does not exist or a pattern matches nothing, at once.
    """
    return chain.from_iterable([_meaning(path, suffixes) for path in paths])


def shard(paths: Iterable[str], number: int, count: int) -> list[str]:
    """The ``number``-th of ``count`` parts of ``paths``, from 1: one after another they are all of them.

    A part has as many paths as any other, or one less. All paths are in memory meanwhile.
    """
    known = list(paths)
    return known[len(known) * (number - 1) // count : len(known) * number // count]


def read_path_list(name: str) -> Iterator[str]:
    """The paths in the file ``name``, or in what comes from stdin for ``-``, as they come.

    One a line; or each ended by a NUL character, as ``find -print0`` does it. Empty ones are left out.

    Raises:
        UsageError: the file cannot be read, at once.
    """
    if name == "-":
        if sys.stdin is None:
            raise UsageError("--files-from -: stdin is closed")
        return _entries(cast(BufferedReader, sys.stdin.buffer), name)
    try:
        return _entries(open(name, "rb"), name)
    except OSError as error:
        raise UsageError(f"--files-from {name}: {error.strerror}") from error


def _entries(file: BufferedReader, name: str) -> Iterator[str]:
    separator, rest = b"", b""
    with file:
        if file.peek(3)[:3] == codecs.BOM_UTF8:
            file.read(3)
        while more := file.read1(_LONGEST_PATH):
            rest += more
            separator = separator or next((end for end in (b"\0", b"\n") if end in rest), b"")
            if separator:
                *entries, rest = rest.split(separator)
                if separator == b"\n":  # or as Windows ends lines; a name that ends so needs NUL
                    entries = [entry.removesuffix(b"\r") for entry in entries]
                yield from (os.fsdecode(entry) for entry in entries if entry)
            if len(rest) > _LONGEST_PATH:
                raise UsageError(f"--files-from {name}: it is no list of paths, one a line or each ended by NUL")
    if rest:
        yield os.fsdecode(rest)


def _meaning(path: str, suffixes: tuple[str, ...]) -> Iterable[str]:
    if os.path.isdir(path):
        return _walk(path, suffixes)
    if os.path.lexists(path):
        return [path]
    try:
        matches = [match for match in sorted(glob.glob(path, recursive=True)) if _is_wanted(match, path, suffixes)]
    except ValueError:  # a NUL character
        matches = []
    if not matches:
        raise UsageError(f"{path} does not exist and matches no file")
    meanings = (_meaning(match, suffixes) for match in matches)
    return dict.fromkeys(chain.from_iterable(meanings))  # a pattern can match a folder and its files


def _is_wanted(match: str, pattern: str, suffixes: tuple[str, ...]) -> bool:
    if not os.path.isdir(match) and not match.lower().endswith(suffixes):
        return False
    before, stars, _ = pattern.partition("**")
    return not stars or not _has_link(match, len(os.path.dirname(before)))


def _has_link(path: str, start: int) -> bool:
    """Whether a folder of ``path``, or ``path`` as a folder, is a link, of those that end behind ``start``."""
    while len(path) > start:
        if os.path.islink(path) and os.path.isdir(path):
            return True
        path, before = os.path.dirname(path), path
        if path == before:
            break
    return False


def _walk(folder: str, suffixes: tuple[str, ...]) -> Iterator[str]:
    unreadable: list[str] = []
    for parent, folders, files in os.walk(folder, onerror=lambda error: unreadable.append(error.filename)):
        yield from unreadable
        unreadable.clear()
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (os.path.join(parent, name) for name in sorted(files) if is_visible(name, suffixes))
    yield from unreadable


def is_visible(name: str, suffixes: tuple[str, ...] = SUFFIXES) -> bool:
    """Whether a file of that name is taken from a folder."""
    return name.lower().endswith(suffixes) and not name.startswith(".")
