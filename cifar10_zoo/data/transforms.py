"""Batches for training and evaluation, each computed as whole-batch tensor operations.

A batch is a pure function of the seed and its number: resuming needs no saved generator state.
Source: ``cifar10_input.py``.
"""

from dataclasses import dataclass, fields, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from cifar10_zoo.config import Hyperparameters
from cifar10_zoo.data.cifar10 import Dataset
from cifar10_zoo.network.model import IMAGE_SIZE

MAX_BRIGHTNESS_DELTA = 63.0  # in pixel values of 0..255
MAX_CONTRAST_CHANGE = 0.8  # factors of 0.2 to 1.8

_DISTORTIONS, _ORDER, _FIRST_FLIPS = 0, 1, 2  # independent streams of random numbers


@dataclass(frozen=True)
class Distortions:
    """What happens to each image of a training batch of N; all tensors are [N]."""

    y: Tensor
    """Top row of the crop, int64."""
    x: Tensor
    """Left column of the crop, int64."""
    flip: Tensor
    """Whether the crop is mirrored left to right, bool."""
    brightness: Tensor
    """Added to every pixel, float32."""
    contrast: Tensor
    """Factor about the mean of each channel, float32."""

    def to(self, device: torch.device) -> "Distortions":
        """The same on ``device``."""
        return Distortions(*(_to(device, tensor) for tensor in self.tensors()))

    def tensors(self) -> list[Tensor]:
        """All fields, in their order."""
        return [getattr(self, field.name) for field in fields(self)]


def draw_distortions(seed: int, number: int, batch_size: int, image_size: int, colors: float = 1.0) -> Distortions:
    """The distortions of batch ``number`` for square images of ``image_size`` pixels, on the CPU.

    Args:
        colors: strength of the distortions of brightness and contrast, 1 for the tutorial's, 0 for none.
    """
    random = _generator(seed, _DISTORTIONS, number)
    offsets = random.integers(0, image_size - IMAGE_SIZE, size=(2, batch_size), endpoint=True)
    flip, brightness, contrast = random.random((3, batch_size), dtype=np.float32)
    delta, change = MAX_BRIGHTNESS_DELTA * colors, MAX_CONTRAST_CHANGE * colors
    return Distortions(
        y=torch.from_numpy(offsets[0]),
        x=torch.from_numpy(offsets[1]),
        flip=torch.from_numpy(flip < 0.5),
        brightness=torch.from_numpy(brightness * (2 * delta) - delta),
        contrast=torch.from_numpy(contrast * (2 * change) + (1 - change)),
    )


def alternating_flips(seed: int, index: Tensor, epochs: Tensor, count: int) -> Tensor:
    """Whether image ``index`` [N] of ``count`` is mirrored in its epoch [N]: by chance in the first, then in turns.

    In two epochs the network sees each image both ways, where chance would show every other twice the same.
    Source: Jordan 2024, https://arxiv.org/abs/2404.00498, section 3.6.
    """
    return _first_flips(seed, count)[index] ^ (epochs % 2 == 1)


def distort(images: Tensor, distortions: Distortions) -> Tensor:
    """Crop, flip, change brightness, change contrast, standardize; nothing is clipped in between.

    Args:
        images: [N, 3, H, W] uint8.

    Returns:
        [N, 3, 24, 24] float32.
    """
    pixels = _crop_and_flip(images, distortions).float()
    pixels = pixels + distortions.brightness[:, None, None, None]
    mean = pixels.mean(dim=(2, 3), keepdim=True)
    pixels = (pixels - mean) * distortions.contrast[:, None, None, None] + mean
    return standardize(pixels)


def _crop_and_flip(images: Tensor, distortions: Distortions) -> Tensor:
    """[N, 3, H, W] -> [N, 3, 24, 24], in one gather; a flip reads the columns from right to left."""
    offset = torch.arange(IMAGE_SIZE, device=images.device)
    rows = distortions.y[:, None] + offset
    columns = distortions.x[:, None] + torch.where(distortions.flip[:, None], offset.flip(0), offset)
    image = torch.arange(len(images), device=images.device)[:, None, None, None]
    channel = torch.arange(images.shape[1], device=images.device)[None, :, None, None]
    return images[image, channel, rows[:, None, :, None], columns[:, None, None, :]]


def center_crop(images: Tensor) -> Tensor:
    """The middle of ``images`` [N, 3, H, W] -> [N, 3, 24, 24]."""
    top, left = (images.shape[2] - IMAGE_SIZE) // 2, (images.shape[3] - IMAGE_SIZE) // 2
    return images[:, :, top : top + IMAGE_SIZE, left : left + IMAGE_SIZE]


