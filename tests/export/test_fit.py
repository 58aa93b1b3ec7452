"""cifar10-fit as a whole command line: from a folder of images to verified models and a report."""

import csv
import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from cifar10_export import fit
from PIL import Image

from cifar10_zoo import cli
from cifar10_zoo.errors import ZooError
from cifar10_zoo.tracking import validation
from tests.helpers.command_line import assert_fails_cleanly, infer, run, run_here

CIFAR10_FIT = Path(sys.executable).with_name("cifar10-fit")
FIT = "cifar10_export.fit"
EPOCHS = "20"
COLORS = {"blue": (60, 90, 200), "green": (70, 180, 60), "red": (200, 60, 50)}


def write_pictures(folder: Path, count: int, seed: int) -> None:
    """Write ``count`` noisy pictures of each color into class folders."""
    random = np.random.default_rng(seed)
    for name, color in COLORS.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = np.array(color) + random.integers(-50, 51, (48, 40, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number}.png")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 pictures of each of three classes, in class folders, and a file that is no image."""
    folder = tmp_path_factory.mktemp("fit") / "my pictures"
    write_pictures(folder, 60, seed=0)
    (folder / "red" / "damaged.png").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def fitted(images: Path) -> tuple[Path, str, str]:
    """The directory of two runs, the first of which was interrupted; the output of the second."""
    command = [str(CIFAR10_FIT), str(images), "--epochs", EPOCHS, "--output", str(images.parent / "my model")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        next(line for line in process.stdout if "step 10" in line)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "the same command continues the run" in errors
    assert "validation images" in errors, "the start is chosen by a trial"
    assert {path.name for path in (images.parent / "my model").iterdir()} == {".cifar10-fit", "train"}
    result = run(*command)
    assert result.returncode == 0, result.stderr
    assert "starting with" not in result.stderr, "the start is chosen once"
    return images.parent / "my model", result.stdout, result.stderr


def test_the_directory_has_models_report_history_and_checkpoints(fitted: tuple[Path, str, str]) -> None:
    directory, output, messages = fitted
    assert "3 classes: blue 60, green 60, red 60; 180 images" in messages
    assert "1 unreadable" in messages
    assert {"model.onnx", "model-int8.onnx", "report.html", "train"} <= {path.name for path in directory.iterdir()}
    assert {"curves.png", "losses.csv"} <= {path.name for path in (directory / "train").iterdir()}
    model = onnx.load(directory / "model.onnx")
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(metadata["labels"]) == ["blue", "green", "red"]
    best = validation.read_best(directory / "train")
    assert (metadata["step"], metadata["temperature"]) == (str(best.step), str(best.temperatures[1]))
    accuracy = re.search(r"model\.onnx +top-1 accuracy ([\d.]+)", output)
    assert accuracy
    assert accuracy[1] == metadata["test_accuracy"]
    assert float(accuracy[1]) >= 0.6
    report = (directory / "report.html").read_text()
    assert f"{float(accuracy[1]):.2%}" in report
    assert f"cifar10-infer NEW_IMAGES/ --model '{directory}/model.onnx'" in output


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        pytest.param(["--epochs", "21"], "--epochs or the number of images", id="epochs"),
        pytest.param(["--epochs", EPOCHS, "--seed", "1"], "--seed", id="seed"),
        pytest.param(["--epochs", EPOCHS, "--class-weights", "balanced"], "--class-weights", id="class weights"),
        pytest.param(["--epochs", EPOCHS, "--no-mirror"], "--mirror", id="mirror images"),
    ],
)
def test_other_options_do_not_continue_a_run(
    fitted: tuple[Path, str, str], images: Path, words: list[str], changed: str
) -> None:
    result = run_here(FIT, images, "--output", fitted[0], *words)
    assert_fails_cleanly(result, 2, f"was begun with other values of {changed}: continue with the same ones")
    assert f"--init-from {fitted[0] / 'train'}" in result.stderr


def test_other_classes_do_not_continue_a_run(fitted: tuple[Path, str, str], images: Path, tmp_path: Path) -> None:
    for name in ("blue", "red"):
        shutil.copytree(images / name, tmp_path / name)
    result = run_here(FIT, tmp_path, "--output", fitted[0], "--epochs", EPOCHS)
    assert_fails_cleanly(result, 2, "was begun with other classes: continue with the same ones")


def test_the_model_classifies_other_images(fitted: tuple[Path, str, str], tmp_path: Path) -> None:
    write_pictures(tmp_path, 20, seed=1)
    for file in ("model.onnx", "model-int8.onnx"):
        result = infer(tmp_path, "--model", fitted[0] / file, "--output", tmp_path / "rows.csv", "--overwrite")
        assert result.returncode == 0, result.stderr
        rows = list(csv.DictReader((tmp_path / "rows.csv").open()))
        assert np.mean([Path(row["path"]).parent.name == row["label"] for row in rows]) >= 0.6


def test_a_directory_with_other_files_is_left_alone(images: Path, tmp_path: Path) -> None:
    (tmp_path / "test_images").mkdir()
    (tmp_path / "test_images" / "mine.txt").write_text("mine")
    result = run_here(FIT, images, "--output", tmp_path)
    assert_fails_cleanly(result, 2, f"{tmp_path} has files, but not .cifar10-fit")
    assert [path.name for path in tmp_path.rglob("*")] == ["test_images", "mine.txt"]


def test_a_directory_among_the_classes_is_refused(images: Path) -> None:
    result = run_here(FIT, images, "--output", images / "model")
    assert_fails_cleanly(result, 2, "whose folders are classes: name another --output")
    assert not (images / "model").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(["missing"], "missing has no images", id="no folder"),
        pytest.param(["empty"], "empty has no images", id="an empty folder"),
        pytest.param(["one"], "one class", id="one class"),
        pytest.param(["my pictures", "--epochs", "0"], "--epochs must be above 0", id="no epochs"),
        pytest.param(["my pictures", "--epochs", "inf"], "--epochs must be above 0", id="endless"),
        pytest.param(["my pictures", "--image-size", "40"], "--image-size must be one of 32, 48, 64, 96", id="size"),
        pytest.param(["my pictures", "--init-from", "nothing"], "--init-from nothing", id="unknown weights"),
        pytest.param(["my pictures", "--class-weights", "some"], "--class-weights some: No such file", id="no file"),
    ],
)
def test_what_cannot_be_trained_on_is_an_error_of_one_line(
    images: Path, words: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (images.parent / "empty").mkdir(exist_ok=True)
    (images.parent / "one" / "class").mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(images.parent / "one" / "class" / "a.png")
    monkeypatch.chdir(images.parent)
    with pytest.raises(ZooError) as error:  # the commands print it after "error: "
        fit.fit(cli.parse(fit.Options, [*words, "--output", str(images.parent / "nothing")]))
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not (images.parent / "nothing" / "model.onnx").exists()
