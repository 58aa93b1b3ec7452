"""Write a synthetic data set in the format of CIFAR-10: ten classes of drawn shapes and textures, no download.

    python -m cifar10_zoo.synthetic --data-dir DIR

The data set has its own name and class names, and all results are labeled ``synthetic``, so that they cannot be taken
for results on CIFAR-10.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cifar10_zoo import atomic
from cifar10_zoo.cli import run
from cifar10_zoo.data import cifar10
from cifar10_zoo.errors import DatasetError, OptionError

Floats = NDArray[np.float32]

_SIZE = 32
_NOISE = 24  # largest shift of a pixel value by noise


def _waves(coordinate: Floats, radius: Floats) -> Floats:
    """Return a sine wave along ``coordinate`` with a period of 0.9 radii."""
    return np.sin(coordinate * (2 * np.pi / 0.9 / radius))


# The mask of each class, in the order of CLASSES["synthetic"].
# x and y [N, 32, 32] are pixel distances from a random center, r [N, 1, 1] is a random radius.
_MASKS: tuple[Callable[[Floats, Floats, Floats], NDArray[np.bool_]], ...] = (
    lambda x, y, r: x**2 + y**2 < r**2,
    lambda x, y, r: np.maximum(abs(x), abs(y)) < 0.9 * r,
    lambda x, y, r: (abs(y) < r) & (abs(x) < (y + r) / 2),
    lambda x, y, r: (np.minimum(abs(x), abs(y)) < r / 3) & (np.maximum(abs(x), abs(y)) < r),
    lambda x, y, r: (x**2 + y**2 < r**2) & (x**2 + y**2 > (0.6 * r) ** 2),
    lambda x, y, r: _waves(y, r) > 0,
    lambda x, y, r: _waves(x, r) > 0,
    lambda x, y, r: _waves((x + y) / np.float32(2**0.5), r) > 0,
    lambda x, y, r: _waves(x, r) * _waves(y, r) > 0,
    lambda x, y, r: _waves(x, r) + _waves(y, r) > 0.9,
)


def draw(labels: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Draw one image per label, with random position, size, colors and noise.

    Args:
        labels: [N], 0 to 9.
        random: The source of all random values.

    Returns:
        [N, 3, 32, 32]. The two colors of an image differ by at least 60 in each channel, before noise.
    """
    count = len(labels)
    center = random.uniform(12, 20, size=(2, count, 1, 1)).astype(np.float32)
    radius = random.uniform(6, 10, size=(count, 1, 1)).astype(np.float32)
    pixel = np.arange(_SIZE, dtype=np.float32)
    x = pixel[None, None, :] - center[0]
    y = pixel[None, :, None] - center[1]
    mask = np.empty((count, _SIZE, _SIZE), dtype=bool)
    for label, mask_of in enumerate(_MASKS):
        chosen = labels == label
        mask[chosen] = mask_of(x[chosen], y[chosen], radius[chosen])

    ground = random.integers(0, 256, size=(count, 3))
    shift = random.integers(60, 196, size=(count, 3)) * np.where(ground < 128, 1, -1)
    colors = np.stack([ground, ground + shift]).astype(np.int16)[..., None, None]  # [2, N, 3, 1, 1]
    image = np.where(mask[:, None], colors[1], colors[0])
    image += random.integers(-_NOISE, _NOISE, size=image.shape, dtype=np.int16, endpoint=True)
    return np.asarray(image.clip(0, 255), dtype=np.uint8)


def write(data_dir: Path, seed: int = 0) -> Path:
    """Write 50,000 training and 10,000 test images; equal seeds give equal files.

    Returns:
        The new directory, ``data_dir/cifar-10-batches-bin``.

    Raises:
        DatasetError: This directory exists already.
    """
    directory = data_dir / cifar10.FOLDER
    if directory.exists():
        raise DatasetError(f"{directory} exists already: name another --data-dir")
    random = np.random.default_rng(seed)
    with atomic.new_directory(directory) as unfinished:
        for name in (*cifar10.FILES["train"], *cifar10.FILES["test"]):
            labels = random.permutation(np.arange(cifar10.RECORDS_PER_FILE, dtype=np.uint16) % 10).astype(np.uint8)
            records = np.concatenate([labels[:, None], draw(labels, random).reshape(len(labels), -1)], axis=1)
            records.tofile(unfinished / name)
        meta = "\n".join(cifar10.CLASSES["synthetic"]) + "\n"
        (unfinished / cifar10.META_FILE).write_text(meta, encoding="utf-8")
    return directory


@dataclass(frozen=True)
class Options:
    """Write the synthetic data set."""

    data_dir: Path
    """Directory in which to create cifar-10-batches-bin/ (184 MB)."""
    seed: int = 0
    """Seed of the drawings."""

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise OptionError(f"--seed must be 0 or more, not {self.seed}")


def main(options: Options) -> None:
    """Write the data set and print its directory."""
    print(f"{write(options.data_dir, options.seed)}: 60,000 synthetic images")


if __name__ == "__main__":
    run(main, Options)
