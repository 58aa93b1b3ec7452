"""Several processes that train one network, each a tower of the tutorial's: its own batch, the average gradient.

    torchrun --nproc-per-node=2 -m cifar10_zoo.train

Source: ``cifar10_multi_gpu_train.py``.
"""

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from cifar10_zoo.errors import TrainingError


@dataclass(frozen=True)
class Ranks:
    """The processes of a training, and which of them this one is."""

    rank: int = 0
    """Number of this process, from 0."""
    world_size: int = 1
    """How many there are."""

    @property
    def is_main(self) -> bool:
        """Whether this is the one that writes and prints."""
        return self.rank == 0

    def replicate(self, model: nn.Module) -> nn.Module:
        """``model`` itself when alone; else with the weights of rank 0, and with gradients that are averages of all."""
        return model if self.world_size == 1 else DistributedDataParallel(model)

    def barrier(self) -> None:
        """Until all have come here."""
        if self.world_size > 1:
            with self.collective():
                distributed.barrier()

    def all_max(self, value: int) -> int:
        """The highest of the values that the processes give; each must ask at the same step."""
        if self.world_size == 1:
            return value
        highest = torch.tensor(value)
        with self.collective():
            distributed.all_reduce(highest, distributed.ReduceOp.MAX)
        return int(highest)

    def all_equal(self, value: int) -> bool:
        """Whether all ranks give the same value; each must ask at the same step."""
        return self.all_max(value) == -self.all_max(-value)

    @contextmanager
    def collective(self) -> Iterator[None]:
        """Around what takes all processes: where one is gone, the first says so, and the others end without a word.

        Raises:
            TrainingError: another process is gone.
        """
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            if self.world_size == 1:
                raise
            if not self.is_main:
                sys.exit(1)
            raise TrainingError(f"a process of this training is gone; start it again to go on ({error})") from error


@contextmanager
def connect_ranks() -> Iterator[Ranks]:
    """The processes that torchrun has started, connected while the block lasts; else this one alone."""
    if not distributed.is_torchelastic_launched():
        yield Ranks()
        return
    # The network that they share is in reference cycles. When it was there until the interpreter was taken down, the
    # threads of gloo were too, and one job in twelve ended with "terminate called without an active exception".
    atexit.register(gc.collect)
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield Ranks(distributed.get_rank(), distributed.get_world_size())
    finally:
        with suppress(RuntimeError):  # the others may be gone
            distributed.destroy_process_group()
