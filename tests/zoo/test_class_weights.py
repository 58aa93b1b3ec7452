"""--class-weights balanced: the weights by their definition, and their effect on the loss and on a run."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from cifar10_zoo.config import Hyperparameters
from cifar10_zoo.training.loss import balanced_weights
from cifar10_zoo.training.state import TrainingState
from tests.helpers.command_line import zoo

LABELS = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1, 2])


def test_balanced_weights_give_each_class_the_same_sum() -> None:
    weights = balanced_weights(LABELS, 3)
    assert weights.tolist() == pytest.approx([9 / 18, 9 / 6, 9 / 3])
    assert (weights * torch.bincount(LABELS)).tolist() == pytest.approx([3, 3, 3])


def test_a_class_without_images_has_a_finite_weight() -> None:
    assert balanced_weights(LABELS, 4).tolist() == pytest.approx([9 / 24, 9 / 8, 9 / 4, 9 / 4])


def test_the_loss_is_the_weighted_mean_of_the_cross_entropies() -> None:
    state = TrainingState(Hyperparameters(class_weights="balanced", weight_decay=0), classes=3)
    state.weigh_classes(LABELS)
    images = torch.randn(9, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        each = F.cross_entropy(state.model(images), LABELS, reduction="none")
    weights = torch.tensor([1, 1, 1, 1, 1, 1, 3, 3, 6.0])
    assert float(state.train_step(images, LABELS)[-1]) == pytest.approx(float((weights * each).sum() / weights.sum()))


def test_a_run_does_not_continue_with_other_class_weights(synthetic_dir: Path, tmp_path: Path) -> None:
    words = ("--data-dir", synthetic_dir, "--train-dir", tmp_path, "--batch-size", 16, "--device", "cpu")
    assert zoo("train", *words, "--max-steps", 2, "--class-weights", "balanced").returncode == 0
    result = zoo("train", *words, "--max-steps", 4)
    assert result.returncode == 1
    assert "--class-weights balanced, not none" in result.stderr
