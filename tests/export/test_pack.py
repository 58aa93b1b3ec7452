"""The packed folder is as the tools of each convention expect it."""

import hashlib
import json
import re
import subprocess
import sys
import tarfile
from importlib import import_module
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import onnx
import onnx.version_converter
import onnxruntime
import pytest
import torch
from google.protobuf import text_format
from onnx import numpy_helper
from onnx.backend.test.runner import Runner
from onnx.reference import ReferenceEvaluator
from release.models import MODELS as SHIPPED_MODELS
from release.models import labels_of
from release.pack import Options, pack

from cifar10_zoo import __version__
from tests.helpers.command_line import ROOT, run

MODELS = ("fp32", "fp32-direct", "int8", "fp16", "views10", "tutorial")
NAMES = tuple(f"cifar10-cnn-{name}" for name in MODELS)
TOLERANCE = {"int8": 2e-2, "fp16": 5e-3}
"""Largest difference of probabilities from ONNX's reference implementation."""


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packed folder."""
    output = tmp_path_factory.mktemp("dist") / "zoo"
    result = run(ROOT / "export" / "pack.py", "--output-dir", output)
    assert result.returncode == 0, result.stderr
    folder = output / f"cifar10-cnn-{__version__}"
    assert [path.name for path in output.iterdir()] == [folder.name]
    return folder


def tensors(folder: Path, pattern: str) -> list[np.ndarray]:
    return [numpy_helper.to_array(onnx.load_tensor(path)) for path in sorted(folder.glob(pattern))]


def unpack(zoo: Path, target: Path, name: str) -> Path:
    """The folder in the archive of a model."""
    with tarfile.open(zoo / f"cifar10-cnn-{name}.tar.gz") as tar:
        tar.extractall(target, filter="data")
    return target / f"cifar10-cnn-{name}"


def read_manifest(zoo: Path) -> dict[str, dict[str, Any]]:
    models: dict[str, dict[str, Any]] = json.loads((zoo / "manifest.json").read_text(encoding="utf-8"))["models"]
    return models


@pytest.mark.parametrize("name", MODELS)
def test_the_packed_outputs_are_those_of_onnxs_reference_implementation(zoo: Path, tmp_path: Path, name: str) -> None:
    folder = unpack(zoo, tmp_path, name)
    model = onnx.load(folder / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    data = folder / "test_data_set_0"
    inputs, outputs = tensors(data, "input_*.pb"), tensors(data, "output_*.pb")
    images = inputs[0][:1] if name == "views10" else inputs[0]  # a second per image
    later = onnx.version_converter.convert_version(model, 19)  # the reference's first with DequantizeLinear
    computed: Any = ReferenceEvaluator(later).run(None, {"images": images})
    expected = [output[: len(images)] for output in outputs]
    tolerance = TOLERANCE.get(name, 1e-5)
    Runner.assert_similar_outputs(expected[1:], computed[1:], rtol=tolerance, atol=tolerance)
    assert (expected[0].argmax(1) == np.asarray(computed[0]).argmax(1)).all()


def test_the_manifest_names_size_and_hash_of_every_packed_model(zoo: Path) -> None:
    packed = [file for entry in read_manifest(zoo).values() for file in entry["files"].values()]
    assert [file["name"] for file in packed] == [f"{name}/model.onnx" for name in NAMES]
    for file in packed:
        content = (zoo / file["name"]).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file["bytes"], file["sha256"])


@pytest.mark.parametrize("name", MODELS)
def test_the_archive_has_the_shipped_model_and_its_test_data(zoo: Path, tmp_path: Path, name: str) -> None:
    folder = unpack(zoo, tmp_path, name)
    content = (folder / "model.onnx").read_bytes()
    assert content == (SHIPPED_MODELS / f"{name}.onnx").read_bytes()
    tensor = onnx.load_tensor(folder / "test_data_set_0" / "input_0.pb")
    assert tensor.name == onnx.load_from_string(content).graph.input[0].name
    packed = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    original = zoo / folder.name
    assert packed == {path.relative_to(original): path.read_bytes() for path in original.rglob("*") if path.is_file()}


def test_hugging_face_reads_the_card_and_its_accuracies_are_those_of_the_manifest(zoo: Path) -> None:
    card = huggingface_hub.ModelCard.load(zoo / "README.md")
    assert card.data.license == "apache-2.0"
    assert card.data.to_dict()["library_name"] == "onnx"
    assert card.data.pipeline_tag == "image-classification"
    results = {result.metric_value for result in card.data.eval_results or []}
    assert {entry["test_accuracy"] for entry in read_manifest(zoo).values()} >= results
    assert len(results) >= 3


def test_every_file_that_the_card_names_exists(zoo: Path) -> None:
    text = (zoo / "README.md").read_text(encoding="utf-8")
    pictures = [part.split(")")[0] for part in text.split("](")[1:] if part.split(")")[0].endswith(".png")]
    assert pictures
    assert all((zoo / picture).is_file() for picture in pictures)
    models = re.findall(r"`([^`]+\.onnx)`", text)
    assert len(set(models)) == len(MODELS)
    assert all((zoo / model).is_file() for model in models)
    assert all((zoo / name).exists() for name in ("triton", "labels.txt", "SHA256SUMS", "manifest.json"))


@pytest.fixture(scope="module")
def model_config(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """``inference.ModelConfig`` of Triton's own definition."""
    folder = tmp_path_factory.mktemp("triton")
    words = [f"-I{ROOT / 'tests' / 'helpers'}", f"--python_out={folder}", "model_config.proto"]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *words], check=True)
    sys.path.insert(0, str(folder))
    try:
        return import_module("model_config_pb2").ModelConfig
    finally:
        sys.path.remove(str(folder))


