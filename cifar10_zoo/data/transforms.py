"""Batches for training and evaluation, each computed as whole-batch tensor operations.

A batch is a pure function of the seed and its number: resuming needs no saved generator state.
Source: ``cifar10_input.py``.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from cifar10_zoo.data.rng import AUGMENTATION, generator
from cifar10_zoo.network.model import IMAGE_SIZE

MAX_BRIGHTNESS_DELTA = 63.0  # in pixel values of 0..255
MAX_CONTRAST_CHANGE = 0.8  # factors of 0.2 to 1.8


@dataclass(frozen=True)
class Augmentation:
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

    def to(self, device: torch.device) -> "Augmentation":
        """The same on ``device``."""
        return Augmentation(*(to_device(tensor, device) for tensor in self.tensors()))

    def tensors(self) -> list[Tensor]:
        """All fields, in their order."""
        return [getattr(self, field.name) for field in fields(self)]


def sample_augmentation(seed: int, number: int, batch_size: int, image_size: int, colors: float = 1.0) -> Augmentation:
    """The distortions of batch ``number`` for square images of ``image_size`` pixels, on the CPU.

    Args:
        colors: strength of the distortions of brightness and contrast, 1 for the tutorial's, 0 for none.
    """
    random = generator(seed, AUGMENTATION, number)
    offsets = random.integers(0, image_size - IMAGE_SIZE, size=(2, batch_size), endpoint=True)
    flip, brightness, contrast = random.random((3, batch_size), dtype=np.float32)
    delta, change = MAX_BRIGHTNESS_DELTA * colors, MAX_CONTRAST_CHANGE * colors
    return Augmentation(
        y=torch.from_numpy(offsets[0]),
        x=torch.from_numpy(offsets[1]),
        flip=torch.from_numpy(flip < 0.5),
        brightness=torch.from_numpy(brightness * (2 * delta) - delta),
        contrast=torch.from_numpy(contrast * (2 * change) + (1 - change)),
    )


def augment(images: Tensor, distortions: Augmentation) -> Tensor:
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


def _crop_and_flip(images: Tensor, distortions: Augmentation) -> Tensor:
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


def ten_crop(images: Tensor) -> Tensor:
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


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """``tensor`` on ``device``; the copy to a GPU waits for nothing."""
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)
