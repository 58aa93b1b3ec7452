"""The average of runs: the mean of their weights, only of runs that belong together."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from cifar10_runtime.engine.models import FOLDER

from cifar10_zoo import average
from cifar10_zoo.config import Hyperparameters
from cifar10_zoo.data.batches import TrainingBatches
from cifar10_zoo.data.cifar10 import CLASSES
from cifar10_zoo.data.dataset import Dataset
from cifar10_zoo.data.load import load
from cifar10_zoo.errors import CheckpointError, ZooError
from cifar10_zoo.network.model import Cifar10Net
from cifar10_zoo.recipes import MODERN
from cifar10_zoo.training import checkpoint
from cifar10_zoo.training.inference import logits
from cifar10_zoo.training.pretrained import SHIPPED, read_shipped
from cifar10_zoo.training.state import TrainingState
from tests.helpers.command_line import assert_fails_cleanly, zoo
from tests.helpers.shapes import colored_images, trained_state, write_folders

RECIPE = replace(MODERN, batch_size=16, epochs=40 * 16 / 50_000, whiten=False)
FINE_TUNING = replace(RECIPE, epochs=5 * 16 / 50_000, initial_learning_rate=0.01)
RUNS = ("a", "b")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders of 60 images in two classes."""
    return write_folders(colored_images(2, 32, 60), tmp_path_factory.mktemp("average") / "images")


@pytest.fixture(scope="module")
def data(folder: Path) -> Dataset:
    return load(folder, "train", quiet=True)


@pytest.fixture(scope="module")
def runs(folder: Path, data: Dataset) -> Path:
    """A directory with two runs of the same start, a run of another recipe, one of other classes, and a file."""
    start = trained_state(data, 40, RECIPE).ema_model()
    for seed, name in enumerate(RUNS):
        state = TrainingState(replace(FINE_TUNING, seed=seed), classes=len(data.classes))
        state.start_from(start, data.images, keep_classes=True)
        batches = TrainingBatches(data, state.hyperparameters, state.device)
        for number in range(5 + seed):
            state.train_step(*batches.batch(number))
        save(state, folder.parent / name, data)
    other = colored_images(3, 32, 60)
    save(TrainingState(RECIPE, classes=3), folder.parent / "other", other)
    (folder.parent / "file").touch()
    save(trained_state(data, 3, Hyperparameters(batch_size=16)), folder.parent / "tutorial", data)
    return folder.parent


def save(state: TrainingState, directory: Path, data: Dataset) -> None:
    checkpoint.save(state, directory, data.name, data.classes, data.test_fraction)


def network(directory: Path) -> Cifar10Net:
    return checkpoint.read_newest(directory).ema_model()


def test_the_checkpoint_has_the_mean_of_the_weights(runs: Path, folder: Path, data: Dataset, tmp_path: Path) -> None:
    sources = [str(runs / name) for name in RUNS]
    result = zoo("average", *sources, "--data-dir", folder, "--train-dir", tmp_path / "mean")
    assert result.returncode == 0, result.stderr
    assert "accuracy on 60 training images" in result.stderr

    expected = Cifar10Net(classes=2).eval()
    states = [network(runs / name).state_dict() for name in RUNS]
    expected.load_state_dict({key: (states[0][key] + states[1][key]) / 2 for key in states[0]})
    saved = checkpoint.read_newest(tmp_path / "mean")
    actual, wanted = (logits(net, data.images, 1) for net in (saved.ema_model(), expected))
    np.testing.assert_allclose(actual, wanted, rtol=0, atol=1e-5 * float(wanted.abs().max()))
    assert not torch.equal(wanted, logits(network(runs / "a"), data.images, 1)), "the runs differ"
    assert (saved.step, saved.hyperparameters.seed, saved.temperatures) == (6, 0, {})


def test_the_mean_of_unrelated_weights_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    stored = np.load(FOLDER / "golden.npz")
    labels = torch.from_numpy(stored["fp32.onnx"].argmax(axis=1))
    images = torch.from_numpy(stored["images"]).permute(0, 3, 1, 2).contiguous()
    data = Dataset("cifar10", CLASSES["cifar10"], images, labels)
    networks = [read_shipped(name)[0] for name in SHIPPED]
    with pytest.raises(CheckpointError, match="average runs that started with the same trained weights"):
        average.compare(tuple(SHIPPED), networks, average.mean_network(networks), data)
    assert "modern 1.000, tutorial 0." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        pytest.param(["a"], "name two or more runs", id="one run"),
        pytest.param(["modern", "tutorial"], "name two or more runs", id="no run"),
        pytest.param(["a", "missing"], "no checkpoint in missing", id="no checkpoint"),
        pytest.param(["a", "b", "./a"], "a, b, ./a: name each run once", id="twice"),
        pytest.param(["a", "file"], "file is a file: name the directory", id="file"),
        pytest.param(["a", "tutorial"], "name runs only", id="shipped weights for other classes"),
        pytest.param(["a", "other"], "other/model.ckpt-0.safetensors was trained on other classes", id="classes"),
        pytest.param(
            ["a", "./tutorial"],
            "trained with --recipe tutorial, a/model.ckpt-5.safetensors with --recipe modern",
            id="recipe",
        ),
    ],
)
def test_what_does_not_belong_together_is_an_error_of_one_line(
    runs: Path, folder: Path, sources: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runs)
    with pytest.raises(ZooError) as error:
        average.average(average.Options(sources=tuple(sources), data_dir=folder, train_dir=Path("nothing")))
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not Path("nothing").exists()


def test_a_file_is_no_directory_to_write(runs: Path, folder: Path) -> None:
    result = zoo("average", runs / "a", runs / "b", "--data-dir", folder, "--train-dir", runs / "file")
    assert_fails_cleanly(result, 2, f"--train-dir {runs / 'file'} cannot be written to: File exists")


def test_a_directory_with_checkpoints_is_left_alone(runs: Path, folder: Path) -> None:
    before = sorted(path.name for path in (runs / "a").iterdir())
    result = zoo("average", runs / "a", runs / "b", "--data-dir", folder, "--train-dir", runs / "a")
    assert_fails_cleanly(result, 2, f"{runs / 'a'} has checkpoints: name a new directory")
    assert sorted(path.name for path in (runs / "a").iterdir()) == before
