"""The exported file keeps the contract: names, types, shapes, metadata, and nothing of the machine that made it."""

import json
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from cifar10_export import Variant
from cifar10_export.exporter import ExportedModel, Images, export_checkpoint

from cifar10_zoo.data import cifar10
from cifar10_zoo.data.dataset import Dataset
from cifar10_zoo.data.load import load
from cifar10_zoo.errors import CheckpointError
from cifar10_zoo.training.checkpoint import Checkpoint
from cifar10_zoo.training.inference import predict
from tests.export.test_variants import VARIANTS
from tests.helpers.command_line import ROOT
from tests.helpers.onnx_files import metadata_of


def interface(values: list[onnx.ValueInfoProto]) -> list[tuple[str, int, list[str | int]]]:
    """Name, type and shape of inputs or outputs."""
    return [
        (
            value.name,
            value.type.tensor_type.elem_type,
            [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim],
        )
        for value in values
    ]


def test_inputs_and_outputs_are_those_of_the_contract(content: bytes) -> None:
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    assert interface(list(model.graph.input)) == [("images", onnx.TensorProto.UINT8, ["N", 32, 32, 3])]
    assert interface(list(model.graph.output)) == [
        ("logits", onnx.TensorProto.FLOAT, ["N", 10]),
        ("probabilities", onnx.TensorProto.FLOAT, ["N", 10]),
        ("features", onnx.TensorProto.FLOAT, ["N", 192]),
    ]


def test_the_metadata_has_labels_origin_variant_and_accuracy(
    content: bytes, trained: Checkpoint, drawings_dir: Path
) -> None:
    test = load(drawings_dir, "test")
    accuracy = (predict(trained.ema_model(), test.images).argmax(dim=1) == test.labels).double().mean()
    metadata = metadata_of(content)
    assert json.loads(metadata.pop("labels")) == list(cifar10.CLASSES["synthetic"])
    assert metadata.pop("cifar10_zoo_version")
    assert metadata == {
        "dataset": "custom",
        "step": "60",
        "precision": "fp32",
        "layout": "winograd",
        "views": "1",
        "temperature": "1.0",
        "checkpoint_sha256": trained.sha256,
        "test_accuracy": f"{accuracy:.4f}",
    }


def test_the_metadata_name_the_variant(export_of: Callable[[Variant], ExportedModel]) -> None:
    ten_crop, direct = (metadata_of(export_of(VARIANTS[name]).content) for name in ("ten_crop", "direct"))
    assert (ten_crop["precision"], ten_crop["layout"], ten_crop["views"]) == ("fp32", "winograd", "10")
    assert (direct["precision"], direct["layout"], direct["views"]) == ("fp32", "direct", "1")


def test_test_images_of_other_classes_are_refused(trained: Checkpoint, few_images: Images) -> None:
    assert few_images.test is not None
    other = Dataset("cifar10", cifar10.CLASSES["cifar10"], few_images.test.images, few_images.test.labels)
    with pytest.raises(CheckpointError, match="was trained on custom data"):
        export_checkpoint(trained, Variant(), Images(other))


def test_the_export_is_one_file_without_local_paths(model_file: Path) -> None:
    assert [path.name for path in model_file.parent.iterdir()] == ["model.onnx"]
    model = onnx.load(model_file, load_external_data=False)
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    data = model_file.read_bytes()
    for path in (ROOT, Path.home(), Path(torch.__file__).parent, model_file.parent):
        assert str(path).encode() not in data
    assert b".py" not in data
