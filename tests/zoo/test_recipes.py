"""The recipes: each trains as documented, and the modern recipe exports the tutorial's graph."""

import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
import tyro
from torch.nn import functional as F

from cifar10_zoo import evaluate, train
from cifar10_zoo.config import Hyperparameters
from cifar10_zoo.data.load import load
from cifar10_zoo.data.transforms import evaluation_images, ten_crop
from cifar10_zoo.errors import CheckpointError, OptionError
from cifar10_zoo.network.batch_norm import Cifar10NetBN, named_tensors
from cifar10_zoo.network.model import Cifar10Net
from cifar10_zoo.network.whitening import IMAGES, whitening_filters
from cifar10_zoo.recipes import MODERN, TUTORIAL, chosen_recipe
from cifar10_zoo.tracking import history
from cifar10_zoo.training import checkpoint
from cifar10_zoo.training.inference import predict_ten_crop
from cifar10_zoo.training.schedule import learning_rate
from cifar10_zoo.training.state import TrainingState
from tests.helpers.command_line import run_here, zoo
from tests.helpers.onnx_files import first

SHORT = replace(MODERN, batch_size=16, epochs=0.01)  # 31 steps


def options(data_dir: Path, train_dir: Path, **changes: Any) -> train.Options:
    wanted: dict[str, Any] = {"hyperparameters": SHORT, "device": "cpu", "summary_frequency": 5}
    return train.Options(data_dir=data_dir, train_dir=train_dir, **wanted | changes)


