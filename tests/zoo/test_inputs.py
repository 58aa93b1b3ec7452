"""Batches: pure functions of seed and step, every image once an epoch, distortions within their ranges."""

from dataclasses import replace

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from cifar10_zoo.config import Hyperparameters
from cifar10_zoo.data.batches import TrainingBatches, alternating_flips, batch_indices
from cifar10_zoo.data.cifar10 import Dataset
from cifar10_zoo.data.transforms import (
    augment,
    center_crop,
    evaluation_images,
    sample_augmentation,
    standardize,
    ten_crop,
)

SEEDS = st.integers(0, 2**63 - 1)


@given(seed=SEEDS, count=st.integers(1, 50), batch_size=st.integers(1, 120))
def test_every_image_comes_once_an_epoch(seed: int, count: int, batch_size: int) -> None:
    batches = [batch_indices(seed, step, batch_size, count) for step in range(-(-3 * count // batch_size))]
    stream = torch.cat(batches)[: 3 * count].reshape(3, count)
    assert (stream.sort(dim=1).values == torch.arange(count)).all()


@given(seed=SEEDS, step=st.integers(0, 10**6))
def test_a_batch_depends_on_seed_and_step_alone(seed: int, step: int) -> None:
    first = sample_augmentation(seed, step, 8, 32), batch_indices(seed, step, 8, 1000)
    sample_augmentation(seed, step + 1, 8, 32)
    second = sample_augmentation(seed, step, 8, 32), batch_indices(seed, step, 8, 1000)
    assert torch.equal(first[1], second[1])
    for one, other in zip(vars(first[0]).values(), vars(second[0]).values(), strict=True):
        assert torch.equal(one, other)


def test_distortions_differ_between_steps_and_seeds_and_epochs_in_order() -> None:
    drawn = [sample_augmentation(seed, step, 64, 32).contrast for seed, step in ((0, 0), (0, 1), (1, 0))]
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    epochs = [batch_indices(0, epoch, 1000, 1000) for epoch in range(3)]
    assert not torch.equal(epochs[0], epochs[1])
    assert not torch.equal(epochs[1], epochs[2])


def test_distortions_cover_the_ranges_of_the_original() -> None:
    """Offsets 0..8 inclusive, half flipped, brightness in [-63, 63), contrast in [0.2, 1.8), all evenly."""
    many = sample_augmentation(seed=3, number=0, batch_size=90_000, image_size=32)
    for offset in (many.y, many.x):
        assert (offset.bincount(minlength=9) / len(offset) - 1 / 9).abs().max() < 0.005
    assert abs(many.flip.float().mean() - 0.5) < 0.01
    for values, low, high in ((many.brightness, -63, 63), (many.contrast, 0.2, 1.8)):
        assert low <= values.min() < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < values.max() < high
        assert (torch.histc(values, 10, low, high) / len(values) - 0.1).abs().max() < 0.005
    pairs = torch.stack([many.y.float(), many.x.float(), many.flip.float(), many.brightness, many.contrast])
    assert (torch.corrcoef(pairs) - torch.eye(5)).abs().max() < 0.02, "the draws are independent"


@given(seed=st.integers(0, 1000))
def test_distort_is_what_a_plain_loop_over_the_images_does(seed: int) -> None:
    images = np.random.default_rng(seed).integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)
    drawn = sample_augmentation(seed, 0, 4, 32)
    actual = augment(torch.from_numpy(images), drawn)
    for image, result, y, x, flip, brightness, contrast in zip(
        images, actual.numpy(), *(value.numpy() for value in vars(drawn).values()), strict=True
    ):
        crop = image[:, y : y + 24, x : x + 24].astype(np.float64)
        crop = (crop[:, :, ::-1] if flip else crop) + brightness
        mean = crop.mean(axis=(1, 2), keepdims=True)
        crop = (crop - mean) * contrast + mean
        expected = (crop - crop.mean()) / max(crop.std(), 1 / np.sqrt(crop.size))
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5)


def test_ten_views_are_corners_and_centre_each_mirrored() -> None:
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    views = ten_crop(images)
    assert views.shape == (10, 3, 3, 24, 24)
    assert torch.equal(views[4], evaluation_images(images))
    for view, y, x in ((0, 0, 0), (1, 0, 8), (2, 8, 0), (3, 8, 8)):
        assert torch.equal(views[view], standardize(images[:, :, y : y + 24, x : x + 24].float()))
    for view in range(5):
        assert torch.equal(views[view + 5], views[view].flip(3))


@given(value=st.integers(0, 255))
def test_an_image_of_one_colour_becomes_zeros(value: int) -> None:
    assert not evaluation_images(torch.full((1, 3, 32, 32), value, dtype=torch.uint8)).any()


def test_the_centre_crop_starts_at_pixel_4() -> None:
    images = torch.arange(32 * 32).reshape(1, 1, 32, 32)
    assert torch.equal(center_crop(images), images[:, :, 4:28, 4:28])


def test_labels_stay_with_their_images() -> None:
    labels = torch.arange(40) % 10
    images = torch.randint(0, 256, (40, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    recipe = Hyperparameters(seed=5, batch_size=7)
    batches = TrainingBatches(Dataset("custom", (), images, labels), recipe, torch.device("cpu"))
    pixels, batch_labels = batches.batch(3)
    index = batch_indices(5, 3, 7, 40)
    assert torch.equal(batch_labels, labels[index])
    assert torch.equal(pixels, augment(images[index], sample_augmentation(5, 3, 7, 32)))
    assert pixels.shape == (7, 3, 24, 24)
    assert pixels.dtype == torch.float32


@given(seed=SEEDS, number=st.integers(0, 100))
def test_colors_can_be_distorted_less_and_flips_alternate(seed: int, number: int) -> None:
    images = torch.zeros(40, 3, 32, 32, dtype=torch.uint8)
    data = Dataset("custom", (), images, torch.zeros(40, dtype=torch.int64))
    tutorial = Hyperparameters(seed=seed, batch_size=8)
    recipe = replace(tutorial, distort_colors=0.25, alternate_flips=True)
    (_, full), (index, less) = (TrainingBatches(data, r, torch.device("cpu")).draw(number) for r in (tutorial, recipe))
    torch.testing.assert_close(less.brightness, full.brightness / 4)
    torch.testing.assert_close(less.contrast - 1, (full.contrast - 1) / 4)
    many = alternating_flips(seed, torch.arange(10_000), torch.zeros(10_000), 10_000)
    assert abs(many.float().mean() - 0.5) < 0.03, "at first by chance"
    assert torch.equal(less.x, full.x)
    next_epoch = TrainingBatches(data, recipe, torch.device("cpu"))
    flips = dict(zip(index.tolist(), less.flip.tolist(), strict=True))
    for later in range(number // 5 * 5 + 5, number // 5 * 5 + 10):  # the five batches of the epoch after
        index, drawn = next_epoch.draw(later)
        for image, flip in zip(index.tolist(), drawn.flip.tolist(), strict=True):
            assert image not in flips or flip != flips[image]
