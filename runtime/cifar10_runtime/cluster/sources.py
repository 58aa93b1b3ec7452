"""The images of a cluster job: image files, tar files and Parquet files, on disks and in buckets.

The input is a sequence of partitions; one worker reads a whole partition. The partitions depend only on the input.
fsspec and pyarrow are imported only when they are needed.
"""

import os
import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, groupby, islice
from typing import IO, Any

from cifar10_runtime.errors import ImageError, UsageError
from cifar10_runtime.images import find
from cifar10_runtime.images.other_files import OtherFiles
from cifar10_runtime.prediction import Prediction
from cifar10_runtime.text import one_line

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
PARQUET_SUFFIXES = (".parquet",)
SUFFIXES = (*find.SUFFIXES, *TAR_SUFFIXES, *PARQUET_SUFFIXES)
"""Suffixes of the files that folders and prefixes name, in lower or upper case."""

PART = "part-"
"""Prefix of the names of result files."""
_FILES_PER_REQUEST = 256
_ROWS_PER_READ = 256
_BYTES_PER_READ = 1 << 20
_GLOB = re.compile(r"[*?\[]")

Content = tuple[str, bytes] | Prediction
"""The path and the content of an image file, or the failed prediction of a file that cannot be read."""


@dataclass(frozen=True)
class Partition:
    """The images of one call of a worker: several image files, or all images in one tar or Parquet file."""

    kind: str
    """``files``, ``urls``, ``tar`` or ``parquet``."""
    paths: tuple[str, ...]
    """Local paths or URLs; exactly one for a tar or Parquet file."""


def partitions(paths: Iterable[str], size: int, output: str, others: OtherFiles | None = None) -> Iterator[Partition]:
    """Yield the partitions of the input, in an order that depends only on the input.

    Args:
        paths: Local paths as in ``images.find``, also of tar and Parquet files; or fsspec URLs: files, glob patterns or
            prefixes. A prefix names all its files except hidden files.
        size: Largest number of image files in a partition.
        output: The path of the output folder in its file system; its parts are not taken as input.
        others: Counts the files of folders and prefixes that are passed over because of their suffix.

    Raises:
        UsageError: A path does not exist, matches no file or cannot be listed.
    """
    others = OtherFiles() if others is None else others
    found = chain.from_iterable(
        _list_url(path, others) if is_url(path) else find.find([path], SUFFIXES, others) for path in paths
    )
    results = f"{output.rstrip('/')}/{PART}"
    images = (path for path in found if not _without_protocol(path).startswith(results))
    for kind, group in groupby(images, _kind):
        while some := tuple(islice(group, size if kind in ("files", "urls") else 1)):
            yield Partition(kind, some)


def contents(partition: Partition, column: str) -> Iterator[Content]:
    """Yield the images of a partition whose kind is not ``files``; a classifier reads ``files`` by their paths.

    The path of an image in a tar or Parquet file is the path of that file, a slash, and the name of the member or the
    number of the row, from 0. A damaged tar or Parquet file gives one additional failed prediction, with the path of
    the file.

    Args:
        partition: The partition.
        column: The column of images in Parquet files. Its values are bytes, or structs with a field ``bytes``.
    """
    if partition.kind == "urls":
        yield from _fetch(partition.paths)
        return
    (path,) = partition.paths
    read = _tar_members(path) if partition.kind == "tar" else _parquet_rows(path, column)
    try:
        yield from read
    except Exception as error:  # tarfile, pyarrow and each file system have their own exception classes
        yield Prediction.failed(path, one_line(error))


def check_column(found: Iterable[Partition], column: str) -> None:
    """Check that the first Parquet file has the column; a file that cannot be read is left to its worker.

    Raises:
        UsageError: The file has no such column.
    """
    from pyarrow.parquet import read_schema

    path = next((part.paths[0] for part in found if part.kind == "parquet"), None)
    if path is None:
        return
    try:
        with _open(path) as file:
            names = read_schema(file).names
    except Exception:  # pyarrow and each file system have their own exception classes
        return
    if column not in names:
        raise UsageError(f"{path}: {_no_column(column, names)}")


def is_url(path: str) -> bool:
    """Return whether fsspec opens ``path``: ``s3://bucket/prefix``."""
    return "://" in path


def file_system(path: str) -> tuple[Any, str]:
    """Return the fsspec file system of a path or URL, and the path in this file system."""
    import fsspec

    if not is_url(path):  # fsspec would interpret "::" in a path as a chain of file systems
        return fsspec.filesystem("file"), _absolute(path)
    found: tuple[Any, str] = fsspec.core.url_to_fs(path)
    return found


