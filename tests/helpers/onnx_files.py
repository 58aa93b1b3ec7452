"""Exported models as the tests open and break them."""

import onnx
import onnxruntime

from cifar10_zoo.data.cifar10 import Dataset


def session(content: bytes) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])


def metadata_of(content: bytes) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load_from_string(content).metadata_props}


def negate_last_layer(content: bytes) -> bytes:
    """The model with negated weights in its last layer: the top-1 prediction becomes the last one."""
    model = onnx.load_from_string(content)
    last = next(tensor for tensor in model.graph.initializer if sorted(tensor.dims) == [10, 192])
    last.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(last), last.name))
    negated: bytes = model.SerializeToString()
    return negated


def first(count: int, data: Dataset) -> Dataset:
    """The first ``count`` images, for tests whose outcome does not depend on the number of images."""
    return Dataset(data.name, data.classes, data.images[:count], data.labels[:count])
