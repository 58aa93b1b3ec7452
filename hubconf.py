"""Entry points for ``torch.hub.load``: the network of the TensorFlow CIFAR-10 tutorial, with weights.

network = torch.hub.load("CHECKOUT", "cifar10_cnn", source="local", pretrained=True)
to_input = torch.hub.load("CHECKOUT", "cifar10_input", source="local")
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
    """The network: [N, 3, 24, 24] float32, standardized by ``cifar10_input`` -> logits [N, 10] float32.

    Args:
        pretrained: Whether to load the weights of the model ``fp32`` (see MODEL_CARD.md); otherwise the weights are
            freshly initialized.
    """
    network = Cifar10Net()
    if pretrained:
        network.load_state_dict(_weights(_MODEL, network))
    return network.eval()


def cifar10_input() -> Callable[[torch.Tensor], torch.Tensor]:
    """The preprocessing: images [N, 3, 32, 32] uint8 RGB -> cropped and standardized, [N, 3, 24, 24] float32."""
    return evaluation_images


def _weights(path: Path, network: Cifar10Net) -> dict[str, torch.Tensor]:
    """Read the parameters of ``network`` from an exported direct graph, in which they keep their names."""
    initializers = {tensor.name.removeprefix("network."): tensor for tensor in onnx.load(path).graph.initializer}
    return {
        name: torch.from_numpy(onnx.numpy_helper.to_array(initializers[name]).copy())
        for name, _ in network.named_parameters()
    }
