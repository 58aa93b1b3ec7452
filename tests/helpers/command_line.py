"""Run the commands in a subprocess, as a user does."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CIFAR10_INFER = Path(sys.executable).with_name("cifar10-infer")


def run(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run ``python WORDS...`` and return its exit status and output."""
    return subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def zoo(command: str, *words: object) -> subprocess.CompletedProcess[str]:
    """Run ``python -m cifar10_zoo.COMMAND WORDS...``."""
    return run("-m", f"cifar10_zoo.{command}", *words)


def infer(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run ``cifar10-infer WORDS...``."""
    return run(CIFAR10_INFER, *words, cwd=cwd)


def assert_fails_cleanly(result: subprocess.CompletedProcess[str], status: int, *parts: str) -> None:
    """Assert that the command ended with ``status`` and that the last line on stderr has all ``parts``."""
    assert result.returncode == status, result.stderr
    error = result.stderr.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert "Traceback" not in result.stderr
    for part in parts:
        assert part in error
