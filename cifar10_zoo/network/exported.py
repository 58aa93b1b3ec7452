"""Read the network and its weights back from an exported fp32 model, such as a bundled one of cifar10-infer."""

import json
from pathlib import Path

import torch
from torch import Tensor

from cifar10_zoo.errors import OptionError, ZooError
from cifar10_zoo.network.model import Cifar10Net
from cifar10_zoo.network.winograd import from_winograd


def read_exported(path: Path) -> tuple[Cifar10Net, tuple[str, ...]]:
    """Return the network of an exported model, in evaluation mode, and its class names in the order of the outputs.

    The outputs equal those of the exported network up to float32 rounding.

    Args:
        path: An .onnx file of ``cifar10_export`` with precision fp32, center crop or ten-crop.

    Raises:
        OptionError: The package onnx is not installed.
        ZooError: The file is not such a model.
        OSError: The file cannot be read.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError:
        raise OptionError("onnx is needed to read exported models: pip install 'cifar10-zoo[export]'") from None
    try:
        model = onnx.load_from_string(path.read_bytes())
        metadata = {entry.key: entry.value for entry in model.metadata_props}
        classes = tuple(map(str, json.loads(metadata["labels"])))
        image_size = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
        tensors = {
            tensor.name.removeprefix("network.").removeprefix("model."): onnx.numpy_helper.to_array(tensor)
            for tensor in model.graph.initializer
        }
        weights = {name: torch.from_numpy(values.copy()) for name, values in tensors.items()}
        if metadata["precision"] != "fp32":
            raise ValueError(f"its precision is {metadata['precision']}")
        if metadata["layout"] == "winograd":
            weights |= _direct_weights(weights, image_size)
        network = Cifar10Net(classes=len(classes), image_size=image_size)
        network.load_state_dict({name: weights[name] for name in network.state_dict()})
    except (DecodeError, IndexError, KeyError, RuntimeError, TypeError, ValueError, OptionError) as error:
        raise ZooError(f"{path} is not a model that cifar10_export wrote in fp32: {error!r}") from None
    return network.eval(), classes


def _direct_weights(weights: dict[str, Tensor], image_size: int) -> dict[str, Tensor]:
    """Return the weights of conv2 and local3 from the initializers of a graph with Winograd's algorithm."""
    kernels = torch.stack([weights[f"kernels.{product}"].squeeze(2) for product in range(8)])
    conv2, local3 = from_winograd(kernels, weights["local3"], image_size)
    return {"conv2.weight": conv2, "local3.weight": local3}
