"""Entry points for ``torch.hub.load``: the network of the TensorFlow CIFAR-10 tutorial, with weights.

network = torch.hub.load("CHECKOUT", "cifar10_cnn", source="local", pretrained=True)
to_input = torch.hub.load("CHECKOUT", "cifar10_input", source="local")
logits = network(to_input(images))  # images [N, 3, 32, 32] uint8 -> [N, 10] float32
"""

from collections.abc import Callable
from pathlib import Path

import torch

from cifar10_zoo.data.transforms import evaluation_images
from cifar10_zoo.network.exported import read_exported
from cifar10_zoo.network.model import Cifar10Net

dependencies = ["onnx", "torch"]

_MODEL = Path(__file__).parent / "runtime" / "cifar10_runtime" / "models" / "fp32-direct.onnx"


def cifar10_cnn(pretrained: bool | str = False, classes: int = 10, image_size: int = 32) -> Cifar10Net:
    """The network: [N, 3, K, K] float32, standardized by ``cifar10_input`` -> logits [N, classes] float32.

    Args:
        pretrained: ``True`` for the weights of the model ``fp32`` (see MODEL_CARD.md), or the path of a model that
            ``cifar10_export`` wrote in fp32, for its weights, classes and image size; otherwise the weights are freshly
            initialized.
        classes: Number of classes of a network without pretrained weights.
        image_size: Height and width of its images in pixels: 32, 48, 64 or 96. The network takes crops of 3/4 of it.
    """
    if pretrained:
        if (classes, image_size) != (10, 32):
            raise ValueError("pretrained weights have their own classes and image size: leave out both arguments")
        network, _ = read_exported(_MODEL if pretrained is True else Path(pretrained))
        return network
    return Cifar10Net(classes=classes, image_size=image_size).eval()


def cifar10_input() -> Callable[[torch.Tensor], torch.Tensor]:
    """The preprocessing: images [N, 3, S, S] uint8 RGB -> cropped and standardized, [N, 3, K, K] float32, K = 3/4 S."""
    return evaluation_images
