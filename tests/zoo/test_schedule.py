"""The triangular learning rate schedule; the golden tests cover the staircase."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifar10_zoo.recipes import MODERN
from cifar10_zoo.training.schedule import last_step, learning_rate


@given(epochs=st.floats(0.1, 300), batch_size=st.integers(2, 2048), num_gpus=st.integers(1, 8))
def test_the_triangular_schedule_rises_to_its_peak_and_falls_to_zero(
    epochs: float, batch_size: int, num_gpus: int
) -> None:
    recipe = replace(MODERN, epochs=epochs, batch_size=batch_size, num_gpus=num_gpus, initial_learning_rate=0.5)
    steps = last_step(recipe)
    assert steps == pytest.approx(epochs * 50_000 / batch_size / num_gpus, abs=1)
    peak = int(0.2 * steps)
    points = sorted({0, peak // 2, peak, (peak + steps) // 2, steps - 1})
    rates = [learning_rate(step, recipe) for step in points]
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert 0 < min(rates) <= max(rates) <= 0.5
    assert learning_rate(steps, recipe) == 0


@given(steps=st.integers(1, 200_000), batch_size=st.integers(2, 2048))
def test_epochs_that_are_the_quotient_of_a_number_of_steps_give_this_number(steps: int, batch_size: int) -> None:
    assert last_step(replace(MODERN, epochs=steps * batch_size / 50_000, batch_size=batch_size)) == steps
