"""Compare starts of a training on its validation images."""

import math
import sys
from dataclasses import replace

from cifar10_zoo.config import Hyperparameters
from cifar10_zoo.data.batches import TrainingBatches
from cifar10_zoo.data.dataset import IMAGE_SIZE, Dataset
from cifar10_zoo.training.device import DeviceChoice, choose_device
from cifar10_zoo.training.inference import top1_accuracy
from cifar10_zoo.training.pretrained import initialize
from cifar10_zoo.training.schedule import last_step
from cifar10_zoo.training.state import TrainingState

PRETRAINED = "modern"
SHARE = 10
FEWEST_STEPS = 200
"""A trial takes a tenth of the steps of the training, but at least 200 of them: before, trained weights are often
ahead although new weights become as good."""
FEW = 100
"""With fewer validation images, the standard error of an accuracy is up to 0.05."""


def better_start(
    recipe: Hyperparameters, training: Dataset, validation: Dataset, device: DeviceChoice = "auto"
) -> str | None:
    """Return ``modern`` if a short training is better with the trained weights that ship, else None.

    Better means: by more than one standard error of the accuracy on the validation images.

    Args:
        recipe: The hyperparameters of the training.
        training: The images to train with; images of another size than the trained weights are not compared.
        validation: The images to compare with; without any, nothing is compared.
        device: The device that trains.
    """
    if training.images.shape[-1] != IMAGE_SIZE or not len(validation.images):
        return None
    short = replace(recipe, epochs=recipe.epochs * trial_steps(last_step(recipe)) / last_step(recipe))
    starts = (PRETRAINED, None)
    scores = {start: _accuracy(replace(short, init_from=start), training, validation, device) for start in starts}
    few = " (too few to decide reliably)" if len(validation.images) < FEW else ""
    standard_error = math.sqrt(scores[None] * (1 - scores[None]) / len(validation.images))
    chosen = PRETRAINED if scores[PRETRAINED] > scores[None] + standard_error else None
    trained, new = f"{scores[PRETRAINED]:.3f} with the weights of {PRETRAINED}", f"{scores[None]:.3f} with new weights"
    print(
        f"accuracy on {len(validation.images)} validation images{few} after step {last_step(short)}: {trained}, {new}; "
        f"starting with {f'the weights of {chosen}' if chosen else 'new weights'}",
        file=sys.stderr,
    )
    return chosen


def trial_steps(steps: int) -> int:
    """Return the steps of the trial for a training of ``steps``."""
    return min(steps, max(FEWEST_STEPS, steps // SHARE))


def _accuracy(recipe: Hyperparameters, data: Dataset, validation: Dataset, device: DeviceChoice) -> float:
    """Return the accuracy on the validation images after a training without a record."""
    state = TrainingState(recipe, choose_device(device), classes=len(data.classes), image_size=data.images.shape[-1])
    state.weigh_classes(data.labels)
    initialize(state, data)
    batches = TrainingBatches(data, recipe, state.device)
    for number in range(last_step(recipe)):
        state.train_step(*batches.batch(number))
    return top1_accuracy(state.ema_model(), validation)
