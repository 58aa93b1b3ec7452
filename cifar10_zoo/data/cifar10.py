"""Data sets in CIFAR-10's binary format: ``DATA_DIR/cifar-10-batches-bin/{data_batch_1..5,test_batch}.bin``.

A record is one label byte and 3,072 pixel bytes: planes R, G, B, each row by row. ``batches.meta.txt`` in the same
folder names the classes.
"""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import platformdirs
import torch
from filelock import FileLock
from torch import Tensor

from cifar10_zoo.data import download
from cifar10_zoo.errors import DatasetError

CLASSES = {
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    "synthetic": ("disc", "square", "triangle", "cross", "ring", "rows", "columns", "diagonals", "checks", "dots"),
}
"""Class names of the known data sets, in the order of the labels."""

FOLDER = "cifar-10-batches-bin"
META_FILE = "batches.meta.txt"
RECORDS_PER_FILE = 10_000
IMAGE_SHAPE = (3, 32, 32)
RECORD_BYTES = 1 + 3 * 32 * 32

_CLASS_NAME = re.compile(r"\w[\w-]*")  # also a valid folder name

_DIGITS = tuple("0123456789")
"""Class names of a data set without ``batches.meta.txt`` that is not CIFAR-10."""

Split = Literal["train", "test"]
FILES: dict[Split, tuple[str, ...]] = {
    "train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
    "test": ("test_batch.bin",),
}

ARCHIVE = download.Archive(
    url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    file_name="cifar-10-binary.tar.gz",
    size=170_052_171,
    md5="c32a1d4ab5d03f1284b67883e8d87530",
    folder=FOLDER,
    members=(*FILES["train"], *FILES["test"], META_FILE),
)
"""The official archive."""

_SAMPLE = slice(None, None, 32)
"""The records of a batch file that ``is_cifar10`` compares: 313 of 10,000, spread over the file."""
_SAMPLE_SHA256 = {
    "data_batch_1.bin": "4ac2429348a6adb003ac8b5baa8ed959fc3084b78ad41a0785cea86788781805",
    "data_batch_2.bin": "a4ab4fb82908003303f1eaf57602750c8a5e6b4cc4d8c6febbc9d129fb381039",
    "data_batch_3.bin": "6ed3218d35ab8bb5e17ba4985aae8f6953068a5ca44be1e65884d9fff2ba7b9d",
    "data_batch_4.bin": "ab904d30ffed8973efd8952e19f09762b37a6c4cb11037adbf487d5e078d8081",
    "data_batch_5.bin": "fcdb32dbbe3677f52f95867244adc196a131ab2ebbea6c0112c5c8b57491d2d4",
    "test_batch.bin": "ef63b8f2a16058016fd1c5191aeda825efc911f2900e9123bb4e8fd848390a8a",
}
"""SHA-256 of these records in each batch file of CIFAR-10."""


@dataclass(frozen=True)
class Dataset:
    """One split of a data set."""

    name: str
    """``cifar10`` and ``synthetic`` for these data sets, ``custom`` for any other."""
    classes: tuple[str, ...]
    """The class names, in the order of the labels."""
    images: Tensor
    """[N, 3, S, S] uint8, RGB; S = 32 for CIFAR-10, another of ``IMAGE_SIZES`` for other images."""
    labels: Tensor
    """[N] int64, positions in ``classes``."""


def default_data_dir() -> Path:
    """Return ``$CIFAR10_DATA_DIR``, else a folder in the user's cache directory, which survives a reboot."""
    return Path(os.environ.get("CIFAR10_DATA_DIR") or platformdirs.user_cache_path("cifar10-zoo"))


def is_present(data_dir: Path) -> bool:
    """Return whether ``data_dir`` holds a data set, complete or not."""
    return (data_dir / FOLDER).is_dir()


def load(data_dir: Path, split: Split, url: str | None = None) -> Dataset:
    """Return a split of the data set in ``data_dir``; without a data set, download the official archive first.

    Args:
        data_dir: The parent of the folder ``cifar-10-batches-bin``.
        split: ``train`` for the 50,000 training images, ``test`` for the 10,000 test images.
        url: URL of a copy of the official archive, instead of the official URL.

    Raises:
        DatasetError: A file is missing or cannot be used, the download failed, or ``data_dir`` holds something else.
    """
    if (data_dir / META_FILE).exists() or (data_dir / FILES["test"][0]).exists():
        raise DatasetError(f"--data-dir {data_dir} is the folder of the batch files: name its parent folder")
    if not is_present(data_dir):
        _require_nothing_else(data_dir)
        data_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(data_dir / ".lock"):  # training and evaluation may start at the same time
            if not is_present(data_dir):
                download.fetch(ARCHIVE, data_dir, url)
    folder = data_dir / FOLDER
    parts = [_read_batch(folder / name) for name in FILES[split]]
    name, classes = identify(folder)
    images, labels = (torch.cat(part) for part in zip(*parts, strict=True))
    return Dataset(name, classes, images, labels)


