"""Throughput by image size: the default graph, with Winograd's algorithm, the direct graph, and int8."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from cifar10_export import Variant, build
from cifar10_runtime import Classifier
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.timing import compare
from cifar10_zoo.network.model import IMAGE_SIZES, Cifar10Net, scaled_count

VARIANTS = {"fp32": Variant(), "fp32-direct": Variant(conv2_algorithm="direct"), "int8": Variant("int8", "direct")}
IMAGES = 512
"""Images of 32x32 pixels per round; fewer of larger images."""


@pytest.mark.benchmark(group="model alone by image size")
@pytest.mark.parametrize("size", IMAGE_SIZES)
def test_throughput_by_image_size(benchmark: BenchmarkFixture, tmp_path: Path, size: int) -> None:
    """The weights are random, because they do not change the speed; two threads, as the table says."""
    network = Cifar10Net(image_size=size).eval()
    count = scaled_count(IMAGES, size)
    images = np.random.default_rng(size).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    calibration = torch.from_numpy(images[:20]).permute(0, 3, 1, 2).contiguous()
    contestants: dict[str, Callable[[], object]] = {}
    for name, variant in VARIANTS.items():
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(build(network, variant, calibration).SerializeToString())
        labels = [str(number) for number in range(network.classes)]
        classifier = Classifier(path, device="cpu", labels=labels, threads=2)
        contestants[name] = lambda classifier=classifier: classifier.probabilities(images)  # type: ignore[misc]
    compare(benchmark, contestants, count)
    benchmark.extra_info["image_size"] = size
