"""A stand-in for CIFAR-10 that needs no download: ten classes of drawn shapes and textures, in the same layout.

    python -m cifar10_zoo.synthetic --data-dir DIR

The classes have names of their own, so that everything made from them says ``synthetic`` and nothing can be taken
for a result on CIFAR-10.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cifar10_zoo import atomic
from cifar10_zoo.cli import run
from cifar10_zoo.data import cifar10 as dataset
from cifar10_zoo.errors import DatasetError, OptionError

Floats = NDArray[np.float32]

_SIZE = 32
_NOISE = 24  # pixel values by which noise shifts a pixel at most


def _waves(coordinate: Floats, radius: Floats) -> Floats:
    """Waves with a period of 0.9 radii."""
    return np.sin(coordinate * (2 * np.pi / 0.9 / radius))


# Where each class is drawn, in the order of dataset.CLASSES["synthetic"].
# x and y [N, 32, 32] are pixels from a random centre, r [N, 1, 1] is a random radius.
_DRAWINGS: tuple[Callable[[Floats, Floats, Floats], NDArray[np.bool_]], ...] = (
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
    """Draw an image of each class in ``labels`` [N]: [N, 3, 32, 32] uint8, each different.

    Position, size, colours and noise are random; two colours of one image differ by at least 60 in some channel.
    """
    count = len(labels)
    center = random.uniform(12, 20, size=(2, count, 1, 1)).astype(np.float32)
    radius = random.uniform(6, 10, size=(count, 1, 1)).astype(np.float32)
    pixel = np.arange(_SIZE, dtype=np.float32)
    x = pixel[None, None, :] - center[0]
    y = pixel[None, :, None] - center[1]
    mask = np.empty((count, _SIZE, _SIZE), dtype=bool)
    for label, drawing in enumerate(_DRAWINGS):
        chosen = labels == label
        mask[chosen] = drawing(x[chosen], y[chosen], radius[chosen])

    ground = random.integers(0, 256, size=(count, 3))
    shift = random.integers(60, 196, size=(count, 3)) * np.where(ground < 128, 1, -1)
    colors = np.stack([ground, ground + shift]).astype(np.int16)[..., None, None]  # [2, N, 3, 1, 1]
    image = np.where(mask[:, None], colors[1], colors[0])
    image += random.integers(-_NOISE, _NOISE, size=image.shape, dtype=np.int16, endpoint=True)
    return np.asarray(image.clip(0, 255), dtype=np.uint8)


def write(data_dir: Path, seed: int = 0) -> Path:
    """Write a data set of 50,000 training and 10,000 test images, the same for the same seed.

    Returns:
        Its folder, ``data_dir/cifar-10-batches-bin``.

    Raises:
        DatasetError: there is a data set already.
    """
    folder = data_dir / dataset.FOLDER
    if folder.exists():
        raise DatasetError(f"{folder} exists already: name another --data-dir")
    random = np.random.default_rng(seed)
    with atomic.new_directory(folder) as unfinished:
        for name in (*dataset.FILES["train"], *dataset.FILES["test"]):
            labels = random.permutation(np.arange(dataset.RECORDS_PER_FILE, dtype=np.uint16) % 10).astype(np.uint8)
            records = np.concatenate([labels[:, None], draw(labels, random).reshape(len(labels), -1)], axis=1)
            records.tofile(unfinished / name)
        meta = "\n".join(dataset.CLASSES["synthetic"]) + "\n"
        (unfinished / dataset.META_FILE).write_text(meta, encoding="utf-8")
    return folder


@dataclass(frozen=True)
class Options:
    """Write the synthetic data set."""

    data_dir: Path
    """Folder to make cifar-10-batches-bin/ in (184 MB)."""
    seed: int = 0
    """Seed of the drawings."""

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise OptionError(f"--seed must be 0 or more, not {self.seed}")


def main(options: Options) -> None:
    """Write the data set that ``options`` ask for."""
    print(f"{write(options.data_dir, options.seed)}: 60,000 synthetic images")


if __name__ == "__main__":
    run(main, Options)
