"""Converted checkpoints of the original program have all of its values, with the EMA weights and the step."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cifar10_zoo.config import Hyperparameters
from cifar10_zoo.errors import CheckpointError, OptionError
from cifar10_zoo.from_tensorflow import convert
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
