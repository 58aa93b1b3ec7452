"""CIFAR-100 in its binary version: ``DATA_DIR/cifar-100-binary/{train,test}.bin``.

A record is a byte for the coarse label, a byte for the fine label, and 3,072 pixel bytes: planes R, G, B, each row by
row. ``fine_label_names.txt`` and ``coarse_label_names.txt`` in the same folder name the classes.

Source: https://www.cs.toronto.edu/~kriz/cifar.html
"""

from pathlib import Path

import numpy as np
import torch

from cifar10_zoo.data.cifar10 import IMAGE_SHAPE
from cifar10_zoo.data.dataset import Dataset, LabelKind, Split, require_classes
from cifar10_zoo.errors import DatasetError

FOLDER = "cifar-100-binary"
CLASS_COUNTS: dict[LabelKind, int] = {"coarse": 20, "fine": 100}
"""Number of classes, in the order of the label bytes in a record."""
RECORD_BYTES = 2 + 3 * 32 * 32


def is_present(data_dir: Path) -> bool:
    """Return whether ``data_dir`` holds the data set, complete or not."""
    return (data_dir / FOLDER).is_dir()


def load(data_dir: Path, split: Split, kind: LabelKind = "fine") -> Dataset:
    """Return a split of the data set in ``data_dir``.

    Args:
        data_dir: The parent of the folder ``cifar-100-binary``.
        split: ``train`` for the 50,000 training images, ``test`` for the 10,000 test images.
        kind: ``fine`` for the 100 classes, ``coarse`` for the 20 superclasses.

    Raises:
        DatasetError: A file is missing or cannot be used.
    """
    path = data_dir / FOLDER / f"{split}.bin"
    classes = _read_classes(data_dir / FOLDER / f"{kind}_label_names.txt", CLASS_COUNTS[kind])
    try:
        content = np.fromfile(path, np.uint8)
    except FileNotFoundError:
        raise DatasetError(f"{path} is missing: unpack all files of CIFAR-100's binary version") from None
    if len(content) == 0 or len(content) % RECORD_BYTES:
        raise DatasetError(f"{path} cannot be used: {len(content)} bytes are not whole records of {RECORD_BYTES} bytes")
    records = content.reshape(-1, RECORD_BYTES)
    labels = records[:, list(CLASS_COUNTS).index(kind)]
    if labels.max() >= len(classes):
        first = int(np.argmax(labels >= len(classes)))
        raise DatasetError(f"{path} cannot be used: record {first} has {kind} label {labels[first]}")
    images = np.ascontiguousarray(records[:, 2:]).reshape(-1, *IMAGE_SHAPE)
    return Dataset("custom", classes, torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64)))


def _read_classes(path: Path, count: int) -> tuple[str, ...]:
    """Return the class names in a file; without the file, the numbers of the classes."""
    if not path.exists():
        return tuple(map(str, range(count)))
    classes = tuple(path.read_text(encoding="utf-8", errors="replace").split())
    if len(classes) != count:
        raise DatasetError(f"{path} cannot be used: it has {len(classes)} names for {count} classes")
    require_classes(str(path), classes)
    return classes
