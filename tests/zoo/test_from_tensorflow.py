"""Converted checkpoints of the original program have all of its values, with the EMA weights and the step."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cifar10_zoo import from_tensorflow
from cifar10_zoo.config import Hyperparameters
from cifar10_zoo.errors import CheckpointError, OptionError
from cifar10_zoo.from_tensorflow import convert
from cifar10_zoo.network.model import Cifar10Net
from cifar10_zoo.recipes import MODERN
from cifar10_zoo.training import checkpoint
from tests.helpers.command_line import assert_fails_cleanly, zoo
from tests.helpers.golden_reference import GOLDEN, Reference, assert_matches, tf_name, to_tf

Variables = dict[str, NDArray[Any]]


@pytest.fixture
def variables(golden_folder: Path) -> Variables:
    """The variables of the original program: known weights, EMA weights that differ, loss averages and the step."""
    weights = Reference(golden_folder).variables
    averages = {f"{name}/ExponentialMovingAverage": value + np.float32(0.5) for name, value in weights.items()}
    losses = ("cross_entropy", "local3/weight_loss", "local4/weight_loss", "total_loss")
    loss_averages = {f"{name}/avg": np.array(number, np.float32) for number, name in enumerate(losses)}
    return {**weights, **averages, **loss_averages, "global_step": np.array(1234)}


def test_each_variable_is_converted_to_its_pytorch_tensor(golden_folder: Path, variables: Variables) -> None:
    reference = Reference(golden_folder)
    state = convert(variables, Hyperparameters(batch_size=16))
    expected = reference.state()
    for name, parameter in expected.model.named_parameters():
        assert torch.equal(dict(state.model.named_parameters())[name], parameter), name
        torch.testing.assert_close(state.ema.weights[name], parameter + 0.5)
        assert (to_tf(tf_name(name), parameter) == variables[tf_name(name)]).all()
    assert state.loss_averages.values.tolist() == [0, 1, 2, 3]
    assert state.step == 1234
    images = torch.randn(4, 3, 24, 24)
    assert torch.equal(state.model(images), expected.model(images))


def test_checkpoints_of_the_multi_gpu_trainer_have_no_loss_averages(variables: Variables) -> None:
    """They hold the step as float32."""
    without = {name: value for name, value in variables.items() if not name.endswith("/avg")}
    state = convert(without | {"global_step": np.array(7, np.float32)}, Hyperparameters())
    assert state.loss_averages.values.tolist() == [0, 0, 0, 0]
    assert state.step == 7


def test_early_checkpoints_with_the_step_as_variable_are_converted(variables: Variables) -> None:
    """They have a loss average of 0 for each layer whose weight decay has the factor 0."""
    step = {"Variable": variables.pop("global_step").astype(np.int32)}
    zero = {f"{layer}/weight_loss/avg": np.array(0, np.float32) for layer in ("conv1", "conv2", "softmax_linear")}
    early = convert(variables | step | zero, Hyperparameters())
    newest = convert(variables | {"global_step": step["Variable"]}, Hyperparameters())
    assert early.step == newest.step == 1234
    for name, tensor in newest.tensors().items():
        assert torch.equal(early.tensors()[name], tensor), name


def test_a_variable_that_is_no_number_is_not_the_step(variables: Variables) -> None:
    variables["Variable"] = np.zeros(3)
    del variables["global_step"]
    with pytest.raises(CheckpointError, match="no variable global_step"):
        convert(variables, Hyperparameters())


@pytest.mark.parametrize(
    ("kept", "source"),
    [
        pytest.param(("weights", "biases", "global_step"), "model.ckpt", id="with the step"),
        pytest.param(("weights", "biases"), "model.ckpt-1234", id="with the step in the name only"),
        pytest.param(("weights", "biases"), "model.ckpt-1234.index", id="with the step in the name of the index"),
    ],
)
def test_a_checkpoint_of_the_weights_only_is_converted_and_the_command_says_which_weights_it_used(
    golden_folder: Path,
    variables: Variables,
    kept: tuple[str, ...],
    source: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Reading is replaced, because it needs TensorFlow."""
    weights = {name: value for name, value in variables.items() if name.endswith(kept)}
    monkeypatch.setattr(from_tensorflow, "read", lambda _: weights)
    from_tensorflow.main(from_tensorflow.Options(source=Path(source), train_dir=tmp_path))
    saved = checkpoint.read(tmp_path / "model.ckpt-1234.safetensors")
    for name, parameter in Reference(golden_folder).state().model.named_parameters():
        assert torch.equal(saved.tensors[f"weights/{name}"], parameter), name
        assert torch.equal(saved.tensors[f"averages/{name}"], parameter), name
    assert "it has no EMA weights, so the weights are also the EMA weights" in capsys.readouterr().err


