"""Compare starts of a training on held-out training images."""

import math
import sys
from dataclasses import replace

import torch

from cifar10_zoo.config import Hyperparameters
from cifar10_zoo.data.batches import TrainingBatches
from cifar10_zoo.data.dataset import IMAGE_SIZE, Dataset
from cifar10_zoo.training.device import DeviceChoice, choose_device
from cifar10_zoo.training.inference import top1_accuracy
from cifar10_zoo.training.pretrained import initialize
from cifar10_zoo.training.schedule import last_step
from cifar10_zoo.training.state import TrainingState

PRETRAINED = "modern"
HELD_OUT = 5
"""Every fifth training image is held out."""
SHARE = 10
"""A trial takes a tenth of the steps of the training."""


def better_start(recipe: Hyperparameters, data: Dataset, device: DeviceChoice = "auto") -> str | None:
    """Return ``modern`` if a short training is better with the trained weights that ship, else None.

    Better means: by more than one standard error of the accuracy on the held-out images.

    Args:
        recipe: The hyperparameters of the training.
        data: The training images; those of another size than the trained weights are not compared.
        device: The device that trains.
    """
    if data.images.shape[-1] != IMAGE_SIZE:
        return None
    held_out = torch.arange(len(data.images)) % HELD_OUT == 0
    part, rest = (replace(data, images=data.images[mask], labels=data.labels[mask]) for mask in (~held_out, held_out))
    short = replace(recipe, epochs=recipe.epochs / SHARE)
    scores = {start: _accuracy(replace(short, init_from=start), part, rest, device) for start in (PRETRAINED, None)}
    standard_error = math.sqrt(scores[None] * (1 - scores[None]) / len(rest.images))
    chosen = PRETRAINED if scores[PRETRAINED] > scores[None] + standard_error else None
    trained, new = f"{scores[PRETRAINED]:.3f} with the weights of {PRETRAINED}", f"{scores[None]:.3f} with new weights"
    print(
        f"accuracy on {len(rest.images)} held-out training images after step {last_step(short)}: {trained}, {new}; "
        f"starting with {f'the weights of {chosen}' if chosen else 'new weights'}",
        file=sys.stderr,
    )
    return chosen


def _accuracy(recipe: Hyperparameters, data: Dataset, held_out: Dataset, device: DeviceChoice) -> float:
    """Return the accuracy on the held-out images after a training without a record."""
    state = TrainingState(recipe, choose_device(device), classes=len(data.classes), image_size=data.images.shape[-1])
    state.weigh_classes(data.labels)
    initialize(state, data)
    batches = TrainingBatches(data, recipe, state.device)
    for number in range(last_step(recipe)):
        state.train_step(*batches.batch(number))
    return top1_accuracy(state.ema_model(), held_out)
