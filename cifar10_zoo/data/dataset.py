"""A data set in memory, and the options that say what to read."""

from dataclasses import dataclass, replace
from typing import Literal, Self

from torch import Tensor

from cifar10_zoo.errors import DatasetError, OptionError

MAX_CLASSES = 1_000
IMAGE_SIZE = 32
"""Height and width in pixels of the images of CIFAR-10."""

_IMAGE_SIZES = (8, 1024)

Split = Literal["train", "test"]
LabelKind = Literal["fine", "coarse"]


@dataclass(frozen=True)
class Dataset:
    """One split of a data set."""

    name: str
    """``cifar10`` and ``synthetic`` for these data sets, ``custom`` for any other."""
    classes: tuple[str, ...]
    """The class names, in the order of the labels."""
    images: Tensor
    """[N, 3, S, S] uint8, RGB; S is 32 for CIFAR-10."""
    labels: Tensor
    """[N] int64, positions in ``classes``."""
    test_fraction: float | None = None
    """``ReadOptions.test_fraction`` if that chose the test images; None if the data set has its own test images."""

    def file_name(self, number: int) -> str:
        """Return the name CLASS/NUMBER.png of an image, as ``cifar10_zoo.image_folders`` writes it."""
        return f"{self.classes[int(self.labels[number])]}/{number:05d}.png"


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """What to read of a data set; every command that reads a data set has these options."""

    test_fraction: float = 0.1
    """Fraction of the images that become test images, if the data set has no test images of its own. The content of
    each file decides, so every command with the same fraction finds the same test images."""
    labels: LabelKind = "fine"
    """Labels of CIFAR-100: its 100 classes, or its 20 coarse classes."""
    image_size: int | None = None
    """Height and width in pixels to which all images are cropped and resized: by default 32, or those of the checkpoint
    that a command evaluates, calibrates or exports."""
    strict: bool = False
    """Fail if an image file cannot be read, instead of leaving it out."""

    def check(self) -> None:
        """Raise OptionError if a value cannot be used; not ``__post_init__``, which subclasses have."""
        if not 0 < self.test_fraction < 1:
            raise OptionError(f"--test-fraction must be between 0 and 1, not {self.test_fraction}")
        low, high = _IMAGE_SIZES
        if not low <= self.pixels <= high:
            raise OptionError(f"--image-size must be between {low} and {high}, not {self.pixels}")

    @property
    def pixels(self) -> int:
        """Height and width of the images."""
        return IMAGE_SIZE if self.image_size is None else self.image_size

    def with_default_size(self, image_size: int) -> Self:
        """Return these options with another default of ``image_size``."""
        return self if self.image_size is not None else replace(self, image_size=image_size)


def require_classes(source: str, classes: tuple[str, ...]) -> None:
    """Check the class names of a data set.

    Args:
        source: The data set, for messages.
        classes: The class names.

    Raises:
        DatasetError: There are fewer than 2 or more than 1,000 classes, a name is repeated or not printable.
    """
    if len(classes) < 2:
        found = f"one class, {classes[0]}" if classes else "no class"
        raise DatasetError(f"{source} has {found}: the network learns to tell 2 or more classes apart")
    if len(classes) > MAX_CLASSES:
        raise DatasetError(f"{source} has {len(classes):,} classes: {MAX_CLASSES:,} is the largest number")
    for number, name in enumerate(classes):
        if not name.strip() or not name.isprintable():
            raise DatasetError(f"{source}: the name of class {number}, {name!r}, is not printable: rename the class")
    if len(set(classes)) < len(classes):
        twice = next(name for name in classes if classes.count(name) > 1)
        raise DatasetError(f"{source} has two classes with the name {twice}: rename one of them")
