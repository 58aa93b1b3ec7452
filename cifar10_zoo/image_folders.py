"""Write the images of a data set as PNG files, one directory per class, for programs that read image files.

python -m cifar10_zoo.image_folders --output images
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from cifar10_zoo import atomic
from cifar10_zoo.cli import DataOptions, run
from cifar10_zoo.data import folders
from cifar10_zoo.data.dataset import Dataset, Split
from cifar10_zoo.data.load import load
from cifar10_zoo.errors import DatasetError


@dataclass(frozen=True, kw_only=True)
class Options(DataOptions):
    """Write the images of the data set as PNG files: OUTPUT/CLASS/NUMBER.png."""

    output: Path
    """Directory to create."""
    split: Split = "test"
    """The test images or the training images."""


def write(data: Dataset, directory: Path) -> None:
    """Write each image of ``data`` to ``directory/CLASS/NUMBER.png``, numbered in the order of the data set.

    Raises:
        DatasetError: ``directory`` exists already, or the name of a class cannot be the name of a directory.
    """
    folders.require_directory_names(data.classes)
    if directory.exists():
        raise DatasetError(f"{directory} exists already: name another --output")
    with atomic.new_directory(directory) as unfinished:
        for name in data.classes:
            (unfinished / name).mkdir()
        for number, image in enumerate(data.images):
            path = unfinished / data.file_name(number)
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(path, compress_level=1)


def main(options: Options) -> None:
    """Read the data set, write its images and print their number."""
    data = load(options.data_dir, options.split, options.data_url, options)
    write(data, options.output)
    print(f"{options.output}: {len(data.images)} {data.name} images in {len(data.classes)} folders", file=sys.stderr)


if __name__ == "__main__":
    run(main, Options)
