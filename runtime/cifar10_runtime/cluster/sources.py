"""Where images come from when they are too many for one machine: files, tar and Parquet, on disks and in buckets.

The input is a sequence of partitions, each read as a whole by one process. Which there are depends on the input alone.
fsspec and pyarrow are imported when they are needed.
"""

import os
import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, groupby, islice
from typing import IO, Any

from cifar10_runtime.errors import ImageError, UsageError
from cifar10_runtime.images import find as files
from cifar10_runtime.text import one_line

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
PARQUET_SUFFIXES = (".parquet",)
SUFFIXES = (*files.SUFFIXES, *TAR_SUFFIXES, *PARQUET_SUFFIXES)
"""What is taken from folders and prefixes, in lower or upper case."""

PART = "part-"
"""How the names of results begin."""
_FILES_A_REQUEST = 256
_ROWS_A_READ = 256
_BYTES_A_READ = 1 << 20
_MAGIC = re.compile(r"[*?\[]")

Content = tuple[str, bytes | ImageError]
"""The path of an image, and what its file has in it or why it cannot be read."""


@dataclass(frozen=True)
class Partition:
    """Images that are classified together: so many files, or all that are in a tar or Parquet file."""

    kind: str
    """``files``, ``urls``, ``tar`` or ``parquet``."""
    paths: tuple[str, ...]
    """Local paths or URLs; of a tar or Parquet file, one."""


def is_url(path: str) -> bool:
    """Whether it is for fsspec: ``s3://bucket/prefix``."""
    return "://" in path


def file_system(path: str) -> tuple[Any, str]:
    """The file system of fsspec for a path or URL, and what the path is there."""
    import fsspec

    if not is_url(path):  # fsspec takes more than :// for a sign of one
        return fsspec.filesystem("file"), os.path.abspath(path)
    found: tuple[Any, str] = fsspec.core.url_to_fs(path)
    return found


def partitions(paths: Iterable[str], size: int, output: str) -> Iterator[Partition]:
    """What ``paths`` mean, in a stable order.

    Local paths mean what they mean to ``files.find``; a URL of fsspec is a file, a pattern, or a prefix, of which those
    files are taken that are not hidden. Image files are grouped, ``size`` at most together. Parts in the folder
    ``output``, as its file system names it, are results.

    Raises:
        UsageError: a path does not exist, matches nothing or cannot be listed.
    """
    found = chain.from_iterable(_listed(path) if is_url(path) else files.find([path], SUFFIXES) for path in paths)
    results = f"{output.rstrip('/')}/{PART}"
    images = (path for path in found if not _plain(path).startswith(results))
    for kind, group in groupby(images, _kind):
        while some := tuple(islice(group, size if kind in ("files", "urls") else 1)):
            yield Partition(kind, some)


def contents(partition: Partition, column: str) -> Iterator[Content]:
    """The images of a partition, of any kind but ``files``: those have paths that a classifier reads itself.

    The path of an image in a tar or Parquet file is that of the file, a slash, and the name of the member or the number
    of the row, from 0. A file that cannot be read, or not to its end, is one image more, with the reason.

    Args:
        column: of Parquet files, the one with the images: bytes, or structs with a field ``bytes``.
    """
    if partition.kind == "urls":
        yield from _fetched(partition.paths)
        return
    (path,) = partition.paths
    read = _tar_members(path) if partition.kind == "tar" else _parquet_rows(path, column)
    try:
        yield from read
    except Exception as error:  # of tarfile, pyarrow and whatever file system; all that is left is to say it
        yield path, ImageError(one_line(error))


def check_column(found: Iterable[Partition], column: str) -> None:
    """See whether the first Parquet file, if there is one that can be read, has such a column.

    Raises:
        UsageError: it has not.
    """
    from pyarrow.parquet import read_schema

    path = next((part.paths[0] for part in found if part.kind == "parquet"), None)
    if path is None:
        return
    try:
        with _open(path) as file:
            names = read_schema(file).names
    except Exception:  # which will be the error of a row
        return
    try:
        _require_column(names, column)
    except ImageError as error:
        raise UsageError(f"{path}: {error}") from None


def _open(path: str) -> Any:
    if is_url(path):
        import fsspec

        return fsspec.open(path)
    if os.path.exists(path) and not os.path.isfile(path):  # a pipe would be waited for
        raise ImageError("not a regular file")
    return open(path, "rb")


