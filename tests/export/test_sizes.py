"""Models of any number of classes and image size: exported in every variant, and used by every client."""

import numpy as np
import pytest
import torch
from cifar10_export import ServingGraph, Variant
from cifar10_export.exporter import Images, export_checkpoint
from cifar10_export.verify import VALUE_TOLERANCE, batch_sizes
from cifar10_export.winograd import WinogradNet
from hypothesis import given, settings
from hypothesis import strategies as st

from cifar10_zoo.data.cifar10 import Dataset
from cifar10_zoo.network.model import IMAGE_SIZES, Cifar10Net
from cifar10_zoo.training.checkpoint import Checkpoint
from tests.helpers.onnx_files import session
from tests.helpers.shapes import SHAPES, Trained

VARIANTS = {
    "winograd": Variant(),
    "direct": Variant(conv2_algorithm="direct"),
    "fp16": Variant("fp16", "direct"),
    "int8": Variant("int8", "direct"),
    "ten-crop": Variant(ten_crop=True),
}
RELATIVE_TOLERANCE = {"fp32": 1e-5, "fp16": 5e-3, "int8": 0.1}


@settings(max_examples=8)
@given(seed=st.integers(0, 1000), size=st.sampled_from(IMAGE_SIZES))
def test_winograd_equals_the_direct_convolution_for_every_image_size(seed: int, size: int) -> None:
    crop = size * 3 // 4
    model = Cifar10Net(seed, classes=5, image_size=size).eval()
    images = torch.randn((2, 3, crop, crop), generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        expected, actual = model(images), WinogradNet(model)(images)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=VALUE_TOLERANCE["fp32"] * max(1, expected.abs().max()))


def test_the_batches_that_are_compared_need_about_as_much_memory_for_every_image_size() -> None:
    assert batch_sizes(32) == (1, 2, 127, 128, 129)
    assert {size: batch_sizes(size)[3] for size in IMAGE_SIZES[1:]} == {48: 32, 64: 32, 96: 8}


def exported(trained: tuple[Checkpoint, Dataset], variant: Variant) -> bytes:
    """The content of a verified file."""
    saved, data = trained
    return export_checkpoint(saved, variant, Images(data, data.images)).content


@pytest.mark.parametrize(("classes", "size"), [shape for shape in SHAPES if shape[1] != 32])
@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_every_variant_of_every_image_size_gives_pytorchs_outputs(
    trained_shape: Trained, classes: int, size: int, variant: Variant
) -> None:
    saved, data = trained_shape(classes, size)
    run = session(exported((saved, data), variant)).run
    reference = ServingGraph(saved.ema_model(), variant.ten_crop, size).eval()
    tolerance = RELATIVE_TOLERANCE[variant.precision]
    for count in (1, 3):
        pixels = data.images[:count].permute(0, 2, 3, 1).contiguous()
        with torch.inference_mode():
            expected = reference(pixels)
        for actual, wanted in zip(run(None, {"images": pixels.numpy()}), expected, strict=True):
            assert actual.shape == (count, classes)
            np.testing.assert_allclose(actual, wanted, rtol=0, atol=tolerance * max(1, wanted.abs().max()))
