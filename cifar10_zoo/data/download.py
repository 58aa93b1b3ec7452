"""Download an archive of known size and checksum and unpack it, completely or not at all."""

import hashlib
import shutil
import sys
import tarfile
import urllib.error
import urllib.request
import zlib
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO

from cifar10_runtime.atomic import replace
from tqdm import tqdm

from cifar10_zoo import atomic
from cifar10_zoo.errors import DatasetError

_CHUNK = 1 << 20
_TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class Archive:
    """A .tar.gz file, its checksum and the members to unpack."""

    url: str
    file_name: str
    """File name of the archive in the data directory."""
    size: int
    """In bytes."""
    md5: str
    folder: str
    """Folder in the archive; unpacking creates the same folder in the data directory."""
    members: tuple[str, ...]
    """The files to unpack from that folder; all others are ignored."""


def fetch(archive: Archive, data_dir: Path, url: str | None = None) -> None:
    """Create the folder ``data_dir/archive.folder`` from the archive, which is downloaded if ``data_dir`` lacks it.

    Args:
        archive: The expected archive.
        data_dir: The data directory; it is created if it does not exist.
        url: Another URL to download from (http, https or file), instead of ``archive.url``.

    Raises:
        DatasetError: The download failed, or the file is not the expected archive.
    """
    path = data_dir / archive.file_name
    if not path.exists():
        data_dir.mkdir(parents=True, exist_ok=True)
        _download(archive, path, url or archive.url)
    elif difference := _difference(archive, path):
        raise DatasetError(
            f"{path} is not the official archive: {difference}. Move it to another directory to download the archive"
        )
    _unpack(archive, path)


def _download(archive: Archive, path: Path, url: str) -> None:
    """Download the archive to ``path``; continue from the .part file of an interrupted download."""
    print(f"downloading {url} to {path.parent}", file=sys.stderr)
    part = path.with_name(path.name + ".part")
    have = part.stat().st_size if part.exists() else 0
    if have < archive.size:
        try:
            _receive(archive, part, url, have)
        except (OSError, ValueError, HTTPException) as error:
            advice = "run the same command again to continue, or name another --data-url"
            raise DatasetError(f"cannot download {url}: {error}; {advice}") from error
    if (have := part.stat().st_size) < archive.size:
        raise DatasetError(f"{url} ended after {have} of {archive.size} bytes; run the same command again to continue")
    if difference := _difference(archive, part):
        part.unlink()
        raise DatasetError(f"{url} is not the official archive: {difference}. Name another --data-url")
    replace(part, path)


def _receive(archive: Archive, part: Path, url: str, have: int) -> None:
    """Append the missing bytes to ``part``; if the server ignores the Range header, write the whole file again.

    At most one byte more than ``archive.size`` is read: it shows that the file is too long.
    """
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:
        continues = (response.headers.get("Content-Range") or "").startswith(f"bytes {have}-")
        length = response.headers.get("Content-Length")
        if length is not None and int(length) != archive.size - have * continues:
            size = int(length) + have * continues
            raise DatasetError(f"{url} has {size} bytes, the official archive {archive.size}: name another --data-url")
        start = have if continues else 0
        bar = tqdm(desc=archive.file_name, initial=start, total=archive.size, unit="B", unit_scale=True, disable=None)
        with open(part, "ab" if continues else "wb") as file, bar:
            left = archive.size + 1 - start
            while left and (data := response.read(min(_CHUNK, left))):
                file.write(data)
                left -= len(data)
                bar.update(len(data))


def _difference(archive: Archive, path: Path) -> str:
    """Return how the file at ``path`` differs from ``archive``, or an empty string if they are equal."""
    if (size := path.stat().st_size) != archive.size:
        return f"{size} bytes instead of {archive.size}" if size < archive.size else f"more than {archive.size} bytes"
    with open(path, "rb") as file:
        md5 = hashlib.file_digest(file, "md5").hexdigest()
    return "" if md5 == archive.md5 else f"MD5 {md5} instead of {archive.md5}"


def _unpack(archive: Archive, path: Path) -> None:
    """Unpack the members of ``archive`` from the file at ``path``."""
    try:
        with atomic.new_directory(path.parent / archive.folder) as unfinished, tarfile.open(path, "r:gz") as tar:
            for name in archive.members:
                with _regular_file(tar, f"{archive.folder}/{name}") as source, open(unfinished / name, "xb") as file:
                    shutil.copyfileobj(source, file, _CHUNK)
    except (tarfile.TarError, EOFError, zlib.error, KeyError) as error:
        raise DatasetError(f"{path} cannot be unpacked: {error}. Delete it to download it again") from error


def _regular_file(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    member = tar.getmember(name)
    source = tar.extractfile(member) if member.isreg() else None
    if source is None:
        raise tarfile.TarError(f"member {name} is not a regular file")
    return source
