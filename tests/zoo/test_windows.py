"""Training, evaluation and export without what Windows lacks or refuses."""

import signal
import sys
from pathlib import Path

import pytest

from cifar10_zoo.training.run_control import SIGPIPE, signal_name, stop_on_signals
from tests.helpers.command_line import like_windows

pytestmark = pytest.mark.skipif(sys.platform == "darwin", reason="Windows is imitated on Linux")

SCRIPT = """
from cifar10_zoo import atomic, cli

def make(options):
    with atomic.new_directory(options.data_dir) as folder:
        (folder / "file").write_bytes(b"content")
    print("データ")

if __name__ == "__main__":
    cli.run(make, cli.DataOptions)
"""


def test_a_run_trains_resumes_evaluates_and_exports(drawings_dir: Path, tmp_path: Path) -> None:
    """The run resumes from a checkpoint that it deletes later."""
    run, data = tmp_path / "run", ("--data-dir", drawings_dir)
    words = (*data, "--train-dir", run, "--batch-size", 8, "--save-checkpoint-secs", 1e-9, "--summary-frequency", 2)
    for steps in (1, 7):
        result = like_windows("cifar10_zoo.train", *words, "--max-steps", steps)
        assert result.returncode == 0, result.stderr
    saved = sorted(int(path.name.split(".")[1].removeprefix("ckpt-")) for path in run.glob("*.safetensors"))
    assert saved == [3, 4, 5, 6, 7]
    assert not list(run.glob("*.tmp"))

    result = like_windows("cifar10_zoo.evaluate", *data, "--checkpoint-dir", run, "--run-once", "--num-examples", 100)
    assert result.returncode == 0, result.stderr
    assert "precision @ 1 = " in result.stdout
    result = like_windows("cifar10_export", *data, "--checkpoint-dir", run, "--output", tmp_path / "model.onnx")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "model.onnx").stat().st_size > 1_000_000


def test_a_command_makes_a_directory_and_prints_a_name_that_a_pipe_cannot_take(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    result = like_windows(script, "--data-dir", tmp_path / "data")
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == ascii("データ").strip("'")
    assert [path.read_bytes() for path in (tmp_path / "data").iterdir()] == [b"content"]


def test_signals_stop_a_run_on_a_system_without_sighup(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(signal, "SIGHUP", raising=False)
    with stop_on_signals(second_kills=False) as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.signal_number == signal.SIGTERM


def test_a_closed_console_has_a_name_on_a_system_without_sigpipe() -> None:
    assert (signal_name(SIGPIPE), signal_name(signal.SIGINT)) == ("SIGPIPE", "SIGINT")
    if hasattr(signal, "SIGPIPE"):
        assert signal.SIGPIPE == SIGPIPE
