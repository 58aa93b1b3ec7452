"""JPEG compression as augmentation: it loses what libjpeg loses, at random, and only where it should."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from cifar10_zoo import synthetic
from cifar10_zoo.config import Hyperparameters
from cifar10_zoo.data.batches import BatchSample, TrainingBatches
from cifar10_zoo.data.dataset import Dataset
from cifar10_zoo.data.jpeg import Compression, compress, sample_compression
from cifar10_zoo.data.transforms import augment
from tests.helpers.shapes import colored_images


def noisy_drawings(count: int, size: int = 32) -> Tensor:
    """Drawings with noise and a gradient of color, so that all coefficients of the blocks matter."""
    random = np.random.default_rng(7)
    drawings = synthetic.draw(np.arange(count, dtype=np.uint8) % 10, random)
    enlarged = np.repeat(np.repeat(drawings, size // 16, axis=2), size // 16, axis=3)[:, :, :size, :size]
    shade = random.normal(0, 12, enlarged.shape) + np.linspace(-40, 40, size) * random.normal(0, 1, (count, 3, 1, 1))
    return torch.from_numpy((enlarged + shade).clip(0, 255).astype(np.uint8))


def compress_all(images: Tensor, quality: int, subsampling: bool) -> Tensor:
    return compress(images, Compression(torch.full((len(images),), quality), torch.full((len(images),), subsampling)))


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
    compression = Compression(torch.tensor([0, 60] * 10), torch.tensor([True, True, False, False] * 5))
    result = compress(images, compression)
    assert torch.equal(result[::2], images[::2])
    assert (result[1::2] != images[1::2]).flatten(1).any(dim=1).all()


@given(seed=st.integers(0, 2**63 - 1), number=st.integers(0, 10**6))
def test_seed_and_number_of_the_batch_determine_the_compression(seed: int, number: int) -> None:
    first, again = (sample_compression(seed, number, 16, 0.5) for _ in range(2))
    assert all(map(torch.equal, first.tensors(), again.tensors()))
    assert not torch.equal(first.quality, sample_compression(seed, number + 1, 16, 0.5).quality)


def test_the_probability_is_the_share_of_compressed_images_of_all_qualities() -> None:
    sample = sample_compression(seed=1, number=0, batch_size=20_000, probability=0.3)
    chosen = sample.quality[sample.quality > 0]
    assert len(chosen) / 20_000 == pytest.approx(0.3, abs=0.01)
    assert set(chosen.tolist()) == set(range(50, 101))
    assert sample.subsampling.float().mean() == pytest.approx(0.5, abs=0.01)
    assert (sample_compression(1, 0, 1000, 1.0).quality > 0).all()


def test_a_batch_compresses_the_images_before_the_crop_and_changes_no_other_choice() -> None:
    data = colored_images(3, 32, 40)
    recipe = Hyperparameters(batch_size=16, seed=2)
    plain = TrainingBatches(data, recipe, torch.device("cpu"))
    compressed = TrainingBatches(data, replace(recipe, jpeg_probability=0.5), torch.device("cpu"))
    sample = compressed.sample(3)
    assert sample.compression
    assert all(map(torch.equal, sample.tensors(), [*plain.sample(3).tensors(), *sample.compression.tensors()]))
    pixels, labels = compressed.batch(3)
    expected = augment(compress(data.images[sample.index], sample.compression), sample.augmentation)
    assert torch.equal(pixels, expected)
    assert torch.equal(labels, data.labels[sample.index])
    changed = (pixels != plain.batch(3)[0]).flatten(1).any(dim=1)
    assert torch.equal(changed, sample.compression.quality > 0)


def test_the_tensors_of_a_sample_give_the_sample() -> None:
    data = Dataset("custom", ("a",), torch.zeros(4, 3, 32, 32, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64))
    for probability in (0.0, 0.5):
        recipe = Hyperparameters(batch_size=4, jpeg_probability=probability)
        sample = TrainingBatches(data, recipe, torch.device("cpu")).sample(0)
        again = BatchSample.of(sample.tensors())
        assert (again.compression is None) == (probability == 0)
        assert all(map(torch.equal, sample.tensors(), again.tensors()))
