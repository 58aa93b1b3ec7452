"""Every variant computes what the network computes in PyTorch."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from cifar10_export import ServingGraph, Variant, build
from cifar10_export.exporter import ExportedModel, Images
from cifar10_export.quantize import fold_lrn
from cifar10_export.variants import Conv2Algorithm
from cifar10_export.verify import VALUE_TOLERANCE, batch_sizes
from cifar10_export.winograd import WinogradNet
from hypothesis import given, settings
from hypothesis import strategies as st

from cifar10_zoo.data.transforms import evaluation_images
from cifar10_zoo.network.model import Cifar10Net
from cifar10_zoo.training.checkpoint import Checkpoint
from tests.helpers.golden_reference import Reference
from tests.helpers.onnx_files import session

GOLDEN_LOGIT_TOLERANCE = 1e-5
RELATIVE_TOLERANCE = {"fp32": 1e-5, "fp16": 5e-3, "int8": 0.1}
VARIANTS = {
    "direct": Variant(conv2_algorithm="direct"),
    "fp16": Variant("fp16", "direct"),
    "int8": Variant("int8", "direct"),
    "ten_crop": Variant(ten_crop=True),
}
"""All but the default, which most other tests export."""


@pytest.mark.parametrize("conv2_algorithm", ["winograd", "direct"])
def test_logits_of_raw_pixels_match_the_original(golden_folder: Path, conv2_algorithm: Conv2Algorithm) -> None:
    reference = Reference(golden_folder)
    model = build(reference.state().model.eval(), Variant(conv2_algorithm=conv2_algorithm))
    logits, probabilities, _ = session(model.SerializeToString()).run(None, {"images": reference.images_nhwc})
    golden = reference.arrays("forward")
    np.testing.assert_allclose(logits, golden["logits"], rtol=0, atol=GOLDEN_LOGIT_TOLERANCE)
    np.testing.assert_allclose(probabilities, golden["probs"], rtol=0, atol=GOLDEN_LOGIT_TOLERANCE)


@settings(max_examples=20)
@given(batch_size=st.integers(1, 130), seed=st.integers(0, 2**32 - 1))
def test_the_default_variant_gives_pytorchs_outputs_for_any_batch_size(
    content: bytes, trained: Checkpoint, batch_size: int, seed: int
) -> None:
    images = np.random.default_rng(seed).integers(0, 256, (batch_size, 32, 32, 3), dtype=np.uint8)
    with torch.inference_mode():
        expected = ServingGraph(trained.ema_model())(torch.from_numpy(images))
    for actual, wanted in zip(session(content).run(None, {"images": images}), expected, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_all_variants_except_the_default_give_pytorchs_outputs(
    trained: Checkpoint, few_images: Images, export_of: Callable[[Variant], ExportedModel], variant: Variant
) -> None:
    assert few_images.test is not None
    exported = export_of(variant)
    pixels = few_images.test.images.permute(0, 2, 3, 1).contiguous()
    reference = ServingGraph(trained.ema_model(), variant.ten_crop).eval()
    run = session(exported.content).run
    answers = run(None, {"images": pixels.numpy()})
    accuracy = (answers[0].argmax(axis=1) == few_images.test.labels.numpy()).mean()
    assert exported.test_accuracy == pytest.approx(accuracy)
    tolerance = RELATIVE_TOLERANCE[variant.precision]
    for batch_size in (1, 2, 13) if variant.ten_crop else batch_sizes(32):  # ten crops of 13 images are a large batch
        with torch.inference_mode():
            expected = reference(pixels[:batch_size])
        for actual, wanted in zip(run(None, {"images": pixels[:batch_size].numpy()}), expected, strict=True):
            np.testing.assert_allclose(actual, wanted, rtol=0, atol=tolerance * max(1, wanted.abs().max()))


def test_int8_needs_calibration_images(network: Cifar10Net) -> None:
    with pytest.raises(ValueError, match="calibration_images"):
        build(network, Variant("int8", "direct"))


@settings(max_examples=10)
@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(0.1, 10))
def test_winograd_equals_the_direct_convolution_for_weights_of_any_size(seed: int, scale: float) -> None:
    random = torch.Generator().manual_seed(seed)
    model = Cifar10Net(seed % 1000).eval()
    with torch.inference_mode():
        model.conv2.weight.mul_(scale)
        images = torch.randn((3, 3, 24, 24), generator=random)
        outputs = zip(WinogradNet(model).features_and_logits(images), model.features_and_logits(images), strict=True)
    for actual, expected in outputs:
        tolerance = VALUE_TOLERANCE["fp32"] * max(1.0, float(expected.abs().max()))
        np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance)


def test_fold_lrn_scales_each_channel_by_least_squares(network: Cifar10Net, few_images: Images) -> None:
    """A scale 0.01 higher or lower is farther from the normalized activations, in every channel."""
    assert few_images.calibration is not None
    images = few_images.calibration[:100]
    with torch.inference_mode():
        network.conv2.weight.mul_(30)  # with small activations, the normalization changes nothing
        folded = fold_lrn(network, images)
        scales = (folded.local3.weight / network.local3.weight).unflatten(1, (64, 36)).nanmean((0, 2))
        activations = network.activations(evaluation_images(images))
        x, y = activations["conv2"], activations["norm2"]
        best = ((scales[:, None, None] * x - y) ** 2).sum((0, 2, 3))
        for change in (-0.01, 0.01):
            worse = (((scales + change)[:, None, None] * x - y) ** 2).sum((0, 2, 3))
            assert (worse >= best).all()
        assert scales.min() < 0.99
