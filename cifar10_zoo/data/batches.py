"""Which images are in batch k, and the training batches themselves.

A batch is a pure function of the seed and its number: resuming needs no saved generator state.
"""

from dataclasses import replace
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor

from cifar10_zoo.config import Hyperparameters
from cifar10_zoo.data.cifar10 import Dataset
from cifar10_zoo.data.rng import FIRST_FLIPS, ORDER, generator
from cifar10_zoo.data.transforms import Augmentation, augment, sample_augmentation, to_device


class TrainingBatches:
    """The endless sequence of training batches of a data set, on the device that trains.

    Every image comes once an epoch, in an order of its own for each epoch. A batch may span two epochs.
    """

    def __init__(self, data: Dataset, hyperparameters: Hyperparameters, device: torch.device) -> None:
        self.images = data.images.to(device)
        self.labels = data.labels.to(device)
        self.hyperparameters = hyperparameters

    def batch(self, number: int) -> tuple[Tensor, Tensor]:
        """Images [batch_size, 3, 24, 24] float32, distorted, and labels [batch_size] int64 of batch ``number``."""
        return self.assemble(self.draw(number))

    def draw(self, number: int) -> tuple[Tensor, Augmentation]:
        """What chance decides of a batch: which images [batch_size] int64, and what happens to each."""
        recipe, count = self.hyperparameters, len(self.images)
        index = batch_indices(recipe.seed, number, recipe.batch_size, count)
        distortions = sample_augmentation(
            recipe.seed, number, recipe.batch_size, self.images.shape[-1], recipe.distort_colors
        )
        if recipe.alternate_flips:
            epochs = _positions(number, recipe.batch_size) // count
            flip = alternating_flips(recipe.seed, index, torch.from_numpy(epochs), count)
            distortions = replace(distortions, flip=flip)
        return to_device(index, self.images.device), distortions.to(self.images.device)

    def assemble(self, drawn: tuple[Tensor, Augmentation]) -> tuple[Tensor, Tensor]:
        """The batch that was drawn; all of it happens on the device."""
        index, distortions = drawn
        return augment(self.images[index], distortions), self.labels[index]


class LazyBatch:
    """Batch ``number`` of ``batches``, built once, on first use.

    A CUDA graph builds its batches itself: there only summaries use the images.
    """

    def __init__(self, batches: TrainingBatches, number: int) -> None:
        self.number = number
        self._batches = batches

    @property
    def images(self) -> Tensor:
        """[batch_size, 3, 24, 24] float32, augmented and standardized."""
        return self._tensors[0]

    @property
    def labels(self) -> Tensor:
        """[batch_size] int64."""
        return self._tensors[1]

    @cached_property
    def _tensors(self) -> tuple[Tensor, Tensor]:
        return self._batches.batch(self.number)


def batch_indices(seed: int, number: int, batch_size: int, count: int) -> Tensor:
    """Which of ``count`` images are in batch ``number``: [batch_size] int64."""
    position = _positions(number, batch_size)
    epoch = position // count
    orders = np.stack([_order_of_epoch(seed, int(e), count) for e in range(epoch[0], epoch[-1] + 1)])
    return torch.from_numpy(orders[epoch - epoch[0], position % count])


def _positions(number: int, batch_size: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Where the images of a batch stand in the endless sequence of epochs."""
    return np.arange(number * batch_size, (number + 1) * batch_size)


@lru_cache(maxsize=2)
def _order_of_epoch(seed: int, epoch: int, count: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return generator(seed, ORDER, epoch).permutation(count)


@lru_cache(maxsize=1)
def _first_flips(seed: int, count: int) -> Tensor:
    return torch.from_numpy(generator(seed, FIRST_FLIPS, 0).random(count) < 0.5)


def alternating_flips(seed: int, index: Tensor, epochs: Tensor, count: int) -> Tensor:
    """Whether image ``index`` [N] of ``count`` is mirrored in its epoch [N]: by chance in the first, then in turns.

    In two epochs the network sees each image both ways, where chance would show every other twice the same.
    Source: Jordan 2024, https://arxiv.org/abs/2404.00498, section 3.6.
    """
    return _first_flips(seed, count)[index] ^ (epochs % 2 == 1)
