"""--init-from: a run starts with trained weights, and computes at first what their network computes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from cifar10_runtime.engine.models import FOLDER
from hypothesis import given, settings
from hypothesis import strategies as st

from cifar10_zoo import train
from cifar10_zoo.config import Hyperparameters
from cifar10_zoo.data import cifar10
from cifar10_zoo.data.load import load
from cifar10_zoo.data.transforms import evaluation_images
from cifar10_zoo.errors import CheckpointError, OptionError, ZooError
from cifar10_zoo.network.batch_norm import fold_batch_norm, unfold_batch_norm
from cifar10_zoo.network.exported import read_exported
from cifar10_zoo.network.model import IMAGE_SIZES, Cifar10Net
from cifar10_zoo.network.winograd import from_winograd, to_winograd
from cifar10_zoo.recipes import MODERN
from cifar10_zoo.training import checkpoint
from cifar10_zoo.training.inference import predict
from cifar10_zoo.training.pretrained import SHIPPED, start_from
from cifar10_zoo.training.state import TrainingState
from cifar10_zoo.training.trial import trial_steps
from tests.helpers.command_line import zoo
from tests.helpers.onnx_files import first
from tests.helpers.shapes import colored_images, trained_state

RECIPES = {"tutorial": Hyperparameters(batch_size=8), "modern": replace(MODERN, batch_size=8)}
recipes = pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
shipped = pytest.mark.parametrize("source", SHIPPED)


def random_images(count: int, size: int = 32) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, 3, size, size), dtype=np.uint8))


@shipped
def test_a_shipped_model_is_read_back_with_its_outputs_and_classes(source: str) -> None:
    path, images = FOLDER / SHIPPED[source], random_images(8)
    network, classes = read_exported(path)
    assert classes == cifar10.CLASSES["cifar10"]
    pixels = images.permute(0, 2, 3, 1).numpy().copy()
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"images": pixels})
    np.testing.assert_allclose(predict(network, images), logits, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["int8.onnx", "fp16.onnx", "manifest.json"])
def test_other_files_are_refused(name: str) -> None:
    with pytest.raises(ZooError, match=f"{name} is not a model that cifar10_export wrote in fp32"):
        read_exported(FOLDER / name)


@pytest.mark.parametrize("size", IMAGE_SIZES)
def test_the_weights_for_winograds_algorithm_can_be_turned_back(size: int) -> None:
    model = Cifar10Net(seed=2, image_size=size)
    conv2, local3 = from_winograd(*to_winograd(model), size)
    torch.testing.assert_close(conv2, model.conv2.weight, rtol=0, atol=1e-7)
    assert torch.equal(local3, model.local3.weight)


@settings(max_examples=4)
@given(seed=st.integers(0, 1000), scale=st.floats(0.1, 10), size=st.sampled_from(IMAGE_SIZES))
def test_batch_norm_is_put_into_a_plain_network_without_a_change_of_its_logits(
    seed: int, scale: float, size: int
) -> None:
    plain = Cifar10Net(seed, classes=5, image_size=size).eval()
    with torch.no_grad():
        for layer in (plain.conv1, plain.local3):
            layer.weight.mul_(scale)
            assert layer.bias is not None
            torch.nn.init.normal_(layer.bias, std=scale)
    crops = evaluation_images(random_images(6, size))
    normalized = unfold_batch_norm(plain, crops)
    with torch.inference_mode():
        expected = plain(crops)
        for network in (normalized, fold_batch_norm(normalized)):
            torch.testing.assert_close(network(crops), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_a_network_that_was_trained_with_batch_norm_starts_training_with_its_own_answers(cifar10_dir: Path) -> None:
    """In training, the statistics of a batch replace the running ones."""
    data = cifar10.load(cifar10_dir, "train")
    network, _ = read_exported(FOLDER / SHIPPED["modern"])
    model = unfold_batch_norm(network, evaluation_images(data.images[:500])).train()
    crops = evaluation_images(data.images[500:800])
    with torch.no_grad():
        assert (network(crops).argmax(dim=1) == model(crops).argmax(dim=1)).double().mean() > 0.95


@pytest.mark.parametrize(
    ("source", "recipe"),
    [("tutorial", RECIPES["tutorial"]), ("modern", RECIPES["tutorial"]), ("modern", RECIPES["modern"])],
    ids=["tutorial", "modern without batch norm", "modern"],
)
def test_a_run_on_the_same_classes_starts_with_the_answers_of_its_source(
    source: str, recipe: Hyperparameters, drawings_dir: Path
) -> None:
    data = replace(first(300, load(drawings_dir, "train")), classes=cifar10.CLASSES["cifar10"])
    state = TrainingState(recipe)
    assert start_from(source, state, data)
    network, _ = read_exported(FOLDER / SHIPPED[source])
    expected = predict(network, data.images)
    actual = predict(fold_batch_norm(state.model.eval()), data.images)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))
    assert all(
        torch.equal(state.ema.weights[name.removeprefix("weights/")], tensor)
        for name, tensor in state.tensors().items()
        if name.startswith("weights/")
    )


@recipes
def test_other_classes_get_a_new_last_layer_and_all_other_layers_are_kept(recipe: Hyperparameters) -> None:
    data = colored_images(3, 32, 40)
    state = TrainingState(recipe, classes=3)
    new = {name: tensor.clone() for name, tensor in state.model.softmax_linear.state_dict().items()}
    assert not start_from("modern", state, data)
    assert all(torch.equal(state.model.softmax_linear.state_dict()[name], tensor) for name, tensor in new.items())
    network, _ = read_exported(FOLDER / SHIPPED["modern"])
    crops = evaluation_images(data.images)
    with torch.inference_mode():
        actual = fold_batch_norm(state.model.eval()).activations(crops)["local4"]
        torch.testing.assert_close(actual, network.activations(crops)["local4"], rtol=0, atol=1e-3)


@recipes
def test_a_run_starts_with_the_ema_weights_of_another_run(recipe: Hyperparameters, tmp_path: Path) -> None:
    data = colored_images(3, 48, 40)
    source = trained_state(data, 3, RECIPES["modern"])
    checkpoint.save(source, tmp_path, data.name, data.classes)
    state = TrainingState(recipe, classes=3, image_size=48)
    assert start_from(str(tmp_path), state, data)
    expected = predict(checkpoint.read_newest(tmp_path).ema_model(), data.images)
    torch.testing.assert_close(predict(fold_batch_norm(state.model.eval()), data.images), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("source", ["nowhere", "modern"], ids=["missing directory", "other image size"])
def test_weights_that_cannot_be_used_are_an_error_that_names_the_option(source: str) -> None:
    data = colored_images(3, 48, 4)
    with pytest.raises(OptionError, match=f"--init-from {source}"):
        start_from(source, TrainingState(Hyperparameters(), classes=3, image_size=48), data)


def test_the_command_records_the_source_and_refuses_to_change_it(
    drawings_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--data-dir", drawings_dir, "--train-dir", tmp_path, "--batch-size", 8, "--device", "cpu")
    result = zoo("train", *words, "--init-from", "modern", "--max-steps", 1)
    assert result.returncode == 0, result.stderr
    note = "starting with the weights of modern, except softmax_linear, which is new for these classes"
    assert note in result.stderr.splitlines()
    assert checkpoint.read_newest(tmp_path).hyperparameters.init_from == "modern"

    recipe = Hyperparameters(batch_size=8, init_from="modern")
    again = train.Options(data_dir=drawings_dir, train_dir=tmp_path, max_steps=2, device="cpu", hyperparameters=recipe)
    assert train.train(again).step == 2
    assert "starting with" not in capsys.readouterr().err
    message = "was trained with --init-from modern, not tutorial, --mirror, not --no-mirror: continue"
    with pytest.raises(CheckpointError, match=message):
        train.train(replace(again, hyperparameters=replace(recipe, init_from="tutorial", mirror=False)))


def test_weights_without_batch_norm_are_refused_for_a_recipe_with_it() -> None:
    """Their layers have outputs of other variances than 1, so that training would start with other answers."""
    data = colored_images(3, 32, 4)
    with pytest.raises(OptionError, match=r"--init-from tutorial .* without batch normalization: .*--recipe tutorial"):
        start_from("tutorial", TrainingState(RECIPES["modern"], classes=3), data)


def test_a_changed_learning_rate_is_refused_with_init_from_as_the_way(drawings_dir: Path, train_dir: Path) -> None:
    recipe = Hyperparameters(batch_size=16, initial_learning_rate=0.05)
    options = train.Options(data_dir=drawings_dir, train_dir=train_dir, max_steps=70, hyperparameters=recipe)
    message = rf"--initial-learning-rate 0\.1, not 0\.05: .* choose another --train-dir and --init-from {train_dir}"
    with pytest.raises(CheckpointError, match=message):
        train.train(options)


@given(steps=st.integers(1, 10**7))
def test_a_trial_takes_a_tenth_of_the_steps_at_least_200_and_never_more_than_the_training(steps: int) -> None:
    trial = trial_steps(steps)
    assert trial <= steps
    assert trial == steps or trial >= 200
    assert trial <= max(200, steps / 10)
