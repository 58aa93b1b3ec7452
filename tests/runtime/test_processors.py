"""The bundled models give the same logits on every processor: the stored ones, which do not come from ONNX Runtime."""

import os
from pathlib import Path

import numpy as np
import pytest
from cifar10_runtime.engine.models import FOLDER, golden
from numpy.typing import NDArray

from cifar10_zoo.data import cifar10
from tests.helpers.processors import NO_QEMU, QEMU, logits_here, logits_on, logits_on_aarch64

FILES = sorted(FOLDER.glob("*.onnx"))
NEEDS_QEMU = pytest.mark.skipif(QEMU is None, reason=NO_QEMU)
PROCESSORS = pytest.mark.parametrize("processor", ["Haswell", "Nehalem"], ids=["AVX2 without VNNI", "SSE without AVX"])


def assert_same_answers(actual: NDArray[np.float32], expected: NDArray[np.float32], name: str) -> None:
    """Assert that the top-1 predictions are equal, and the logits up to the rounding of the model's type."""
    tolerance = {"int8.onnx": 1e-3, "fp16.onnx": 2e-2}.get(name, 1e-4)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance, err_msg=name)
    assert (actual.argmax(axis=1) == expected.argmax(axis=1)).all(), name


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_this_machine_gives_the_stored_logits(file: Path) -> None:
    stored = golden()
    assert_same_answers(logits_here(file, stored.images), stored.logits[file.name], file.name)


@NEEDS_QEMU
@PROCESSORS
@pytest.mark.parametrize(("name", "count"), [("int8.onnx", 100), ("fp32.onnx", 30), ("fp32-direct.onnx", 10)])
def test_another_processor_gives_the_logits_of_this_one_and_the_stored_ones(
    processor: str, name: str, count: int, tmp_path: Path
) -> None:
    """Emulated, int8 takes 35 ms per image, and float models take 0.2 s."""
    stored = golden()
    images = stored.images[:count]
    there = logits_on(processor, FOLDER / name, images, tmp_path)
    assert_same_answers(there, logits_here(FOLDER / name, images), name)
    assert_same_answers(there, stored.logits[name][:count], name)


@NEEDS_QEMU
@PROCESSORS
@pytest.mark.parametrize(("name", "count"), [("int8.onnx", 1000), ("fp32.onnx", 100)])
def test_another_processor_gives_the_logits_of_this_one_for_real_images(
    cifar10_dir: Path, processor: str, name: str, count: int, tmp_path: Path
) -> None:
    images = cifar10.load(cifar10_dir, "test").images[:count].permute(0, 2, 3, 1).numpy().copy()
    there = logits_on(processor, FOLDER / name, images, tmp_path)
    assert_same_answers(there, logits_here(FOLDER / name, images), name)


@pytest.mark.parametrize(("name", "count"), [("int8.onnx", 100), ("fp32.onnx", 10)])
def test_aarch64_gives_the_stored_logits(name: str, count: int, tmp_path: Path) -> None:
    if not (root := os.environ.get("CIFAR10_AARCH64")):
        pytest.skip("CIFAR10_AARCH64 is not set: see tests/aarch64/build.sh")
    stored = golden()
    logits = logits_on_aarch64(Path(root), FOLDER / name, stored.images[:count], tmp_path)
    assert_same_answers(logits, stored.logits[name][:count], name)
