"""Kill a training run many times with SIGKILL, and compare its last checkpoint with that of an undisturbed run.

    python tests/stress/kill_training.py DATA_DIR DIRECTORY --kills 50 --steps 400

The run is resumed after each kill. It saves a checkpoint after each step, and prints the step just before, so that most
kills interrupt the writing of a checkpoint.
"""

import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from cifar10_zoo import cli, train
from cifar10_zoo.training import checkpoint


@dataclass(frozen=True)
class Options:
    """Prove that a killed and resumed run ends with the same bits as an undisturbed run."""

    data_dir: tyro.conf.Positional[Path]
    """Directory of cifar-10-batches-bin/."""
    directory: tyro.conf.Positional[Path]
    """Directory in which to train."""
    kills: int = 50
    """Number of times that the run is killed."""
    steps: int = 400
    """Steps of the run."""


def kill_and_compare(data_dir: Path, directory: Path, kills: int, steps: int, seed: int = 0) -> list[int]:
    """Raise AssertionError unless the killed run ends with the same bits as the undisturbed run.

    Returns:
        The step of the newest checkpoint after each kill.
    """
    chance = random.Random(seed)
    killed_at = []
    for _ in range(kills):
        with start(data_dir, directory / "killed", steps) as process:
            assert process.stdout is not None
            for _ in range(chance.randint(1, 2 * steps // (kills + 1))):
                process.stdout.readline()  # one line per step
            process.kill()
        has_checkpoint = checkpoint.find(directory / "killed")
        killed_at.append(checkpoint.read_newest(directory / "killed").step if has_checkpoint else 0)
    with start(data_dir, directory / "killed", steps) as process:
        process.communicate()
    assert process.returncode == 0
    train.train(cli.parse(train.Options, words(data_dir, directory / "undisturbed", steps)))
    killed, undisturbed = (checkpoint.read_newest(directory / name) for name in ("killed", "undisturbed"))
    assert killed.step == undisturbed.step == steps
    assert killed.sha256 == undisturbed.sha256
    assert any(0 < step < steps for step in killed_at), "each kill came before the first step or after the last one"
    return killed_at


def start(data_dir: Path, train_dir: Path, steps: int) -> subprocess.Popen[str]:
    """Start a run that prints and saves each step."""
    command = [sys.executable, "-m", "cifar10_zoo.train", *words(data_dir, train_dir, steps)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def words(data_dir: Path, train_dir: Path, steps: int) -> list[str]:
    """Return the words of a run that prints and saves each step."""
    places = ["--data-dir", str(data_dir), "--train-dir", str(train_dir), "--device", "cpu"]
    return [*places, *f"--max-steps {steps} --batch-size 8 --save-checkpoint-secs 1e-9 --log-frequency 1".split()]


if __name__ == "__main__":
    options = tyro.cli(Options)
    steps = kill_and_compare(options.data_dir, options.directory, options.kills, options.steps)
    print(f"killed {len(steps)} times, at steps {steps}: the last checkpoints are equal in each bit")
