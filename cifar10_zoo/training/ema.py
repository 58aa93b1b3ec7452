"""The exponential moving average of the weights, which evaluation and export use."""

import torch
from torch import Tensor, nn


def ema_decay(step: int, limit: float) -> float:
    """The decay after ``step`` updates: small at first, so that the average soon forgets the initial weights.

    Source: ``tf.train.ExponentialMovingAverage(decay, num_updates)``.
    """
    return min(limit, (1 + step) / (10 + step))


class EmaWeights:
    """A moving average of each tensor of ``model`` that a checkpoint holds; starts equal to it."""

    def __init__(self, model: nn.Module) -> None:
        self.weights: dict[str, Tensor] = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, share: Tensor) -> None:
        """Take in the weights of ``model`` after an update; ``share`` (a scalar) is 1 minus the decay."""
        for name, tensor in model.state_dict().items():
            self.weights[name].lerp_(tensor, share)