def _plain(path: str) -> str:
    """The path in its file system."""
    return path.partition("://")[2] if is_url(path) else os.path.abspath(path)


def _kind(path: str) -> str:
    name = path.lower()
    if name.endswith(TAR_SUFFIXES):
        return "tar"
    if name.endswith(PARQUET_SUFFIXES):
        return "parquet"
    return "urls" if is_url(path) else "files"


def _listed(url: str) -> list[str]:
    """URLs of the files that a URL means."""
    try:
        system, root = file_system(url)
        if system.isfile(root):
            return [url]
        folder = root.rstrip("/")
        if _MAGIC.search(root) and not system.exists(root):
            found = [name for name in system.glob(root) if system.isfile(name)]
            folder = _MAGIC.split(root)[0].rpartition("/")[0]
        else:
            found = system.find(root)
    except Exception as error:  # of the client of whatever store it is
        raise UsageError(f"{url} cannot be listed: {one_line(error)}") from None
    visible = sorted(name for name in found if _is_visible(name.removeprefix(folder + "/")))
    if not visible:
        raise UsageError(f"{url} does not exist, or there are no files ({' '.join(SUFFIXES)})")
    return [system.unstrip_protocol(name) for name in visible]


def _is_visible(path: str) -> bool:
    *folders, name = path.split("/")
    return files.is_visible(name, SUFFIXES) and not any(folder.startswith(".") for folder in folders)


def _fetched(urls: tuple[str, ...]) -> Iterator[Content]:
    """Several files with each request, which object stores answer at the same time."""
    system, _ = file_system(urls[0])
    remaining = iter(urls)
    while some := list(islice(remaining, _FILES_A_REQUEST)):
        names = [system._strip_protocol(url) for url in some]
        nowhere = [None] * len(names)
        fetched = system.cat_ranges(names, nowhere, nowhere)  # cat would take the names for patterns
        for url, content in zip(some, fetched, strict=True):
            yield url, content if isinstance(content, bytes) else ImageError(one_line(content))


def _tar_members(path: str) -> Iterator[Content]:
    with _open(path) as file, _open_tar(file) as tar:
        for member in tar:
            name = f"{path}/{member.name}"
            if member.isdir() or not files.is_visible(member.name.rpartition("/")[2]):
                pass
            elif member.isfile():
                opened = tar.extractfile(member)
                assert opened is not None  # of a regular file
                yield name, opened.read()
            else:
                yield name, ImageError("not a regular file")
            tar.members = []  # type: ignore[attr-defined]  # of which there may be many
        _require_end(tar)


def _open_tar(file: Any) -> tarfile.TarFile:
    try:
        return tarfile.open(fileobj=file, mode="r:*")
    except tarfile.ReadError:
        raise ImageError("not a tar file, or one with a damaged beginning") from None


def _require_end(tar: tarfile.TarFile) -> None:
    """See whether it was the end: tarfile takes a damaged header, and a missing rest, for one.

    Reading on to the very end also lets gzip compare its checksum.
    """
    file: IO[bytes] | Any = tar.fileobj
    file.seek(tar.offset)
    rest = file.read(tarfile.BLOCKSIZE)
    if not rest:
        raise ImageError("the archive is cut off here")
    while rest:
        if rest.strip(b"\0"):
            raise ImageError("the archive is damaged here")
        rest = file.read(_BYTES_A_READ)


def _parquet_rows(path: str, column: str) -> Iterator[Content]:
    from pyarrow.parquet import ParquetFile

    with _open(path) as file, ParquetFile(file) as parquet:
        _require_column(parquet.schema_arrow.names, column)
        row = 0
        for batch in parquet.iter_batches(_ROWS_A_READ, columns=[column]):
            for value in batch.column(0).to_pylist():
                yield f"{path}/{row}", _image(value)
                row += 1


def _require_column(names: list[str], column: str) -> None:
    if column not in names:
        raise ImageError(f"there is no column {column} but {', '.join(names)}: name it by --column")


def _image(value: object) -> bytes | ImageError:
    content = value.get("bytes") if isinstance(value, dict) else value
    return content if isinstance(content, bytes) else ImageError("the row has no bytes of an image")
