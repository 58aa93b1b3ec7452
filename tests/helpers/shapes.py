"""Data sets of any number of classes and image size: each class is a color, so that a network learns it in seconds."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from cifar10_zoo import image_folders
from cifar10_zoo.config import Hyperparameters
from cifar10_zoo.data.batches import TrainingBatches
from cifar10_zoo.data.dataset import Dataset
from cifar10_zoo.training.checkpoint import Checkpoint
from cifar10_zoo.training.state import TrainingState

SHAPES = ((2, 48), (3, 32), (17, 64), (100, 96), (1000, 32))
"""Numbers of classes, each with an image size; together they have all sizes."""

Trained = Callable[[int, int], tuple[Checkpoint, Dataset]]
"""Returns the checkpoint of a short run for a number of classes and an image size, and the data of the run."""


def class_names(count: int) -> tuple[str, ...]:
    """Return ``count`` names, one of them with a comma, a space and a letter that is not ASCII."""
    return ("brûlée, crème", *(f"class-{number}" for number in range(1, count)))


def colored_images(classes: int, image_size: int, count: int, seed: int = 0) -> Dataset:
    """Return ``count`` noisy images of one color per class; each class has one image at least."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(count) % classes)
    palette = np.random.default_rng(classes).integers(30, 226, (classes, 3, 1, 1))
    noise = random.integers(-30, 31, (count, 3, image_size, image_size))
    images = torch.from_numpy((palette[labels] + noise).astype(np.uint8))
    return Dataset("custom", class_names(classes), images, torch.from_numpy(labels))


def write_folders(data: Dataset, folder: Path) -> Path:
    """Write ``data`` as class folders, both as the training images and as the test images; return ``folder``."""
    folder.mkdir()
    for part in ("train", "test"):
        image_folders.write(data, folder / part)
    return folder


def trained_state(data: Dataset, steps: int, hyperparameters: Hyperparameters) -> TrainingState:
    """Return the state of a run of ``steps`` steps on ``data``."""
    state = TrainingState(hyperparameters, classes=len(data.classes), image_size=data.images.shape[-1])
    batches = TrainingBatches(data, hyperparameters, state.device)
    for number in range(steps):
        state.train_step(*batches.batch(number))
    return state
