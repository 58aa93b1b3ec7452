"""Data sets in CIFAR-10's binary format: ``DATA_DIR/cifar-10-batches-bin/{data_batch_1..5,test_batch}.bin``.

A record is one label byte and 3,072 pixel bytes: planes R, G, B, each row by row. ``batches.meta.txt`` in the same
folder names the classes.
"""

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
"""Class names of the known data sets, in the order of the labels; ``read_classes`` recognizes a data set by them."""

FOLDER = "cifar-10-batches-bin"
META_FILE = "batches.meta.txt"
RECORDS_PER_FILE = 10_000
IMAGE_SHAPE = (3, 32, 32)
RECORD_BYTES = 1 + 3 * 32 * 32

_CLASS_NAME = re.compile(r"\w[\w-]*")  # also a valid folder name

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


@dataclass(frozen=True)
class Dataset:
    """One split of a data set."""

    name: str
    """``cifar10``, ``synthetic``, or ``custom`` for other class names."""
    classes: tuple[str, ...]
    """The ten class names, in the order of the labels."""
    images: Tensor
    """[N, 3, 32, 32] uint8, RGB."""
    labels: Tensor
    """[N] int64, 0 to 9."""


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
        DatasetError: A file is missing or damaged, or the download failed.
    """
    if (data_dir / META_FILE).exists() or (data_dir / FILES["test"][0]).exists():
        raise DatasetError(f"--data-dir {data_dir} is the folder of the batch files: name its parent folder")
    if not is_present(data_dir):
        data_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(data_dir / ".lock"):  # training and evaluation may start at the same time
            if not is_present(data_dir):
                download.fetch(ARCHIVE, data_dir, url)
    folder = data_dir / FOLDER
    parts = [_read_batch(folder / name) for name in FILES[split]]
    name, classes = read_classes(folder / META_FILE)
    images, labels = (torch.cat(part) for part in zip(*parts, strict=True))
    return Dataset(name, classes, images, labels)


def read_records(path: Path) -> tuple[Tensor, Tensor]:
    """Return all records of one file: images [N, 3, 32, 32] uint8 and labels [N] int64.

    Raises:
        DatasetError: The file is missing, has an incomplete record or no record, or has a label above 9.
    """
    try:
        data = np.fromfile(path, dtype=np.uint8)
    except FileNotFoundError:
        raise DatasetError(f"{path} is missing: delete {path.parent} to download the data set again") from None
    if len(data) == 0 or len(data) % RECORD_BYTES:
        raise DatasetError(f"{path} is damaged: {len(data)} bytes are not whole records of {RECORD_BYTES} bytes")
    records = data.reshape(-1, RECORD_BYTES)
    labels, pixels = records[:, 0], records[:, 1:]
    if labels.max() > 9:
        first = int(np.argmax(labels > 9))
        raise DatasetError(f"{path} is damaged: record {first} has label {labels[first]}, above 9")
    images = torch.from_numpy(np.ascontiguousarray(pixels).reshape(-1, *IMAGE_SHAPE))
    return images, torch.from_numpy(labels.astype(np.int64))


def _read_batch(path: Path) -> tuple[Tensor, Tensor]:
    images, labels = read_records(path)
    if len(images) != RECORDS_PER_FILE:
        raise DatasetError(f"{path} is damaged: it has {len(images)} records, not {RECORDS_PER_FILE}")
    return images, labels


def read_classes(path: Path) -> tuple[str, tuple[str, ...]]:
    """Return the name and the class names of a data set.

    Args:
        path: The ``batches.meta.txt`` of the data set. If the file does not exist, the data set is CIFAR-10.

    Raises:
        DatasetError: The file does not name ten different classes.
    """
    if not path.exists():
        return "cifar10", CLASSES["cifar10"]
    classes = tuple(path.read_text(encoding="utf-8", errors="replace").split())
    if len(set(classes)) != len(classes) or len(classes) != 10 or not all(map(_CLASS_NAME.fullmatch, classes)):
        raise DatasetError(
            f"{path} is damaged: it must name ten different classes, one per line, in letters and digits"
        )
    return next((name for name, known in CLASSES.items() if classes == known), "custom"), classes
