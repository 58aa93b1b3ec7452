"""Training batches depend only on seed and number, and every epoch contains each image once."""

from dataclasses import replace

import torch
from hypothesis import given
from hypothesis import strategies as st

from cifar10_zoo.config import Hyperparameters
from cifar10_zoo.data.batches import LazyBatch, TrainingBatches, alternating_flips, batch_indices
from cifar10_zoo.data.dataset import Dataset
from cifar10_zoo.data.transforms import augment, sample_augmentation

SEEDS = st.integers(0, 2**63 - 1)
CPU = torch.device("cpu")


@given(seed=SEEDS, count=st.integers(1, 50), batch_size=st.integers(1, 120))
def test_every_epoch_contains_each_image_once(seed: int, count: int, batch_size: int) -> None:
    batches = [batch_indices(seed, number, batch_size, count) for number in range(-(-3 * count // batch_size))]
    three_epochs = torch.cat(batches)[: 3 * count].reshape(3, count)
    assert (three_epochs.sort(dim=1).values == torch.arange(count)).all()


@given(seed=SEEDS, number=st.integers(0, 10**6))
def test_the_images_of_a_batch_depend_only_on_seed_and_number(seed: int, number: int) -> None:
    first = batch_indices(seed, number, batch_size=8, count=1000)
    batch_indices(seed, number + 1, batch_size=8, count=1000)
    assert torch.equal(first, batch_indices(seed, number, batch_size=8, count=1000))


def test_each_epoch_has_a_different_order() -> None:
    epochs = [batch_indices(0, epoch, 1000, 1000) for epoch in range(3)]
    assert not torch.equal(epochs[0], epochs[1])
    assert not torch.equal(epochs[1], epochs[2])


def test_a_batch_has_the_labels_and_the_augmentation_of_its_images() -> None:
    labels = torch.arange(40) % 10
    images = torch.randint(0, 256, (40, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    recipe = Hyperparameters(seed=5, batch_size=7)
    pixels, batch_labels = TrainingBatches(Dataset("custom", (), images, labels), recipe, CPU).batch(3)
    index = batch_indices(seed=5, number=3, batch_size=7, count=40)
    assert torch.equal(batch_labels, labels[index])
    assert torch.equal(pixels, augment(images[index], sample_augmentation(5, 3, 7, 32)))
    assert pixels.shape == (7, 3, 24, 24)
    assert pixels.dtype == torch.float32


@given(seed=SEEDS, number=st.integers(0, 100))
def test_distort_colors_scales_the_changes_of_brightness_and_contrast(seed: int, number: int) -> None:
    full, weak = (
        training_batches(Hyperparameters(seed=seed, batch_size=8, distort_colors=colors)).sample(number).augmentation
        for colors in (1.0, 0.25)
    )
    torch.testing.assert_close(weak.brightness, full.brightness / 4)
    torch.testing.assert_close(weak.contrast - 1, (full.contrast - 1) / 4)
    assert torch.equal(weak.x, full.x)


@given(seed=SEEDS, number=st.integers(0, 100))
def test_alternate_flips_mirrors_each_image_in_every_other_epoch(seed: int, number: int) -> None:
    first_epoch = alternating_flips(seed, torch.arange(10_000), torch.zeros(10_000), 10_000)
    assert abs(first_epoch.float().mean() - 0.5) < 0.03, "the first flips are random"
    recipe = Hyperparameters(seed=seed, batch_size=8, distort_colors=0.25, alternate_flips=True)
    sample = training_batches(recipe).sample(number)
    plain = training_batches(replace(recipe, alternate_flips=False)).sample(number)
    assert torch.equal(sample.augmentation.x, plain.augmentation.x), "only the flips differ"
    flips = dict(zip(sample.index.tolist(), sample.augmentation.flip.tolist(), strict=True))
    resumed = training_batches(recipe)
    next_epoch = number // 5 * 5 + 5  # 40 images are five batches
    for later in range(next_epoch, next_epoch + 5):
        sample = resumed.sample(later)
        for image, flip in zip(sample.index.tolist(), sample.augmentation.flip.tolist(), strict=True):
            assert image not in flips or flip != flips[image]


@given(seed=SEEDS, number=st.integers(0, 100), alternate=st.booleans())
def test_no_mirror_changes_only_the_flips(seed: int, number: int, alternate: bool) -> None:
    recipe = Hyperparameters(seed=seed, batch_size=8, alternate_flips=alternate)
    mirrored = training_batches(recipe).sample(number)
    plain = training_batches(replace(recipe, mirror=False)).sample(number)
    assert not plain.augmentation.flip.any()
    kept = replace(plain, augmentation=replace(plain.augmentation, flip=mirrored.augmentation.flip))
    assert all(torch.equal(a, b) for a, b in zip(kept.tensors(), mirrored.tensors(), strict=True))


def training_batches(recipe: Hyperparameters) -> TrainingBatches:
    """Batches of 40 black images."""
    images = torch.zeros(40, 3, 32, 32, dtype=torch.uint8)
    return TrainingBatches(Dataset("custom", (), images, torch.zeros(40, dtype=torch.int64)), recipe, CPU)


def test_a_lazy_batch_is_built_once_on_first_use() -> None:
    images = torch.randint(0, 256, (40, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    data = Dataset("custom", (), images, torch.arange(40) % 10)
    batches = TrainingBatches(data, Hyperparameters(batch_size=7), CPU)
    lazy = LazyBatch(batches, number=3)
    pixels, labels = batches.batch(3)
    assert torch.equal(lazy.images, pixels)
    assert torch.equal(lazy.labels, labels)
    assert lazy.images is lazy.images
