"""The loss and the moving averages of its terms."""

import torch
from torch import Tensor
from torch.nn import functional as F

from cifar10_zoo.config import Hyperparameters
from cifar10_zoo.network.model import Cifar10Net

LOSS_NAMES = ("cross_entropy", "local3/weight_loss", "local4/weight_loss", "total_loss")
"""The tutorial's names of the losses that ``losses`` returns, in order."""


def losses(
    model: Cifar10Net,
    logits: Tensor,
    labels: Tensor,
    hyperparameters: Hyperparameters,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Return the terms of the loss, then their sum: the total loss that training minimizes.

    Args:
        model: The network; its dense weights are decayed.
        logits: [N, classes] float32.
        labels: [N] int64, or probabilities [N, classes] float32.
        hyperparameters: ``weight_decay`` and ``label_smoothing`` are used.
        class_weights: [classes] float32; the cross entropy is the weighted mean over the images. None weighs all alike.

    Returns:
        [4] float32, in the order of ``LOSS_NAMES``.

    Source: ``cifar10.loss()`` and ``_variable_with_weight_decay()``.
    """
    terms = [cross_entropy(logits, labels, class_weights, hyperparameters.label_smoothing)]
    dense = (model.local3, model.local4)
    terms += [hyperparameters.weight_decay * layer.weight.square().sum() / 2 for layer in dense]
    return torch.stack([*terms, torch.stack(terms).sum()])


def cross_entropy(logits: Tensor, labels: Tensor, class_weights: Tensor | None, label_smoothing: float) -> Tensor:
    """Return the mean cross entropy; the arguments are those of ``losses``."""
    if class_weights is None or not labels.is_floating_point():
        return F.cross_entropy(logits, labels, class_weights, label_smoothing=label_smoothing)
    # For probabilities, PyTorch divides by N instead of the sum of the weights.
    total = F.cross_entropy(logits, labels, class_weights, reduction="sum", label_smoothing=label_smoothing)
    return total / (labels @ class_weights).sum()


def balanced_weights(labels: Tensor, classes: int) -> Tensor:
    """Return a weight per class, inversely proportional to its number of images; their mean over all images is 1.

    Args:
        labels: [N] int64. A class without an image gets the weight of a class with one image.
        classes: The number of classes.

    Returns:
        N / (classes * images of the class), [classes] float32.
    """
    return len(labels) / (classes * torch.bincount(labels, minlength=classes).clamp(min=1)).float()


class LossAverages:
    """Exponential moving averages of the losses, initially 0 and without bias correction, as the tutorial logs them."""

    def __init__(self, decay: float, device: torch.device | str = "cpu") -> None:
        self.decay = decay
        self.values = torch.zeros(len(LOSS_NAMES), device=device)

    def update(self, losses: Tensor) -> None:
        """Update the averages with the losses [4] of one step."""
        self.values.lerp_(losses.detach(), 1 - self.decay)
