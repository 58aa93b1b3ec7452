"""Validation images: how they are chosen, what they decide, and that they are never trained on."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cifar10_zoo import calibrate, evaluate, train
from cifar10_zoo.config import Hyperparameters
from cifar10_zoo.data.batches import TrainingBatches
from cifar10_zoo.data.dataset import Dataset
from cifar10_zoo.data.load import load
from cifar10_zoo.data.validation import split_off
from cifar10_zoo.errors import CheckpointError, OptionError
from cifar10_zoo.tracking import history, validation
from cifar10_zoo.tracking.history import Validation
from cifar10_zoo.training import checkpoint
from cifar10_zoo.training.inference import top1_accuracy


def random_data(images_per_class: list[int], seed: int = 0) -> Dataset:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(len(images_per_class)).repeat_interleave(torch.tensor(images_per_class))
    images = torch.randint(0, 256, (len(labels), 3, 32, 32), dtype=torch.uint8, generator=generator)
    return Dataset("custom", tuple(map(str, range(len(images_per_class)))), images, labels)


def contents(data: Dataset) -> set[bytes]:
    return {image.numpy().tobytes() for image in data.images}


@given(st.lists(st.integers(0, 25), min_size=2, max_size=5).filter(any), st.floats(0, 0.9), st.integers(0, 9))
@settings(max_examples=50, deadline=None)
def test_each_class_gives_its_fraction_of_images_rounded_down(sizes: list[int], fraction: float, seed: int) -> None:
    training, held_out = split_off(random_data(sizes, seed), fraction)

    assert held_out.labels.bincount(minlength=len(sizes)).tolist() == [int(fraction * size) for size in sizes]
    assert len(training.images) + len(held_out.images) == sum(sizes)


def test_the_order_of_the_images_does_not_change_the_choice() -> None:
    data = random_data([30, 50])
    order = torch.randperm(80, generator=torch.Generator().manual_seed(1))
    shuffled = replace(data, images=data.images[order], labels=data.labels[order])

    assert contents(split_off(data, 0.2)[1]) == contents(split_off(shuffled, 0.2)[1])


def test_copies_of_an_image_are_on_the_same_side() -> None:
    data = random_data([20, 20])
    twice = replace(data, images=data.images.repeat(2, 1, 1, 1), labels=data.labels.repeat(2))

    training, held_out = split_off(twice, 0.3)

    assert not contents(training) & contents(held_out)


def small_options(data_dir: Path, train_dir: Path, steps: int, **hyperparameters: Any) -> train.Options:
    recipe = Hyperparameters(**{"batch_size": 16, "validation_fraction": 0.1} | hyperparameters)
    return train.Options(data_dir=data_dir, train_dir=train_dir, max_steps=steps, hyperparameters=recipe, device="cpu")


@pytest.fixture
def data(drawings_dir: Path) -> Dataset:
    """Return 200 training images."""
    data = load(drawings_dir, "train", quiet=True)
    return replace(data, images=data.images[:200], labels=data.labels[:200])


def test_validation_images_are_never_trained_on(
    data: Dataset, drawings_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training, _ = split_off(data, 0.1)
    seen: list[set[bytes]] = []

    class Recorded(TrainingBatches):
        def __init__(self, data: Dataset, *rest: Any) -> None:
            seen.append(contents(data))
            super().__init__(data, *rest)

    monkeypatch.setattr(train, "TrainingBatches", Recorded)
    train.train(small_options(drawings_dir, tmp_path, 2), data)

    assert seen == [contents(training)]


def test_the_best_checkpoint_has_the_recorded_accuracy_and_is_kept(
    data: Dataset, drawings_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation, "steps_between", lambda *_: 3)
    scores = iter([0.2, 0.5, 0.4, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3])
    measured: list[float] = []

    def scripted(model: Any, held_out: Dataset) -> float:
        measured.append(top1_accuracy(model, held_out))
        return next(scores)

    monkeypatch.setattr(validation, "top1_accuracy", scripted)
    options = replace(small_options(drawings_dir, tmp_path, 27), save_checkpoint_secs=1e-9)

    train.train(options, data)

    assert history.validations(tmp_path)[:3] == [Validation(3, 0.2), Validation(6, 0.5), Validation(9, 0.4)]
    assert len(history.validations(tmp_path)) == 9
    best = validation.read_best(tmp_path)
    assert best.step == 6
    assert [path.name for path in checkpoint.find(tmp_path)][:2] == [
        "model.ckpt-6.safetensors",
        "model.ckpt-23.safetensors",
    ]
    assert top1_accuracy(best.ema_model(), split_off(data, 0.1)[1]) == measured[1]


@pytest.mark.parametrize(
    ("accuracies", "patience", "converged"),
    [
        pytest.param([0.5, 0.4, 0.4], 2, True, id="two worse"),
        pytest.param([0.5, 0.4], 2, False, id="one worse"),
        pytest.param([0.5, 0.4, 0.5], 2, False, id="equal to the best"),
        pytest.param([0.5, 0.4, 0.3, 0.2], 0, False, id="no patience limit"),
        pytest.param([], 1, False, id="no validation"),
    ],
)
def test_training_ends_after_as_many_worse_validations_as_patience_allows(
    data: Dataset, drawings_dir: Path, tmp_path: Path, accuracies: list[float], patience: int, converged: bool
) -> None:
    options = small_options(drawings_dir, tmp_path, 1)
    state = train.train(options, data)
    rows = [Validation(0, accuracy) for accuracy in accuracies]
    history.write_validations(tmp_path, rows)

    assert validation.Validation(tmp_path, state, data, 100, 1).has_converged(patience) == converged


def test_a_converged_run_ends_early_and_stays_ended(
    data: Dataset,
    drawings_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(validation, "steps_between", lambda *_: 2)
    monkeypatch.setattr(validation, "top1_accuracy", lambda *_: -0.01 * len(history.validations(tmp_path)))
    options = replace(small_options(drawings_dir, tmp_path, 100), patience=3)

    assert train.train(options, data).step == 8
    assert "no better validation accuracy in 3 validations: training ends" in capsys.readouterr().err
    assert train.train(options, data).step == 8


def test_a_resumed_run_repeats_the_validations_of_the_steps_that_it_repeats(
    data: Dataset, drawings_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation, "steps_between", lambda *_: 2)
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    train.train(small_options(drawings_dir, whole, 8), data)
    train.train(small_options(drawings_dir, resumed, 4), data)
    killed = [*history.validations(resumed), Validation(6, 0.123)]  # killed before it saved a later checkpoint
    history.write_validations(resumed, killed)

    train.train(small_options(drawings_dir, resumed, 8), data)

    assert history.validations(resumed) == history.validations(whole)


def test_best_without_validation_says_how_to_get_one(train_dir: Path, drawings_dir: Path) -> None:
    options = evaluate.Options(data_dir=drawings_dir, checkpoint_dir=train_dir, best=True, device="cpu")

    with pytest.raises(CheckpointError, match=r"has no validations.csv: train with --validation-fraction 0\.1"):
        evaluate.evaluate(options)


def test_patience_needs_validation_images() -> None:
    with pytest.raises(OptionError, match="--patience counts validations: set --validation-fraction"):
        train.Options(patience=3)


def test_a_fraction_without_any_image_is_refused(data: Dataset, drawings_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"--validation-fraction 0\.01 is no image of any class"):
        train.train(small_options(drawings_dir, tmp_path, 2, validation_fraction=0.01), data)


def test_calibrate_stores_the_temperature_of_the_validation_images(drawings_dir: Path, tmp_path: Path) -> None:
    train.train(small_options(drawings_dir, tmp_path / "run", 2))
    train.train(small_options(drawings_dir, tmp_path / "all", 2, validation_fraction=0.0))

    options = calibrate.Options(data_dir=drawings_dir, checkpoint_dir=tmp_path / "run", device="cpu")
    calibrate.calibrate(options)
    calibrate.calibrate(replace(options, store_in=tmp_path / "all"))

    run, other = (checkpoint.read_newest(tmp_path / name) for name in ("run", "all"))
    assert run.temperatures.keys() == {1, 10}
    assert other.temperatures == run.temperatures
    with pytest.raises(CheckpointError, match="was trained on all training images"):
        calibrate.calibrate(replace(options, checkpoint_dir=tmp_path / "all"))


def test_a_calibrated_run_continues_with_the_same_bits(data: Dataset, drawings_dir: Path, tmp_path: Path) -> None:
    for name in ("plain", "calibrated"):
        train.train(small_options(drawings_dir, tmp_path / name, 2), data)
    saved = checkpoint.read_newest(tmp_path / "calibrated")
    assert checkpoint.calibrated(saved, {1: 0.5, 10: 0.25}).temperatures == {1: 0.5, 10: 0.25}

    for name in ("plain", "calibrated"):
        train.train(small_options(drawings_dir, tmp_path / name, 4), data)

    plain, continued = (checkpoint.read_newest(tmp_path / name) for name in ("plain", "calibrated"))
    assert continued.temperatures == {}
    assert plain.sha256 == continued.sha256
    assert all(np.array_equal(plain.tensors[name], continued.tensors[name]) for name in plain.tensors)
