"""Where the evaluation command writes: beside the checkpoints, or only to --eval-dir; its report page."""

import base64
import io
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cifar10_zoo import evaluate
from cifar10_zoo.data.load import load
from cifar10_zoo.errors import DatasetError, OptionError
from cifar10_zoo.tracking import history, plots
from cifar10_zoo.training import checkpoint
from cifar10_zoo.training.inference import predict, top1_accuracy
from tests.helpers.command_line import assert_fails_cleanly, run, zoo
from tests.helpers.shapes import Trained


@pytest.fixture
def read_only_run(train_dir: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of a run, with the losses and the evaluation of an earlier step, to which nobody may write."""
    run = tmp_path / "run"
    run.mkdir()
    for name in ("model.ckpt-60.safetensors", history.LOSSES, plots.FILE_NAME):
        shutil.copy(train_dir / name, run)
    history.record(run, history.Evaluation(40, "test", 10_000, 0.5))
    run.chmod(0o555)
    yield run
    run.chmod(0o755)


def state_of(folder: Path) -> dict[Path, int]:
    """When each file below ``folder``, and the folder itself, last changed; a temporary file changes its folder."""
    return {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}


def test_nothing_is_written_outside_eval_dir_and_a_read_only_run_is_no_error(
    drawings_dir: Path, read_only_run: Path, tmp_path: Path
) -> None:
    before = state_of(read_only_run)
    results = tmp_path / "new" / "results"
    words = ("--data-dir", drawings_dir, "--checkpoint-dir", read_only_run, "--run-once", "--device", "cpu")
    number = "--num_examples=10000"  # the tutorial's default means all test images
    result = run("-m", "cifar10_zoo.evaluate", *words, number, "--eval-dir", results, obeys_modes=True)
    assert result.returncode == 0, result.stderr
    assert state_of(read_only_run) == before
    model = checkpoint.read(read_only_run / "model.ckpt-60.safetensors").ema_model()
    exact = top1_accuracy(model, load(drawings_dir, "test"))
    assert history.evaluations(results) == [history.Evaluation(60, "test", 300, exact)]
    assert (results / plots.FILE_NAME).read_bytes().startswith(b"\x89PNG")
    assert list(results.glob("events.out.tfevents*"))


def test_a_repeated_evaluation_rewrites_no_file(drawings_dir: Path, train_dir: Path, tmp_path: Path) -> None:
    shutil.copy(train_dir / "model.ckpt-60.safetensors", tmp_path)
    options = evaluate.Options(data_dir=drawings_dir, checkpoint_dir=tmp_path, run_once=True, device="cpu")
    evaluate.evaluate(options)
    written = (tmp_path / history.EVALUATIONS, tmp_path / plots.FILE_NAME)
    before = [path.stat().st_mtime_ns for path in written]
    evaluate.evaluate(options)
    assert [path.stat().st_mtime_ns for path in written] == before


def test_a_read_only_run_without_eval_dir_is_an_error_before_the_work(drawings_dir: Path, read_only_run: Path) -> None:
    words = ("--data-dir", drawings_dir, "--checkpoint-dir", read_only_run, "--run-once", "--device", "cpu")
    result = run("-m", "cifar10_zoo.evaluate", *words, obeys_modes=True)
    assert_fails_cleanly(result, 2, f"--checkpoint-dir {read_only_run} cannot be written to: name another --eval-dir")
    assert result.stdout == ""


def test_an_eval_dir_that_cannot_be_created_is_an_error_before_the_work(
    drawings_dir: Path, train_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    words = ("--data-dir", drawings_dir, "--checkpoint-dir", train_dir, "--run-once", "--device", "cpu")
    result = zoo("evaluate", *words, "--eval-dir", tmp_path / "file" / "results")
    assert_fails_cleanly(result, 2, f"--eval-dir {tmp_path / 'file' / 'results'} cannot be created: Not a directory")
    assert result.stdout == ""


def test_ten_crops_of_a_read_only_run_need_no_eval_dir(drawings_dir: Path, read_only_run: Path) -> None:
    words = ("--data-dir", drawings_dir, "--checkpoint-dir", read_only_run, "--run-once", "--device", "cpu")
    crops = ("--views", 10, "--num-examples", 20)
    result = run("-m", "cifar10_zoo.evaluate", *words, *crops, obeys_modes=True)
    assert result.returncode == 0, result.stderr
    assert "precision @ 1 = " in result.stdout


@pytest.mark.parametrize("option", ["json", "report"])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("", "exists and is not a regular file: name another file", id="a folder"),
        pytest.param("missing/file", "missing does not exist: create it", id="in a missing folder"),
    ],
)
def test_a_file_that_cannot_be_written_is_an_error_before_the_work(
    tmp_path: Path, option: str, name: str, message: str
) -> None:
    files: dict[str, Any] = {option: tmp_path / name}
    with pytest.raises(OptionError, match=f"^--{option} {re.escape(str(tmp_path / name))}.*{message}"):
        evaluate.Options(**files)


def test_one_file_for_two_options_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"^--json and --report both name .*page: name two files"):
        evaluate.Options(json=tmp_path / "page", report=tmp_path / "." / "page")


@pytest.fixture(scope="module")
def evaluated(drawings_dir: Path, train_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The page that --report writes for the test images, and the numbers of --json."""
    folder = tmp_path_factory.mktemp("evaluated")
    page, numbers = folder / "report.html", folder / "numbers.json"
    words = ("--data-dir", drawings_dir, "--checkpoint-dir", train_dir, "--run-once")
    result = zoo("evaluate", *words, "--device", "cpu", "--report", page, "--json", numbers)
    assert result.returncode == 0, result.stderr
    return {"page": page.read_text(encoding="utf-8"), **json.loads(numbers.read_text())}


def test_the_report_has_the_numbers_of_the_evaluation(evaluated: dict[str, Any], train_dir: Path) -> None:
    page, confusion = evaluated["page"], evaluated["confusion_matrix"]
    right = sum(confusion[label][label] for label in range(10))
    assert f"<dd>{evaluated['accuracy']:.2%} <small>{right} of 300 images" in page
    names = [each["name"] for each in evaluated["classes"]]
    for truth, row in zip(names, confusion, strict=True):
        for label, count in zip(names, row, strict=True):
            assert f'title="{truth} taken for {label}: {count} of {sum(row)} (' in page
    assert f"{train_dir / 'model.ckpt-60.safetensors'} (step 60)" in page
    assert "custom, test images" in page


def test_the_report_shows_the_pictures_of_the_worst_mistakes(
    evaluated: dict[str, Any], drawings_dir: Path, train_dir: Path
) -> None:
    data = load(drawings_dir, "test")
    probabilities = predict(checkpoint.read_newest(train_dir).ema_model(), data.images).softmax(dim=1)
    confidence, predictions = probabilities.max(dim=1)
    mistakes = (predictions != data.labels).nonzero().flatten().tolist()
    worst = max(mistakes, key=lambda number: float(confidence[number]))
    section = evaluated["page"].partition('<h2 id="worst-mistakes">')[2]
    tile = re.search(r'title="([^"]*)".*?base64,([^"]*)".*?true: (\w+)<', section)
    assert tile
    truth = data.classes[int(data.labels[worst])]
    assert (tile[1], tile[3]) == (f"{truth}/{worst:05d}.png", truth)
    with Image.open(io.BytesIO(base64.b64decode(tile[2]))) as picture:
        assert np.array_equal(np.asarray(picture), data.images[worst].permute(1, 2, 0))


def test_the_report_has_the_probabilities_of_a_calibrated_checkpoint(trained_shape: Trained, tmp_path: Path) -> None:
    saved, data = trained_shape(3, 32)
    report = tmp_path / "report.html"
    options = evaluate.Options(checkpoint_dir=tmp_path, num_examples=20, report=report)
    evaluate.evaluate_checkpoint(replace(saved, temperatures={1: 0.5}), data, torch.device("cpu"), options)
    confidence = (predict(saved.ema_model(), data.images[:20]) / 0.5).softmax(dim=1).max(dim=1).values.mean()
    assert f"<dt>Mean confidence</dt><dd>{confidence:.2%}</dd>" in report.read_text(encoding="utf-8")


def test_a_class_name_that_no_folder_can_have_is_an_error_before_the_report(
    trained_shape: Trained, tmp_path: Path
) -> None:
    saved, data = trained_shape(3, 32)
    classes = ("rose/red", *data.classes[1:])
    options = evaluate.Options(checkpoint_dir=tmp_path, data_dir=tmp_path, report=tmp_path / "report.html")
    with pytest.raises(DatasetError, match="class rose/red cannot have a directory of this name: rename the class"):
        evaluate.evaluate_checkpoint(
            replace(saved, classes=classes), replace(data, classes=classes), torch.device("cpu"), options
        )
    assert list(tmp_path.iterdir()) == []
