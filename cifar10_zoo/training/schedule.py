"""The learning rate, a pure function of the step."""

import sys

from cifar10_zoo.config import Hyperparameters

EXAMPLES_PER_EPOCH = 50_000
"""NUM_EXAMPLES_PER_EPOCH_FOR_TRAIN of the tutorial."""
WARM_UP = 0.2
"""Share of a triangle in which the rate rises."""


def decay_steps(hyperparameters: Hyperparameters) -> int:
    """Steps from one stair to the next: 136,718 for batches of 128, however many processes train."""
    batches_per_epoch = EXAMPLES_PER_EPOCH / hyperparameters.batch_size
    return max(1, int(batches_per_epoch * hyperparameters.num_epochs_per_decay))


def last_step(hyperparameters: Hyperparameters) -> int:
    """The step at which all epochs are over, if there is an end to them."""
    if not hyperparameters.epochs:
        return sys.maxsize
    images_per_step = hyperparameters.batch_size * hyperparameters.num_gpus
    return max(1, int(EXAMPLES_PER_EPOCH / images_per_step * hyperparameters.epochs))


def learning_rate(step: int, hyperparameters: Hyperparameters) -> float:
    """The rate of the update that follows ``step`` completed ones.

    Source of the staircase: ``tf.train.exponential_decay(..., staircase=True)`` in ``cifar10.train()``.
    """
    if hyperparameters.schedule == "triangle":
        return hyperparameters.initial_learning_rate * _triangle(step, last_step(hyperparameters))
    stairs = step // decay_steps(hyperparameters)
    return hyperparameters.initial_learning_rate * hyperparameters.learning_rate_decay_factor**stairs


def _triangle(step: int, steps: int) -> float:
    """From near 0 to 1 at the end of the warm-up, and back to near 0 in the last step."""
    warm_up = WARM_UP * steps
    return max(0.0, min((step + 1) / (warm_up + 1), (steps - step) / (steps - warm_up)))
