"""Where the evaluation command writes: beside the checkpoints, or only to --eval-dir."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cifar10_zoo import evaluate
from cifar10_zoo.data import cifar10
from cifar10_zoo.tracking import history, plots
from cifar10_zoo.training import checkpoint
from cifar10_zoo.training.inference import top1_accuracy
from tests.helpers.command_line import assert_fails_cleanly, zoo


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
    synthetic_dir: Path, read_only_run: Path, tmp_path: Path
) -> None:
    before = state_of(read_only_run)
    results = tmp_path / "new" / "results"
    words = ("--data-dir", synthetic_dir, "--checkpoint-dir", read_only_run, "--run-once", "--device", "cpu")
    for number in ([], ["--num_examples=10000"]):  # the tutorial's default means all test images
        result = zoo("evaluate", *words, *number, "--eval-dir", results, obeys_modes=True)
        assert result.returncode == 0, result.stderr
    assert state_of(read_only_run) == before
    model = checkpoint.read(read_only_run / "model.ckpt-60.safetensors").ema_model()
    exact = top1_accuracy(model, cifar10.load(synthetic_dir, "test"))
    assert history.evaluations(results) == [history.Evaluation(60, "test", 10_000, exact)]
    assert (results / plots.FILE_NAME).read_bytes().startswith(b"\x89PNG")
    assert list(results.glob("events.out.tfevents*"))


def test_a_repeated_evaluation_rewrites_no_file(synthetic_dir: Path, train_dir: Path, tmp_path: Path) -> None:
    shutil.copy(train_dir / "model.ckpt-60.safetensors", tmp_path)
    options = evaluate.Options(data_dir=synthetic_dir, checkpoint_dir=tmp_path, run_once=True, device="cpu")
    evaluate.evaluate(options)
    written = (tmp_path / history.EVALUATIONS, tmp_path / plots.FILE_NAME)
    before = [path.stat().st_mtime_ns for path in written]
    evaluate.evaluate(options)
    assert [path.stat().st_mtime_ns for path in written] == before


def test_a_read_only_run_without_eval_dir_is_an_error_before_the_work(synthetic_dir: Path, read_only_run: Path) -> None:
    words = ("--data-dir", synthetic_dir, "--checkpoint-dir", read_only_run, "--run-once", "--device", "cpu")
    result = zoo("evaluate", *words, obeys_modes=True)
    assert_fails_cleanly(result, 2, f"--checkpoint-dir {read_only_run} cannot be written to: name another --eval-dir")
    assert result.stdout == ""


def test_an_eval_dir_that_cannot_be_created_is_an_error_before_the_work(
    synthetic_dir: Path, train_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    words = ("--data-dir", synthetic_dir, "--checkpoint-dir", train_dir, "--run-once", "--device", "cpu")
    result = zoo("evaluate", *words, "--eval-dir", tmp_path / "file" / "results")
    assert_fails_cleanly(result, 2, f"--eval-dir {tmp_path / 'file' / 'results'} cannot be created: Not a directory")
    assert result.stdout == ""


def test_ten_crops_of_a_read_only_run_need_no_eval_dir(synthetic_dir: Path, read_only_run: Path) -> None:
    words = ("--data-dir", synthetic_dir, "--checkpoint-dir", read_only_run, "--run-once", "--device", "cpu")
    result = zoo("evaluate", *words, "--views", 10, "--num-examples", 200, obeys_modes=True)
    assert result.returncode == 0, result.stderr
    assert "precision @ 1 = " in result.stdout


@pytest.mark.parametrize("name", ["", "missing/evaluation.json"])
def test_json_that_cannot_be_written_is_an_error_before_the_work(tmp_path: Path, name: str) -> None:
    result = zoo("evaluate", "--run-once", "--checkpoint-dir", tmp_path, "--json", tmp_path / name)
    assert_fails_cleanly(result, 2, "name a file in a directory that exists")
