"""Export, open, inspect and damage models in tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

import onnx
import onnxruntime
import pytest

from cifar10_zoo.data.dataset import Dataset


@contextmanager
def few_verified() -> Iterator[None]:
    """While the block runs, an export compares only batches of one and two images with PyTorch: a second less."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(import_module("cifar10_export.verify"), "batch_sizes", lambda _: (1, 2))
        yield


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
