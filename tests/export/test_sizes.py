"""Parts of the export that depend on the image size or on the number of test images."""

from pathlib import Path

import numpy as np
import pytest
import torch
from cifar10_export import Variant, command
from cifar10_export.exporter import ExportedModel, Images
from cifar10_export.verify import VALUE_TOLERANCE, accuracy_tolerance, batch_sizes
from cifar10_export.winograd import WinogradNet
from hypothesis import given, settings
from hypothesis import strategies as st

from cifar10_zoo.network.model import IMAGE_SIZES, Cifar10Net
from cifar10_zoo.training.checkpoint import Checkpoint
from tests.helpers.shapes import Trained, write_folders


@settings(max_examples=8)
@given(seed=st.integers(0, 1000), size=st.sampled_from(IMAGE_SIZES))
def test_winograd_equals_the_direct_convolution_for_every_image_size(seed: int, size: int) -> None:
    crop = size * 3 // 4
    model = Cifar10Net(seed, classes=5, image_size=size).eval()
    images = torch.randn((2, 3, crop, crop), generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        outputs = zip(WinogradNet(model).features_and_logits(images), model.features_and_logits(images), strict=True)
    for actual, expected in outputs:
        tolerance = VALUE_TOLERANCE["fp32"] * max(1.0, float(expected.abs().max()))
        np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance)


def test_the_batches_that_are_compared_need_about_as_much_memory_for_every_image_size() -> None:
    assert batch_sizes(32) == (1, 2, 127, 128, 129)
    assert {size: batch_sizes(size)[3] for size in IMAGE_SIZES[1:]} == {48: 32, 64: 32, 96: 8}


@pytest.mark.parametrize(
    ("images", "changed", "tolerance"),
    [(10_000, 400, 0.002), (50, 0, 0.002), (50, 1, 0.06), (900, 9, 0.01)],
    ids=["10,000 images", "no changed answer", "1 changed answer of 50", "9 changed answers of 900"],
)
def test_few_test_images_allow_three_standard_deviations_of_the_number_of_changed_answers(
    images: int, changed: int, tolerance: float
) -> None:
    assert accuracy_tolerance("int8", images, changed) == pytest.approx(tolerance)
    assert accuracy_tolerance("fp32", images, changed) == 0


def test_the_export_takes_the_image_size_of_the_checkpoint(
    trained_shape: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved, data = trained_shape(2, 48)
    folder, output = write_folders(data, tmp_path / "data"), tmp_path / "model.onnx"
    exported: list[Images] = []

    def export_checkpoint(_: Checkpoint, __: Variant, images: Images) -> ExportedModel:
        exported.append(images)
        return ExportedModel(b"a model", None)

    monkeypatch.setattr(command, "export_checkpoint", export_checkpoint)
    options = command.Options("int8", checkpoint_dir=saved.path.parent, data_dir=folder, output=output)
    command.export(options)
    (images,) = exported
    assert images.test is not None
    assert images.calibration is not None
    assert images.test.images.shape[-2:] == images.calibration.shape[-2:] == (48, 48)
