"""Run a function on two ranks whose processes have imported PyTorch already: torchrun and its imports take 10 s."""

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cifar10_zoo import cli, train

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload([__name__])


@dataclass(frozen=True)
class Ended:
    """How a rank has ended."""

    status: int | None
    stderr: str


def on_two_ranks(folder: Path, function: Callable[..., object], *arguments: object) -> list[Ended]:
    """Call ``function(*arguments)`` on two ranks.

    Args:
        folder: Where the ranks write their messages.
        function: A function of a module.
        arguments: Arguments that can be pickled.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    files = [folder / f"rank{rank}.txt" for rank in range(2)]
    ranks = [_PROCESSES.Process(target=_rank, args=(rank, port, files[rank], function, *arguments)) for rank in (0, 1)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()
    return [Ended(process.exitcode, file.read_text("utf-8")) for process, file in zip(ranks, files, strict=True)]


def train_command(*words: str) -> None:
    """Do what ``torchrun -m cifar10_zoo.train WORDS...`` does on one rank."""
    sys.argv = ["cifar10_zoo.train", *words]
    cli.run(train.train, train.Options, train.recipe_options)


def _rank(rank: int, port: int, messages: Path, function: Callable[..., object], *arguments: object) -> None:
    """Call a function with the environment that torchrun gives a rank."""
    os.environ |= {"TORCHELASTIC_RUN_ID": "tests", "WORLD_SIZE": "2", "RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.dup2(os.open(messages, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    function(*arguments)
