"""golden.npz holds what the shipped files compute, by references that do not use ONNX Runtime."""

from typing import Any

import numpy as np
import onnx
import onnx.version_converter
import pytest
import torch
from cifar10_runtime.engine.models import golden
from onnx.reference import ReferenceEvaluator
from release.golden import GOLDEN, draw_images, integer_logits, reference_logits
from release.models import MODELS

from cifar10_zoo.training.inference import predict, predict_ten_crop
from hubconf import cifar10_cnn

FILES = sorted(path.name for path in MODELS.glob("*.onnx"))
FEW = 3


def test_the_archive_has_the_drawn_images_and_finite_logits_of_every_shipped_file() -> None:
    stored = golden()
    assert stored.images.dtype == np.uint8
    assert (stored.images == draw_images()).all()
    assert sorted(stored.logits) == FILES
    for logits in stored.logits.values():
        assert logits.dtype == np.float32
        assert logits.shape == (100, 10)
        assert np.isfinite(logits).all()
    assert (MODELS / GOLDEN).stat().st_size < 400_000


@pytest.mark.parametrize("name", FILES)
def test_the_stored_logits_are_those_of_the_reference(name: str) -> None:
    stored = golden()
    expected = reference_logits((MODELS / name).read_bytes(), stored.images[:FEW])
    np.testing.assert_allclose(stored.logits[name][:FEW], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("name", "tolerance"), [("fp32.onnx", 2e-5), ("fp32-direct.onnx", 2e-5), ("fp16.onnx", 1e-2)])
def test_the_stored_logits_are_close_to_pytorchs(name: str, tolerance: float) -> None:
    stored = golden()
    images = torch.from_numpy(stored.images).permute(0, 3, 1, 2)
    expected = predict(cifar10_cnn(pretrained=True), images)
    np.testing.assert_allclose(stored.logits[name], expected, rtol=0, atol=tolerance)


def test_the_stored_logits_of_views10_are_pytorchs() -> None:
    stored = golden()
    images = torch.from_numpy(stored.images).permute(0, 3, 1, 2)
    expected = predict_ten_crop(cifar10_cnn(pretrained=True), images).log()
    np.testing.assert_allclose(stored.logits["views10.onnx"], expected, rtol=0, atol=2e-5)


def test_integer_arithmetic_gives_the_logits_of_onnxs_reference_implementation() -> None:
    """That implementation adds rounded float32 products, which for these images changes no 8-bit activation."""
    images = golden().images[:FEW]
    model = onnx.load(MODELS / "int8.onnx")
    later = onnx.version_converter.convert_version(model, 19)  # the reference's first with DequantizeLinear
    expected: Any = ReferenceEvaluator(later).run(["logits"], {"images": images})
    np.testing.assert_allclose(integer_logits(model, images), expected[0], rtol=0, atol=1e-4)