def test_a_checkpoint_with_some_ema_weights_only_is_an_error(variables: Variables) -> None:
    for name in ("conv1/weights", "conv1/biases"):
        del variables[f"{name}/ExponentialMovingAverage"]
    with pytest.raises(CheckpointError, match="no variable conv1/biases/ExponentialMovingAverage, conv1/weights/Exp"):
        convert(variables, Hyperparameters())


@pytest.mark.parametrize(
    "hyperparameters",
    [MODERN, Hyperparameters(batch_norm=True), Hyperparameters(whiten=True)],
    ids=["modern", "batch-norm", "whiten"],
)
def test_hyperparameters_of_another_network_are_refused(variables: Variables, hyperparameters: Hyperparameters) -> None:
    with pytest.raises(OptionError, match="do not fit checkpoints of the original program"):
        convert(variables, hyperparameters)


@pytest.mark.parametrize(
    "name",
    ["conv1/weights", "local3/biases/ExponentialMovingAverage", "total_loss/avg", "global_step"],
    ids=["weight", "ema-weight", "loss-average", "step"],
)
def test_the_error_names_a_missing_variable(variables: Variables, name: str) -> None:
    del variables[name]
    with pytest.raises(CheckpointError, match=f"no variable {name}"):
        convert(variables, Hyperparameters())


def test_the_error_names_an_unknown_variable(variables: Variables) -> None:
    with pytest.raises(CheckpointError, match="does not have: conv3/weights"):
        convert(variables | {"conv3/weights": np.zeros(1)}, Hyperparameters())


def test_the_error_names_a_variable_of_wrong_shape(variables: Variables) -> None:
    with pytest.raises(CheckpointError, match=r"local4/weights has shape \[192, 384\], expected \[384, 192\]"):
        convert(variables | {"local4/weights": variables["local4/weights"].T}, Hyperparameters())


def test_the_command_converts_a_checkpoint_that_tensorflow_wrote(variables: Variables, tmp_path: Path) -> None:
    tf = pytest.importorskip("tensorflow", reason="needs the extra tf").compat.v1
    prefix = tmp_path / "model.ckpt-1234"
    with tf.Graph().as_default(), tf.Session() as session:
        saver = tf.train.Saver([tf.Variable(value, name=name, use_resource=False) for name, value in variables.items()])
        session.run(tf.global_variables_initializer())
        saver.save(session, str(tmp_path / "model.ckpt"), global_step=1234)
    result = zoo("from_tensorflow", prefix, "--train-dir", tmp_path / "ours", "--batch-size", 16)
    assert result.returncode == 0, result.stderr
    saved = checkpoint.read(tmp_path / "ours" / "model.ckpt-1234.safetensors")
    expected = convert(variables, Hyperparameters(batch_size=16))
    assert (saved.step, saved.dataset, saved.hyperparameters.batch_size) == (1234, "cifar10", 16)
    for name, parameter in expected.model.named_parameters():
        assert torch.equal(saved.tensors[f"weights/{name}"], parameter)
        assert torch.equal(saved.tensors[f"averages/{name}"], expected.ema.weights[name])

    again = zoo("from_tensorflow", prefix, "--train-dir", tmp_path / "ours")
    assert_fails_cleanly(again, 1, "has checkpoints of another training")
    data = prefix.with_name(prefix.name + ".data-00000-of-00001")
    data.write_bytes(data.read_bytes()[:-1000])
    assert_fails_cleanly(zoo("from_tensorflow", prefix, "--train-dir", tmp_path / "new"), 1, str(prefix))
    assert not (tmp_path / "new").exists()


