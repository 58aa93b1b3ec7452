"""Ctrl-C during the imports of a command: exit status 130, and no traceback."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cifar10_zoo import cli
from cifar10_zoo.interrupt import end_on_interrupt
from tests.helpers.command_line import ROOT

pytestmark = pytest.mark.posix

TORCH = """
import os, signal, time
os.kill(os.getpid(), signal.SIGINT)
time.sleep(10)
"""
"""Takes the place of torch: Ctrl-C comes while a command imports it."""
FIT = Path(sys.executable).with_name("cifar10-fit")
COMMANDS = {
    "train": ["-m", "cifar10_zoo.train"],
    "evaluate": ["-m", "cifar10_zoo.evaluate"],
    "average": ["-m", "cifar10_zoo.average"],
    "calibrate": ["-m", "cifar10_zoo.calibrate"],
    "image_folders": ["-m", "cifar10_zoo.image_folders"],
    "from_tensorflow": ["-m", "cifar10_zoo.from_tensorflow"],
    "cifar10_export": ["-m", "cifar10_export"],
    "to_onnx": [ROOT / "export" / "to_onnx.py"],
    "cifar10-fit": [FIT],
}


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_an_interrupt_during_the_imports_of_a_command_prints_nothing(words: list[object], tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text(TORCH)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, *map(str, words)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "")


def test_other_programs_that_import_the_packages_keep_their_signal_handler() -> None:
    code = "import signal, cifar10_zoo; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert result.stdout == "True\n", result.stderr


def test_a_running_command_gets_an_exception_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(sys, "argv", ["-m"])
    end_on_interrupt()
    assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    monkeypatch.setattr(sys, "argv", ["command"])
    with pytest.raises(SystemExit) as end:
        cli.run(interrupted, cli.DataOptions)
    assert end.value.code == 130
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
