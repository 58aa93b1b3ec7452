"""JPEG compression of whole batches gives the pixels that libjpeg gives."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from cifar10_zoo import synthetic
from cifar10_zoo.data.jpeg import compress


def noisy_drawings(count: int, size: int = 32) -> Tensor:
    """Drawings with noise and a gradient of color, so that all coefficients of the blocks matter."""
    random = np.random.default_rng(7)
    drawings = synthetic.draw(np.arange(count, dtype=np.uint8) % 10, random)
    enlarged = np.repeat(np.repeat(drawings, size // 16, axis=2), size // 16, axis=3)[:, :, :size, :size]
    shade = random.normal(0, 12, enlarged.shape) + np.linspace(-40, 40, size) * random.normal(0, 1, (count, 3, 1, 1))
    return torch.from_numpy((enlarged + shade).clip(0, 255).astype(np.uint8))


def compress_all(images: Tensor, quality: int, subsampling: bool) -> Tensor:
    return compress(images, torch.full((len(images),), quality), torch.full((len(images),), subsampling))


def libjpeg(images: Tensor, quality: int, subsampling: bool) -> Tensor:
    decoded = []
    for image in images:
        file = io.BytesIO()
        name = "4:2:0" if subsampling else "4:4:4"
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality, subsampling=name)
        decoded.append(np.array(Image.open(file)))
    return torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2)


def difference(one: Tensor, other: Tensor) -> Tensor:
    return (one.float() - other.float()).abs()


@pytest.mark.parametrize("subsampling", [False, True], ids=["4:4:4", "4:2:0"])
@pytest.mark.parametrize("quality", [1, 30, 50, 75, 90, 100])
@pytest.mark.parametrize("size", [32, 48])
def test_compress_gives_the_pixels_of_libjpeg_up_to_rounding(size: int, quality: int, subsampling: bool) -> None:
    """A coefficient in the middle between two quantized values may round the other way: such blocks are rare."""
    images = noisy_drawings(60, size)
    ours, theirs = compress_all(images, quality, subsampling), libjpeg(images, quality, subsampling)
    assert difference(ours, theirs).mean() < 0.5
    assert (difference(ours, theirs) > 3).float().mean() < 0.04
    if quality < 100 or subsampling:
        assert difference(ours, theirs).mean() < difference(images, theirs).mean() / 5


def test_quality_0_changes_no_pixel() -> None:
    images = noisy_drawings(20)
    result = compress(images, torch.tensor([0, 60] * 10), torch.tensor([True, True, False, False] * 5))
    assert torch.equal(result[::2], images[::2])
    assert (result[1::2] != images[1::2]).flatten(1).any(dim=1).all()
