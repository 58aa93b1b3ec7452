"""Does an ONNX model give what PyTorch gives? Names first, then shapes, then values, then the accuracy."""

from typing import Literal

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor

from cifar10_export.graph import INPUT, OUTPUTS, ServingGraph, Views
from cifar10_zoo.data.cifar10 import IMAGE_SHAPE, Dataset
from cifar10_zoo.errors import ZooError
from cifar10_zoo.network.model import NUM_CLASSES, Cifar10Net
from cifar10_zoo.training.inference import BATCH_SIZE

Precision = Literal["fp32", "fp16", "int8"]

BATCH_SIZES = (1, 2, 127, 128, 129)
TOLERANCES: dict[Precision, float] = {"fp32": 1e-5, "fp16": 1e-2, "int8": 0.5}
"""How far logits of random images may be off, relative to the largest logit or to 1; probabilities, relative to 1. In
int8 that finds gross errors alone: what counts there is the accuracy."""
LARGEST_LOSSES: dict[Precision, float] = {"fp32": 0.0, "fp16": 0.001, "int8": 0.002}
"""How much lower than PyTorch's the precision @ 1 of an export may be. For fp32, each best class is the same."""


class VerificationError(ZooError):
    """The exported model does not do what the network does; the message says by how much."""


def verify(
    exported: onnx.ModelProto,
    model: Cifar10Net,
    data: Dataset | None,
    precision: Precision = "fp32",
    views: Views = 1,
) -> float | None:
    """Compare ``exported`` with ``model`` in float32, on random images and, where given, on all images of ``data``.

    Returns:
        Precision @ 1 of the exported model on ``data``, or None without data.

    Raises:
        VerificationError: a name or a shape differs; a value differs by more than ``TOLERANCES``; or the answers for
            ``data`` are worse than ``LARGEST_LOSSES`` allows.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(exported.SerializeToString(), options, providers=["CPUExecutionProvider"])
    reference = ServingGraph(model, views).eval()
    verify_names(session)
    for batch_size in BATCH_SIZES:
        verify_values(session, reference, batch_size, TOLERANCES[precision])
    return None if data is None else verify_answers(session, reference, data, precision)


def verify_names(session: onnxruntime.InferenceSession) -> None:
    """Input and output names and types follow the contract."""
    inputs = [(value.name, value.type) for value in session.get_inputs()]
    outputs = [(value.name, value.type) for value in session.get_outputs()]
    if inputs != [(INPUT, "tensor(uint8)")] or outputs != [(name, "tensor(float)") for name in OUTPUTS]:
        raise VerificationError(f"the exported model has inputs {inputs} and outputs {outputs}")


def verify_values(
    session: onnxruntime.InferenceSession, reference: ServingGraph, batch_size: int, relative_tolerance: float
) -> None:
    """Shapes and values for a batch of random images equal PyTorch's."""
    channels, height, width = IMAGE_SHAPE
    random = np.random.default_rng(batch_size)
    images = random.integers(0, 256, (batch_size, height, width, channels), dtype=np.uint8)
    with torch.inference_mode():
        expected = [value.numpy() for value in reference(torch.from_numpy(images))]
    for name, actual, wanted in zip(OUTPUTS, session.run(None, {INPUT: images}), expected, strict=True):
        if actual.shape != (batch_size, NUM_CLASSES):
            raise VerificationError(f"{name} has shape {actual.shape} for a batch of {batch_size}")
        difference = float(np.abs(actual - wanted).max())
        tolerance = relative_tolerance * max(1.0, float(np.abs(wanted).max()))
        if not difference <= tolerance:
            raise VerificationError(
                f"{name} of a batch of {batch_size} differ from PyTorch by {difference:.3g}, more than {tolerance:.3g}"
            )


def verify_answers(
    session: onnxruntime.InferenceSession, reference: ServingGraph, data: Dataset, precision: Precision
) -> float:
    """The best classes are PyTorch's (fp32), or as often right, by ``LARGEST_LOSSES``; returns precision @ 1."""
    pixels = data.images.permute(0, 2, 3, 1).contiguous()
    expected, labels = _logits(reference, pixels), data.labels.numpy()
    actual = np.concatenate([session.run(OUTPUTS[:1], {INPUT: batch.numpy()})[0] for batch in pixels.split(BATCH_SIZE)])
    if precision == "fp32" and (different := _differently_answered(actual, expected)):
        raise VerificationError(f"the best class of {different} of {len(labels)} images differs from PyTorch")
    right, right_in_torch = (float((logits.argmax(axis=1) == labels).mean()) for logits in (actual, expected))
    if right < right_in_torch - LARGEST_LOSSES[precision] - 1e-9:
        raise VerificationError(
            f"precision @ 1 in {precision} is {right:.4f}, in PyTorch {right_in_torch:.4f}: that loses more than "
            f"{LARGEST_LOSSES[precision]}"
        )
    return right


@torch.inference_mode()
def _logits(reference: ServingGraph, pixels: Tensor) -> NDArray[np.float32]:
    return torch.cat([reference(batch)[0] for batch in pixels.split(BATCH_SIZE)]).numpy()


def _differently_answered(actual: NDArray[np.float32], expected: NDArray[np.float32]) -> int:
    """How many images have another best class; a tie to the rounding of float32 may fall either way."""
    best = np.take_along_axis(expected, actual.argmax(axis=1)[:, None], axis=1)[:, 0]
    tolerance = TOLERANCES["fp32"] * max(1.0, float(np.abs(expected).max()))
    return int((expected.max(axis=1) - best > tolerance).sum())
