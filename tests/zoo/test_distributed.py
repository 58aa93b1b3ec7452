"""Data-parallel training on two ranks: golden gradients, exact resumption, stop, failure and lock of a run."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from cifar10_zoo import train
from cifar10_zoo.config import Hyperparameters
from cifar10_zoo.data.batches import TrainingBatches
from cifar10_zoo.data.load import load
from cifar10_zoo.errors import CheckpointError
from cifar10_zoo.training import checkpoint
from cifar10_zoo.training.loss import losses
from cifar10_zoo.training.run_control import run_lock
from cifar10_zoo.training.state import TrainingState
from tests.helpers.data_files import write_classes
from tests.helpers.golden_reference import (
    TOWER_GRADIENT_NOISE,
    TOWER_LOSS_TOLERANCE,
    TOWER_VARIABLE_NOISE,
    Reference,
    assert_matches,
    tf_name,
    to_tf,
)
from tests.helpers.ranks import TwoRanks, train_command
from tests.helpers.two_ranks import golden_step

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}  # without it, torchrun prints a long warning
BATCH_SIZE = 16


def options(data_dir: Path, train_dir: Path, max_steps: int, *others: object) -> list[str]:
    words = ["--data-dir", data_dir, "--train-dir", train_dir, "--max-steps", max_steps, "--device", "cpu"]
    return list(map(str, [*words, "--batch-size", BATCH_SIZE, "--summary-frequency", 0, *others]))


def start(words: list[str]) -> subprocess.Popen[str]:
    command = [*TORCHRUN, "-m", "cifar10_zoo.train", *words]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def assert_trains(folder: Path, words: list[str]) -> None:
    """Assert that training on two ranks succeeds; their messages are in ``folder``."""
    ended = TwoRanks(folder, train_command, *words).end()
    assert [rank.status for rank in ended] == [0, 0], ended


def test_two_ranks_compute_the_golden_gradient_of_two_towers(golden_folder: Path, tmp_path: Path) -> None:
    ended = TwoRanks(tmp_path, golden_step, golden_folder, tmp_path / "step").end()
    assert [rank.status for rank in ended] == [0, 0], ended
    found = safetensors.torch.load_file(tmp_path / "step")
    golden = Reference(golden_folder).arrays("multi_gpu")
    np.testing.assert_allclose(found["total_loss"], golden["tower_total_loss"], rtol=0, atol=TOWER_LOSS_TOLERANCE)
    for name, noise in TOWER_GRADIENT_NOISE.items():
        parameter = name.replace("/weights", ".weight").replace("/biases", ".bias")
        key = name.replace("/", "_")
        assert_matches(to_tf(name, found[f"gradient/{parameter}"]), golden, f"avg_grad_{key}", noise)
        assert_matches(to_tf(name, found[f"weights/{parameter}"]), golden, f"step01_var_{key}", TOWER_VARIABLE_NOISE)
        assert tf_name(parameter) == name


@pytest.fixture(scope="module")
def trained(drawings_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run of four steps on two ranks."""
    folder = tmp_path_factory.mktemp("two")
    with start(options(drawings_dir, folder, 4)) as launcher:
        output, errors = launcher.communicate()
    assert launcher.returncode == 0, errors
    assert "2 processes, from step 0" in errors
    assert len(re.findall("step 0, loss", output)) == 1, "only rank 0 prints"
    return folder


def test_two_ranks_train_as_one_process_with_the_average_gradient(trained: Path, drawings_dir: Path) -> None:
    """Rank r trains on batch 2k + r in step k."""
    state = TrainingState(Hyperparameters(batch_size=BATCH_SIZE))
    batches = TrainingBatches(load(drawings_dir, "train"), state.hyperparameters, state.device)
    for step in range(4):
        state.begin_step()
        state.optimizer.zero_grad()
        for number in (2 * step, 2 * step + 1):
            images, labels = batches.batch(number)
            (losses(state.model, state.model(images), labels, state.hyperparameters)[-1] / 2).backward()
        state.optimizer.step()
        state.ema.update(state.ema_weight)
    saved = checkpoint.read_newest(trained)
    assert saved.hyperparameters.num_gpus == 2
    for name, tensor in state.tensors().items():
        if name != "loss_averages":  # of rank 0 only
            torch.testing.assert_close(saved.tensors[name], tensor, rtol=0, atol=1e-6)


