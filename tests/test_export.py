"""The exported model is the trained one: names, shapes, values, one clean file; or there is no file at all."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from cifar10_export import ServingGraph, VerificationError, build, verify
from cifar10_export import command as export_command
from cifar10_export.verify import verify_best_classes
from command_line import ROOT, assert_fails_cleanly, run
from golden_reference import Reference
from hypothesis import given, settings
from hypothesis import strategies as st

from cifar10_zoo import checkpoint, dataset
from cifar10_zoo.evaluate import predict
from cifar10_zoo.model import Cifar10Net

GOLDEN_LOGIT_TOLERANCE = 1e-5


def session(model: onnx.ModelProto | Path) -> onnxruntime.InferenceSession:
    source = model if isinstance(model, Path) else model.SerializeToString()
    return onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])


def test_golden_logits_from_raw_pixels(golden_folder: Path) -> None:
    reference = Reference(golden_folder)
    model = build(reference.state().model.eval())
    logits, probabilities = session(model).run(None, {"images": reference.images_nhwc})
    golden = reference.arrays("forward")
    np.testing.assert_allclose(logits, golden["logits"], rtol=0, atol=GOLDEN_LOGIT_TOLERANCE)
    np.testing.assert_allclose(probabilities, golden["probs"], rtol=0, atol=GOLDEN_LOGIT_TOLERANCE)


def test_the_contract(model_file: Path, train_dir: Path, synthetic_dir: Path) -> None:
    model = onnx.load(model_file)
    onnx.checker.check_model(model, full_check=True)

    def interface(values: list[onnx.ValueInfoProto]) -> list[tuple[str, int, list[str | int]]]:
        return [
            (
                value.name,
                value.type.tensor_type.elem_type,
                [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim],
            )
            for value in values
        ]

    assert interface(list(model.graph.input)) == [("images", onnx.TensorProto.UINT8, ["N", 32, 32, 3])]
    assert interface(list(model.graph.output)) == [
        ("logits", onnx.TensorProto.FLOAT, ["N", 10]),
        ("probabilities", onnx.TensorProto.FLOAT, ["N", 10]),
    ]
    saved = checkpoint.read(train_dir / "model.ckpt-60.safetensors")
    test = dataset.load(synthetic_dir, "test")
    right = (predict(saved.averaged_model(), test.images).argmax(dim=1) == test.labels).double().mean()
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(metadata.pop("labels")) == list(dataset.CLASSES["synthetic"])
    assert metadata.pop("cifar10_zoo_version")
    assert metadata == {
        "dataset": "synthetic",
        "step": "60",
        "precision": "fp32",
        "checkpoint_sha256": saved.sha256,
        "test_accuracy": f"{right:.4f}",
    }


def test_one_file_without_traces_of_the_machine(model_file: Path) -> None:
    assert [path.name for path in model_file.parent.iterdir()] == ["model.onnx"]
    model = onnx.load(model_file, load_external_data=False)
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    data = model_file.read_bytes()
    for trace in (ROOT, Path.home(), Path(torch.__file__).parent, model_file.parent):
        assert str(trace).encode() not in data
    assert b".py" not in data


@settings(max_examples=20)
@given(batch_size=st.integers(1, 130), seed=st.integers(0, 2**32 - 1))
def test_any_batch_gives_what_pytorch_gives(model_file: Path, train_dir: Path, batch_size: int, seed: int) -> None:
    images = np.random.default_rng(seed).integers(0, 256, (batch_size, 32, 32, 3), dtype=np.uint8)
    model = checkpoint.read(train_dir / "model.ckpt-60.safetensors").averaged_model()
    with torch.inference_mode():
        expected = ServingGraph(model)(torch.from_numpy(images))
    for actual, wanted in zip(session(model_file).run(None, {"images": images}), expected, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=0, atol=1e-5)


def test_verification_finds_a_wrong_weight(train_dir: Path) -> None:
    model = checkpoint.read(train_dir / "model.ckpt-60.safetensors").averaged_model()
    exported = build(model)
    verify(exported, model, None)
    with torch.no_grad():
        model.conv2.weight[0, 0, 0, 0] += 0.01
    with pytest.raises(VerificationError, match=r"logits of a batch of 1 differ from PyTorch by \d"):
        verify(exported, model, None)


def test_verification_finds_wrong_names(train_dir: Path) -> None:
    model = checkpoint.read(train_dir / "model.ckpt-60.safetensors").averaged_model()
    exported = build(model)
    exported.graph.output[1].name = exported.graph.node[-1].output[0] = "probability"
    with pytest.raises(VerificationError, match="probability"):
        verify(exported, model, None)


def test_verification_finds_one_image_of_another_class(train_dir: Path, synthetic_dir: Path) -> None:
    """A bias moved by just enough to change the answer for the closest call of the test images."""
    model = checkpoint.read(train_dir / "model.ckpt-60.safetensors").averaged_model()
    exported = build(model)
    test = dataset.load(synthetic_dir, "test")
    logits = predict(model, test.images)
    best, second = logits.topk(2, dim=1).values.T
    closest = float((best - second).min())
    with torch.no_grad():
        model.softmax_linear.bias[int(logits[(best - second).argmin()].argmax())] -= 2 * closest
    with pytest.raises(VerificationError, match=r"the best class of \d+ of 10000 images differs"):
        verify_best_classes(session(exported), model, test)


def test_a_failed_verification_leaves_no_file(
    train_dir: Path, synthetic_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build_another(_: Cifar10Net) -> onnx.ModelProto:
        return build(Cifar10Net(seed=99).eval())

    monkeypatch.setattr(export_command, "build", build_another)
    with pytest.raises(VerificationError, match="differ from PyTorch by"):
        export_command.export(export_command.Options(train_dir, tmp_path / "model.onnx", synthetic_dir))
    assert list(tmp_path.iterdir()) == []


def test_without_data_it_exports_all_the_same(train_dir: Path, tmp_path: Path) -> None:
    export_command.export(export_command.Options(train_dir, tmp_path / "model.onnx", tmp_path / "nothing"))
    metadata = {entry.key for entry in onnx.load(tmp_path / "model.onnx").metadata_props}
    assert "step" in metadata
    assert "test_accuracy" not in metadata


@pytest.mark.parametrize("output", [".", "nowhere/model.onnx"])
def test_an_output_that_cannot_be_is_found_out_first(train_dir: Path, tmp_path: Path, output: str) -> None:
    result = run(ROOT / "export" / "to_onnx.py", "--checkpoint-dir", train_dir, "--output", tmp_path / output)
    assert_fails_cleanly(result, 2, "--output")
    assert list(tmp_path.iterdir()) == []


def test_without_a_checkpoint_it_says_so(tmp_path: Path) -> None:
    result = run(ROOT / "export" / "to_onnx.py", "--checkpoint-dir", tmp_path, "--output", tmp_path / "model.onnx")
    assert_fails_cleanly(result, 1, f"no checkpoint in {tmp_path}")
    assert list(tmp_path.iterdir()) == []
