"""The exported model is the trained one: names, shapes, values, one clean file; or there is no file at all."""

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from cifar10_export import ServingGraph, VerificationError, build, verify
from cifar10_export import command as export_command
from cifar10_export.command import Variant, exported_model
from cifar10_export.graph import Layout
from cifar10_export.quantize import without_normalization
from cifar10_export.verify import BATCH_SIZES, TOLERANCES, Precision, verify_answers
from cifar10_export.winograd import WinogradNet
from hypothesis import given, settings
from hypothesis import strategies as st
from release import ship as export_ship
from release.ship import MANIFEST, MODELS

from cifar10_zoo.data import cifar10 as dataset
from cifar10_zoo.data.transforms import evaluation_images
from cifar10_zoo.network.model import Cifar10Net
from cifar10_zoo.training import checkpoint
from cifar10_zoo.training.inference import predict
from tests.helpers.command_line import ROOT, assert_fails_cleanly, run
from tests.helpers.golden_reference import Reference

GOLDEN_LOGIT_TOLERANCE = 1e-5
VARIANTS = {
    "direct": Variant(layout="direct"),
    "fp16": Variant("fp16"),
    "int8": Variant("int8"),
    "views10": Variant(views=10),
}
"""What is not the default, which most other tests are about."""


@pytest.fixture
def less_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first 300 images of each split, for tests of what the number makes no difference to."""
    load = dataset.load

    def load_less(folder: Path, split: dataset.Split) -> dataset.Dataset:
        data = load(folder, split)
        return dataset.Dataset(data.name, data.classes, data.images[:300], data.labels[:300])

    monkeypatch.setattr(dataset, "load", load_less)


def options(train_dir: Path, output: Path, data_dir: Path) -> export_command.Options:
    return export_command.Options(checkpoint_dir=train_dir, output=output, data_dir=data_dir)


def session(model: onnx.ModelProto | Path) -> onnxruntime.InferenceSession:
    source = model if isinstance(model, Path) else model.SerializeToString()
    return onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])


def wrong(model_file: Path) -> onnx.ModelProto:
    """The exported model with its last layer turned around: the best class becomes the worst."""
    model = onnx.load(model_file)
    last = next(tensor for tensor in model.graph.initializer if sorted(tensor.dims) == [10, 192])
    last.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(last), last.name))
    return model


@pytest.mark.parametrize("layout", ["winograd", "direct"])
def test_golden_logits_from_raw_pixels(golden_folder: Path, layout: Layout) -> None:
    reference = Reference(golden_folder)
    model = build(reference.state().model.eval(), layout)
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
    right = (predict(saved.ema_model(), test.images).argmax(dim=1) == test.labels).double().mean()
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(metadata.pop("labels")) == list(dataset.CLASSES["synthetic"])
    assert metadata.pop("cifar10_zoo_version")
    assert metadata == {
        "dataset": "synthetic",
        "step": "60",
        "precision": "fp32",
        "layout": "winograd",
        "views": "1",
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
    model = checkpoint.read(train_dir / "model.ckpt-60.safetensors").ema_model()
    with torch.inference_mode():
        expected = ServingGraph(model)(torch.from_numpy(images))
    for actual, wanted in zip(session(model_file).run(None, {"images": images}), expected, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=0, atol=1e-5)


def test_verification_finds_a_wrong_weight(model_file: Path, train_dir: Path) -> None:
    model = checkpoint.read(train_dir / "model.ckpt-60.safetensors").ema_model()
    exported = onnx.load(model_file)
    verify(exported, model, None)
    with torch.no_grad():
        model.conv2.weight[0, 0, 0, 0] += 0.01
    with pytest.raises(VerificationError, match=r"logits of a batch of 1 differ from PyTorch by \d"):
        verify(exported, model, None)


def test_verification_finds_wrong_names(model_file: Path, train_dir: Path) -> None:
    model = checkpoint.read(train_dir / "model.ckpt-60.safetensors").ema_model()
    exported = onnx.load(model_file)
    exported.graph.output[1].name = exported.graph.node[-1].output[0] = "probability"
    with pytest.raises(VerificationError, match="probability"):
        verify(exported, model, None)


@pytest.mark.usefixtures("less_data")
def test_verification_finds_one_image_of_another_class(model_file: Path, train_dir: Path, synthetic_dir: Path) -> None:
    """A bias moved by just enough to change the answer for the closest call, by more than rounding may."""
    model = checkpoint.read(train_dir / "model.ckpt-60.safetensors").ema_model()
    exported = onnx.load(model_file)
    test = dataset.load(synthetic_dir, "test")
    logits = predict(model, test.images)
    best, second = logits.topk(2, dim=1).values.T
    closest = float((best - second).min())
    with torch.no_grad():
        model.softmax_linear.bias[int(logits[(best - second).argmin()].argmax())] -= closest + 1e-4
    with pytest.raises(VerificationError, match=r"the best class of \d+ of 300 images differs"):
        verify_answers(session(exported), ServingGraph(model).eval(), test, "fp32")


def test_a_failed_verification_leaves_no_file(
    model_file: Path, train_dir: Path, synthetic_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_command, "build", lambda *_: wrong(model_file))
    with pytest.raises(VerificationError, match="differ from PyTorch by"):
        export_command.export(options(train_dir, tmp_path / "model.onnx", synthetic_dir))
    assert list(tmp_path.iterdir()) == []


def test_without_data_it_exports_all_the_same(train_dir: Path, tmp_path: Path) -> None:
    export_command.export(options(train_dir, tmp_path / "model.onnx", tmp_path / "nothing"))
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


@pytest.mark.usefixtures("less_data")
@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_every_variant_gives_what_pytorch_gives(train_dir: Path, synthetic_dir: Path, variant: Variant) -> None:
    """On real pixels, at sizes of batches around those that are special to anything."""
    saved = checkpoint.read(train_dir / "model.ckpt-60.safetensors")
    exported, accuracy = exported_model(saved, variant, synthetic_dir)
    test = dataset.load(synthetic_dir, "test")
    pixels = test.images.permute(0, 2, 3, 1).contiguous()
    reference = ServingGraph(saved.ema_model(), variant.views).eval()
    run = session(exported).run
    answers = run(None, {"images": pixels.numpy()})
    assert accuracy == pytest.approx((answers[0].argmax(axis=1) == test.labels.numpy()).mean())
    for batch_size in BATCH_SIZES:
        with torch.inference_mode():
            expected = reference(pixels[:batch_size])
        for actual, wanted in zip(run(None, {"images": pixels[:batch_size].numpy()}), expected, strict=True):
            tolerance = {"fp32": 1e-5, "fp16": 5e-3, "int8": 0.1}[variant.precision]
            np.testing.assert_allclose(actual, wanted, rtol=0, atol=tolerance * max(1, wanted.abs().max()))


def test_int8_computes_in_8_bits(train_dir: Path, synthetic_dir: Path, tmp_path: Path) -> None:
    """By the command; every kernel of a convolution or dense layer is int8, but the last."""
    words = ("--checkpoint-dir", train_dir, "--data-dir", synthetic_dir, "--output", tmp_path / "model.onnx")
    result = run(ROOT / "export" / "to_onnx.py", *words, "--precision", "int8")
    assert result.returncode == 0, result.stderr
    assert "as accurate as PyTorch in int8" in result.stderr
    exported = onnx.load(tmp_path / "model.onnx")
    types = [onnx.TensorProto.DataType.Name(t.data_type) for t in exported.graph.initializer if np.prod(t.dims) > 1000]
    assert sorted(types) == ["FLOAT", "INT8", "INT8", "INT8", "INT8"]
    assert all(node.domain in ("", "ai.onnx") for node in exported.graph.node)
    assert (tmp_path / "model.onnx").stat().st_size < 1_200_000


@pytest.mark.parametrize(
    ("words", "status", "part"),
    [
        (("--precision", "int8", "--data-dir", "nowhere"), 1, "calibrated on training images, and nowhere has none"),
        (("--precision", "int8", "--views", "10"), 2, "--views 10"),
        (("--precision", "fp16", "--layout", "winograd"), 2, "--layout winograd"),
    ],
)
def test_variants_that_cannot_be(
    train_dir: Path, tmp_path: Path, words: tuple[str, ...], status: int, part: str
) -> None:
    output = tmp_path / "model.onnx"
    result = run(ROOT / "export" / "to_onnx.py", "--checkpoint-dir", train_dir, "--output", output, *words)
    assert_fails_cleanly(result, status, part)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("less_data")
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_an_export_that_loses_accuracy_fails(
    model_file: Path, train_dir: Path, synthetic_dir: Path, precision: Precision
) -> None:
    model = checkpoint.read(train_dir / "model.ckpt-60.safetensors").ema_model()
    test = dataset.load(synthetic_dir, "test")
    with pytest.raises(VerificationError, match=f"in {precision} is 0.*, in PyTorch 0.*: that loses more than"):
        verify_answers(session(wrong(model_file)), ServingGraph(model).eval(), test, precision)


@settings(max_examples=10)
@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(0.1, 10))
def test_winograd_is_the_same_network(seed: int, scale: float) -> None:
    """For weights and activations of any size, to the rounding of float32."""
    random = torch.Generator().manual_seed(seed)
    model = Cifar10Net(seed % 1000).eval()
    with torch.inference_mode():
        model.conv2.weight.mul_(scale)
        images = torch.randn((3, 3, 24, 24), generator=random)
        expected = model(images)
        actual = WinogradNet(model)(images)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCES["fp32"] * max(1, expected.abs().max()))


def test_the_factors_of_int8_are_those_of_least_squares(train_dir: Path, synthetic_dir: Path) -> None:
    """The first layer behind a normalization gets the normalized values times their factor: nearest in total."""
    model = checkpoint.read(train_dir / "model.ckpt-60.safetensors").ema_model()
    with torch.inference_mode():
        model.conv2.weight.mul_(30)  # so that the normalization does something
        images = dataset.load(synthetic_dir, "train").images[:100]
        simpler = without_normalization(model, images)
        factors = (simpler.local3.weight / model.local3.weight).unflatten(1, (64, 36)).nanmean((0, 2))
        activations = model.activations(evaluation_images(images))
        x, y = activations["conv2"], activations["norm2"]
        best = ((factors[:, None, None] * x - y) ** 2).sum((0, 2, 3))
        for change in (-0.01, 0.01):
            worse = (((factors + change)[:, None, None] * x - y) ** 2).sum((0, 2, 3))
            assert (worse >= best).all()
        assert factors.min() < 0.99


@pytest.mark.usefixtures("less_data")
def test_shipping_writes_models_and_their_manifest(
    train_dir: Path, tmp_path: Path, synthetic_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_ship, "SHIPPED", {"small": ("modern", (Variant("int8"), Variant(layout="direct")))})
    (tmp_path / "old.onnx").touch()
    export_ship.ship(export_ship.Options(train_dir, train_dir, synthetic_dir, tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == [MANIFEST, "small-direct.onnx", "small.onnx"]


def test_the_manifest_describes_the_files_that_ship() -> None:
    """Hash, size and everything that the files say of themselves."""
    models = json.loads((MODELS / MANIFEST).read_text(encoding="utf-8"))["models"]
    assert list(models) == list(export_ship.SHIPPED)
    names = [file["name"] for entry in models.values() for file in entry["files"].values()]
    assert sorted(names) == sorted(path.name for path in MODELS.glob("*.onnx"))
    for entry in models.values():
        for layout, file in entry["files"].items():
            content = (MODELS / file["name"]).read_bytes()
            assert (len(content), hashlib.sha256(content).hexdigest()) == (file["bytes"], file["sha256"])
            says = {item.key: item.value for item in onnx.load_from_string(content).metadata_props}
            for key in ("dataset", "step", "precision", "views"):
                assert says[key] == str(entry[key])
            assert says["test_accuracy"] == f"{entry['test_accuracy']:.4f}"
            assert says["layout"] == layout
    assert models["int8"]["test_accuracy"] >= models["fp32"]["test_accuracy"] - 0.002
    assert models["views10"]["test_accuracy"] >= 0.885
