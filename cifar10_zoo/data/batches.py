"""Training batches. Seed and number determine a batch, so a checkpoint needs no state of a random generator.

Source: ``distorted_inputs()`` of ``cifar10_input.py``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cifar10_zoo.config import Hyperparameters
from cifar10_zoo.data.dataset import Dataset
from cifar10_zoo.data.rng import FIRST_FLIPS, ORDER, generator
from cifar10_zoo.data.strong_augmentation import (
    StrongAugmentation,
    augment_strongly,
    is_strong,
    sample_strong_augmentation,
)
from cifar10_zoo.data.transforms import Augmentation, augment, sample_augmentation


@dataclass(frozen=True)
class BatchSample:
    """The random choices of one batch of N images."""

    index: Tensor
    """[N] int64, positions of the images in the data set."""
    augmentation: Augmentation
    """The random parameters of the augmentation."""
    strong: StrongAugmentation | None = None
    """The random parameters of further augmentation; None if the recipe has none."""

    def to(self, device: torch.device) -> "BatchSample":
        """Return the same choices on ``device``."""
        return BatchSample.of([tensor.to(device) for tensor in self.tensors()])

    @classmethod
    def of(cls, tensors: Sequence[Tensor]) -> "BatchSample":
        """Return the sample of ``tensors``, in the order of ``tensors()``."""
        index, *others = tensors
        count = len(fields(Augmentation))
        strong = StrongAugmentation(*others[count:]) if len(others) > count else None
        return cls(index, Augmentation(*others[:count]), strong)

    def tensors(self) -> list[Tensor]:
        """Return all tensors: ``index``, then the fields of ``augmentation`` and of ``strong``."""
        return [self.index, *self.augmentation.tensors(), *(self.strong.tensors() if self.strong else [])]


class TrainingBatches:
    """The endless sequence of training batches of a data set, on the training device.

    Each epoch contains every image once, in a new random order. A batch may span two epochs.
    """

    def __init__(self, data: Dataset, hyperparameters: Hyperparameters, device: torch.device) -> None:
        self.images = data.images.to(device)
        self.labels = data.labels.to(device)
        self.classes = len(data.classes)
        self.hyperparameters = hyperparameters

    def batch(self, number: int) -> tuple[Tensor, Tensor]:
        """Return batch ``number``.

        Returns:
            Augmented images [batch_size, 3, K, K] float32, K = ``crop_size(S)``, and labels [batch_size] int64; with
            mixup, the labels are probabilities [batch_size, classes] float32.
        """
        return self.assemble(self.sample(number).to(self.images.device))

    def sample(self, number: int) -> BatchSample:
        """Return the random choices of batch ``number``, on the CPU."""
        recipe, count = self.hyperparameters, len(self.images)
        index = batch_indices(recipe.seed, number, recipe.batch_size, count)
        augmentation = sample_augmentation(
            recipe.seed, number, recipe.batch_size, self.images.shape[-1], recipe.distort_colors
        )
        if not recipe.mirror:
            augmentation = replace(augmentation, flip=torch.zeros(recipe.batch_size, dtype=torch.bool))
        elif recipe.alternate_flips:
            epochs = torch.from_numpy(_positions(number, recipe.batch_size) // count)
            augmentation = replace(augmentation, flip=alternating_flips(recipe.seed, index, epochs, count))
        size = self.images.shape[-1]
        strong = sample_strong_augmentation(recipe, number, size) if is_strong(recipe) else None
        return BatchSample(index, augmentation, strong)

    def assemble(self, sample: BatchSample) -> tuple[Tensor, Tensor]:
        """Return the images and labels of ``sample``, which is on the training device, as ``batch`` does."""
        images, labels = self.images[sample.index], self.labels[sample.index]
        if sample.strong is None:
            return augment(images, sample.augmentation), labels
        recipe = self.hyperparameters
        return augment_strongly(images, labels, sample.augmentation, sample.strong, recipe, self.classes)


class LazyBatch:
    """Batch ``number`` of ``batches``, built once, on first use.

    With a CUDA graph, only summaries use the tensors, because the graph assembles its own batches.
    """

    def __init__(self, batches: TrainingBatches, number: int) -> None:
        self.number = number
        self._batches = batches

    @property
    def images(self) -> Tensor:
        """[batch_size, 3, K, K] float32, augmented and standardized."""
        return self._tensors[0]

    @property
    def labels(self) -> Tensor:
        """[batch_size] int64; with mixup, [batch_size, classes] float32."""
        return self._tensors[1]

    @cached_property
    def _tensors(self) -> tuple[Tensor, Tensor]:
        return self._batches.batch(self.number)


def batch_indices(seed: int, number: int, batch_size: int, count: int) -> Tensor:
    """Return the positions in the data set of the images in batch ``number``, [batch_size] int64.

    Args:
        seed: The seed of the run.
        number: Number of the batch, from 0.
        batch_size: Images per batch.
        count: Number of images in the data set.
    """
    position = _positions(number, batch_size)
    epoch = position // count
    orders = np.stack([_order_of_epoch(seed, int(e), count) for e in range(epoch[0], epoch[-1] + 1)])
    return torch.from_numpy(orders[epoch - epoch[0], position % count])


def alternating_flips(seed: int, index: Tensor, epochs: Tensor, count: int) -> Tensor:
    """Return whether each image is mirrored: at random in epoch 0, then in every other epoch.

    The network sees both mirror images of every image in any two successive epochs. Independent random flips would
    show half of the images twice in the same way.

    Args:
        seed: The seed of the run.
        index: Positions of the images in the data set, [N] int64.
        epochs: The epoch of each image, [N] int64.
        count: Number of images in the data set.

    Returns:
        [N] bool.

    Source: Jordan 2024, https://arxiv.org/abs/2404.00498, section 3.6.
    """
    return _first_flips(seed, count)[index] ^ (epochs % 2 == 1)


def _positions(number: int, batch_size: int) -> NDArray[np.int64]:
    """Return the positions of the images of batch ``number`` in the endless sequence of epochs, [batch_size]."""
    return np.arange(number * batch_size, (number + 1) * batch_size)


@lru_cache(maxsize=2)  # a batch may span two epochs
def _order_of_epoch(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return generator(seed, ORDER, epoch).permutation(count)


@lru_cache(maxsize=1)
def _first_flips(seed: int, count: int) -> Tensor:
    return torch.from_numpy(generator(seed, FIRST_FLIPS, 0).random(count) < 0.5)
