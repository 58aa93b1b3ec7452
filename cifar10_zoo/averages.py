"""The exponential moving average of the weights, which evaluation and export use."""

import torch
from torch import Tensor, nn


def averaging_decay(step: int, limit: float) -> float:
    """The decay after ``step`` updates: small at first, so that the average soon forgets the initial weights.

    Source: ``tf.train.ExponentialMovingAverage(decay, num_updates)``.
    """
    return min(limit, (1 + step) / (10 + step))


class WeightAverages:
    """A moving average of each parameter of ``model``; starts equal to the parameters.

    Args:
        decay: upper limit of the decay per step.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights: dict[str, Tensor] = {name: p.detach().clone() for name, p in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the parameters of ``model`` after update number ``step`` (from 1)."""
        share = 1 - averaging_decay(step, self.decay)
        for name, parameter in model.named_parameters():
            self.weights[name].lerp_(parameter, share)
