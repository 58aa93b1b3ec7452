"""The shipped model through Classifier against the usual export in a plain ONNX Runtime session."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from cifar10_runtime import Classifier
from peers import compare, usual_export
from pytest_benchmark.fixture import BenchmarkFixture


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> onnxruntime.InferenceSession:
    path: Path = tmp_path_factory.mktemp("peer") / "usual.onnx"
    return usual_export(str(path))


@pytest.mark.benchmark(group="model alone, fp32")
@pytest.mark.parametrize("batch_size", [1, 8, 64, 512])
def test_model(benchmark: BenchmarkFixture, peer: onnxruntime.InferenceSession, batch_size: int) -> None:
    classifier = Classifier(device="cpu")
    batch = np.random.default_rng(0).integers(0, 256, (batch_size, 32, 32, 3), dtype=np.uint8)
    compare(
        benchmark,
        ours=lambda: classifier.probabilities(batch),
        peer=lambda: peer.run(["probabilities"], {"images": batch}),
        images=batch_size,
    )
