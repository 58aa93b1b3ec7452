"""The modern recipe: trained otherwise, and yet the same network; every part of it does what it says."""

import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
import tyro
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from cifar10_zoo import evaluate, train
from cifar10_zoo.config import Hyperparameters
from cifar10_zoo.data import cifar10 as dataset
from cifar10_zoo.data.transforms import evaluation_images, ten_crop
from cifar10_zoo.errors import CheckpointError, OptionError
from cifar10_zoo.network.batch_norm import BatchNorm, Cifar10NetBN
from cifar10_zoo.network.model import Cifar10Net
from cifar10_zoo.network.whitening import FILTERS, whitening_filters
from cifar10_zoo.recipes import MODERN, TUTORIAL, named_in
from cifar10_zoo.tracking import history
from cifar10_zoo.training import checkpoint
from cifar10_zoo.training.inference import predict_ten_crop
from cifar10_zoo.training.schedule import last_step, learning_rate
from cifar10_zoo.training.state import TrainingState
from tests.helpers.command_line import ROOT, run, zoo
from tests.helpers.small_data import write_small_data

SHORT = replace(MODERN, batch_size=32, epochs=0.02)  # 31 steps


def options(data_dir: Path, train_dir: Path, **changes: Any) -> train.Options:
    wanted: dict[str, Any] = {"hyperparameters": SHORT, "device": "cpu", "summary_frequency": 5}
    return train.Options(data_dir=data_dir, train_dir=train_dir, **wanted | changes)


