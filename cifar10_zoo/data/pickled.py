"""CIFAR-10 in its Python version, as torchvision keeps it, in ``DATA_DIR/cifar-10-batches-py``.

Each of the files ``data_batch_1`` to ``data_batch_5`` and ``test_batch`` is a pickled dict with images and labels. An
ordinary unpickler calls any function that a file names. The unpickler here builds only arrays of bytes, lists, dicts,
tuples, bytes, texts and numbers.

Source: https://www.cs.toronto.edu/~kriz/cifar.html
"""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from cifar10_runtime.text import printable
from numpy.typing import NDArray

from cifar10_zoo.data import cifar10
from cifar10_zoo.data.dataset import Dataset, Split, require_classes
from cifar10_zoo.errors import DatasetError, one_line

FOLDER = "cifar-10-batches-py"
META_FILE = "batches.meta"
FILES: dict[Split, tuple[str, ...]] = {
    "train": tuple(f"data_batch_{number}" for number in range(1, 6)),
    "test": ("test_batch",),
}
_PIXELS = int(np.prod(cifar10.IMAGE_SHAPE))


def is_present(data_dir: Path) -> bool:
    """Return whether ``data_dir`` holds the data set, complete or not."""
    return (data_dir / FOLDER).is_dir()


def load(data_dir: Path, split: Split) -> Dataset:
    """Return a split of the data set in ``data_dir``.

    Args:
        data_dir: The parent of the folder ``cifar-10-batches-py``.
        split: ``train`` for the training images, ``test`` for the test images.

    Raises:
        DatasetError: A file is missing or cannot be used.
    """
    folder = data_dir / FOLDER
    classes = _read_classes(folder / META_FILE)
    batches = {name: _read_batch(folder / name, len(classes)) for name in (*FILES["train"], *FILES["test"])}
    is_cifar10 = all(cifar10.is_cifar10_batch(f"{name}.bin", *batch) for name, batch in batches.items())
    images, labels = (np.concatenate(part) for part in zip(*(batches[name] for name in FILES[split]), strict=True))
    return Dataset(
        name="cifar10" if is_cifar10 and classes == cifar10.CLASSES["cifar10"] else "custom",
        classes=classes,
        images=torch.from_numpy(images.reshape(-1, *cifar10.IMAGE_SHAPE)),
        labels=torch.from_numpy(labels),
    )


def _read_classes(path: Path) -> tuple[str, ...]:
    names = unpickle(path).get(b"label_names")
    if not isinstance(names, list) or not all(isinstance(name, bytes | str) for name in names):
        raise DatasetError(f"{path} cannot be used: it has no list label_names")
    classes = tuple(name.decode("utf-8", "replace") if isinstance(name, bytes) else name for name in names)
    require_classes(str(path), classes)
    return classes


def _read_batch(path: Path, classes: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the images [N, 3072] of a batch, as planes R, G, B, and their labels [N]."""
    batch = unpickle(path)
    array, labels = batch.get(b"data"), batch.get(b"labels")
    if not isinstance(array, _Array) or array.pixels.ndim != 2 or array.pixels.shape[1] != _PIXELS:
        raise DatasetError(f"{path} cannot be used: its data are not [N, {_PIXELS}] bytes")
    if not isinstance(labels, list) or len(labels) != len(array.pixels) or not labels:
        raise DatasetError(f"{path} cannot be used: it has no label for each of its {len(array.pixels)} images")
    if wrong := [label for label in labels if label not in range(classes)]:
        raise DatasetError(f"{path} cannot be used: label {wrong[0]!r} is none of the {classes} classes")
    return array.pixels, np.array(labels, np.int64)


def unpickle(path: Path) -> dict[bytes, Any]:
    """Return the dict in a pickle file of Python 2 or 3; texts of Python 2 are bytes.

    Raises:
        DatasetError: The file is missing or damaged, or would build anything else than data.
    """
    try:
        with open(path, "rb") as file:
            content = _DataUnpickler(file).load()
    except FileNotFoundError:
        raise DatasetError(f"{path} is missing: add it, or name another --data-dir") from None
    except OSError:
        raise
    except Exception as error:  # damaged pickles raise almost any class
        raise DatasetError(f"{path} cannot be used: {one_line(error)}") from None
    if not isinstance(content, dict):
        raise DatasetError(f"{path} cannot be used: it has no dict")
    return {key.encode() if isinstance(key, str) else key: value for key, value in content.items()}


class _Dtype:
    """Stands for ``numpy.dtype``."""

    def __init__(self, code: object, *_: object) -> None:
        self.code = code

    def __setstate__(self, state: object) -> None:
        """Ignore the byte order."""


class _Array:
    """Stands for ``numpy.ndarray``, whose state is a version, shape, dtype, order and content."""

    pixels: NDArray[np.uint8]

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, is_fortran, content = state
        if dtype.code not in (b"u1", "u1") or is_fortran:
            raise ValueError("its array has another type than uint8, or is stored by columns")
        self.pixels = np.frombuffer(content, np.uint8).reshape(shape)


class _DataUnpickler(pickle.Unpickler):
    """An unpickler for which each name that NumPy's arrays need has a harmless stand-in, and other names are errors."""

    _STAND_INS: Mapping[str, type] = {"_reconstruct": _Array, "ndarray": _Array, "dtype": _Dtype}
    _MODULES = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray")

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="bytes")

    def find_class(self, module: str, name: str) -> type:
        """Return what stands for ``module.name``; the base class would import it."""
        if module not in self._MODULES or name not in self._STAND_INS:
            raise pickle.UnpicklingError(f"it would use {printable(f'{module}.{name}')}, but may only contain data")
        return self._STAND_INS[name]
