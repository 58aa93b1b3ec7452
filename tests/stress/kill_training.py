"""Kill a training with SIGKILL at random moments, resume it each time, and compare its end with an undisturbed run.

    python tests/stress/kill_training.py DATA_DIR FOLDER --kills 50 --steps 400

Every step is saved, so that many of the kills hit a checkpoint half-way.
"""

import random
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import tyro

from cifar10_zoo.training import checkpoint


@dataclass(frozen=True)
class Options:
    """Prove that a training which is killed and resumed ends with the same bits."""

    data_dir: tyro.conf.Positional[Path]
    """Folder of cifar-10-batches-bin/."""
    folder: tyro.conf.Positional[Path]
    """Where to train."""
    kills: int = 50
    steps: int = 400


def kill_and_compare(data_dir: Path, folder: Path, kills: int, steps: int, seed: int = 0) -> list[int]:
    """Raise AssertionError unless the killed run ends like the other; returns the steps that the kills had reached."""
    moments = random.Random(seed)
    killed_at = []
    for _ in range(kills):
        with start(data_dir, folder / "killed", steps) as process:
            assert process.stdout is not None
            process.stdout.readline()  # the first step of this run is done
            time.sleep(moments.uniform(0, 2 * _SECONDS_A_STEP * steps / (kills + 1)))
            process.kill()
        killed_at.append(checkpoint.read_newest(folder / "killed").step if checkpoint.find(folder / "killed") else 0)
    for name in ("killed", "undisturbed"):
        with start(data_dir, folder / name, steps) as process:
            process.communicate()
        assert process.returncode == 0
    killed, undisturbed = (checkpoint.read_newest(folder / name) for name in ("killed", "undisturbed"))
    assert killed.step == undisturbed.step == steps
    assert killed.sha256 == undisturbed.sha256
    assert any(0 < step < steps for step in killed_at), "no kill hit a training under way"
    return killed_at


_SECONDS_A_STEP = 0.03  # about; a step and its checkpoint


def start(data_dir: Path, train_dir: Path, steps: int) -> subprocess.Popen[str]:
    """A training that saves every step."""
    words = ["--data-dir", data_dir, "--train-dir", train_dir, "--max-steps", steps, "--batch-size", 8]
    words += ["--device", "cpu", "--save-checkpoint-secs", 1e-9, "--log-frequency", 1]
    return subprocess.Popen(
        [sys.executable, "-m", "cifar10_zoo.train", *map(str, words)], stdout=subprocess.PIPE, text=True
    )


if __name__ == "__main__":
    options = tyro.cli(Options)
    steps = kill_and_compare(options.data_dir, options.folder, options.kills, options.steps)
    print(f"killed {len(steps)} times, at steps {steps}: the end is the same to the last bit")
