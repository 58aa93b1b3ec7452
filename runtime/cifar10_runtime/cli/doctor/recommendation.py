"""Which model and device to use here."""

from collections.abc import Iterable
from dataclasses import dataclass

from cifar10_runtime.cli.doctor.measurement import Measurement
from cifar10_runtime.options import ClassifierOptions

LARGEST_LOSS = 0.005
"""The top-1 accuracy of a recommended model is at most this far below that of the default model."""
_ROUNDING = 1e-9  # rounding error of the difference of two accuracies


@dataclass(frozen=True)
class Recommendation:
    """A model on a device, and how to use it."""

    use: str
    """The command, or for latency the Python expression: a command starts again for each image."""
    measurement: Measurement


@dataclass(frozen=True)
class Recommendations:
    """The fastest right model for many images, and for one; None if no model is right."""

    throughput: Recommendation | None
    latency: Recommendation | None


def recommend(measurements: Iterable[Measurement]) -> Recommendations:
    """Choose the fastest of the measured models whose answers are right and whose accuracy is almost the default's."""
    right = [measurement for measurement in measurements if measurement.answers.right]
    default = [m.test_accuracy for m in right if m.model == ClassifierOptions.model]
    accurate = [m for m in right if m.test_accuracy >= max(default, default=0) - LARGEST_LOSS - _ROUNDING]
    if not accurate:
        return Recommendations(None, None)
    throughput = max(accurate, key=lambda measurement: measurement.speed.images_per_second)
    latency = min(accurate, key=lambda measurement: measurement.speed.latency_p50_ms)
    return Recommendations(
        Recommendation(_command(throughput), throughput),
        Recommendation(f'Classifier("{latency.model}", device="{latency.device}")', latency),
    )


def _command(measurement: Measurement) -> str:
    speed = measurement.speed
    batch_size = f" --batch-size {speed.batch_size}" if speed.batch_size != speed.default_batch_size else ""
    return f"cifar10-infer images/ --model {measurement.model} --device {measurement.device}{batch_size}"