@pytest.fixture(scope="module")
def modern_dir(drawings_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a complete short run of the modern recipe."""
    folder = tmp_path_factory.mktemp("modern")
    assert train.train(options(drawings_dir, folder)).step == 31, "--epochs ends the run"
    return folder


def test_the_folded_network_gives_the_logits_of_the_network_with_batch_norm(
    modern_dir: Path, drawings_dir: Path
) -> None:
    saved = checkpoint.read_newest(modern_dir)
    normalized = Cifar10NetBN().eval()
    images = evaluation_images(load(drawings_dir, "test").images[:200])
    with torch.no_grad():
        for name, tensor in named_tensors(normalized).items():
            tensor.copy_(saved.tensors[f"averages/{name}"])
        exact = images.double()  # so that only the rounding of the folded weights, not that of sums, makes a difference
        expected, actual = normalized.double()(exact), saved.ema_model().double()(exact)
    assert expected.std() > 0.1
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
    assert type(saved.ema_model()) is Cifar10Net


def test_the_modern_recipe_exports_the_tutorials_graph(modern_dir: Path, model_file: Path, tmp_path: Path) -> None:
    """The nodes and the shapes of the weights are equal."""
    words = ("--checkpoint-dir", modern_dir, "--data-dir", tmp_path, "--output", tmp_path / "modern.onnx")
    result = run_here("cifar10_export", *words)
    assert result.returncode == 0, result.stderr

    def structure(model: onnx.ModelProto) -> list[object]:
        nodes = [(node.op_type, list(node.input), list(node.output)) for node in model.graph.node]
        return [*nodes, *((tensor.name, tuple(tensor.dims)) for tensor in model.graph.initializer)]

    assert structure(onnx.load(tmp_path / "modern.onnx")) == structure(onnx.load(model_file))


def test_an_interrupted_run_ends_with_the_same_bits(modern_dir: Path, drawings_dir: Path, tmp_path: Path) -> None:
    """The checkpoint contains momentum and running statistics."""
    for steps in (1, 20, 40):
        train.train(options(drawings_dir, tmp_path, max_steps=steps))
    whole, parts = checkpoint.read_newest(modern_dir), checkpoint.read_newest(tmp_path)
    assert whole.step == parts.step == 31
    assert whole.sha256 == parts.sha256
    assert {"momentum/conv1.weight", "weights/conv1_norm.mean", "averages/conv1_norm.variance"} <= whole.tensors.keys()


def test_a_flag_changes_one_value_of_the_recipe(drawings_dir: Path, tmp_path: Path) -> None:
    words = ("--data-dir", drawings_dir, "--train-dir", tmp_path, "--max-steps", 1, "--batch-size", 8)
    result = zoo("train", "--recipe", "modern", *words, "--momentum", 0.5)
    assert result.returncode == 0, result.stderr
    assert checkpoint.read_newest(tmp_path).hyperparameters == replace(MODERN, batch_size=8, momentum=0.5)
    with pytest.raises(CheckpointError, match=r"--recipe modern, not tutorial, .* --momentum 0\.5, not 0\.0"):
        train.train(options(drawings_dir, tmp_path, hyperparameters=Hyperparameters(batch_size=8)))


@pytest.mark.parametrize(
    ("arguments", "recipe"),
    [
        pytest.param([], TUTORIAL, id="none"),
        pytest.param(["--recipe", "modern"], MODERN, id="two words"),
        pytest.param(["--recipe=modern"], MODERN, id="one word"),
        pytest.param(["--batch_size", "8", "--recipe", "modern", "--help"], MODERN, id="among other options"),
        pytest.param(["--recipe", "modern", "--recipe", "tutorial"], TUTORIAL, id="twice"),
        pytest.param(["--train-dir", "modern"], TUTORIAL, id="value of another option"),
    ],
)
def test_the_chosen_recipe_is_the_value_of_the_option(arguments: list[str], recipe: Hyperparameters) -> None:
    assert chosen_recipe(arguments) == recipe


@pytest.mark.parametrize(
    "words",
    [("--recipe", "postmodern"), ("--recipe",), ("--max-steps", "1", "--recipe")],
    ids=["unknown", "missing", "missing after another option"],
)
def test_an_invalid_recipe_is_a_usage_error(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        tyro.cli(train.Options, args=words, default=train.Options(hyperparameters=chosen_recipe(words)))
    assert capsys.readouterr().err.count("--recipe"), "the error names the option"


def test_the_tutorial_recipe_leaves_all_new_hyperparameters_off() -> None:
    values = asdict(TUTORIAL)
    added = ("epochs", "momentum", "kernel_decay", "label_smoothing", "alternate_flips", "batch_norm", "whiten")
    assert not any(values[name] for name in added)
    assert (values["distort_colors"], values["schedule"]) == (1, "staircase")


def test_a_step_of_the_modern_recipe_equals_its_formulas() -> None:
    """Label smoothing, Nesterov momentum, decay of kernels but not of biases, statistics of the batch."""
    recipe = replace(MODERN, batch_size=8, whiten=False)
    state, reference = TrainingState(recipe), Cifar10NetBN(recipe.seed)
    random = torch.Generator().manual_seed(0)
    images, labels = torch.randn(8, 3, 24, 24, generator=random), torch.arange(8)
    log_probabilities = reference(images.contiguous(memory_format=torch.channels_last)).log_softmax(dim=1)
    target = torch.full((8, 10), 0.1 / 10) + 0.9 * F.one_hot(labels, 10)
    loss = -(target * log_probabilities).sum(dim=1).mean()
    loss.backward()
    assert float(state.train_step(images, labels)[-1]) == pytest.approx(loss.item(), rel=1e-6)
    rate = learning_rate(0, recipe)
    updated = dict(state.model.named_parameters())
    for name, parameter in reference.named_parameters():
        assert parameter.grad is not None
        gradient = parameter.grad + (5e-4 * parameter if name.endswith("weight") else 0)
        expected = parameter - rate * (1 + recipe.momentum) * gradient  # Nesterov's first step
        torch.testing.assert_close(updated[name], expected, rtol=0, atol=1e-7, msg=name)


def test_whiten_initializes_weights_and_ema_weights_of_conv1(drawings_dir: Path, tmp_path: Path) -> None:
    recipe = replace(SHORT, initial_learning_rate=1e-12)
    state = train.train(options(drawings_dir, tmp_path, hyperparameters=recipe, max_steps=1))
    filters = whitening_filters(evaluation_images(load(drawings_dir, "train").images[:IMAGES]))
    torch.testing.assert_close(state.model.conv1.weight.detach(), filters)
    torch.testing.assert_close(state.ema.weights["conv1.weight"], filters)


def test_epochs_end_a_run_of_the_tutorials_recipe(drawings_dir: Path, tmp_path: Path) -> None:
    recipe = Hyperparameters(batch_size=16, epochs=0.0007)
    assert train.train(options(drawings_dir, tmp_path, hyperparameters=recipe)).step == 2


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_compiled_and_eager_training_have_the_same_losses(drawings_dir: Path, tmp_path: Path) -> None:
    for name in ("compiled", "eager"):
        chosen = options(drawings_dir, tmp_path / name, max_steps=3, log_frequency=1, compile=name == "compiled")
        train.train(chosen)
    compiled, eager = ([row.total_loss for row in history.losses(tmp_path / name)] for name in ("compiled", "eager"))
    assert compiled == pytest.approx(eager, rel=1e-4)


def test_compile_without_a_compiler_is_an_error(
    drawings_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "/nowhere/g++")
    with pytest.raises(OptionError, match=r"--compile needs a C\+\+ compiler"):
        options(drawings_dir, tmp_path, compile=True)


def test_views_10_evaluates_the_average_of_ten_crops_without_recording_it(
    drawings_dir: Path, modern_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = first(40, load(drawings_dir, "test"))
    options = evaluate.Options(checkpoint_dir=modern_dir, views=10)
    model = checkpoint.read_newest(modern_dir).ema_model()
    evaluate.evaluate_checkpoint(checkpoint.read_newest(modern_dir), few, torch.device("cpu"), options)
    with torch.no_grad():
        scores = sum(model(crop).softmax(dim=1) for crop in ten_crop(few.images)) / 10
    torch.testing.assert_close(predict_ten_crop(model, few.images), scores)
    exact = float((scores.argmax(dim=1) == few.labels).double().mean())
    assert f"precision @ 1 = {exact:.3f}" in capsys.readouterr().out
    assert history.evaluations(modern_dir) == []
