"""The loss and its moving averages."""

import torch
from torch import Tensor
from torch.nn import functional as F

from cifar10_zoo.model import Cifar10Net

LOSS_NAMES = ("cross_entropy", "local3/weight_loss", "local4/weight_loss", "total_loss")
"""The losses that ``losses`` returns, in order, by the tutorial's names."""


def losses(model: Cifar10Net, logits: Tensor, labels: Tensor, weight_decay: float) -> Tensor:
    """The terms of the loss and, last, their sum, the total loss that training minimizes.

    Args:
        logits: [N, 10] float32.
        labels: [N] int64.
        weight_decay: factor of sum(w^2)/2 of the weights of local3 and of local4.

    Returns:
        [4] float32, in the order of ``LOSS_NAMES``.

    Source: ``cifar10.loss()`` and ``_variable_with_weight_decay()``.
    """
    terms = [F.cross_entropy(logits, labels)]
    terms += [weight_decay * layer.weight.square().sum() / 2 for layer in (model.local3, model.local4)]
    return torch.stack([*terms, torch.stack(terms).sum()])


class LossAverages:
    """Exponential moving averages of the losses, from 0 and without bias correction, as the tutorial logs them."""

    def __init__(self, decay: float, device: torch.device | str = "cpu") -> None:
        self.decay = decay
        self.values = torch.zeros(len(LOSS_NAMES), device=device)

    def update(self, losses: Tensor) -> None:
        """Take in the losses [4] of one step."""
        self.values.lerp_(losses.detach(), 1 - self.decay)
