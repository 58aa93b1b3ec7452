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
def test_another_processor_gives_the_logits_of_this_one_and_the_stored_ones(processor: str, tmp_path: Path) -> None:
    """Emulated, int8 takes 35 ms per image, and float models take 0.2 s."""
    stored = golden()
    models = {FOLDER / "int8.onnx": 100, FOLDER / "fp32.onnx": 30, FOLDER / "fp32-direct.onnx": 10}
    there = logits_on(processor, models, stored.images, tmp_path)
    for model, count in models.items():
        assert_same_answers(there[model.name], logits_here(model, stored.images[:count]), model.name)
        assert_same_answers(there[model.name], stored.logits[model.name][:count], model.name)


@NEEDS_QEMU
@PROCESSORS
def test_another_processor_gives_the_logits_of_this_one_for_real_images(
    cifar10_dir: Path, processor: str, tmp_path: Path
) -> None:
    images = cifar10.load(cifar10_dir, "test").images[:1000].permute(0, 2, 3, 1).numpy().copy()
    models = {FOLDER / "int8.onnx": 1000, FOLDER / "fp32.onnx": 100}
    there = logits_on(processor, models, images, tmp_path)
    for model, count in models.items():
        assert_same_answers(there[model.name], logits_here(model, images[:count]), model.name)


def test_aarch64_gives_the_stored_logits(tmp_path: Path) -> None:
    if not (root := os.environ.get("CIFAR10_AARCH64")):
        pytest.skip("CIFAR10_AARCH64 is not set: see tests/aarch64/build.sh")
    stored = golden()
    models = {FOLDER / "int8.onnx": 100, FOLDER / "fp32.onnx": 10}
    there = logits_on_aarch64(Path(root), models, stored.images, tmp_path)
    for model, count in models.items():
        assert_same_answers(there[model.name], stored.logits[model.name][:count], model.name)
