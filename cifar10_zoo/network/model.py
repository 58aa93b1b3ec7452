"""The network of the tutorial's ``cifar10.inference()``: the same layers with the same names."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F

NUM_CLASSES = 10
IMAGE_SIZE = 24
"""Height and width in pixels of the network's input: crops of the 32x32 images."""


def tutorial_name(parameter: str) -> str:
    """Return the tutorial's name of a parameter: ``conv1.weight`` -> ``conv1/weights``."""
    return parameter.replace(".weight", "/weights").replace(".bias", "/biases")


class LocalResponseNorm(nn.Module):
    """Local response normalization: y = x / (1 + 0.001/9 * s)^0.75, s = sum of the squares of the 9 nearest channels.

    Equals ``tf.nn.lrn(x, 4, bias=1.0, alpha=0.001 / 9.0, beta=0.75)`` to 1e-6. The sum over channels is a 1x1
    convolution with a banded kernel, and the power is a product of square roots. Both are plain, fast operations in
    PyTorch and in ONNX Runtime; the LRN operations of both libraries are neither plain nor fast.
    """

    radius = 4
    bias = 1.0
    alpha = 0.001 / 9.0

    band: Tensor
    biases: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        index = torch.arange(channels)
        near = (index[:, None] - index[None, :]).abs() <= self.radius
        self.register_buffer("band", (near * self.alpha)[:, :, None, None], persistent=False)
        self.register_buffer("biases", torch.full((channels,), self.bias), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Normalize ``x`` [N, channels, H, W] across channels; the result has the dtype of ``x``."""
        y: Tensor = _Normalize.apply(x, self.band.to(x.dtype), self.biases.to(x.dtype))  # type: ignore[no-untyped-call]
        return y


class _Normalize(torch.autograd.Function):
    """y = x * d^-0.75 with d = biases + band * x^2. The explicit gradient halves autograd's passes over memory."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, band: Tensor, biases: Tensor) -> Tensor:
        d = F.conv2d(x * x, band, biases)
        root = torch.rsqrt(d).to(x.dtype)  # on CUDA, autocast computes rsqrt in float32
        factor = root * torch.sqrt(root)  # d^-0.5 * d^-0.25
        ctx.save_for_backward(x, band, d, factor)
        return x * factor

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """dy/dx = d^-0.75 - 1.5 * x * band * (x * d^-1.75); the band is symmetric."""
        x, band, d, factor = ctx.saved_tensors
        direct = gradients[0] * factor
        indirect = F.conv2d((direct * x).div_(d), band).mul_(x)
        return direct.sub_(indirect, alpha=1.5), None, None


class Cifar10Net(nn.Module):
    """conv1 pool1 norm1 conv2 norm2 pool2 local3 local4 softmax_linear: 1,068,298 parameters.

    Pooling is 3x3 with stride 2 and TensorFlow's SAME padding, which for even sizes pads only bottom and right, as
    ``ceil_mode`` does. The input features of ``local3`` are pool2 [N, 64, 6, 6], flattened in (channel, row, column)
    order; in the tutorial, the order is (row, column, channel).

    Args:
        seed: Seed of the initial weights.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, kernel_size=5, padding=2)
        self.norm1 = LocalResponseNorm(64)
        self.conv2 = nn.Conv2d(64, 64, kernel_size=5, padding=2)
        self.norm2 = LocalResponseNorm(64)
        self.local3 = nn.Linear(64 * 6 * 6, 384)
        self.local4 = nn.Linear(384, 192)
        self.softmax_linear = nn.Linear(192, NUM_CLASSES)
        self._initialize(torch.Generator().manual_seed(seed))
        # Trains 1.6 times as fast on a CPU as in the default memory format. PyTorch's annotations lack the argument.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _initialize(self, generator: torch.Generator) -> None:
        """Initialize biases with constants, weights from a normal distribution cut at two sigma (and not rescaled)."""
        sigma_and_bias: list[tuple[nn.Conv2d | nn.Linear, float, float]] = [
            (self.conv1, 5e-2, 0.0),
            (self.conv2, 5e-2, 0.1),
            (self.local3, 0.04, 0.1),
            (self.local4, 0.04, 0.1),
            (self.softmax_linear, 1 / 192, 0.0),
        ]
        for layer, sigma, bias in sigma_and_bias:
            nn.init.trunc_normal_(layer.weight, std=sigma, a=-2 * sigma, b=2 * sigma, generator=generator)
            assert layer.bias is not None
            nn.init.constant_(layer.bias, bias)

    def activations(self, images: Tensor) -> dict[str, Tensor]:
        """Return the output of every layer, by name, in the order of the layers.

        Args:
            images: [N, 3, 24, 24] float32, standardized.

        Returns:
            Post-activation outputs; the last one, ``softmax_linear``, is the logits [N, 10].
        """
        out: dict[str, Tensor] = {}
        x = out["conv1"] = F.relu(self.conv1(images))  # [N, 64, 24, 24]
        x = out["pool1"] = F.max_pool2d(x, 3, stride=2, ceil_mode=True)  # [N, 64, 12, 12]
        x = out["norm1"] = self.norm1(x)
        x = out["conv2"] = F.relu(self.conv2(x))  # [N, 64, 12, 12]
        x = out["norm2"] = self.norm2(x)
        x = out["pool2"] = F.max_pool2d(x, 3, stride=2, ceil_mode=True)  # [N, 64, 6, 6]
        x = out["local3"] = F.relu(self.local3(x.flatten(1)))  # [N, 384]
        x = out["local4"] = F.relu(self.local4(x))  # [N, 192]
        out["softmax_linear"] = self.softmax_linear(x)  # [N, 10]
        return out

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits [N, 10] of ``images`` [N, 3, 24, 24] float32, standardized."""
        return self.activations(images)["softmax_linear"]
