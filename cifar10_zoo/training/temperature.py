"""Temperature scaling: one number T makes the probabilities softmax(logits / T) agree with the accuracy.

Source: Guo et al. 2017, https://arxiv.org/abs/1706.04599, section 4.2.
"""

import math

import torch
from torch import Tensor

from cifar10_zoo.data.dataset import Dataset
from cifar10_zoo.network.model import Cifar10Net
from cifar10_zoo.training import inference
from cifar10_zoo.training.inference import Views

_LIMITS = (0.05, 20.0)
_BISECTIONS = 50


def temperatures(model: Cifar10Net, data: Dataset) -> dict[int, float]:
    """Return the temperature for one crop per image and for ten, by this number, with three decimals.

    Args:
        model: The network in evaluation mode; it computes on its own device.
        data: Images that the network was not trained on.
    """
    views: tuple[Views, ...] = (1, 10)
    logits = {crops: inference.logits(model, data.images, crops) for crops in views}
    return {crops: round(temperature(values, data.labels), 3) for crops, values in logits.items()}


def temperature(logits: Tensor, labels: Tensor) -> float:
    """Return the T between 0.05 and 20 that minimizes the mean cross-entropy of softmax(logits / T).

    The cross-entropy is convex in b = 1 / T, and its derivative is the mean of E_p[z] - E_t[z]: the expectations of a
    logit z under the probabilities p = softmax(b z) and under the targets t. Bisection finds its zero. A target is
    slightly below 1, (N + 1) / (N + 2), because T would be 0 if all answers were right.

    Args:
        logits: [N, classes] float32.
        labels: [N] int64.

    Source of the targets: Platt 1999, "Probabilistic outputs for support vector machines", section 2.2.
    """
    z = logits.double().clamp(min=-1e3)  # the logarithm of a probability of 0 is infinite
    right = (len(z) + 1) / (len(z) + 2)
    targets = torch.full_like(z, (1 - right) / (z.shape[1] - 1)).scatter_(1, labels[:, None], right)
    wanted = (targets * z).sum(1).mean()
    low, high = (math.log(1 / limit) for limit in reversed(_LIMITS))
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        expected = ((math.exp(middle) * z).softmax(1) * z).sum(1).mean()
        low, high = (low, middle) if expected > wanted else (middle, high)
    return math.exp(-low)
