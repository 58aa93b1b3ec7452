"""Run the commands in a process, as a user does, or in the process of the tests, which saves their imports."""

import ctypes
import io
import os
import runpy
import shutil
import signal
import subprocess
import sys
import sysconfig
import warnings
from collections.abc import Iterator, Sequence
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

import pytest

ROOT = Path(__file__).parents[2]
CIFAR10_INFER = Path(shutil.which("cifar10-infer", path=sysconfig.get_path("scripts")) or "cifar10-infer")
WINDOWS_LIKE = Path(__file__).with_name("windows_like.py")

SHORT_DOCTOR = """
from cifar10_runtime.cli import main, parser

def doctor_parser():
    from cifar10_runtime.cli.doctor import command
    models = command.bundled()
    command.bundled = lambda: {name: models[name] for name in ("fp32", "int8")}
    return parser.doctor_parser()

main.doctor_parser = doctor_parser  # called before the doctor begins
main.main(["doctor"])
"""
"""``cifar10-infer doctor`` that measures two models only, because each takes seconds."""


def run(*words: object, cwd: Path | None = None, obeys_modes: bool = False) -> subprocess.CompletedProcess[str]:
    """Run ``python WORDS...`` and return its exit status and output.

    Args:
        words: The words of the command line.
        cwd: The working directory.
        obeys_modes: Whether the command may write only where the modes of files and folders permit it, also as root.
    """
    return _run([sys.executable, *words], cwd, obeys_modes)


def _run(
    words: Sequence[object], cwd: Path | None = None, obeys_modes: bool = False
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, words)),
        cwd=cwd,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
        preexec_fn=_give_up_overriding_modes if obeys_modes else None,
    )


def _give_up_overriding_modes() -> None:
    """Take from root, in a child process, the capability to write to files and folders that nobody may write to."""
    drop_from_bounding_set, dac_override = 24, 1  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE in Linux's headers
    ctypes.CDLL(None).prctl(drop_from_bounding_set, dac_override)


def zoo(command: str, *words: object) -> subprocess.CompletedProcess[str]:
    """Do what ``python -m cifar10_zoo.COMMAND WORDS...`` does, in this process."""
    return run_here(f"cifar10_zoo.{command}", *words)


def run_here(module: str, *words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Do what ``python -m MODULE WORDS...`` does, in this process: it has imported PyTorch, which takes seconds.

    For tests of signals, of the end of a process and of imports, use ``run``.
    """
    argv = [module, *map(str, words)]
    stdout, stderr = io.StringIO(), io.StringIO()
    with (
        patch.object(sys, "argv", argv),
        chdir(cwd or Path.cwd()),
        redirect_stdout(stdout),
        redirect_stderr(stderr),
        warnings.catch_warnings(action="ignore", category=RuntimeWarning),  # the module is imported already
        kept_signal_handlers(),
        pytest.raises(SystemExit) as end,
    ):
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    status = end.value.code or 0
    assert isinstance(status, int)
    return subprocess.CompletedProcess(argv, status, stdout.getvalue(), stderr.getvalue())


@contextmanager
def kept_signal_handlers() -> Iterator[None]:
    """Restore the signal handlers of the tests after the block: the commands install their own handlers."""
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    numbers = [signal.Signals[name] for name in names if hasattr(signal, name)]
    handlers = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def infer(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run ``cifar10-infer WORDS...``."""
    return _run([CIFAR10_INFER, *words], cwd)


def like_windows(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run ``windows_command(WORDS...)`` and return its exit status and output."""
    return _run(windows_command(*words), cwd)


def windows_command(*words: object) -> list[str]:
    """Return the command that runs a module or a script on Windows; elsewhere, ``windows_like.py`` imitates it."""
    before: list[object] = [sys.executable, "-X", "warn_default_encoding", WINDOWS_LIKE]
    if os.name == "nt":
        before = [] if words[0] == CIFAR10_INFER else [sys.executable, "-m"]
    return list(map(str, [*before, *words]))


def assert_fails_cleanly(result: subprocess.CompletedProcess[str], status: int, *parts: str) -> None:
    """Assert that the command ended with ``status`` and that the last line on stderr has all ``parts``."""
    assert result.returncode == status, result.stderr
    error = result.stderr.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert "Traceback" not in result.stderr
    for part in parts:
        assert part in error
