"""Set some training images aside to validate with: to choose a checkpoint, a start or a temperature."""

import hashlib
from dataclasses import replace

import torch
from torch import Tensor

from cifar10_zoo.data.dataset import Dataset
from cifar10_zoo.data.split import position


def split_off(data: Dataset, fraction: float) -> tuple[Dataset, Dataset]:
    """Return the images to train with and the images to validate with; both keep their order.

    The pixels of an image decide, so every run with the same fraction validates with the same images, and copies of an
    image are on the same side.

    Args:
        data: The training images.
        fraction: Fraction of the images of each class to validate with, at least 0 and below 1. The number of images is
            rounded down, so it may be 0.
    """
    chosen = validation_mask(data, fraction) if fraction else torch.zeros(len(data.images), dtype=torch.bool)
    training, validation = (
        replace(data, images=data.images[mask], labels=data.labels[mask]) for mask in (~chosen, chosen)
    )
    return training, validation


def validation_mask(data: Dataset, fraction: float) -> Tensor:
    """Return whether each image of ``data`` is for validation, [N] bool: in each class, those of lowest position."""
    hashes = (hashlib.sha256(image.numpy()).digest() for image in data.images)
    positions = torch.tensor([position(sha256) for sha256 in hashes], dtype=torch.float64)
    chosen = torch.zeros(len(positions), dtype=torch.bool)
    for label in range(len(data.classes)):
        in_class = data.labels == label
        ordered = positions[in_class].sort().values
        if len(ordered):
            chosen |= in_class & (positions < ordered[int(fraction * len(ordered))])
    return chosen
