"""What is measured: the answers and the speed of a model on a device."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from cifar10_runtime.engine.classifier import Classifier
from cifar10_runtime.engine.cuda import LARGEST_GRAPH

TOLERANCES = {"fp32": 1e-4, "int8": 1e-3, "fp16": 5e-2}
"""Largest difference from the stored answers that rounding explains, by precision.

The CPUs that were tried differ by at most 3e-5, also in fp16, which they compute in float32. No GPU was measured.
"""
OPENVINO_INT8_TOLERANCE = 0.1
"""OpenVINO rounds int8 activations elsewhere: its answers differ by 0.033."""
_ROUNDS = 5
"""Each speed is a median of as many rounds, so a short disturbance does not change it."""
_SECONDS = 0.05
"""Shortest duration of one throughput measurement, in seconds."""
_SINGLE_IMAGES = 50
"""Images that are classified one by one per round."""
_BATCH_SIZES = (8, 16, 32, 64)
"""Images per call of a thread; a CUDA session chooses its batches itself."""
_CLEARLY_FASTER = 1.05
"""A batch size replaces the default one only if it is this many times as fast."""


@dataclass(frozen=True)
class Answers:
    """A model's answers compared with the right ones."""

    images: int
    different_top1: int
    """Images whose top-1 prediction differs. Two classes whose probabilities are equal up to rounding are a tie."""
    largest_difference: float
    """Largest difference of the logarithm of a probability."""
    tolerance: float
    """The difference that rounding explains."""
    right: bool
    """Whether no top-1 prediction differs, and no logarithm by more than the tolerance."""


@dataclass(frozen=True)
class Speed:
    """How fast a model is on a device, without reading or decoding files."""

    images_per_second: float
    """Throughput of all threads."""
    batch_size: int
    """The batch size of this throughput: the default one, unless another one is clearly faster."""
    default_batch_size: int
    """The batch size of cifar10-infer without ``--batch-size``."""
    latency_p50_ms: float
    """Median time for one image, in milliseconds."""
    latency_p99_ms: float
    """99th percentile of the time for one image, in milliseconds."""


@dataclass(frozen=True)
class Measurement:
    """A bundled model on a device."""

    model: str
    device: str
    file: str
    """The name of the model file; it depends on the device."""
    test_accuracy: float
    """Top-1 accuracy on the test images of CIFAR-10, from the model's metadata."""
    answers: Answers
    speed: Speed


def measure(model: str, device: str, images: NDArray[np.uint8], logits: dict[str, NDArray[np.float32]]) -> Measurement:
    """Measure a bundled model on ``device``; this takes about two seconds.

    Args:
        model: The name of the model.
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``openvino``.
        images: [N, SIZE, SIZE, 3] uint8.
        logits: The right logits of ``images``, [N, classes], by the name of the model file.

    Raises:
        DeviceError: The device cannot run the model.
        InferenceError: The model is damaged, or fails.
    """
    with Classifier(model, device=device) as classifier:
        file = classifier.model_path.name
        answers = compare_answers(classifier, images, logits[file])
        accuracy = float(classifier.metadata["test_accuracy"])
        return Measurement(model, device, file, accuracy, answers, measure_speed(classifier, images))


def compare_answers(classifier: Classifier, images: NDArray[np.uint8], logits: NDArray[np.float32]) -> Answers:
    """Compare the answers of ``classifier``, in batches and one by one, with the right logits of ``images``.

    A classifier returns probabilities: softmax(logits / temperature). Their logarithms are compared.

    Args:
        classifier: The classifier.
        images: [N, SIZE, SIZE, 3] uint8.
        logits: [N, classes].
    """
    precision = classifier.metadata["precision"]
    openvino_int8 = (classifier.device, precision) == ("openvino", "int8")
    tolerance = OPENVINO_INT8_TOLERANCE if openvino_int8 else TOLERANCES[precision]
    one_by_one = np.concatenate([classifier.probabilities(image[None]) for image in images])
    probabilities = np.stack([classifier.probabilities(images), one_by_one])  # [2, N, classes]
    smallest = np.finfo(np.float32).tiny  # in place of 0, which has no logarithm
    actual = np.log(np.maximum(probabilities, smallest), dtype=np.float64)
    expected = _log_softmax(logits / float(classifier.metadata.get("temperature", 1)))
    chosen = np.take_along_axis(expected[None], actual.argmax(axis=2)[..., None], axis=2)[..., 0]  # [2, N]
    different = int((expected.max(axis=1) - chosen > tolerance).any(axis=0).sum())
    largest = float(np.abs(actual - expected).max())
    return Answers(len(images), different, largest, tolerance, right=not different and largest <= tolerance)


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    logarithms: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logarithms


def measure_speed(classifier: Classifier, images: NDArray[np.uint8]) -> Speed:
    """Measure the throughput of ``classifier`` at its best batch size, and its latency.

    Args:
        classifier: The classifier; its batch size changes.
        images: [N, SIZE, SIZE, 3] uint8; they are repeated to fill the batches.
    """
    default, threads = classifier.batch_size, classifier.threads
    sizes = sorted({*_BATCH_SIZES, default})
    if classifier.device.startswith("cuda"):  # two GPU threads merge the batches of all other threads
        default, sizes, threads = LARGEST_GRAPH, [LARGEST_GRAPH], 2
    image_seconds = median(_seconds(classifier, images[:1]) for _ in range(_SINGLE_IMAGES))
    rates: dict[int, list[float]] = {size: [] for size in sizes}
    latencies: list[float] = []
    for _ in range(_ROUNDS):  # each round measures everything, so a slow second affects all sizes alike
        for size in sizes:
            classifier.batch_size = size
            batches = threads * max(1, round(_SECONDS / (size * image_seconds)))
            rates[size].append(_images_per_second(classifier, np.resize(images, (batches * size, *images.shape[1:]))))
        latencies += [_seconds(classifier, images[:1]) for _ in range(_SINGLE_IMAGES)]
    medians = {size: median(values) for size, values in rates.items()}
    best = choose_batch_size(medians, default)
    p50, p99 = np.percentile(latencies, (50, 99)) * 1000
    return Speed(medians[best], best, default, float(p50), float(p99))


def choose_batch_size(rates: Mapping[int, float], default: int) -> int:
    """Return the batch size with the highest of ``rates``, but ``default`` if its rate is almost as high."""
    fastest = max(rates, key=lambda size: rates[size])
    return fastest if rates[fastest] > _CLEARLY_FASTER * rates[default] else default


def _images_per_second(classifier: Classifier, batch: NDArray[np.uint8]) -> float:
    images, seconds = 0, 0.0
    while seconds < _SECONDS:
        seconds += _seconds(classifier, batch)
        images += len(batch)
    return images / seconds


def _seconds(classifier: Classifier, batch: NDArray[np.uint8]) -> float:
    start = time.perf_counter()
    classifier.probabilities(batch)
    return time.perf_counter() - start
