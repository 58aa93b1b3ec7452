"""Open, inspect and damage exported models in tests."""

import onnx
import onnxruntime

from cifar10_zoo.data.dataset import Dataset


def session(content: bytes) -> onnxruntime.InferenceSession:
    """Return a CPU session of an exported model."""
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])


def metadata_of(content: bytes) -> dict[str, str]:
    """Return the metadata of an exported model."""
    return {entry.key: entry.value for entry in onnx.load_from_string(content).metadata_props}


def negate_last_layer(content: bytes) -> bytes:
    """Return the model with negated weights in its last layer: the top-1 class becomes the least probable class."""
    model = onnx.load_from_string(content)
    last = next(tensor for tensor in model.graph.initializer if sorted(tensor.dims) == [10, 192])
    last.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(last), last.name))
    negated: bytes = model.SerializeToString()
    return negated


def first(count: int, data: Dataset) -> Dataset:
    """Return the first ``count`` images, for tests whose result does not depend on the number of images."""
    return Dataset(data.name, data.classes, data.images[:count], data.labels[:count])
