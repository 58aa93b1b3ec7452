"""The exponential moving average (EMA) of the weights; evaluation and export use the EMA weights."""

import torch
from torch import Tensor

from cifar10_zoo.network.batch_norm import named_tensors
from cifar10_zoo.network.model import Cifar10Net


def ema_decay(step: int, limit: float) -> float:
    """Return min(limit, (1 + step) / (10 + step)), the decay after ``step`` updates.

    The decay is small at first, so that the EMA soon forgets the initial weights.

    Source: ``tf.train.ExponentialMovingAverage(decay, num_updates)``.
    """
    return min(limit, (1 + step) / (10 + step))


class EmaWeights:
    """The EMA of each weight and running statistic of ``model``; initially equal to ``model``."""

    weights: dict[str, Tensor]
    """By the names in a checkpoint, as in ``named_tensors``."""

    def __init__(self, model: Cifar10Net) -> None:
        self.weights = {name: tensor.clone() for name, tensor in named_tensors(model).items()}

    @torch.no_grad()
    def update(self, model: Cifar10Net, ema_weight: Tensor) -> None:
        """Move the EMA toward the weights of ``model``.

        Args:
            model: The network after an update.
            ema_weight: 1 minus the decay, a scalar tensor.
        """
        for name, tensor in named_tensors(model).items():
            self.weights[name].lerp_(tensor, ema_weight)
