"""The loss and the moving averages of its terms."""

import torch
from torch import Tensor
from torch.nn import functional as F

from cifar10_zoo.config import Hyperparameters
from cifar10_zoo.network.model import Cifar10Net

LOSS_NAMES = ("cross_entropy", "local3/weight_loss", "local4/weight_loss", "total_loss")
"""The tutorial's names of the losses that ``losses`` returns, in order."""


def losses(model: Cifar10Net, logits: Tensor, labels: Tensor, hyperparameters: Hyperparameters) -> Tensor:
    """Return the terms of the loss, then their sum: the total loss that training minimizes.

    Args:
        model: The network; its dense weights are decayed.
        logits: [N, classes] float32.
        labels: [N] int64.
        hyperparameters: ``weight_decay`` and ``label_smoothing`` are used.

    Returns:
        [4] float32, in the order of ``LOSS_NAMES``.

    Source: ``cifar10.loss()`` and ``_variable_with_weight_decay()``.
    """
    terms = [F.cross_entropy(logits, labels, label_smoothing=hyperparameters.label_smoothing)]
    dense = (model.local3, model.local4)
    terms += [hyperparameters.weight_decay * layer.weight.square().sum() / 2 for layer in dense]
    return torch.stack([*terms, torch.stack(terms).sum()])


class LossAverages:
    """Exponential moving averages of the losses, initially 0 and without bias correction, as the tutorial logs them."""

    def __init__(self, decay: float, device: torch.device | str = "cpu") -> None:
        self.decay = decay
        self.values = torch.zeros(len(LOSS_NAMES), device=device)

    def update(self, losses: Tensor) -> None:
        """Update the averages with the losses [4] of one step."""
        self.values.lerp_(losses.detach(), 1 - self.decay)
