"""The learning rate, a pure function of the step."""

import sys

from cifar10_zoo.config import Hyperparameters

EXAMPLES_PER_EPOCH = 50_000
"""NUM_EXAMPLES_PER_EPOCH_FOR_TRAIN of the tutorial."""
WARM_UP = 0.2
"""Fraction of a triangular schedule in which the learning rate rises."""


def decay_steps(hyperparameters: Hyperparameters) -> int:
    """Return the steps between two decays of the staircase schedule, for one process or several.

    The tutorial decays every 136,718 steps of batches of 128.
    """
    batches_per_epoch = EXAMPLES_PER_EPOCH / hyperparameters.batch_size
    return max(1, int(batches_per_epoch * hyperparameters.num_epochs_per_decay))


def last_step(hyperparameters: Hyperparameters) -> int:
    """Return the step at which the last epoch ends, or ``sys.maxsize`` if ``epochs`` is 0."""
    if not hyperparameters.epochs:
        return sys.maxsize
    images = round(EXAMPLES_PER_EPOCH * hyperparameters.epochs, 6)  # epochs may be the quotient of a number of steps
    return max(1, int(images // (hyperparameters.batch_size * hyperparameters.num_gpus)))


def learning_rate(step: int, hyperparameters: Hyperparameters) -> float:
    """Return the learning rate of the update that follows ``step`` completed updates.

    Source of the staircase: ``tf.train.exponential_decay(..., staircase=True)`` in ``cifar10.train()``.
    """
    if hyperparameters.schedule == "triangle":
        return hyperparameters.initial_learning_rate * _triangle(step, last_step(hyperparameters))
    decays = step // decay_steps(hyperparameters)
    return hyperparameters.initial_learning_rate * hyperparameters.learning_rate_decay_factor**decays


def _triangle(step: int, steps: int) -> float:
    """Return the factor of a triangular schedule: it rises from near 0 to 1, then falls to near 0 in the last step."""
    warm_up = WARM_UP * steps
    return max(0.0, min((step + 1) / (warm_up + 1), (steps - step) / (steps - warm_up)))
