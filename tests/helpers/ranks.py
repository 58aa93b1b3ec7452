"""Run a function on two ranks whose processes have imported PyTorch already: torchrun and its imports take 10 s."""

import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from cifar10_zoo import cli, train

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload([__name__])


@dataclass(frozen=True)
class Ended:
    """How a rank has ended."""

    status: int | None
    stderr: str


class TwoRanks:
    """A function that runs on two ranks.

    Args:
        folder: Where the ranks write their output.
        function: A function of a module.
        arguments: Arguments that can be pickled.
    """

    def __init__(self, folder: Path, function: Callable[..., object], *arguments: object) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.outputs = [folder / f"rank{rank}" for rank in range(2)]
        self.processes = [
            _PROCESSES.Process(target=_rank, args=(rank, port, output, function, *arguments))
            for rank, output in enumerate(self.outputs)
        ]
        for process in self.processes:
            process.start()

    def wait_for_output(self, text: str) -> None:
        """Return as soon as rank 0 has printed ``text``."""
        output = self.outputs[0].with_suffix(".out")
        while not output.exists() or text not in output.read_text("utf-8"):
            assert self.processes[0].is_alive()
            time.sleep(0.01)

    def end(self) -> list[Ended]:
        """Wait until both ranks have ended."""
        for process in self.processes:
            process.join()
        errors = [output.with_suffix(".err").read_text("utf-8") for output in self.outputs]
        return [Ended(process.exitcode, text) for process, text in zip(self.processes, errors, strict=True)]


def train_command(*words: str) -> None:
    """Do what ``torchrun -m cifar10_zoo.train WORDS...`` does on one rank."""
    sys.argv = ["cifar10_zoo.train", *words]
    cli.run(train.train, train.Options, train.recipe_options)


def _rank(rank: int, port: int, output: Path, function: Callable[..., object], *arguments: object) -> None:
    """Call a function with the environment that torchrun gives a rank."""
    os.environ |= {"TORCHELASTIC_RUN_ID": "tests", "WORLD_SIZE": "2", "RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)  # torchrun sets OMP_NUM_THREADS=1; the number of threads changes the last bits
    for descriptor, suffix in ((1, ".out"), (2, ".err")):
        os.dup2(os.open(output.with_suffix(suffix), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    function(*arguments)
