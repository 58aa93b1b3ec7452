"""Validation during a run: the accuracy on held-out training images, the best checkpoint, and early stopping."""

import math
from pathlib import Path

from cifar10_zoo.config import Hyperparameters
from cifar10_zoo.data.dataset import Dataset
from cifar10_zoo.errors import CheckpointError
from cifar10_zoo.tracking import history
from cifar10_zoo.training import checkpoint
from cifar10_zoo.training.checkpoint import Checkpoint
from cifar10_zoo.training.inference import top1_accuracy
from cifar10_zoo.training.state import TrainingState

FEWEST_STEPS = 100
"""Steps between two validations, at least: a small data set has epochs of a few steps."""


class Validation:
    """Validates the EMA weights after each epoch of the training images and after the last step.

    The results are in ``validations.csv``. Rows of later steps than the step of ``state`` are dropped, because the run
    takes these steps again.

    Args:
        train_dir: The directory of the run.
        state: The training state, at the step that the run continues with.
        data: The validation images.
        training_images: The number of training images.
        last_step: The number of completed steps at which the run ends.
    """

    def __init__(
        self, train_dir: Path, state: TrainingState, data: Dataset, training_images: int, last_step: int
    ) -> None:
        self._train_dir, self._state, self._data, self._last_step = train_dir, state, data, last_step
        self._interval = steps_between(state.hyperparameters, training_images)
        self._rows = [row for row in history.validations(train_dir) if row.step <= state.step]

    @property
    def is_due(self) -> bool:
        """Whether the run validates after the present step."""
        return self._state.step % self._interval == 0 or self._state.step == self._last_step

    @property
    def is_best(self) -> bool:
        """Whether no earlier validation was better than the last one."""
        return self._rows[-1].accuracy == max(row.accuracy for row in self._rows)

    def run(self) -> float:
        """Measure, record and return the accuracy."""
        accuracy = top1_accuracy(self._state.ema_model().to(self._state.device), self._data)
        self._rows.append(history.Validation(self._state.step, accuracy))
        history.write_validations(self._train_dir, self._rows)
        return accuracy

    def has_converged(self, patience: int) -> bool:
        """Return whether the last ``patience`` validations were all below the best one; False if ``patience`` is 0."""
        accuracies = [row.accuracy for row in self._rows]
        return 0 < patience < len(accuracies) and max(accuracies[-patience:]) < max(accuracies)


def steps_between(hyperparameters: Hyperparameters, training_images: int) -> int:
    """Return the steps between two validations: an epoch, but at least ``FEWEST_STEPS``."""
    return max(FEWEST_STEPS, math.ceil(training_images / (hyperparameters.batch_size * hyperparameters.num_gpus)))


def read_best(train_dir: Path) -> Checkpoint:
    """Return the checkpoint with the best validation accuracy.

    Raises:
        CheckpointError: The run has no validation, or the checkpoint cannot be read.
    """
    step = history.best_step(train_dir) if history.validations(train_dir) else None
    if step is None and checkpoint.latest(train_dir):
        raise CheckpointError(f"{train_dir} has no {history.VALIDATIONS}: train with --validation-fraction 0.1")
    return checkpoint.read_newest(train_dir) if step is None else checkpoint.read_step(train_dir, step)


def read_checkpoint(train_dir: Path, best: bool) -> Checkpoint:
    """Return the checkpoint with the best validation accuracy, or the newest one: the option ``--best`` of commands.

    Raises:
        CheckpointError: The checkpoint cannot be read, or ``best`` is set and the run has no validation.
    """
    return read_best(train_dir) if best else checkpoint.read_newest(train_dir)