def _open(path: str) -> Any:
    if is_url(path):
        import fsspec

        return fsspec.open(path)
    if os.path.exists(path) and not os.path.isfile(path):  # opening a pipe would block
        raise ImageError("not a regular file")
    return open(path, "rb")


def _without_protocol(path: str) -> str:
    return path.partition("://")[2] if is_url(path) else _absolute(path)


def _absolute(path: str) -> str:
    """Return the absolute path as fsspec writes it: also on Windows with slashes."""
    return os.path.abspath(path).replace(os.sep, "/")


def _kind(path: str) -> str:
    name = path.lower()
    if name.endswith(TAR_SUFFIXES):
        return "tar"
    if name.endswith(PARQUET_SUFFIXES):
        return "parquet"
    return "urls" if is_url(path) else "files"


def _list_url(url: str, others: OtherFiles) -> list[str]:
    """Return the URLs of the files that a URL names: itself, the files below it, or the matches of a pattern."""
    try:
        system, root = file_system(url)
        if system.isfile(root):
            return [url]
        folder = root.rstrip("/")
        if _GLOB.search(root) and not system.exists(root):
            found = [name for name in system.glob(root) if system.isfile(name)]
            folder = _GLOB.split(root)[0].rpartition("/")[0]
        else:
            found = system.find(root)
    except Exception as error:  # the client of each store has its own exception classes
        raise UsageError(f"{url} cannot be listed: {one_line(error)}") from None
    visible = sorted(name for name in found if not _is_hidden(name.removeprefix(folder + "/")))
    images = []
    for name in visible:
        if name.lower().endswith(SUFFIXES):
            images.append(name)
        else:
            others.add(name)
    if not images:
        raise UsageError(f"{url} does not exist, or has no files that end in {' '.join(SUFFIXES)}")
    return [system.unstrip_protocol(name) for name in images]


def _is_hidden(path: str) -> bool:
    return any(name.startswith(".") for name in path.split("/"))


def _fetch(urls: tuple[str, ...]) -> Iterator[Content]:
    """Fetch several files per request, because object stores answer such requests in parallel."""
    system, _ = file_system(urls[0])
    remaining = iter(urls)
    while some := list(islice(remaining, _FILES_PER_REQUEST)):
        names = [system._strip_protocol(url) for url in some]
        whole = [None] * len(names)
        fetched = system.cat_ranges(names, whole, whole)  # cat would interpret brackets in a name as a pattern
        for url, content in zip(some, fetched, strict=True):
            yield (url, content) if isinstance(content, bytes) else Prediction.failed(url, one_line(content))


def _tar_members(path: str) -> Iterator[Content]:
    with _open(path) as file, _open_tar(file) as tar:
        for member in tar:
            name = f"{path}/{member.name}"
            if member.isdir() or not find.is_visible(member.name.rpartition("/")[2]):
                pass
            elif member.isfile():
                opened = tar.extractfile(member)
                assert opened is not None  # extractfile returns None only for other kinds of members
                yield name, opened.read()
            else:
                yield Prediction.failed(name, "not a regular file")
            tar.members = []  # type: ignore[attr-defined]  # tarfile would keep all members in memory
        _check_end(tar)


def _open_tar(file: Any) -> tarfile.TarFile:
    try:
        return tarfile.open(fileobj=file, mode="r:*")
    except tarfile.ReadError:
        raise ImageError("not a tar file, or its beginning is damaged") from None


def _check_end(tar: tarfile.TarFile) -> None:
    """Check that only zeros follow, because tarfile treats a damaged header or a truncated file as the end.

    Reading to the end of the file also makes gzip check its checksum.
    """
    file: IO[bytes] | Any = tar.fileobj
    file.seek(tar.offset)
    rest = file.read(tarfile.BLOCKSIZE)
    if not rest:
        raise ImageError("the archive is cut off here")
    while rest:
        if rest.strip(b"\0"):
            raise ImageError("the archive is damaged here")
        rest = file.read(_BYTES_PER_READ)


def _parquet_rows(path: str, column: str) -> Iterator[Content]:
    from pyarrow.parquet import ParquetFile

    with _open(path) as file, ParquetFile(file) as parquet:
        names = parquet.schema_arrow.names
        if column not in names:
            raise ImageError(_no_column(column, names))
        row = 0
        for batch in parquet.iter_batches(_ROWS_PER_READ, columns=[column]):
            for value in batch.column(0).to_pylist():
                yield _image(f"{path}/{row}", value)
                row += 1


def _no_column(column: str, names: list[str]) -> str:
    return f"there is no column {column}; the columns are {', '.join(names)}: choose one with --column"


def _image(path: str, value: object) -> Content:
    content = value.get("bytes") if isinstance(value, dict) else value
    return (path, content) if isinstance(content, bytes) else Prediction.failed(path, "the row has no image bytes")
