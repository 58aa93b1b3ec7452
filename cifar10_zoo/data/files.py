"""Make a data set of a listing of image files: read, divide, describe, check."""

import sys

import numpy as np
import torch
from cifar10_runtime.text import printable

from cifar10_zoo.data.dataset import Dataset, ReadOptions, Split, require_classes
from cifar10_zoo.data.images import Pictures, read_files
from cifar10_zoo.data.listing import Listing, describe, warnings
from cifar10_zoo.data.split import position, require_both
from cifar10_zoo.errors import DatasetError


def read(listing: Listing, split: Split, options: ReadOptions, quiet: bool = False) -> Dataset:
    """Return the images of ``split``, in the order of the SHA-256 of their files.

    Args:
        listing: The images.
        split: The images to decode.
        options: How the images are divided and resized, and whether a file that cannot be read is an error.
        quiet: Print nothing. Otherwise, print warnings, a line about all images, and a progress bar on a terminal.

    Raises:
        DatasetError: The classes cannot be used, a class lacks images, or ``options.strict`` is set and a file cannot
            be read.
    """
    require_classes(listing.source, listing.classes)
    pictures = _read_files(listing, split, options, quiet)
    readable = np.ones(len(listing.names), np.bool_)
    readable[list(pictures.errors)] = False
    positions = np.full(len(listing.names), np.nan)
    positions[list(pictures.sha256)] = list(map(position, pictures.sha256.values()))
    has_own_split = listing.is_test is not None
    is_test = positions < options.test_fraction if listing.is_test is None else listing.is_test
    if options.strict:
        _require_no_errors(listing, pictures)
    if not quiet:
        for line in [*warnings(listing, pictures.errors, pictures.sha256), describe(listing, is_test, readable)]:
            print(line, file=sys.stderr)
    require_both(
        listing.source,
        listing.classes,
        listing.labels[readable],
        is_test[readable],
        None if has_own_split else positions[readable],
    )
    pictures.sort()
    return Dataset(
        name="custom",
        classes=listing.classes,
        images=torch.from_numpy(pictures.images[: len(pictures.numbers)]),
        labels=torch.from_numpy(listing.labels[pictures.numbers]),
        test_fraction=None if has_own_split else options.test_fraction,
    )


def _read_files(listing: Listing, split: Split, options: ReadOptions, quiet: bool) -> Pictures:
    """Read the files that may be in ``split``; decode only the files in ``split``."""

    def is_wanted(sha256: bytes) -> bool:
        return listing.is_test is not None or (position(sha256) < options.test_fraction) == (split == "test")

    count, size = listing.count(split), options.pixels
    try:
        return read_files(listing.contents(split), count, size, is_wanted, quiet)
    except MemoryError:
        needed = f"{count * 3 * size**2 / 2**30:.1f} GiB of memory"
        raise DatasetError(f"{listing.source}: {count:,} images of {size}x{size} pixels need {needed}") from None


def _require_no_errors(listing: Listing, pictures: Pictures) -> None:
    """Raise DatasetError if a file could not be read."""
    for number, error in pictures.errors.items():
        name, count = printable(listing.names[number]), len(pictures.errors)
        counted = f"{count} files cannot be read" if count > 1 else "1 file cannot be read"
        raise DatasetError(f"{name}: {error}; {counted}: repair or delete what is damaged, or omit --strict")
