"""Find the image files that the paths on a command line name."""

import codecs
import glob
import os
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from io import BufferedReader
from itertools import chain
from typing import TypeVar, cast

from cifar10_runtime.errors import UsageError
from cifar10_runtime.images.other_files import OtherFiles

Item = TypeVar("Item")

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".avif"),
    *(".heic", ".heif", ".bmp", ".dib", ".gif", ".tif", ".tiff"),
)
"""Suffixes of the files that a folder names, in lower or upper case."""
_LONGEST_PATH = 1 << 16
"""Length in bytes; a longer entry means that the file is not a list of paths."""
_IMAGES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a")
"""The beginnings of image files, which users confuse with lists of paths."""


def find(paths: Iterable[str], suffixes: tuple[str, ...] = SUFFIXES, others: OtherFiles | None = None) -> Iterator[str]:
    """Return the image files that ``paths`` name, in a stable order; each folder is read only when it is needed.

    A file names itself. A folder names the files below it that have a known suffix, except hidden files, files in
    hidden folders and files behind links to folders. Any other path is a glob pattern, which may contain ``**``. A
    folder that cannot be read is returned like a file, so that it gets a row with an error.

    Args:
        paths: Files, folders and glob patterns.
        suffixes: The known suffixes.
        others: Counts the files that are passed over because of their suffix, as the folders are read, except hidden
            files. Matches of a pattern with ``**`` are not counted, because a folder and its files both match.

    Raises:
        UsageError: A path does not exist, or a pattern matches nothing; raised before the first file is returned.
    """
    others = OtherFiles() if others is None else others
    return chain.from_iterable([_files_of(path, suffixes, others) for path in paths])


def shard(paths: Iterable[Item], number: int, count: int) -> list[Item]:
    """Return shard ``number`` (1 to ``count``) of ``count`` contiguous shards of nearly equal size."""
    known = list(paths)
    return known[len(known) * (number - 1) // count : len(known) * number // count]


def read_path_list(name: str) -> Iterator[str]:
    """Return the paths listed in the file ``name``, or on stdin for ``-``; a path is returned as soon as it is read.

    The file has one path per line, or paths that end with NUL characters (``find -print0``). Empty entries are skipped.
    A file in UTF-16 must begin with a byte order mark, as PowerShell writes it.

    Raises:
        UsageError: The file cannot be read, or is not a list of paths.
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
    for more in _utf8_chunks(file, name):
        rest += more
        separator = separator or next((end for end in (b"\0", b"\n") if end in rest), b"")
        if separator:
            *entries, rest = rest.split(separator)
            if separator == b"\n":  # Windows ends lines with CR LF; only a list with NUL can keep a CR at the end
                entries = [entry.removesuffix(b"\r") for entry in entries]
            elif b"\n" in entries:  # the line break of UTF-16, whose letters have a NUL character each
                raise UsageError(f"--files-from {name} looks like UTF-16 without a byte order mark: write it in UTF-8")
            yield from (_decode(entry, name) for entry in entries if entry)
        if len(rest) > _LONGEST_PATH:
            raise UsageError(f"--files-from {name} is not a list of paths, one per line or each followed by NUL")
    if rest:
        yield _decode(rest, name)


def _decode(entry: bytes, name: str) -> str:
    try:
        return os.fsdecode(entry)
    except UnicodeDecodeError:  # on Windows; on POSIX, names may have any bytes
        raise UsageError(f"--files-from {name} is not valid UTF-8: write it in UTF-8") from None


def _utf8_chunks(file: BufferedReader, name: str) -> Iterator[bytes]:
    """Yield the content as soon as it can be read, without a byte order mark; UTF-16 becomes UTF-8."""
    with file:
        beginning = file.peek(8)
        if beginning.startswith(_IMAGES):
            raise UsageError(f"--files-from {name} is an image, not a list of paths: name it without --files-from")
        mark = beginning[:3]
        if mark == codecs.BOM_UTF8:
            file.read(3)
        chunks = iter(partial(file.read1, _LONGEST_PATH), b"")
        if mark[:2] not in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            yield from chunks
            return
        try:
            yield from (text.encode() for text in codecs.iterdecode(chunks, "utf-16"))
        except UnicodeError:
            raise UsageError(f"--files-from {name} is not valid UTF-16: write it in UTF-8") from None


def _files_of(path: str, suffixes: tuple[str, ...], others: OtherFiles) -> Iterable[str]:
    if os.path.isdir(path):
        return _walk(path, suffixes, others)
    if os.path.lexists(path):
        return [path]
    if "**" in path:
        others = OtherFiles()
    try:
        matches = list(_matches(path, suffixes, others))
    except ValueError:  # a NUL character
        matches = []
    if not matches:
        raise UsageError(f"{path or repr(path)} does not exist and matches no file")
    found = (_files_of(match, suffixes, others) for match in matches)
    return dict.fromkeys(chain.from_iterable(found))  # a pattern can match a folder and its files


def _matches(pattern: str, suffixes: tuple[str, ...], others: OtherFiles) -> Iterator[str]:
    """Yield the folders and images that match a pattern; ``**`` does not follow links."""
    before, stars, _ = pattern.partition("**")
    for match in sorted(glob.glob(pattern, recursive=True)):
        if not os.path.isdir(match) and not match.lower().endswith(suffixes):
            others.add(match)
        elif not stars or not _has_link(match, len(os.path.dirname(before))):
            yield match


def _has_link(path: str, start: int) -> bool:
    """Return whether ``path``, or a parent with more than ``start`` characters, is a link to a folder."""
    while len(path) > start:
        if os.path.islink(path) and os.path.isdir(path):
            return True
        path, before = os.path.dirname(path), path
        if path == before:
            break
    return False


def _walk(folder: str, suffixes: tuple[str, ...], others: OtherFiles) -> Iterator[str]:
    unreadable: list[str] = []
    for parent, folders, files in os.walk(folder, onerror=lambda error: unreadable.append(error.filename)):
        yield from unreadable
        unreadable.clear()
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if is_visible(name, suffixes):
                yield os.path.join(parent, name)
            elif not name.startswith("."):
                others.add(name)
    yield from unreadable


def is_visible(name: str, suffixes: tuple[str, ...] = SUFFIXES) -> bool:
    """Return whether a folder names the file ``name``: it is not hidden and has a known suffix."""
    return name.lower().endswith(suffixes) and not name.startswith(".")
