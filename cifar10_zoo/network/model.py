"""The network of the tutorial's ``cifar10.inference()``: the same layers with the same names."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F

from cifar10_zoo.errors import OptionError

IMAGE_SIZES = (32, 48, 64, 96)
"""Heights and widths in pixels of the images that a network can be made for; CIFAR-10 has 32."""


def crop_size(image_size: int) -> int:
    """Return height and width of the network's input, the crops of the images: 24 for 32, as in the tutorial."""
    return image_size * 3 // 4


def pool2_size(image_size: int) -> int:
    """Return height and width of pool2: two poolings make a quarter of the crop, 6 for images of 32x32 pixels."""
    return crop_size(image_size) // 4


def image_size_of(local3_inputs: int) -> int:
    """Return the image size of the network whose local3 has ``local3_inputs``; 32, the default, if there is none."""
    return next((size for size in IMAGE_SIZES if 64 * pool2_size(size) ** 2 == local3_inputs), 32)


def scaled_count(count: int, image_size: int) -> int:
    """Return how many images of ``image_size`` need as much memory as ``count`` images of 32x32 pixels, at least 1."""
    return max(1, count * 32**2 // image_size**2)


def tutorial_name(parameter: str) -> str:
    """Return the tutorial's name of a parameter: ``conv1.weight`` -> ``conv1/weights``."""
    return parameter.replace(".weight", "/weights").replace(".bias", "/biases")


def require_image_size(size: int) -> None:
    """Raise OptionError if the network has no version for images of ``size`` x ``size`` pixels."""
    if size not in IMAGE_SIZES:
        raise OptionError(f"--image-size must be one of {', '.join(map(str, IMAGE_SIZES))}, not {size}")


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
    """conv1 pool1 norm1 conv2 norm2 pool2 local3 local4 softmax_linear: 1,068,298 parameters for CIFAR-10.

    Pooling is 3x3 with stride 2 and TensorFlow's SAME padding, which for even sizes pads only bottom and right, as
    ``ceil_mode`` does. The input features of ``local3`` are pool2, [N, 64, 6, 6], flattened in (channel, row,
    column) order; in the tutorial, the order is (row, column, channel). All shapes in comments are those for CIFAR-10.

    Args:
        seed: Seed of the initial weights.
        classes: Number of classes.
        image_size: Height and width in pixels of the images, one of ``IMAGE_SIZES``; the network's input is a crop.

    Raises:
        OptionError: The network has no version for ``image_size``.
    """

    def __init__(self, seed: int = 0, classes: int = 10, image_size: int = 32) -> None:
        super().__init__()
        require_image_size(image_size)
        self.classes, self.image_size = classes, image_size
        self.conv1 = nn.Conv2d(3, 64, kernel_size=5, padding=2)
        self.norm1 = LocalResponseNorm(64)
        self.conv2 = nn.Conv2d(64, 64, kernel_size=5, padding=2)
        self.norm2 = LocalResponseNorm(64)
        self.local3 = nn.Linear(64 * pool2_size(image_size) ** 2, 384)
        self.local4 = nn.Linear(384, 192)
        self.softmax_linear = nn.Linear(192, classes)
        self._initialize(torch.Generator().manual_seed(seed))
        # Trains 1.6 times as fast on a CPU as in the default memory format. PyTorch's annotations lack the argument.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _initialize(self, generator: torch.Generator) -> None:
        """Initialize biases with constants, weights from a normal distribution cut at two sigma (and not rescaled).

        The sigma of local3 is the tutorial's for images of 32x32 pixels. For larger images, local3 has more inputs and
        a smaller sigma, so that its outputs have the same standard deviation for all sizes.
        """
        local3_sigma = 0.04 * (pool2_size(32) / pool2_size(self.image_size))
        sigma_and_bias: list[tuple[nn.Conv2d | nn.Linear, float, float]] = [
            (self.conv1, 5e-2, 0.0),
            (self.conv2, 5e-2, 0.1),
            (self.local3, local3_sigma, 0.1),
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
            images: [N, 3, K, K] float32, standardized, K = ``crop_size(image_size)``.

        Returns:
            Post-activation outputs; the last one, ``softmax_linear``, is the logits [N, classes].
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

    def features_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output of local4 [N, 192] and the logits [N, classes] of ``images``, as ``forward`` takes them."""
        out = self.activations(images)
        return out["local4"], out["softmax_linear"]

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits [N, classes] of ``images`` [N, 3, K, K] float32, standardized."""
        return self.activations(images)["softmax_linear"]
