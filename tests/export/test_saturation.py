"""int8 gives the same answers on every x86 processor; a file that would not is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from cifar10_export import Variant, build
from cifar10_export.command import Options, export
from cifar10_export.exporter import Images
from cifar10_export.verify import INT8_WEIGHT_LIMIT, SaturationError, verify_int8_weights
from cifar10_runtime.engine.models import golden
from onnxruntime.quantization import quantize_static
from release.golden import integer_logits
from release.models import MODELS

from hubconf import cifar10_cnn
from tests.helpers.processors import NO_QEMU, QEMU, logits_on


@pytest.fixture
def full_range(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the exporter quantize weights to all 8 bits."""

    def quantize(*words: Any, **options: Any) -> None:
        quantize_static(*words, **options | {"reduce_range": False})

    monkeypatch.setattr("cifar10_export.quantize.quantize_static", quantize)


@pytest.mark.usefixtures("full_range")
def test_a_file_with_8_bit_weights_is_refused_and_not_written(
    train_dir: Path, drawings_dir: Path, tmp_path: Path
) -> None:
    output = tmp_path / "model.onnx"
    message = r"weight_quantized has int8 weights from -12[78] to 12[78]; .*: quantize with reduce_range=True"
    with pytest.raises(SaturationError, match=message):
        export(Options("int8", checkpoint_dir=train_dir, output=output, data_dir=drawings_dir))
    assert list(tmp_path.iterdir()) == []


def test_the_largest_allowed_weights_cannot_saturate_a_16_bit_sum_and_larger_ones_can() -> None:
    assert 2 * 255 * INT8_WEIGHT_LIMIT <= 2**15 - 1 < 255 * (2 * INT8_WEIGHT_LIMIT + 1)


@pytest.mark.parametrize("weight", [64, -64, 65, -65])
def test_one_weight_beyond_the_limit_is_found(weight: int) -> None:
    model = onnx.load(MODELS / "int8.onnx")
    tensor = next(t for t in model.graph.initializer if t.name == "network.local3.weight_quantized")
    weights = onnx.numpy_helper.to_array(tensor).copy()
    weights[100, 1000] = weight
    tensor.CopyFrom(onnx.numpy_helper.from_array(weights, tensor.name))
    if abs(weight) <= INT8_WEIGHT_LIMIT:
        verify_int8_weights(model.SerializeToString())
    else:
        with pytest.raises(SaturationError, match=r"network\.local3\.weight_quantized has int8 weights from"):
            verify_int8_weights(model.SerializeToString())


@pytest.mark.skipif(QEMU is None, reason=NO_QEMU)
@pytest.mark.usefixtures("full_range")
def test_a_refused_file_gives_other_logits_on_a_processor_without_vnni(few_images: Images, tmp_path: Path) -> None:
    """Exact integer arithmetic gives the logits of a processor with VNNI."""
    model = build(cifar10_cnn(pretrained=True), Variant("int8", "direct"), few_images.calibration)
    with pytest.raises(SaturationError):
        verify_int8_weights(model.SerializeToString())
    onnx.save(model, tmp_path / "int8.onnx")
    images = golden().images[:30]
    actual = logits_on("Haswell", {tmp_path / "int8.onnx": 30}, images, tmp_path)["int8.onnx"]
    assert np.abs(actual - integer_logits(model, images)).max() > 0.1