def test_an_interrupted_run_of_two_ranks_ends_with_equal_bits(
    trained: Path, drawings_dir: Path, tmp_path: Path
) -> None:
    for steps in (3, 4):
        assert_trains(tmp_path, options(drawings_dir, tmp_path / "run", steps))
    assert checkpoint.read_newest(tmp_path / "run").sha256 == checkpoint.read_newest(trained).sha256


def test_a_run_of_two_ranks_does_not_continue_on_one(trained: Path, drawings_dir: Path) -> None:
    one_rank = train.Options(
        data_dir=drawings_dir, train_dir=trained, hyperparameters=Hyperparameters(batch_size=BATCH_SIZE), device="cpu"
    )
    with pytest.raises(CheckpointError, match="trained by 2 processes, not 1"):
        train.train(one_rank)


def test_a_signal_to_all_processes_stops_all_ranks_at_the_same_step(drawings_dir: Path, tmp_path: Path) -> None:
    """Ctrl-C sends SIGINT to each process, and torchrun then sends SIGTERM."""
    with start(options(drawings_dir, tmp_path, 10**6, "--recipe", "modern")) as launcher:
        assert launcher.stdout is not None
        assert launcher.stderr is not None
        launcher.stdout.readline()
        workers = children(launcher.pid)
        assert len(workers) == 2
        for process in (*workers, launcher.pid):
            os.kill(process, signal.SIGINT)
        errors = launcher.stderr.read()
    assert launcher.returncode != 0
    assert "stopped by SIG" in errors
    assert checkpoint.read_newest(tmp_path).step % 10 == 1, "ranks agree to stop every ten steps"


def test_a_signal_to_one_rank_stops_all_ranks_at_the_same_step(drawings_dir: Path, tmp_path: Path) -> None:
    """Rank 1 informs rank 0."""
    words = options(drawings_dir, tmp_path / "run", 10**6, "--recipe", "modern")
    ranks = TwoRanks(tmp_path, train_command, *words)
    ranks.wait_for_output("step 0, loss")
    second = ranks.processes[1].pid
    assert second is not None
    os.kill(second, signal.SIGINT)
    ended = ranks.end()
    assert [rank.status for rank in ended] == [128 + signal.SIGINT] * 2
    assert "stopped by SIGINT" in ended[0].stderr
    assert checkpoint.read_newest(tmp_path / "run").step % 10 == 1, "ranks agree to stop every ten steps"


def test_a_killed_rank_ends_the_run_and_the_same_command_continues_it(drawings_dir: Path, tmp_path: Path) -> None:
    with start(options(drawings_dir, tmp_path / "run", 10**6, "--save-checkpoint-secs", 1e-9)) as launcher:
        assert launcher.stdout is not None
        assert launcher.stderr is not None
        while "step 10, loss" not in launcher.stdout.readline():
            assert launcher.poll() is None, "the run must reach step 10"
        first, second = children(launcher.pid)
        os.kill(second, signal.SIGKILL)
        errors = launcher.stderr.read()
        assert launcher.wait() != 0
    assert "error: a process of this run is gone; start the run again and it continues" in errors
    saved = checkpoint.read_newest(tmp_path / "run")
    assert_trains(tmp_path, options(drawings_dir, tmp_path / "run", saved.step + 1))
    assert checkpoint.read_newest(tmp_path / "run").step == saved.step + 1
    assert not Path(f"/proc/{first}").exists()


def test_two_ranks_do_not_train_in_a_directory_in_use(drawings_dir: Path, tmp_path: Path) -> None:
    with run_lock(tmp_path / "run"):
        first, second = TwoRanks(tmp_path, train_command, *options(drawings_dir, tmp_path / "run", 1)).end()
    assert first.status == 1
    assert f"error: another training is under way in {tmp_path / 'run'}" in first.stderr
    assert second.status == 1
    assert "Traceback" not in second.stderr
    assert checkpoint.latest(tmp_path / "run") is None


def children(parent: int) -> list[int]:
    """Return the processes that ``parent`` has started, oldest first."""
    return [int(number) for number in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def test_only_rank_0_says_what_the_class_folders_have(tmp_path: Path) -> None:
    for part, first in (("train", 0), ("test", 50)):
        write_classes(tmp_path / "data" / part, {f"class {number}": 3 for number in range(10)}, first)
    ended = TwoRanks(tmp_path, train_command, *options(tmp_path / "data", tmp_path / "train", 2)).end()
    assert [rank.status for rank in ended] == [0, 0], ended
    assert ["60 images, 30 of them for testing" in rank.stderr for rank in ended] == [True, False]
