"""Crop, augmentation and standardization equal a plain computation; random parameters have the tutorial's ranges."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from cifar10_zoo.data.transforms import (
    augment,
    center_crop,
    evaluation_images,
    sample_augmentation,
    standardize,
    ten_crop,
)

SEEDS = st.integers(0, 2**63 - 1)


@given(seed=SEEDS, number=st.integers(0, 10**6))
def test_an_augmentation_depends_only_on_seed_and_batch_number(seed: int, number: int) -> None:
    first = sample_augmentation(seed, number, batch_size=8, image_size=32)
    sample_augmentation(seed, number + 1, batch_size=8, image_size=32)
    again = sample_augmentation(seed, number, batch_size=8, image_size=32)
    for one, other in zip(first.tensors(), again.tensors(), strict=True):
        assert torch.equal(one, other)


def test_augmentations_differ_between_batches_and_between_seeds() -> None:
    contrast = [sample_augmentation(seed, number, 64, 32).contrast for seed, number in ((0, 0), (0, 1), (1, 0))]
    assert not torch.equal(contrast[0], contrast[1])
    assert not torch.equal(contrast[0], contrast[2])


def test_augmentation_parameters_are_uniform_in_the_tutorials_ranges_and_independent() -> None:
    """Offsets 0..8 inclusive, half of the images flipped, brightness in [-63, 63), contrast in [0.2, 1.8)."""
    many = sample_augmentation(seed=3, number=0, batch_size=90_000, image_size=32)
    for offset in (many.y, many.x):
        assert (offset.bincount(minlength=9) / len(offset) - 1 / 9).abs().max() < 0.005
    assert abs(many.flip.float().mean() - 0.5) < 0.01
    for values, low, high in ((many.brightness, -63, 63), (many.contrast, 0.2, 1.8)):
        assert low <= values.min() < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < values.max() < high
        assert (torch.histc(values, 10, low, high) / len(values) - 0.1).abs().max() < 0.005
    parameters = torch.stack([many.y.float(), many.x.float(), many.flip.float(), many.brightness, many.contrast])
    assert (torch.corrcoef(parameters) - torch.eye(5)).abs().max() < 0.02, "the parameters are independent"


@given(seed=st.integers(0, 1000))
def test_augment_equals_a_loop_over_the_images_in_numpy(seed: int) -> None:
    images = np.random.default_rng(seed).integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)
    augmentation = sample_augmentation(seed, number=0, batch_size=4, image_size=32)
    actual = augment(torch.from_numpy(images), augmentation)
    for image, result, y, x, flip, brightness, contrast in zip(
        images, actual.numpy(), *(value.numpy() for value in augmentation.tensors()), strict=True
    ):
        crop = image[:, y : y + 24, x : x + 24].astype(np.float64)
        crop = (crop[:, :, ::-1] if flip else crop) + brightness
        mean = crop.mean(axis=(1, 2), keepdims=True)
        crop = (crop - mean) * contrast + mean
        expected = (crop - crop.mean()) / max(crop.std(), 1 / np.sqrt(crop.size))
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5)


def test_ten_crop_returns_corners_and_center_then_their_mirror_images() -> None:
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    crops = ten_crop(images)
    assert crops.shape == (10, 3, 3, 24, 24)
    assert torch.equal(crops[4], evaluation_images(images))
    for corner, y, x in ((0, 0, 0), (1, 0, 8), (2, 8, 0), (3, 8, 8)):
        assert torch.equal(crops[corner], standardize(images[:, :, y : y + 24, x : x + 24].float()))
    for number in range(5):
        assert torch.equal(crops[number + 5], crops[number].flip(3))


@given(value=st.integers(0, 255))
def test_an_image_of_one_color_is_standardized_to_zeros(value: int) -> None:
    assert not evaluation_images(torch.full((1, 3, 32, 32), value, dtype=torch.uint8)).any()


def test_the_center_crop_starts_at_row_4_and_column_4() -> None:
    images = torch.arange(32 * 32).reshape(1, 1, 32, 32)
    assert torch.equal(center_crop(images), images[:, :, 4:28, 4:28])
