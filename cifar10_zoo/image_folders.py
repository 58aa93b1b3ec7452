"""Write the images of a data set as PNG files, one folder a class, for anything that reads image files.

python -m cifar10_zoo.image_folders --output images
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from cifar10_zoo import atomic
from cifar10_zoo.cli import DataOptions, run
from cifar10_zoo.data.cifar10 import Dataset, Split
from cifar10_zoo.errors import DatasetError


@dataclass(frozen=True, kw_only=True)
class Options(DataOptions):
    """Write the images of the data set as PNG files: OUTPUT/CLASS/NUMBER.png."""

    output: Path
    """Folder to make."""
    split: Split = "test"
    """The 10,000 test images or the 50,000 training images."""


def write(data: Dataset, folder: Path) -> None:
    """Write every image of ``data`` to ``folder/CLASS/NUMBER.png``, numbered in the order of the data set.

    Raises:
        DatasetError: the folder exists already.
    """
    if folder.exists():
        raise DatasetError(f"{folder} exists already: name another --output")
    with atomic.new_directory(folder) as unfinished:
        for name in data.classes:
            (unfinished / name).mkdir()
        for number, (image, label) in enumerate(zip(data.images, data.labels.tolist(), strict=True)):
            path = unfinished / data.classes[label] / f"{number:05d}.png"
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(path, compress_level=1)


def main(options: Options) -> None:
    """Write the folders that ``options`` ask for."""
    data = options.load(options.split)
    write(data, options.output)
    print(f"{options.output}: {len(data.images)} {data.name} images in {len(data.classes)} folders", file=sys.stderr)


if __name__ == "__main__":
    run(main, Options)
