"""Load a data set of any kind: ``load`` looks at the content of a directory and calls the reader of its kind."""

from dataclasses import replace
from pathlib import Path

from cifar10_zoo.data import cifar10, cifar100, files, folders, parquet, pickled, table
from cifar10_zoo.data.dataset import IMAGE_SIZE, Dataset, ReadOptions, Split
from cifar10_zoo.data.images import resized
from cifar10_zoo.data.listing import Listing
from cifar10_zoo.errors import OptionError


def load(
    data_dir: Path,
    split: Split,
    url: str | None = None,
    options: ReadOptions | None = None,
    quiet: bool = False,
) -> Dataset:
    """Return a split of the data set in ``data_dir``; into a directory without files, download CIFAR-10 first.

    ``data_dir`` contains ``cifar-10-batches-bin/``, ``cifar-10-batches-py/``, ``cifar-100-binary/``, a CSV file with
    the columns path and label, class folders, or Parquet files. The first kind in this order is read.

    Images that come from image files are in the order of the SHA-256 of these files: so the first ones are a random
    sample, and the names of the files do not matter.

    Args:
        data_dir: The directory; also a CSV or Parquet file.
        split: ``train`` for the training images, ``test`` for the test images.
        url: URL of a copy of CIFAR-10's official archive, instead of the official URL.
        options: What to read; without it, the defaults.
        quiet: Print nothing. Otherwise, print a line about the classes and images, warnings, and a progress bar.

    Raises:
        DatasetError: The data set is damaged, or cannot be used to train and to test.
        OptionError: An option does not fit the data set.
    """
    options = options or ReadOptions()
    options.check()
    if cifar10.is_present(data_dir):
        _require_fine_labels(data_dir, options)
        data = cifar10.load(data_dir, split)
    elif pickled.is_present(data_dir):
        _require_fine_labels(data_dir, options)
        data = pickled.load(data_dir, split)
    elif cifar100.is_present(data_dir):
        data = cifar100.load(data_dir, split, options.labels)
    elif listing := find_listing(data_dir, options):
        return files.read(listing, split, options, quiet)
    else:
        data = cifar10.load(data_dir, split, url)
    size = options.pixels
    return data if size == IMAGE_SIZE else replace(data, images=resized(data.images, size))


def is_present(data_dir: Path, options: ReadOptions | None = None) -> bool:
    """Return whether ``data_dir`` holds a data set, complete or not.

    Raises:
        DatasetError: The data set cannot be used.
    """
    if any(kind.is_present(data_dir) for kind in (cifar10, pickled, cifar100)):
        return True
    return find_listing(data_dir, options or ReadOptions()) is not None


def find_listing(data_dir: Path, options: ReadOptions) -> Listing | None:
    """Return the labeled image files in ``data_dir``; None if it has none.

    Raises:
        DatasetError: The files cannot be used.
        OptionError: The files have no coarse labels.
    """
    if listing := table.find(data_dir) or folders.find(data_dir):
        if len(listing.classes) == 1:
            table.require_columns(data_dir)  # more helpful than an error about the only folder, which has all images
        _require_fine_labels(data_dir, options)
        return listing
    if listing := parquet.find(data_dir, options.labels):
        return listing
    table.require_columns(data_dir)
    folders.require_no_loose_images(data_dir)
    return None


def _require_fine_labels(data_dir: Path, options: ReadOptions) -> None:
    if options.labels != "fine":
        raise OptionError(f"--labels {options.labels}: {data_dir} has only one kind of labels; CIFAR-100 has two")
