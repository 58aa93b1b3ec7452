"""Augmentation beyond the tutorial's, for long trainings: blur, JPEG compression, cutout and mixup.

Sources: DeVries and Taylor 2017, https://arxiv.org/abs/1708.04552 (cutout); Zhang et al. 2017,
https://arxiv.org/abs/1710.09412 (mixup).
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional as F

from cifar10_zoo.config import Hyperparameters
from cifar10_zoo.data import jpeg
from cifar10_zoo.data.rng import STRONG_AUGMENTATION, generator
from cifar10_zoo.data.transforms import Augmentation, augment
from cifar10_zoo.network.model import crop_size

BLUR_STRENGTHS = (0.0, 1.5)
"""The lowest and the highest random strength of a blur."""
_NEAR, _FAR = 0.127, -0.034
"""Weights of the neighbors at a distance of one and two pixels in an image that a bicubic filter (a = -0.5) enlarged
16 times and an antialiased one shrank again."""


@dataclass(frozen=True)
class StrongAugmentation:
    """The random parameters of a training batch of N images; all tensors are [N]."""

    quality: Tensor
    """JPEG quality, int64, from 1 to 100; 0 for an image that is not compressed."""
    subsampling: Tensor
    """Whether JPEG's color planes have half the width and height (4:2:0), bool."""
    cut_y: Tensor
    """Row of the crop at the center of the square that cutout erases, int64."""
    cut_x: Tensor
    """Column of the center, int64."""
    share: Tensor
    """Share of the image in its mixture with the image before it in the batch, float32; 1 for no mixture."""
    blur: Tensor
    """Strength of the blur, float32: 0 for none, 1 for that of an image that was enlarged and shrunk again."""

    def tensors(self) -> list[Tensor]:
        """Return the fields in their order."""
        return [getattr(self, field.name) for field in fields(self)]


def is_strong(recipe: Hyperparameters) -> bool:
    """Return whether ``recipe`` needs a ``StrongAugmentation``."""
    return bool(recipe.blur_probability or recipe.jpeg_probability or recipe.cutout or recipe.mixup)


def sample_strong_augmentation(recipe: Hyperparameters, number: int, image_size: int) -> StrongAugmentation:
    """Return the random parameters of batch ``number``, on the CPU.

    Args:
        recipe: Seed, batch size and the strength of each augmentation.
        number: Number of the batch.
        image_size: Height and width of the images in pixels.
    """
    random, count = generator(recipe.seed, STRONG_AUGMENTATION, number), recipe.batch_size
    chosen = random.random(count) < recipe.jpeg_probability
    quality = random.integers(*jpeg.QUALITIES, size=count, endpoint=True)
    subsampling = random.random(count) < 0.5
    cut_y, cut_x = random.integers(0, crop_size(image_size), size=(2, count))
    share = torch.ones(count)
    if recipe.mixup:
        share = torch.from_numpy(random.beta(recipe.mixup, recipe.mixup, count)).float()
    strength = random.uniform(*BLUR_STRENGTHS, count) * (random.random(count) < recipe.blur_probability)
    return StrongAugmentation(
        quality=torch.from_numpy(quality * chosen),
        subsampling=torch.from_numpy(subsampling),
        cut_y=torch.from_numpy(cut_y),
        cut_x=torch.from_numpy(cut_x),
        share=share,
        blur=torch.from_numpy(strength).float(),
    )


def augment_strongly(
    images: Tensor,
    labels: Tensor,
    tutorial: Augmentation,
    strong: StrongAugmentation,
    recipe: Hyperparameters,
    classes: int,
) -> tuple[Tensor, Tensor]:
    """Return augmented images as ``transforms.augment`` does, and their labels.

    Args:
        images: [N, 3, S, S] uint8.
        labels: [N] int64.
        tutorial: The parameters of the tutorial's augmentation.
        strong: The parameters of the other augmentation, on the same device.
        recipe: The strength of each augmentation.
        classes: The number of classes.

    Returns:
        [N, 3, K, K] float32, K = ``crop_size(S)``, and labels; with mixup, probabilities [N, classes] float32.
    """
    if recipe.blur_probability:
        images = blur(images, strong.blur)
    if recipe.jpeg_probability:
        images = jpeg.compress(images, strong.quality, strong.subsampling)
    pixels = augment(images, tutorial)
    if recipe.cutout:
        pixels = cut_out(pixels, strong, recipe.cutout)
    return mix(pixels, labels, strong.share, classes) if recipe.mixup else (pixels, labels)


def blur(images: Tensor, strength: Tensor) -> Tensor:
    """Return ``images`` [N, 3, S, S] uint8 with a blur of ``strength`` [N]; the pixels at the edges are repeated."""
    pixels = images.float()
    blurred = _blurred_columns(_blurred_columns(pixels).mT).mT
    return pixels.lerp(blurred, strength[:, None, None, None]).round().clamp(0, 255).to(torch.uint8)


def _blurred_columns(pixels: Tensor) -> Tensor:
    padded = F.pad(pixels, (2, 2, 0, 0), mode="replicate")
    left2, left, _, right, right2 = padded.unfold(3, pixels.shape[3], 1).unbind(3)
    return pixels + _NEAR * (left + right - 2 * pixels) + _FAR * (left2 + right2 - 2 * pixels)


def cut_out(pixels: Tensor, strong: StrongAugmentation, size: int) -> Tensor:
    """Return standardized ``pixels`` [N, 3, K, K] with a square of 0, the mean, in each image; edges may cut it."""
    position = torch.arange(pixels.shape[-1], device=pixels.device)
    rows, columns = ((position - center[:, None] + size // 2) // size == 0 for center in (strong.cut_y, strong.cut_x))
    return pixels.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0.0)


def mix(pixels: Tensor, labels: Tensor, share: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Return the mixtures of each image with the image before it in the batch, and those of their labels.

    Args:
        pixels: [N, 3, K, K] float32.
        labels: [N] int64.
        share: Share of each image in its mixture, [N] float32.
        classes: The number of classes.

    Returns:
        [N, 3, K, K] float32 and [N, classes] float32.
    """
    targets = torch.eye(classes, device=labels.device)[labels]
    mixed = pixels.roll(1, 0).lerp(pixels, share[:, None, None, None])
    return mixed, targets.roll(1, 0).lerp(targets, share[:, None])
