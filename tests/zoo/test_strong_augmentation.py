"""Blur, JPEG compression, cutout and mixup in training: seed and number decide them, and they change nothing else."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from cifar10_zoo.config import Hyperparameters
from cifar10_zoo.data.batches import BatchSample, TrainingBatches
from cifar10_zoo.data.jpeg import compress
from cifar10_zoo.data.strong_augmentation import StrongAugmentation, blur, cut_out, mix, sample_strong_augmentation
from cifar10_zoo.data.transforms import augment
from cifar10_zoo.errors import OptionError
from cifar10_zoo.training.loss import cross_entropy
from cifar10_zoo.training.state import TrainingState
from tests.helpers.shapes import colored_images

ALL = Hyperparameters(batch_size=16, seed=2, blur_probability=0.5, jpeg_probability=0.5, cutout=8, mixup=0.4)


def batches(recipe: Hyperparameters) -> TrainingBatches:
    return TrainingBatches(colored_images(3, 32, 40), recipe, torch.device("cpu"))


def strong(recipe: Hyperparameters) -> tuple[BatchSample, StrongAugmentation]:
    sample = batches(recipe).sample(3)
    assert sample.strong
    return sample, sample.strong


@given(seed=st.integers(0, 2**63 - 1), number=st.integers(0, 10**6))
def test_seed_and_number_of_the_batch_determine_the_parameters(seed: int, number: int) -> None:
    recipe = replace(ALL, seed=seed)
    first, again = (sample_strong_augmentation(recipe, number, 32).tensors() for _ in range(2))
    assert all(map(torch.equal, first, again))
    following = sample_strong_augmentation(recipe, number + 1, 32).tensors()
    assert not any(map(torch.equal, first, following))


def test_the_parameters_have_the_documented_distributions() -> None:
    recipe = replace(ALL, batch_size=20_000, jpeg_probability=0.3, blur_probability=0.2)
    sample = sample_strong_augmentation(recipe, number=0, image_size=32)
    chosen = sample.quality[sample.quality > 0]
    assert len(chosen) / 20_000 == pytest.approx(0.3, abs=0.01)
    assert set(chosen.tolist()) == set(range(50, 101))
    blurred = sample.blur[sample.blur > 0]
    assert len(blurred) / 20_000 == pytest.approx(0.2, abs=0.01)
    assert blurred.mean() == pytest.approx(0.75, abs=0.03)
    assert blurred.max() == pytest.approx(1.5, abs=0.01)
    assert sample.subsampling.float().mean() == pytest.approx(0.5, abs=0.01)
    assert set(sample.cut_x.tolist()) == set(sample.cut_y.tolist()) == set(range(24))
    variance = 1 / (4 * (2 * 0.4 + 1))  # of the beta distribution with equal parameters
    assert float(sample.share.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(sample.share.var()) == pytest.approx(variance, abs=0.005)


def test_without_these_options_a_sample_has_no_further_parameters() -> None:
    sample = batches(Hyperparameters(batch_size=16)).sample(0)
    assert sample.strong is None
    assert BatchSample.of(sample.tensors()).strong is None


def test_the_tensors_of_a_sample_give_the_sample_and_its_other_choices_are_those_without_the_options() -> None:
    sample, parameters = strong(ALL)
    again = BatchSample.of(sample.tensors())
    assert all(map(torch.equal, sample.tensors(), again.tensors()))
    plain = batches(Hyperparameters(batch_size=16, seed=2)).sample(3)
    assert all(map(torch.equal, sample.tensors(), [*plain.tensors(), *parameters.tensors()]))


def test_the_images_are_blurred_and_compressed_before_the_crop() -> None:
    recipe = replace(ALL, cutout=0, mixup=0.0)
    data, (sample, parameters) = colored_images(3, 32, 40), strong(recipe)
    pixels, labels = batches(recipe).batch(3)
    compressed = compress(blur(data.images[sample.index], parameters.blur), parameters.quality, parameters.subsampling)
    assert torch.equal(pixels, augment(compressed, sample.augmentation))
    assert torch.equal(labels, data.labels[sample.index])


def test_cutout_erases_one_square_per_image_and_nothing_else() -> None:
    recipe = replace(ALL, blur_probability=0.0, jpeg_probability=0.0, mixup=0.0)
    _, parameters = strong(recipe)
    pixels, plain = batches(recipe).batch(3)[0], batches(replace(recipe, cutout=0)).batch(3)[0]
    for image, before, y, x in zip(pixels, plain, parameters.cut_y, parameters.cut_x, strict=True):
        expected = before.clone()
        expected[:, max(0, y - 4) : y + 4, max(0, x - 4) : x + 4] = 0
        assert torch.equal(image, expected)


def test_a_blur_of_strength_1_is_that_of_an_image_that_pillow_enlarged_and_shrank() -> None:
    random, bicubic = np.random.default_rng(5), Image.Resampling.BICUBIC
    coarse = random.integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    pictures = [Image.fromarray(each).resize((32, 32), bicubic) for each in coarse]
    images, expected = (
        torch.stack([torch.from_numpy(np.array(picture)).permute(2, 0, 1) for picture in each])
        for each in (pictures, [picture.resize((512, 512), bicubic).resize((32, 32), bicubic) for picture in pictures])
    )
    assert float((images.int() - expected.int()).abs().float().mean()) > 2
    blurred = blur(images, torch.ones(40))
    assert float((blurred.int() - expected.int()).abs().float().mean()) < 0.25  # of 255; both results are rounded
    assert torch.equal(blur(images, torch.zeros(40)), images)


@pytest.mark.parametrize("size", [1, 5, 24, 48])
def test_the_square_in_the_middle_of_a_crop_has_its_size(size: int) -> None:
    ones, center = torch.ones(1, 3, 48, 48), torch.tensor([24])
    zeros = torch.zeros(1)
    parameters = StrongAugmentation(zeros, zeros, cut_y=center, cut_x=center, share=zeros, blur=zeros)
    assert (cut_out(ones, parameters, size) == 0).sum() == 3 * size**2


def test_mixup_mixes_pixels_and_labels_in_the_same_proportion() -> None:
    pixels, labels = torch.randn(4, 3, 24, 24), torch.tensor([0, 2, 1, 1])
    mixed, targets = mix(pixels, labels, torch.tensor([1.0, 0.25, 0.5, 0.0]), classes=3)
    torch.testing.assert_close(mixed[0], pixels[0])
    torch.testing.assert_close(mixed[1], 0.25 * pixels[1] + 0.75 * pixels[0])
    torch.testing.assert_close(mixed[3], pixels[2])
    expected = torch.tensor([[1, 0, 0], [0.75, 0, 0.25], [0, 0.5, 0.5], [0, 1, 0]])
    torch.testing.assert_close(targets, expected)


@given(seed=st.integers(0, 1000), smoothing=st.sampled_from([0.0, 0.1]), weighted=st.booleans())
def test_the_loss_of_certain_labels_equals_that_of_their_probabilities(
    seed: int, smoothing: float, weighted: bool
) -> None:
    random = np.random.default_rng(seed)
    logits = torch.from_numpy(random.normal(0, 2, (7, 4))).float()
    labels = torch.from_numpy(random.integers(0, 4, 7))
    weights = torch.from_numpy(random.uniform(0.1, 3, 4)).float() if weighted else None
    certain = torch.eye(4)[labels]
    torch.testing.assert_close(
        cross_entropy(logits, certain, weights, smoothing), cross_entropy(logits, labels, weights, smoothing)
    )


def test_training_with_all_of_them_learns() -> None:
    recipe = replace(ALL, batch_size=32, initial_learning_rate=0.02, class_weights="balanced")
    source, state = batches(recipe), TrainingState(recipe, classes=3)
    state.weigh_classes(source.labels)
    losses: list[Tensor] = [state.train_step(*source.batch(number))[0] for number in range(30)]
    assert torch.stack(losses[-5:]).mean() < 0.8 * losses[0]


@pytest.mark.parametrize(
    ("name", "value"), [("blur_probability", -1), ("jpeg_probability", 1.5), ("cutout", -1), ("mixup", -0.1)]
)
def test_a_value_out_of_range_is_refused(name: str, value: float) -> None:
    with pytest.raises(OptionError, match=f"^--{name.replace('_', '-')} must be between 0 and"):
        Hyperparameters(**{name: value})  # type: ignore[arg-type]
