"""What ``torch.hub.load`` offers: the network of the TensorFlow CIFAR-10 tutorial, with weights.

network = torch.hub.load("DIRECTORY of this repository", "cifar10_cnn", source="local", pretrained=True)
to_input = torch.hub.load("DIRECTORY of this repository", "cifar10_input", source="local")
logits = network(to_input(images))  # images [N, 3, 32, 32] uint8 -> [N, 10] float32
"""

from collections.abc import Callable
from pathlib import Path

import onnx
import torch

from cifar10_zoo.data.transforms import evaluation_images
from cifar10_zoo.network.model import Cifar10Net

dependencies = ["onnx", "torch"]

_MODEL = Path(__file__).parent / "runtime" / "cifar10_runtime" / "models" / "fp32-direct.onnx"


def cifar10_cnn(pretrained: bool = False) -> Cifar10Net:
    """The network: [N, 3, 24, 24] float32, standardized, as ``cifar10_input`` makes them -> logits [N, 10] float32.

    Args:
        pretrained: with the weights of the model ``fp32`` (MODEL_CARD.md says what to expect), else with initial ones.
    """
    network = Cifar10Net()
    if pretrained:
        network.load_state_dict(_weights(_MODEL))
    return network.eval()


def cifar10_input() -> Callable[[torch.Tensor], torch.Tensor]:
    """The function that makes [N, 3, 24, 24] float32 for the network of images [N, 3, 32, 32] uint8 RGB."""
    return evaluation_images


def _weights(path: Path) -> dict[str, torch.Tensor]:
    """The parameters in an exported graph that computes everything directly: they keep their names there."""
    found = {tensor.name.removeprefix("network."): tensor for tensor in onnx.load(path).graph.initializer}
    return {
        name: torch.from_numpy(onnx.numpy_helper.to_array(found[name]).copy())
        for name, _ in Cifar10Net().named_parameters()
    }