@pytest.mark.parametrize("name", NAMES)
def test_tritons_configuration_describes_the_model(zoo: Path, model_config: Any, name: str) -> None:
    folder = zoo / "triton" / name.replace("-", "_")
    parsed = text_format.Parse((folder / "config.pbtxt").read_text(encoding="utf-8"), model_config())
    session = onnxruntime.InferenceSession(folder / "1" / "model.onnx", providers=["CPUExecutionProvider"])
    types = {"tensor(uint8)": "TYPE_UINT8", "tensor(float)": "TYPE_FP32"}
    data_type = model_config.DESCRIPTOR.fields_by_name["input"].message_type.fields_by_name["data_type"].enum_type

    def described(values: Any) -> list[tuple[str, str, list[int]]]:
        return [(value.name, data_type.values_by_number[value.data_type].name, list(value.dims)) for value in values]

    def actual(values: Any) -> list[tuple[str, str, list[int]]]:
        return [(value.name, types[value.type], value.shape[1:]) for value in values]

    assert parsed.name == folder.name
    assert parsed.backend == "onnxruntime"
    assert parsed.max_batch_size > 1
    assert parsed.HasField("dynamic_batching")
    assert described(parsed.input) == actual(session.get_inputs())
    assert described(parsed.output) == actual(session.get_outputs())
    labels = (folder / parsed.output[1].label_filename).read_text(encoding="utf-8").splitlines()
    assert labels == labels_of(onnx.load(folder / "1" / "model.onnx"))


def test_the_checksums_are_right_and_cover_every_file(zoo: Path) -> None:
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=zoo, check=True)
    listed = {line.split("  ")[1] for line in (zoo / "SHA256SUMS").read_text(encoding="utf-8").splitlines()}
    files = {path.relative_to(zoo).as_posix() for path in zoo.rglob("*") if path.is_file()}
    assert files == listed | {"SHA256SUMS"}
    assert {"LICENSE", "README.md", "labels.txt"} <= files


def test_packing_again_replaces_the_folder_with_equal_bytes(zoo: Path) -> None:
    sums = (zoo / "SHA256SUMS").read_bytes()
    (zoo / "old").touch()
    pack(Options(output_dir=zoo.parent))
    assert (zoo / "SHA256SUMS").read_bytes() == sums
    assert not (zoo / "old").exists()


def test_torch_hub_loads_the_network_with_the_weights_of_fp32(zoo: Path) -> None:
    network = torch.hub.load(str(ROOT), "cifar10_cnn", source="local", pretrained=True)
    to_input = torch.hub.load(str(ROOT), "cifar10_input", source="local")
    data = zoo / "cifar10-cnn-fp32" / "test_data_set_0"
    images, logits = tensors(data, "input_0.pb")[0], tensors(data, "output_0.pb")[0]
    with torch.no_grad():
        computed = network(to_input(torch.from_numpy(images.copy()).permute(0, 3, 1, 2)))
    np.testing.assert_allclose(computed.numpy(), logits, atol=1e-4)
    untrained = torch.hub.load(str(ROOT), "cifar10_cnn", source="local")
    assert not torch.equal(untrained.conv1.weight, network.conv1.weight)
