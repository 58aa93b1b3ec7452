"""Does an ONNX model give what PyTorch gives? Names first, then shapes, then values."""

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

from cifar10_export.graph import INPUT, OUTPUTS, ServingGraph
from cifar10_zoo.dataset import IMAGE_SHAPE, Dataset
from cifar10_zoo.errors import ZooError
from cifar10_zoo.evaluate import BATCH_SIZE, predict
from cifar10_zoo.model import NUM_CLASSES, Cifar10Net

BATCH_SIZES = (1, 2, 127)
RELATIVE_TOLERANCE = 1e-5
"""How far logits may be off, relative to the largest logit or to 1; probabilities, relative to 1."""


class VerificationError(ZooError):
    """The exported model does not do what the network does; the message says by how much."""


def verify(exported: onnx.ModelProto, model: Cifar10Net, data: Dataset | None) -> float | None:
    """Compare ``exported`` with ``model`` on random images and, where given, on all images of ``data``.

    Returns:
        Precision @ 1 of the exported model on ``data``, or None without data.

    Raises:
        VerificationError: a name, a shape, a value or the best class of any image differs.
    """
    session = onnxruntime.InferenceSession(exported.SerializeToString(), providers=["CPUExecutionProvider"])
    verify_names(session)
    for batch_size in BATCH_SIZES:
        verify_values(session, model, batch_size)
    return None if data is None else verify_best_classes(session, model, data)


def verify_names(session: onnxruntime.InferenceSession) -> None:
    """Input and output names and types follow the contract."""
    inputs = [(value.name, value.type) for value in session.get_inputs()]
    outputs = [(value.name, value.type) for value in session.get_outputs()]
    if inputs != [(INPUT, "tensor(uint8)")] or outputs != [(name, "tensor(float)") for name in OUTPUTS]:
        raise VerificationError(f"the exported model has inputs {inputs} and outputs {outputs}")


def verify_values(session: onnxruntime.InferenceSession, model: Cifar10Net, batch_size: int) -> None:
    """Shapes and values for a batch of random images equal PyTorch's."""
    channels, height, width = IMAGE_SHAPE
    random = np.random.default_rng(batch_size)
    images = random.integers(0, 256, (batch_size, height, width, channels), dtype=np.uint8)
    with torch.inference_mode():
        expected = [value.numpy() for value in ServingGraph(model)(torch.from_numpy(images))]
    for name, actual, wanted in zip(OUTPUTS, session.run(None, {INPUT: images}), expected, strict=True):
        if actual.shape != (batch_size, NUM_CLASSES):
            raise VerificationError(f"{name} has shape {actual.shape} for a batch of {batch_size}")
        difference = float(np.abs(actual - wanted).max())
        tolerance = RELATIVE_TOLERANCE * max(1.0, float(np.abs(wanted).max()))
        if not difference <= tolerance:
            raise VerificationError(
                f"{name} of a batch of {batch_size} differ from PyTorch by {difference:.3g}, more than {tolerance:.3g}"
            )


def verify_best_classes(session: onnxruntime.InferenceSession, model: Cifar10Net, data: Dataset) -> float:
    """The best class of every image equals PyTorch's; returns precision @ 1."""
    expected = predict(model, data.images).argmax(dim=1).numpy()
    actual = best_classes(session, data)
    if different := int((actual != expected).sum()):
        raise VerificationError(f"the best class of {different} of {len(expected)} images differs from PyTorch")
    return float((actual == data.labels.numpy()).mean())


def best_classes(session: onnxruntime.InferenceSession, data: Dataset) -> NDArray[np.int64]:
    """The class with the highest logit of each image, [N] int64."""
    batches = (np.ascontiguousarray(batch.permute(0, 2, 3, 1)) for batch in data.images.split(BATCH_SIZE))
    return np.concatenate([session.run([OUTPUTS[0]], {INPUT: batch})[0].argmax(axis=1) for batch in batches])
