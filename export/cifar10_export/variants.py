"""The variants of a network that can be exported, and ``build``, which makes the serving graph of each."""

from dataclasses import dataclass
from typing import Literal

import onnx
from torch import Tensor

from cifar10_export.fp16 import Fp16Net
from cifar10_export.graph import Network, ServingGraph, to_onnx
from cifar10_export.quantize import quantize
from cifar10_export.winograd import WinogradNet
from cifar10_zoo.errors import OptionError
from cifar10_zoo.network.model import Cifar10Net

Precision = Literal["fp32", "fp16", "int8"]
Conv2Algorithm = Literal["winograd", "direct"]


@dataclass(frozen=True)
class Variant:
    """One way to compute a network.

    Raises:
        OptionError: No graph computes this combination; the message names the command's flags.
    """

    precision: Precision = "fp32"
    """The type that convolutions and dense layers compute in."""
    conv2_algorithm: Conv2Algorithm = "winograd"
    """How conv2 is computed: ``winograd`` (only fp32) is faster on CPUs, ``direct`` on GPUs."""
    ten_crop: bool = False
    """Whether the graph averages ten crops per image (fp32 and fp16), or classifies the center crop."""
    temperature: float = 1.0
    """T in probabilities = softmax(logits / T)."""

    def __post_init__(self) -> None:
        if self.precision != "fp32" and self.conv2_algorithm == "winograd":
            raise OptionError(f"--layout winograd is for --precision fp32, not {self.precision}: name --layout direct")
        if self.precision == "int8" and self.ten_crop:
            raise OptionError("--views 10 is for --precision fp32 or fp16, not int8: name one of them, or --views 1")


def default_conv2_algorithm(precision: Precision) -> Conv2Algorithm:
    """Return the algorithm that is fastest on a CPU, among the algorithms for ``precision``."""
    return "winograd" if precision == "fp32" else "direct"


def build(model: Cifar10Net, variant: Variant, calibration_images: Tensor | None = None) -> onnx.ModelProto:
    """Build the serving graph of ``model``, without metadata.

    Args:
        model: The network with the weights to export, in evaluation mode on the CPU.
        variant: How the graph computes; both algorithms of conv2 give equal numbers up to float32 rounding.
        calibration_images: Training images [N, 3, S, S] uint8; int8 needs them, the other variants ignore them.

    Raises:
        ValueError: ``variant`` is int8, and there are no ``calibration_images``.
    """
    if variant.precision == "int8":
        if calibration_images is None:
            raise ValueError("int8 is calibrated on training images: pass calibration_images")
        return quantize(model, calibration_images, variant.temperature)
    if variant.precision == "fp16":
        return to_onnx(serving_graph(Fp16Net(model), variant, model.image_size))
    network: Network = WinogradNet(model) if variant.conv2_algorithm == "winograd" else model
    return to_onnx(serving_graph(network, variant, model.image_size))


def serving_graph(network: Network, variant: Variant, image_size: int) -> ServingGraph:
    """Return the serving graph of ``network`` in PyTorch, with the crops and the temperature of ``variant``."""
    return ServingGraph(network, variant.ten_crop, image_size, variant.temperature)
