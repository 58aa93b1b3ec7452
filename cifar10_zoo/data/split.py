"""Divide the images of a data set into training and test images.

A data set may have parts with names such as ``train`` and ``test``. Otherwise, the content of each file decides: its
SHA-256 gives a position between 0 and 1, and the file is a test image if its position is below the test fraction.
So a file stays on its side when others are added, renamed or removed, and copies of a picture are on the same side.
"""

import math
import re
from collections.abc import Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from cifar10_zoo.errors import DatasetError

Item = TypeVar("Item")

_PART = re.compile(r"(?i)(?:(train)(?:ing)?|(test)(?:ing)?|(val)(?:id|idation)?)(?![a-z])")
_POSITION_BYTES = 6
"""A float64 has 53 bits, so these 48 bits are exact and below 1."""


def part_of(name: str, whole: bool) -> str:
    """Return ``train``, ``test`` or ``val`` if ``name`` is such a word, or begins with it; else an empty string.

    ``Training``, ``testing``, ``valid`` and ``validation`` are such words, too.

    Args:
        name: The name of a file or folder.
        whole: Whether the whole name must be the word; otherwise, ``train-00000-of-00002`` is a part, too.
    """
    match = _PART.fullmatch(name) if whole else _PART.match(name)
    return next(filter(None, match.groups())).lower() if match else ""


def assign(parts: Mapping[Item, str]) -> dict[Item, bool] | None:
    """Return which items are for testing, by the part of each item; None without both a training and a test part.

    Without the part ``test``, the part ``val`` is for testing. Items of any other part are not in the result.
    """
    test = next((part for part in ("test", "val") if part in parts.values()), None)
    if test is None or "train" not in parts.values():
        return None
    return {item: part == test for item, part in parts.items() if part in ("train", test)}


def position(sha256: bytes) -> float:
    """Return the position of a file with this SHA-256, at least 0 and below 1."""
    return float(int.from_bytes(sha256[:_POSITION_BYTES], "big") / 256**_POSITION_BYTES)


def require_both(
    source: str,
    classes: tuple[str, ...],
    labels: NDArray[np.int64],
    is_test: NDArray[np.bool_],
    positions: NDArray[np.float64] | None,
) -> None:
    """Check that each class has images to train with and images to test with.

    Args:
        source: The data set, for messages.
        classes: The class names.
        labels: The label of each readable image, [N].
        is_test: Whether each image is for testing, [N].
        positions: The position that decided about each image, [N]; None if the data set has a test part of its own.

    Raises:
        DatasetError: A class lacks such images; the message names a test fraction that works, if there is one.
    """
    images = np.bincount(labels, minlength=len(classes))
    tests = np.bincount(labels[is_test], minlength=len(classes))
    for name, image_count, test_count in zip(classes, images.tolist(), tests.tolist(), strict=True):
        if 0 < test_count < image_count:
            continue
        if not image_count:
            raise DatasetError(f"{source}: class {name} has no image: add images that can be read, or remove the class")
        use = "train" if test_count else "test"
        if positions is None:
            raise DatasetError(f"{source}: class {name} has no image to {use} with: add images that can be read")
        few = f"{image_count} image{'s' * (image_count > 1)}, none of them to {use} with"
        raise DatasetError(f"{source}: class {name} has {few}: {_advice(len(classes), labels, positions)}")


def _advice(classes: int, labels: NDArray[np.int64], positions: NDArray[np.float64]) -> str:
    """Return what to do if a class lacks images to train or to test with."""
    lowest, highest = np.ones(classes), np.zeros(classes)
    np.minimum.at(lowest, labels, positions)
    np.maximum.at(highest, labels, positions)
    fraction = (math.floor(lowest.max() * 1000) + 1) / 1000  # above the lowest position of each class
    if fraction <= highest.min():
        return f"set --test-fraction {fraction:g}, the lowest that gives each class a test image, or add images"
    return "add images to it, or divide all images into the folders train/ and test/"
