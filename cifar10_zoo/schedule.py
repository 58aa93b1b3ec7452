"""The learning rate, a pure function of the step."""

from cifar10_zoo.config import Hyperparameters

EXAMPLES_PER_EPOCH = 50_000
"""NUM_EXAMPLES_PER_EPOCH_FOR_TRAIN of the tutorial."""


def decay_steps(hyperparameters: Hyperparameters) -> int:
    """Steps from one stair of the learning rate to the next: 136,718 for batches of 128."""
    batches_per_epoch = EXAMPLES_PER_EPOCH / hyperparameters.batch_size
    return max(1, int(batches_per_epoch * hyperparameters.num_epochs_per_decay))


def learning_rate(step: int, hyperparameters: Hyperparameters) -> float:
    """The rate of the update that follows ``step`` completed ones: a staircase of exponential decay.

    Source: ``tf.train.exponential_decay(..., staircase=True)`` in ``cifar10.train()``.
    """
    stairs = step // decay_steps(hyperparameters)
    return hyperparameters.initial_learning_rate * hyperparameters.learning_rate_decay_factor**stairs