def _require_nothing_else(data_dir: Path) -> None:
    """Raise DatasetError if ``data_dir`` has other files than an earlier download and hidden files."""
    if not data_dir.exists():
        return
    if not data_dir.is_dir():
        raise DatasetError(f"--data-dir {data_dir} is not a directory")
    ours = (".", ARCHIVE.file_name)
    if others := sorted(path.name for path in data_dir.iterdir() if not path.name.startswith(ours)):
        raise DatasetError(
            f"--data-dir {data_dir} has no {FOLDER}/, but other files such as {others[0]}: name the parent folder of "
            f"{FOLDER}/, or a new folder to download CIFAR-10 into"
        )


def read_records(path: Path) -> tuple[Tensor, Tensor]:
    """Return all records of one file: images [N, 3, 32, 32] uint8 and labels [N] int64.

    Raises:
        DatasetError: The file is missing, has an incomplete record or no record, or has a label above 9.
    """
    try:
        data = np.fromfile(path, dtype=np.uint8)
    except FileNotFoundError:
        again = f"delete {path.parent} to unpack the archive again" if _is_downloaded(path) else "add it"
        raise DatasetError(f"{path} is missing: {again}, or name another --data-dir") from None
    if len(data) == 0 or len(data) % RECORD_BYTES:
        raise _unusable(path, f"{len(data)} bytes are not whole records of {RECORD_BYTES} bytes")
    records = data.reshape(-1, RECORD_BYTES)
    labels, pixels = records[:, 0], records[:, 1:]
    if labels.max() > 9:
        first = int(np.argmax(labels > 9))
        raise _unusable(path, f"record {first} has label {labels[first]}, above 9")
    images = torch.from_numpy(np.ascontiguousarray(pixels).reshape(-1, *IMAGE_SHAPE))
    return images, torch.from_numpy(labels.astype(np.int64))


def _read_batch(path: Path) -> tuple[Tensor, Tensor]:
    images, labels = read_records(path)
    if len(images) != RECORDS_PER_FILE:
        raise _unusable(path, f"it has {len(images)} records, not {RECORDS_PER_FILE}")
    return images, labels


def _unusable(path: Path, reason: str) -> DatasetError:
    """Return the error that a file cannot be used; only a downloaded file is called damaged, to be replaced."""
    if _is_downloaded(path):
        return DatasetError(f"{path} is damaged: {reason}; delete {path.parent} to unpack the archive again")
    return DatasetError(f"{path} cannot be used: {reason}")


def _is_downloaded(path: Path) -> bool:
    """Return whether ``path`` was unpacked from the official archive, which stays beside the folder."""
    archive = path.parent.parent / ARCHIVE.file_name
    return archive.exists() and archive.stat().st_size == ARCHIVE.size


def identify(folder: Path) -> tuple[str, tuple[str, ...]]:
    """Return the name and the class names of the data set in ``folder``.

    The content of the batch files identifies CIFAR-10, and the class names identify the synthetic data set. Without
    ``batches.meta.txt``, the classes of any other data set are the digits.

    Raises:
        DatasetError: ``batches.meta.txt`` does not name ten different classes.
    """
    meta = folder / META_FILE
    name, classes = read_classes(meta) if meta.exists() else ("cifar10", CLASSES["cifar10"])
    if name != "cifar10" or is_cifar10(folder):
        return name, classes
    return "custom", classes if meta.exists() else _DIGITS


def is_cifar10(folder: Path) -> bool:
    """Return whether the batch files in ``folder`` are those of CIFAR-10; a missing file is not compared.

    Only a sample of the records is compared, because this function runs at each start: SHA-256 of the sample takes
    0.03 s, of all records 0.2 to 0.4 s. If 1 in 200 records differs, the sample has such a record with a probability of
    99.99 %.
    """
    files = {folder / name: sha256 for name, sha256 in _SAMPLE_SHA256.items()}
    return all(_sample_sha256(path) == sha256 for path, sha256 in files.items() if path.exists())


def _sample_sha256(path: Path) -> str:
    """Return SHA-256 of the sample of a batch file; empty if the file does not have the size of a batch file."""
    if path.stat().st_size != RECORDS_PER_FILE * RECORD_BYTES:
        return ""
    records = np.memmap(path, np.uint8, "r", shape=(RECORDS_PER_FILE, RECORD_BYTES))
    return hashlib.sha256(records[_SAMPLE].tobytes()).hexdigest()


def read_classes(path: Path) -> tuple[str, tuple[str, ...]]:
    """Return the class names in a ``batches.meta.txt``, and the name of the data set that has these class names.

    Raises:
        DatasetError: The file does not name ten different classes.
    """
    classes = tuple(path.read_text(encoding="utf-8", errors="replace").split())
    if len(set(classes)) != len(classes) or len(classes) != 10 or not all(map(_CLASS_NAME.fullmatch, classes)):
        raise _unusable(path, "it must name ten different classes, one per line, in letters and digits")
    return next((name for name, known in CLASSES.items() if classes == known), "custom"), classes
