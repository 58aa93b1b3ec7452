"""The labeled image files of a data set before they are read, and what to tell the user about them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from cifar10_runtime.text import printable
from numpy.typing import NDArray

from cifar10_zoo.data.dataset import Split

Content = tuple[int, str | bytes]
"""The number of an image in its listing, and the path or the content of its file."""

_SHOWN_WARNINGS = 5
_SHOWN_CLASSES = 10


@dataclass(frozen=True)
class Listing:
    """The labeled images of a data set before they are read; N is their number."""

    source: str
    """The directory or file of the data set, for messages."""
    classes: tuple[str, ...]
    """The class names, in the order of the labels."""
    names: Sequence[str]
    """The path of each image, [N]."""
    labels: NDArray[np.int64]
    """The position of the class of each image in ``classes``, [N]."""
    is_test: NDArray[np.bool_] | None = None
    """Whether each image is for testing, [N]; None if the content of each file decides."""
    remarks: tuple[str, ...] = ()
    """What else the data set has, such as files that are no images."""

    def count(self, split: Split) -> int:
        """Return the number of images that ``contents`` yields."""
        return len(self.names) if self.is_test is None else int((self.is_test == (split == "test")).sum())

    def contents(self, split: Split) -> Iterator[Content]:
        """Yield the images that may be in ``split``."""
        for number, name in enumerate(self.names):
            if self.is_test is None or self.is_test[number] == (split == "test"):
                yield number, name


def describe(listing: Listing, is_test: NDArray[np.bool_], readable: NDArray[np.bool_]) -> str:
    """Return what a data set contains, in one line.

    Args:
        listing: The images.
        is_test: Whether each image is for testing, [N].
        readable: Whether each image can be read, [N]; True for images that were not read.
    """
    counts = np.bincount(listing.labels[readable], minlength=len(listing.classes)).tolist()
    shown = len(counts) if len(counts) <= _SHOWN_CLASSES else _SHOWN_CLASSES // 2
    classes = [f"{name} {count:,}" for name, count in zip(listing.classes[:shown], counts[:shown], strict=True)]
    if more := counts[shown:]:
        classes.append(f"{len(more)} more with {min(more):,} to {max(more):,} images each")
    images = f"{sum(counts):,} images, {int((is_test & readable).sum()):,} of them for testing"
    unreadable = [f"{count:,} unreadable"] if (count := int((~readable).sum())) else []
    contents = "; ".join([", ".join(classes), images, *unreadable, *listing.remarks])
    return f"{listing.source}: {len(counts):,} classes: {contents}"


def warnings(listing: Listing, errors: Mapping[int, str], sha256: Mapping[int, bytes]) -> list[str]:
    """Return lines about files that cannot be read and about pictures that are in two classes, at most a few of each.

    Args:
        listing: The images.
        errors: Why a file cannot be read, by number.
        sha256: The SHA-256 of each file that can be read, by number.
    """
    unreadable = [f"{printable(listing.names[number])}: {error}" for number, error in errors.items()]
    twice = [
        f"{printable(listing.names[one])} and {printable(listing.names[other])} are the same picture in two classes"
        for one, other in _pairs_in_two_classes(listing, sha256)
    ]
    return [
        *_shortened(unreadable, "files that cannot be read"),
        *_shortened(twice, "pictures that are in two classes"),
    ]


def _shortened(lines: Sequence[str], what: str) -> Iterator[str]:
    yield from (f"warning: {line}" for line in lines[:_SHOWN_WARNINGS])
    if more := len(lines) - len(lines[:_SHOWN_WARNINGS]):
        yield f"warning: {more:,} more {what}"


def _pairs_in_two_classes(listing: Listing, sha256: Mapping[int, bytes]) -> list[tuple[int, int]]:
    """Return the numbers of two files with equal content and different labels, one pair for each such content."""
    first: dict[bytes, int] = {}
    pairs: dict[bytes, tuple[int, int]] = {}
    for number, digest in sha256.items():
        other = first.setdefault(digest, number)
        if listing.labels[other] != listing.labels[number]:
            pairs.setdefault(digest, (other, number))
    return list(pairs.values())