def standardize(pixels: Tensor) -> Tensor:
    """Each image minus its mean, divided by its standard deviation, over all of its pixels and channels.

    The divisor is at least 1/sqrt(number of values), so that an image of one colour becomes zeros.

    Args:
        pixels: [N, 3, H, W] float32.

    Source: ``tf.image.per_image_standardization``.
    """
    mean = pixels.mean(dim=(1, 2, 3), keepdim=True)
    centered = pixels - mean
    deviation = centered.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    return centered / deviation.clamp(min=pixels[0].numel() ** -0.5)


def evaluation_images(images: Tensor) -> Tensor:
    """What the network is evaluated on: [N, 3, H, W] uint8 -> [N, 3, 24, 24] float32, undistorted."""
    return standardize(center_crop(images).float())


def ten_views(images: Tensor) -> Tensor:
    """The four corners and the centre of each image, and their mirror images, as the network takes them.

    Args:
        images: [N, 3, H, W] uint8.

    Returns:
        [10, N, 3, 24, 24] float32.

    Source: Krizhevsky et al. 2012, section 4.1.
    """
    bottom, right = images.shape[2] - IMAGE_SIZE, images.shape[3] - IMAGE_SIZE
    corners = [
        images[:, :, top : top + IMAGE_SIZE, left : left + IMAGE_SIZE] for top in (0, bottom) for left in (0, right)
    ]
    crops = [standardize(crop.float()) for crop in (*corners, center_crop(images))]
    return torch.stack([*crops, *(crop.flip(3) for crop in crops)])


class TrainingBatches:
    """The endless sequence of training batches of a data set, on the device that trains.

    Every image comes once an epoch, in an order of its own for each epoch. A batch may span two epochs.
    """

    def __init__(self, data: Dataset, hyperparameters: Hyperparameters, device: torch.device) -> None:
        self.images = data.images.to(device)
        self.labels = data.labels.to(device)
        self.hyperparameters = hyperparameters

    def batch(self, number: int) -> tuple[Tensor, Tensor]:
        """Images [batch_size, 3, 24, 24] float32, distorted, and labels [batch_size] int64 of batch ``number``."""
        return self.assemble(self.draw(number))

    def draw(self, number: int) -> tuple[Tensor, Distortions]:
        """What chance decides of a batch: which images [batch_size] int64, and what happens to each."""
        recipe, count = self.hyperparameters, len(self.images)
        index = batch_indices(recipe.seed, number, recipe.batch_size, count)
        distortions = draw_distortions(
            recipe.seed, number, recipe.batch_size, self.images.shape[-1], recipe.distort_colors
        )
        if recipe.alternate_flips:
            epochs = _positions(number, recipe.batch_size) // count
            flip = alternating_flips(recipe.seed, index, torch.from_numpy(epochs), count)
            distortions = replace(distortions, flip=flip)
        return _to(self.images.device, index), distortions.to(self.images.device)

    def assemble(self, drawn: tuple[Tensor, Distortions]) -> tuple[Tensor, Tensor]:
        """The batch that was drawn; all of it happens on the device."""
        index, distortions = drawn
        return distort(self.images[index], distortions), self.labels[index]


def _to(device: torch.device, tensor: Tensor) -> Tensor:
    """``tensor`` on ``device``; the copy to a GPU waits for nothing."""
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


def batch_indices(seed: int, number: int, batch_size: int, count: int) -> Tensor:
    """Which of ``count`` images are in batch ``number``: [batch_size] int64."""
    position = _positions(number, batch_size)
    epoch = position // count
    orders = np.stack([_order_of_epoch(seed, int(e), count) for e in range(epoch[0], epoch[-1] + 1)])
    return torch.from_numpy(orders[epoch - epoch[0], position % count])


def _positions(number: int, batch_size: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Where the images of a batch stand in the endless sequence of epochs."""
    return np.arange(number * batch_size, (number + 1) * batch_size)


@lru_cache(maxsize=2)
def _order_of_epoch(seed: int, epoch: int, count: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return _generator(seed, _ORDER, epoch).permutation(count)


@lru_cache(maxsize=1)
def _first_flips(seed: int, count: int) -> Tensor:
    return torch.from_numpy(_generator(seed, _FIRST_FLIPS, 0).random(count) < 0.5)


def _generator(seed: int, stream: int, number: int) -> np.random.Generator:
    """A generator that depends on its arguments alone, as cheap to make as to use (Philox is counter-based)."""
    return np.random.Generator(np.random.Philox(key=[seed, stream], counter=[0, number, 0, 0]))
