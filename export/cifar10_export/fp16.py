"""The network in float16, for GPUs."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from cifar10_zoo.network.model import Cifar10Net, LocalResponseNorm


class Fp16Net(nn.Module):
    """``model`` with float16 weights and activations; its input and output stay float32."""

    def __init__(self, model: Cifar10Net) -> None:
        super().__init__()
        self.model = deepcopy(model)
        for name, norm in (("norm1", model.norm1), ("norm2", model.norm2)):
            setattr(self.model, name, Fp16LocalResponseNorm(norm))
        self.model.half()

    def features_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return local4 [N, 192] and the logits [N, classes], float32, of ``images`` [N, 3, K, K] float32."""
        features, logits = self.model.features_and_logits(images.half())
        return features.float(), logits.float()


class Fp16LocalResponseNorm(nn.Module):
    """``norm`` for float16: it scales activations by sqrt(alpha) before it squares them.

    Without the scale, the square of an activation above 256 would exceed the float16 range.
    """

    def __init__(self, norm: LocalResponseNorm) -> None:
        super().__init__()
        self.scale = norm.alpha**0.5
        self.band = nn.Parameter(norm.band / norm.alpha, requires_grad=False)
        self.biases = nn.Parameter(norm.biases, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return x * d^-0.75 with d = biases + band * (scale * x)^2, for ``x`` [N, channels, H, W] float16."""
        scaled = x * self.scale
        d = nn.functional.conv2d(scaled * scaled, self.band, self.biases)
        return x / torch.sqrt(d * torch.sqrt(d))
