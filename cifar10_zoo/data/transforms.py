"""Crop, augmentation and standardization as tensor operations on whole batches.

Source: ``cifar10_input.py``.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from cifar10_zoo.data.rng import AUGMENTATION, generator
from cifar10_zoo.network.model import crop_size

MAX_BRIGHTNESS_DELTA = 63.0
"""Largest change of brightness, in pixel values from 0 to 255."""
MAX_CONTRAST_CHANGE = 0.8
"""Largest change of the contrast factor, which is between 1 - 0.8 and 1 + 0.8."""


@dataclass(frozen=True)
class Augmentation:
    """The random parameters that augment a training batch of N images; all tensors are [N]."""

    y: Tensor
    """Top row of the crop, int64."""
    x: Tensor
    """Left column of the crop, int64."""
    flip: Tensor
    """Whether the crop is mirrored left to right, bool."""
    brightness: Tensor
    """Added to every pixel, float32."""
    contrast: Tensor
    """Factor of each pixel's distance from the mean of its channel, float32."""

    def tensors(self) -> list[Tensor]:
        """Return the fields in their order."""
        return [getattr(self, field.name) for field in fields(self)]


def sample_augmentation(seed: int, number: int, batch_size: int, image_size: int, colors: float = 1.0) -> Augmentation:
    """Return the random augmentation of batch ``number``, on the CPU.

    Args:
        seed: The seed of the run.
        number: Number of the batch.
        batch_size: Images per batch.
        image_size: Height and width of the images in pixels.
        colors: Strength of the changes of brightness and contrast: 1 for the tutorial's, 0 for none.
    """
    random = generator(seed, AUGMENTATION, number)
    offsets = random.integers(0, image_size - crop_size(image_size), size=(2, batch_size), endpoint=True)
    flip, brightness, contrast = random.random((3, batch_size), dtype=np.float32)
    delta, change = MAX_BRIGHTNESS_DELTA * colors, MAX_CONTRAST_CHANGE * colors
    return Augmentation(
        y=torch.from_numpy(offsets[0]),
        x=torch.from_numpy(offsets[1]),
        flip=torch.from_numpy(flip < 0.5),
        brightness=torch.from_numpy(brightness * (2 * delta) - delta),
        contrast=torch.from_numpy(contrast * (2 * change) + (1 - change)),
    )


def augment(images: Tensor, augmentation: Augmentation) -> Tensor:
    """Return cropped, flipped and standardized images with changed brightness and contrast; values are never clipped.

    Args:
        images: [N, 3, S, S] uint8.
        augmentation: The parameters of the N images, on the device of ``images``.

    Returns:
        [N, 3, K, K] float32, K = ``crop_size(S)``: 24 for 32.
    """
    pixels = crop_and_flip(images, augmentation).float()
    pixels = change_brightness(pixels, augmentation.brightness)
    pixels = change_contrast(pixels, augmentation.contrast)
    return standardize(pixels)


def crop_and_flip(images: Tensor, augmentation: Augmentation) -> Tensor:
    """Return the crops [N, 3, K, K] of ``images`` [N, 3, S, S]; ``augmentation`` has their positions and flips.

    One gather does both: it reads the columns of a flipped crop backward.

    Source: ``tf.random_crop`` and ``tf.image.random_flip_left_right``.
    """
    offset = torch.arange(crop_size(images.shape[-1]), device=images.device)
    rows = augmentation.y[:, None] + offset
    columns = augmentation.x[:, None] + torch.where(augmentation.flip[:, None], offset.flip(0), offset)
    image = torch.arange(len(images), device=images.device)[:, None, None, None]
    channel = torch.arange(images.shape[1], device=images.device)[None, :, None, None]
    return images[image, channel, rows[:, None, :, None], columns[:, None, None, :]]


def change_brightness(pixels: Tensor, brightness: Tensor) -> Tensor:
    """Return ``pixels`` [N, 3, H, W] float32 plus one number per image, ``brightness`` [N].

    Source: ``tf.image.random_brightness``.
    """
    return pixels + brightness[:, None, None, None]


def change_contrast(pixels: Tensor, contrast: Tensor) -> Tensor:
    """Return ``pixels`` [N, 3, H, W] float32 with each distance from the channel's mean times ``contrast`` [N].

    Source: ``tf.image.random_contrast``.
    """
    mean = pixels.mean(dim=(2, 3), keepdim=True)
    return (pixels - mean) * contrast[:, None, None, None] + mean


def center_crop(images: Tensor) -> Tensor:
    """Return the center of each image: [N, 3, S, S] -> [N, 3, K, K]."""
    size = crop_size(images.shape[-1])
    start = (images.shape[-1] - size) // 2
    return images[:, :, start : start + size, start : start + size]


def standardize(pixels: Tensor) -> Tensor:
    """Return (image - mean) / max(standard deviation, 1 / sqrt(values per image)), per image over all its values.

    The lower limit of the divisor avoids a division by 0: an image whose values are all equal becomes all zeros.

    Args:
        pixels: [N, 3, H, W] float32.

    Source: ``tf.image.per_image_standardization``.
    """
    mean = pixels.mean(dim=(1, 2, 3), keepdim=True)
    centered = pixels - mean
    deviation = centered.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    return centered / deviation.clamp(min=pixels[0].numel() ** -0.5)


def evaluation_images(images: Tensor) -> Tensor:
    """Return the standardized center crops: [N, 3, S, S] uint8 -> [N, 3, K, K] float32."""
    return standardize(center_crop(images).float())


def ten_crop(images: Tensor) -> Tensor:
    """Return the standardized crops of the four corners and the center, then their mirror images.

    Args:
        images: [N, 3, S, S] uint8.

    Returns:
        [10, N, 3, K, K] float32, K = ``crop_size(S)``.

    Source: Krizhevsky et al. 2012, section 4.1.
    """
    size = crop_size(images.shape[-1])
    starts = (0, images.shape[-1] - size)
    corners = [images[:, :, top : top + size, left : left + size] for top in starts for left in starts]
    crops = [standardize(crop.float()) for crop in (*corners, center_crop(images))]
    return torch.stack([*crops, *(crop.flip(3) for crop in crops)])
