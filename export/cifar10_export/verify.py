"""Verify an exported file against the network in PyTorch: names, shapes, values, then accuracy.

All functions check the content of the file that is written, with ONNX Runtime, as a client would.
"""

from collections.abc import Mapping

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor

from cifar10_export.graph import INPUT, OUTPUTS, ServingGraph
from cifar10_export.variants import Precision, Variant, serving_graph
from cifar10_zoo.data.dataset import Dataset
from cifar10_zoo.errors import ZooError
from cifar10_zoo.network.model import Cifar10Net, scaled_count
from cifar10_zoo.training.inference import BATCH_SIZE

VALUE_TOLERANCE: dict[Precision, float] = {"fp32": 1e-5, "fp16": 1e-2, "int8": 0.5}
"""Largest allowed difference from PyTorch, times the largest value of the output or 1, whichever is larger.

For int8, this tolerance finds only gross errors; ``ACCURACY_TOLERANCE`` finds all others.
"""
ACCURACY_TOLERANCE: dict[Precision, float] = {"fp32": 0.0, "fp16": 0.001, "int8": 0.002}
"""Largest allowed loss of top-1 accuracy. In fp32, every top-1 prediction must also equal PyTorch's.

The values are for 10,000 test images or more; ``accuracy_tolerance`` says what fewer images allow.
"""

INT8_WEIGHT_LIMIT = 64
"""Largest absolute value of an int8 weight: 7 of the 8 bits."""

_ROUNDING = 1e-9  # rounding error of the difference of two accuracies


class VerificationError(ZooError):
    """The exported model differs from the network in PyTorch."""


class ContractError(VerificationError):
    """Names, types, shapes or metadata violate the contract with clients; the message lists the wrong ones."""


class SaturationError(VerificationError):
    """An int8 weight is so large that sums of products saturate on some CPUs."""


class DifferenceError(VerificationError):
    """The outputs differ from PyTorch's by more than a tolerance.

    Args:
        message: Says what differs, and by how much.
        difference: The measured difference.
        tolerance: The largest allowed difference, in the unit of ``difference``.
    """

    def __init__(self, message: str, difference: float, tolerance: float) -> None:
        super().__init__(message)
        self.difference = difference
        self.tolerance = tolerance


def verify(content: bytes, model: Cifar10Net, variant: Variant, data: Dataset | None = None) -> float | None:
    """Verify an exported file: int8 weights, some images, then all images of ``data``; return the top-1 accuracy.

    Args:
        content: The content of the .onnx file.
        model: The network that was exported; it computes the reference in float32.
        variant: The variant that was exported.
        data: Labeled images, usually the test split.

    Returns:
        Top-1 accuracy of the exported model on ``data``, or None without ``data``.

    Raises:
        ContractError: The file is not a valid ONNX model, or a name, a type or a shape differs.
        SaturationError: An int8 weight is beyond ``INT8_WEIGHT_LIMIT``.
        DifferenceError: A value differs by more than ``VALUE_TOLERANCE``, or the top-1 predictions by more than
            ``ACCURACY_TOLERANCE`` allows.
    """
    session = open_session(content)
    reference = _reference(model, variant)
    verify_interface(session, model)
    verify_int8_weights(content)
    for batch_size in batch_sizes(model.image_size):
        verify_values(session, reference, _images(batch_size, variant, model, data), VALUE_TOLERANCE[variant.precision])
    return None if data is None else verify_top1(session, reference, data, variant.precision)


def verify_final(
    content: bytes, model: Cifar10Net, variant: Variant, metadata: Mapping[str, str], data: Dataset | None = None
) -> None:
    """Verify the final file, with complete metadata: contract, metadata, and values for one batch.

    Raises:
        ContractError: The file is not a valid ONNX model, or a name, a type, a shape or ``metadata`` differs.
        DifferenceError: A value differs by more than ``VALUE_TOLERANCE``.
    """
    session = open_session(content)
    verify_interface(session, model)
    verify_metadata(session, metadata)
    images = _images(2, variant, model, data)
    verify_values(session, _reference(model, variant), images, VALUE_TOLERANCE[variant.precision])