@pytest.fixture(scope="module")
def modern_dir(synthetic_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole short training by the modern recipe."""
    folder = tmp_path_factory.mktemp("modern")
    assert train.train(options(synthetic_dir, folder)).step == 31, "the triangle ends it"
    return folder


def test_the_folded_network_is_the_normalized_one(modern_dir: Path, synthetic_dir: Path) -> None:
    saved = checkpoint.read_newest(modern_dir)
    normalized = Cifar10NetBN().eval()
    normalized.load_state_dict({name: saved.tensors[f"averages/{name}"] for name in normalized.state_dict()})
    images = evaluation_images(dataset.load(synthetic_dir, "test").images[:200])
    with torch.no_grad():
        expected, actual = normalized(images), saved.ema_model()(images)
    assert expected.std() > 0.1
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
    assert type(saved.ema_model()) is Cifar10Net


def test_batch_normalization_is_that_of_pytorch() -> None:
    """But for the factor, which is 1."""
    ours, theirs = BatchNorm(8), torch.nn.BatchNorm2d(8, momentum=0.02)
    with torch.no_grad():
        theirs.bias.copy_(ours.bias.normal_())
    for _ in range(3):
        x = torch.randn(16, 8, 5, 5) * 3 + 1
        assert torch.equal(ours(x), theirs(x))
    ours.eval(), theirs.eval()
    assert torch.equal(ours(x), theirs(x))


def test_it_is_served_by_the_same_graph(modern_dir: Path, model_file: Path, tmp_path: Path) -> None:
    """Node by node that of the tutorial, in the same shapes; and it exports by the same command."""
    words = ("--checkpoint-dir", modern_dir, "--data-dir", tmp_path, "--output", tmp_path / "modern.onnx")
    result = run(ROOT / "export" / "to_onnx.py", *words)
    assert result.returncode == 0, result.stderr
    served, tutorial = onnx.load(tmp_path / "modern.onnx"), onnx.load(model_file)

    def structure(model: onnx.ModelProto) -> list[object]:
        nodes = [(node.op_type, list(node.input), list(node.output)) for node in model.graph.node]
        return [*nodes, *((tensor.name, tuple(tensor.dims)) for tensor in model.graph.initializer)]

    assert structure(served) == structure(tutorial)


def test_it_resumes_to_the_same_bits(modern_dir: Path, synthetic_dir: Path, tmp_path: Path) -> None:
    """Momentum and running statistics are in the checkpoint."""
    for steps in (1, 20, 40):
        train.train(options(synthetic_dir, tmp_path, max_steps=steps))
    whole, parts = checkpoint.read_newest(modern_dir), checkpoint.read_newest(tmp_path)
    assert whole.step == parts.step == 31
    assert whole.sha256 == parts.sha256
    assert {"momentum/conv1.weight", "weights/conv1_norm.mean", "averages/conv1_norm.variance"} <= whole.tensors.keys()


def test_the_command_takes_a_recipe_and_changes_of_it(synthetic_dir: Path, tmp_path: Path) -> None:
    words = ("--data-dir", synthetic_dir, "--train-dir", tmp_path, "--max-steps", 1, "--batch-size", 8)
    result = zoo("train", "--recipe", "modern", *words, "--momentum", 0.5)
    assert result.returncode == 0, result.stderr
    assert checkpoint.read_newest(tmp_path).hyperparameters == replace(MODERN, batch_size=8, momentum=0.5)
    with pytest.raises(CheckpointError, match=r"--recipe modern, not tutorial, .* --momentum 0\.5, not 0\.0"):
        train.train(options(synthetic_dir, tmp_path, hyperparameters=Hyperparameters(batch_size=8)))


@pytest.mark.parametrize("words", [("--recipe", "postmodern"), ("--recipe",), ("--max-steps", "1", "--recipe")])
def test_a_wrong_recipe_is_wrong_usage(words: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit, match="2"):
        tyro.cli(train.Options, args=words, default=train.Options(hyperparameters=named_in(words)))


def test_the_tutorials_recipe_is_the_tutorials() -> None:
    values = asdict(TUTORIAL)
    added = ("epochs", "momentum", "kernel_decay", "label_smoothing", "alternate_flips", "batch_norm", "whiten")
    assert not any(values[name] for name in added)
    assert (values["distort_colors"], values["schedule"]) == (1, "staircase")


def test_a_step_of_the_modern_recipe_by_hand() -> None:
    """Smoothed cross entropy; Nesterov momentum; decay of kernels, not of biases; batch statistics."""
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
        expected = parameter - rate * (1 + recipe.momentum) * gradient  # the first step of Nesterov's
        torch.testing.assert_close(updated[name], expected, rtol=0, atol=1e-7, msg=name)


def test_a_new_run_begins_with_whitening_filters(synthetic_dir: Path, tmp_path: Path) -> None:
    recipe = replace(SHORT, initial_learning_rate=1e-12)
    state = train.train(options(synthetic_dir, tmp_path, hyperparameters=recipe, max_steps=1))
    filters = whitening_filters(dataset.load(synthetic_dir, "train").images)
    torch.testing.assert_close(state.model.conv1.weight.detach(), filters)
    torch.testing.assert_close(state.ema.weights["conv1.weight"], filters)


def test_epochs_end_the_tutorials_recipe_too(synthetic_dir: Path, tmp_path: Path) -> None:
    recipe = Hyperparameters(batch_size=500, epochs=0.02)
    assert train.train(options(synthetic_dir, tmp_path, hyperparameters=recipe)).step == 2


def test_whitening_filters_whiten(synthetic_dir: Path) -> None:
    """What they make of the patches has variance near 1 and no correlation; the second half mirrors the first."""
    images = dataset.load(synthetic_dir, "train").images[:2000]
    filters = whitening_filters(images)
    assert torch.equal(filters[:FILTERS], -filters[FILTERS:])
    response = F.conv2d(evaluation_images(images), filters[:FILTERS]).transpose(0, 1).flatten(1).double()
    covariance = response @ response.T / response.shape[1]
    variances = covariance.diag()
    assert (variances.diff() < 1e-6).all(), "components of high variance first"
    assert 0.9 < variances[0] < 1
    assert (covariance - variances.diag()).abs().max() < 1e-3


@given(epochs=st.floats(0.1, 300), batch_size=st.integers(2, 2048), num_gpus=st.integers(1, 8))
def test_the_triangle_rises_and_falls_to_nothing(epochs: float, batch_size: int, num_gpus: int) -> None:
    recipe = replace(MODERN, epochs=epochs, batch_size=batch_size, num_gpus=num_gpus, initial_learning_rate=0.5)
    steps = last_step(recipe)
    assert steps == pytest.approx(epochs * 50_000 / batch_size / num_gpus, abs=1)
    peak = int(0.2 * steps)
    points = sorted({0, peak // 2, peak, (peak + steps) // 2, steps - 1})
    rates = [learning_rate(step, recipe) for step in points]
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert 0 < min(rates) <= max(rates) <= 0.5
    assert learning_rate(steps, recipe) == 0


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_compiled_it_gives_the_same_losses(synthetic_dir: Path, tmp_path: Path) -> None:
    for name in ("compiled", "eager"):
        chosen = options(synthetic_dir, tmp_path / name, max_steps=3, log_frequency=1, compile=name == "compiled")
        train.train(chosen)
    compiled, eager = ([row.total_loss for row in history.losses(tmp_path / name)] for name in ("compiled", "eager"))
    assert compiled == pytest.approx(eager, rel=1e-4)


def test_without_a_compiler_it_says_so(synthetic_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/nowhere/g++")
    with pytest.raises(OptionError, match=r"--compile needs a C\+\+ compiler"):
        options(synthetic_dir, tmp_path, compile=True)


def test_ten_views_are_evaluated(
    synthetic_dir: Path,
    modern_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The average of the probabilities; printed, and kept from the evaluations that choose the best checkpoint."""
    write_small_data(synthetic_dir, tmp_path, 40, monkeypatch)
    few = dataset.load(tmp_path, "test")
    chosen = evaluate.Options(data_dir=tmp_path, checkpoint_dir=modern_dir, views=10, run_once=True, device="cpu")
    evaluate.evaluate(chosen)
    model = checkpoint.read_newest(modern_dir).ema_model()
    with torch.no_grad():
        scores = sum(model(view).softmax(dim=1) for view in ten_crop(few.images)) / 10
    torch.testing.assert_close(predict_ten_crop(model, few.images), scores)
    exact = float((scores.argmax(dim=1) == few.labels).double().mean())
    assert f"precision @ 1 = {exact:.3f}" in capsys.readouterr().out
    assert history.evaluations(modern_dir) == []
