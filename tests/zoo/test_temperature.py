"""Temperature scaling, against data whose temperature is known and a brute-force search."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from cifar10_zoo.training.temperature import temperature


def drawn_labels(logits: torch.Tensor, true_temperature: float) -> torch.Tensor:
    """Draw labels with the probabilities softmax(logits / true_temperature)."""
    generator = torch.Generator().manual_seed(1)
    return torch.multinomial((logits / true_temperature).softmax(1), 1, generator=generator)[:, 0]


@pytest.mark.parametrize("true_temperature", [0.4, 0.77, 1.0, 2.5])
def test_labels_drawn_at_a_temperature_give_this_temperature(true_temperature: float) -> None:
    logits = 2 * torch.randn(50_000, 10, generator=torch.Generator().manual_seed(0))

    assert temperature(logits, drawn_labels(logits, true_temperature)) == pytest.approx(true_temperature, rel=0.02)


@given(st.integers(20, 500), st.integers(2, 12), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_no_other_temperature_has_a_lower_cross_entropy(images: int, classes: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(images, classes, generator=generator)
    labels = torch.randint(classes, (images,), generator=generator)
    right = (images + 1) / (images + 2)
    targets = torch.full_like(logits, (1 - right) / (classes - 1)).scatter_(1, labels[:, None], right)

    found = temperature(logits, labels)

    grid = np.geomspace(0.05, 20, 200)
    losses = [float(F.cross_entropy(logits.double() / t, targets.double())) for t in [found, *grid]]
    assert losses[0] <= min(losses[1:]) + 1e-6


def test_only_right_answers_give_a_finite_confidence() -> None:
    logits = torch.tensor([[4.0, 0.0]] * 98)

    probability = float((logits / temperature(logits, torch.zeros(98, dtype=torch.int64))).softmax(1)[0, 0])

    assert probability == pytest.approx(99 / 100, abs=1e-6)  # Laplace: (98 + 1) / (98 + 2)


def test_probabilities_of_zero_are_allowed() -> None:
    logits = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.6, 0.4, 0.0]]).log()

    assert 0.05 <= temperature(logits, torch.tensor([0, 1, 1])) <= 20
