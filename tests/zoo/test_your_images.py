"""The commands on docs/your-images.md: train on class folders, evaluate, export, classify other images."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cifar10_export.command as to_onnx
import pytest

from cifar10_zoo import evaluate, image_folders, train
from cifar10_zoo.config import Hyperparameters
from cifar10_zoo.data.dataset import Dataset, ReadOptions, Split
from cifar10_zoo.data.load import load
from cifar10_zoo.errors import CheckpointError
from cifar10_zoo.training import checkpoint
from cifar10_zoo.training.inference import top1_accuracy
from tests.helpers.command_line import infer, run_here, zoo

SPLITS: tuple[Split, ...] = ("train", "test")


@pytest.fixture(scope="module")
def drawings(drawings_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 drawings as PNG files in class folders, without a test part."""
    target = tmp_path_factory.mktemp("drawings") / "drawings"
    image_folders.write(load(drawings_dir, "test"), target)
    return target


@pytest.fixture(scope="module")
def run_dir(drawings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a short run on the drawings."""
    train_dir = tmp_path_factory.mktemp("run")
    words = ("--max-steps", 30, "--batch-size", 16, "--test-fraction", 0.2, "--device", "cpu")
    result = zoo("train", "--data-dir", drawings, "--train-dir", train_dir, *words)
    assert result.returncode == 0, result.stderr
    held_out = len(load(drawings, "test", options=ReadOptions(test_fraction=0.2)).images)
    assert f"{drawings}: 10 classes: checks " in result.stderr
    assert f"; 300 images, {held_out} of them for testing\n" in result.stderr
    assert f"training on {300 - held_out} custom images" in result.stderr
    return train_dir


def test_the_evaluation_takes_the_images_that_training_left_out(drawings: Path, run_dir: Path) -> None:
    words = ("--data-dir", drawings, "--checkpoint-dir", run_dir, "--run-once", "--device", "cpu")
    result = zoo("evaluate", *words, "--test-fraction", 0.2)
    assert result.returncode == 0, result.stderr
    options = ReadOptions(test_fraction=0.2)
    training, test = (load(drawings, split, options=options) for split in SPLITS)
    accuracy = top1_accuracy(checkpoint.read_newest(run_dir).ema_model(), test)
    assert f"precision @ 1 = {accuracy:.3f}\n" in result.stdout
    assert f"step 30, {len(test.images)} custom images" in result.stderr
    assert not {pixels for pixels, _ in contents(training)} & {pixels for pixels, _ in contents(test)}


@pytest.fixture(params=["train", "evaluate", "export"])
def command(request: pytest.FixtureRequest, run_dir: Path, tmp_path: Path) -> Callable[[Path, float], None]:
    """Each command that reads both the checkpoint and the data: a function of the data and the test fraction."""

    def call(data_dir: Path, fraction: float) -> None:
        where: dict[str, Any] = {"data_dir": data_dir, "test_fraction": fraction}
        match request.param:
            case "train":
                recipe = Hyperparameters(batch_size=16)
                train.train(train.Options(**where, train_dir=run_dir, max_steps=40, hyperparameters=recipe))
            case "evaluate":
                evaluate.evaluate(evaluate.Options(**where, checkpoint_dir=run_dir, run_once=True, device="cpu"))
            case "export":
                to_onnx.export(to_onnx.Options(**where, checkpoint_dir=run_dir, output=tmp_path / "model.onnx"))

    return call


def test_another_test_fraction_than_in_training_is_refused(
    drawings: Path, command: Callable[[Path, float], None]
) -> None:
    with pytest.raises(CheckpointError, match=r"was trained with --test-fraction 0\.2, not 0\.1: choose the same"):
        command(drawings, 0.1)


def test_other_classes_than_in_training_are_refused_and_both_named(
    drawings: Path, tmp_path: Path, command: Callable[[Path, float], None]
) -> None:
    renamed = tmp_path / "renamed"
    renamed.mkdir()
    for source in drawings.iterdir():
        (renamed / source.name.replace("dots", "points")).symlink_to(source)
    with pytest.raises(CheckpointError, match=r"custom data \(.* dots, .*\), not custom data \(.* points, .*\)"):
        command(renamed, 0.2)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_exported_model_classifies_the_files_as_it_was_trained(
    drawings: Path, run_dir: Path, tmp_path: Path, precision: str
) -> None:
    model, result_file = tmp_path / "model.onnx", tmp_path / "result.csv"
    words = ("--data-dir", drawings, "--checkpoint-dir", run_dir, "--test-fraction", 0.2, "--precision", precision)
    exported = run_here("cifar10_export", *words, "--output", model)
    assert exported.returncode == 0, exported.stderr
    classified = infer(drawings, "--model", model, "--output", result_file)
    assert classified.returncode == 0, classified.stderr
    with open(result_file, newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 300
    if precision == "fp32":
        everything = [load(drawings, split, options=ReadOptions(test_fraction=0.2)) for split in SPLITS]
        network = checkpoint.read_newest(run_dir).ema_model()
        right = sum(top1_accuracy(network, data) * len(data.images) for data in everything)
        assert sum(row["label"] == Path(row["path"]).parent.name for row in rows) == round(right)


def test_images_are_written_as_class_folders_and_read_again(drawings: Path, tmp_path: Path) -> None:
    options = ReadOptions(test_fraction=0.2)
    for split in SPLITS:
        words = ("--data-dir", drawings, "--test-fraction", 0.2, "--split", split)
        result = zoo("image_folders", *words, "--output", tmp_path / split)
        assert result.returncode == 0, result.stderr
    for split in SPLITS:
        before, after = load(drawings, split, options=options), load(tmp_path, split, options=options)
        assert before.classes == after.classes
        assert contents(before) == contents(after)


def contents(data: Dataset) -> list[tuple[bytes, int]]:
    """Return the pixels and the label of each image, sorted."""
    pixels = (image.numpy().tobytes() for image in data.images)
    return sorted(zip(pixels, data.labels.tolist(), strict=True))