def test_the_error_names_a_missing_checkpoint(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow", reason="needs the extra tf")
    result = zoo("from_tensorflow", tmp_path / "model.ckpt-1")
    assert_fails_cleanly(result, 1, "model.ckpt-1: the checkpoint does not exist")


def test_a_checkpoint_that_the_original_program_wrote_is_converted(tmp_path: Path) -> None:
    """$CIFAR10_TF_CHECKPOINT names the checkpoint that the original saved after the 30 steps of trajectory.npz."""
    source = os.environ.get("CIFAR10_TF_CHECKPOINT")
    if source is None:
        pytest.skip("CIFAR10_TF_CHECKPOINT names no checkpoint of the original program")
    pytest.importorskip("tensorflow", reason="needs the extra tf")
    result = zoo("from_tensorflow", source, "--train-dir", tmp_path)
    assert result.returncode == 0, result.stderr
    saved = checkpoint.read(tmp_path / "model.ckpt-30.safetensors")
    golden = Reference(GOLDEN / "seed0").arrays("trajectory")
    for group, prefix in (("weights", "var"), ("averages", "ema")):
        for name, parameter in saved.ema_model().named_parameters():
            assert saved.tensors[f"{group}/{name}"].shape == parameter.shape
            variable = to_tf(tf_name(name), saved.tensors[f"{group}/{name}"])
            assert_matches(variable, golden, f"step30_{prefix}_{tf_name(name).replace('/', '_')}")


@pytest.mark.parametrize(("classes", "size"), [(17, 32), (100, 64)], ids=["17 classes", "100 classes of 64x64 pixels"])
def test_the_shapes_tell_the_number_of_classes_and_the_image_size(classes: int, size: int) -> None:
    """In the original, a dense layer multiplies rows [N, in] with weights [in, out]; pool2 is [N, H, W, 64]."""
    source = Cifar10Net(seed=5, classes=classes, image_size=size)
    pool2 = size * 3 // 16
    variables: Variables = {"global_step": np.array(3)}
    for name, parameter in source.named_parameters():
        array = parameter.detach().numpy()
        if name == "local3.weight":
            array = array.reshape(384, 64, pool2, pool2).transpose(0, 2, 3, 1).reshape(384, -1)
        variables[tf_name(name)] = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
    state = convert(variables, Hyperparameters())
    for name, tensor in source.state_dict().items():
        assert torch.equal(state.model.state_dict()[name], tensor), name
    x = np.random.default_rng(0).standard_normal((2, pool2, pool2, 64)).astype(np.float32)
    expected = x.reshape(2, -1) @ variables["local3/weights"]
    with torch.no_grad():
        actual = state.model.local3(torch.from_numpy(x).permute(0, 3, 1, 2).flatten(1)) - state.model.local3.bias
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-3)


def test_class_names_come_from_a_file_or_are_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, golden_folder: Path
) -> None:
    """Reading is replaced, because it needs TensorFlow."""
    weights = {**Reference(golden_folder).variables, "global_step": np.array(1)}
    weights |= {"softmax_linear/weights": np.zeros((192, 3), np.float32)}
    weights |= {"softmax_linear/biases": np.zeros(3, np.float32)}
    monkeypatch.setattr(from_tensorflow, "read", lambda _: weights)

    def converted(folder: str, labels: Path | None) -> checkpoint.Checkpoint:
        options = from_tensorflow.Options(source=Path("model.ckpt"), train_dir=tmp_path / folder, labels=labels)
        from_tensorflow.main(options)
        return checkpoint.read_newest(tmp_path / folder)

    numbered = converted("numbered", None)
    assert (numbered.dataset, numbered.classes) == ("custom", ("0", "1", "2"))
    labels = tmp_path / "labels.txt"
    labels.write_text("daisy\nrose\ntulip\n")
    assert converted("named", labels).classes == ("daisy", "rose", "tulip")
    labels.write_text("daisy\nrose\nrose\n")
    with pytest.raises(OptionError, match=f"--labels {labels} must name the 3 classes"):
        converted("wrong", labels)