def open_session(content: bytes) -> onnxruntime.InferenceSession:
    """Return a CPU session of an .onnx file that ONNX's checker has accepted.

    Raises:
        ContractError: The file is not a valid ONNX model.
    """
    try:
        onnx.checker.check_model(content, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        raise ContractError(f"the exported file is not a valid ONNX model: {error}") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def batch_sizes(image_size: int) -> tuple[int, ...]:
    """Return the sizes of the batches of random images to compare: 1 and 2, and the sizes around a power of two.

    The power is 128 for images of 32x32 pixels, and smaller for larger images, because they need more memory.
    """
    power = 1 << (scaled_count(128, image_size).bit_length() - 1)
    return 1, 2, power - 1, power, power + 1


def _images(batch_size: int, variant: Variant, model: Cifar10Net, data: Dataset | None) -> NDArray[np.uint8]:
    """Return images [batch_size, S, S, 3] uint8 to compare values of: random ones, for int8 images of ``data``.

    The calibration of int8 fits images like those of ``data``. For random images, its values may be far off.
    """
    if variant.precision == "int8" and data is not None:
        return data.images[torch.arange(batch_size) % len(data.images)].permute(0, 2, 3, 1).numpy()
    random = np.random.default_rng(batch_size)
    return random.integers(0, 256, (batch_size, model.image_size, model.image_size, 3), dtype=np.uint8)


def _reference(model: Cifar10Net, variant: Variant) -> ServingGraph:
    """Return the serving graph of ``model`` in PyTorch, in float32."""
    return serving_graph(model, variant, model.image_size).eval()


def verify_interface(session: onnxruntime.InferenceSession, model: Cifar10Net) -> None:
    """Raise ContractError unless names, types and fixed dimensions of inputs and outputs are those of ``model``."""
    inputs, outputs = (
        [(value.name, value.type, value.shape[1:]) for value in values]
        for values in (session.get_inputs(), session.get_outputs())
    )
    image = [model.image_size, model.image_size, 3]
    columns = (model.classes, model.classes, model.local4.out_features)
    expected = [(name, "tensor(float)", [count]) for name, count in zip(OUTPUTS, columns, strict=True)]
    if inputs != [(INPUT, "tensor(uint8)", image)] or outputs != expected:
        raise ContractError(f"the exported model has inputs {inputs} and outputs {outputs}")


def verify_int8_weights(content: bytes) -> None:
    """Raise SaturationError unless int8 gives the same answers on every CPU, for any activations.

    x86 CPUs without VNNI multiply uint8 activations by int8 weights and add two products to a 16-bit sum that saturates
    (``vpmaddubsw``). Weights from -64 to 64 give at most 2 * 255 * 64 = 32,640, below the limit of 32,767. ONNX Runtime
    chooses which two products it adds, so this check limits every weight, not only the sums of neighbors.
    """
    for tensor in onnx.load_from_string(content).graph.initializer:
        if tensor.data_type != onnx.TensorProto.INT8:
            continue
        weights = onnx.numpy_helper.to_array(tensor)
        lowest, highest = int(weights.min()), int(weights.max())
        if max(-lowest, highest) > INT8_WEIGHT_LIMIT:
            raise SaturationError(
                f"{tensor.name} has int8 weights from {lowest} to {highest}; beyond -{INT8_WEIGHT_LIMIT} to "
                f"{INT8_WEIGHT_LIMIT}, x86 CPUs without VNNI saturate sums: quantize with reduce_range=True"
            )


def verify_metadata(session: onnxruntime.InferenceSession, expected: Mapping[str, str]) -> None:
    """Raise ContractError unless the metadata equals ``expected``."""
    actual = session.get_modelmeta().custom_metadata_map
    if actual != expected:
        raise ContractError(f"the exported model has metadata {actual}, expected {dict(expected)}")


def verify_values(
    session: onnxruntime.InferenceSession,
    reference: ServingGraph,
    images: NDArray[np.uint8],
    relative_tolerance: float,
) -> None:
    """Raise an error unless shapes and values equal PyTorch's for a batch of images, up to the tolerance.

    Probabilities are compared with those of the file's own logits: a low temperature makes a large difference of
    probabilities from a small one of logits.

    Raises:
        ContractError: A shape differs.
        DifferenceError: A value differs by more than the tolerance.
    """
    batch_size = len(images)
    with torch.inference_mode():
        logits, _, features = reference(torch.from_numpy(images))
        outputs = session.run(OUTPUTS, {INPUT: images})
        expected = logits, reference.probabilities(torch.from_numpy(outputs[0])), features
    for name, actual, wanted in zip(OUTPUTS, outputs, map(Tensor.numpy, expected), strict=True):
        if actual.shape != wanted.shape:
            raise ContractError(f"{name} has shape {actual.shape} for a batch of {batch_size}")
        difference = float(np.abs(actual - wanted).max())
        tolerance = relative_tolerance * max(1.0, float(np.abs(wanted).max()))
        if name == "probabilities":
            tolerance = min(tolerance, VALUE_TOLERANCE["fp16"])  # also int8 models compute them in float32
        if not difference <= tolerance:  # true for NaN, too
            raise DifferenceError(
                f"{name} of a batch of {batch_size} differ from PyTorch by {difference:.3g}, more than {tolerance:.3g}",
                difference,
                tolerance,
            )


def verify_top1(
    session: onnxruntime.InferenceSession, reference: ServingGraph, data: Dataset, precision: Precision
) -> float:
    """Return the top-1 accuracy on ``data``.

    Raises:
        DifferenceError: The top-1 predictions differ from PyTorch's by more than ``ACCURACY_TOLERANCE`` allows.
    """
    pixels, labels = data.images.permute(0, 2, 3, 1).contiguous(), data.labels.numpy()
    expected, actual = _reference_logits(reference, pixels), _session_logits(session, pixels)
    different = _count_different_predictions(actual, expected)
    if precision == "fp32" and different:
        message = f"the top-1 prediction for {different} of {len(labels)} images differs from PyTorch"
        raise DifferenceError(message, different, 0)
    is_right, was_right = (logits.argmax(axis=1) == labels for logits in (actual, expected))
    accuracy, reference_accuracy = float(is_right.mean()), float(was_right.mean())
    changed = int((is_right != was_right).sum())
    loss, tolerance = reference_accuracy - accuracy, accuracy_tolerance(precision, len(labels), changed)
    if loss > tolerance + _ROUNDING:
        raise DifferenceError(
            f"top-1 accuracy in {precision} is {accuracy:.4f}, in PyTorch {reference_accuracy:.4f}: "
            f"that loses more than {tolerance:.4g}",
            loss,
            tolerance,
        )
    return accuracy


def accuracy_tolerance(precision: Precision, images: int, changed: int) -> float:
    """Return the largest allowed loss of accuracy.

    One image of a small test set is more than ``ACCURACY_TOLERANCE``. If rounding does no harm, a changed answer
    becomes right as often as wrong, and the number of lost images has the standard deviation sqrt(changed). So with
    fewer than 10,000 images, three standard deviations are allowed.

    Args:
        precision: Of the exported model.
        images: Number of test images.
        changed: Number of answers that are right in one of the models only.
    """
    chance = 3 * changed**0.5 / images if images < 10_000 and precision != "fp32" else 0.0
    return max(ACCURACY_TOLERANCE[precision], chance)


@torch.inference_mode()
def _reference_logits(reference: ServingGraph, pixels: Tensor) -> NDArray[np.float32]:
    return torch.cat([reference(batch)[0] for batch in _batches(pixels)]).numpy()


def _session_logits(session: onnxruntime.InferenceSession, pixels: Tensor) -> NDArray[np.float32]:
    return np.concatenate([session.run(OUTPUTS[:1], {INPUT: batch.numpy()})[0] for batch in _batches(pixels)])


def _batches(pixels: Tensor) -> tuple[Tensor, ...]:
    batches: tuple[Tensor, ...] = pixels.split(scaled_count(BATCH_SIZE, pixels.shape[1]))
    return batches


def _count_different_predictions(actual: NDArray[np.float32], expected: NDArray[np.float32]) -> int:
    """Return the number of images whose top-1 predictions differ; a tie up to float32 rounding is not a difference."""
    chosen = np.take_along_axis(expected, actual.argmax(axis=1)[:, None], axis=1)[:, 0]
    tolerance = VALUE_TOLERANCE["fp32"] * max(1.0, float(np.abs(expected).max()))
    return int((expected.max(axis=1) - chosen > tolerance).sum())
