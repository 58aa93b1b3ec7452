"""Data-parallel training: each rank computes the gradient of its own batch, and all apply the average gradient.

    torchrun --nproc-per-node=2 -m cifar10_zoo.train

The tutorial calls a rank a tower. Source: ``cifar10_multi_gpu_train.py``.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import torch
from torch import distributed, nn

from cifar10_zoo.errors import TrainingError


@dataclass(frozen=True)
class Ranks:
    """The processes of a run, and the rank of this process. Collective operations must be called by all ranks."""

    rank: int = 0
    """Number of this process, from 0."""
    world_size: int = 1
    """Number of processes."""

    @property
    def is_main(self) -> bool:
        """Whether this process is rank 0, the only one that prints and writes."""
        return self.rank == 0

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its average over all ranks, in one collective operation.

        Source: ``average_gradients()`` of ``cifar10_multi_gpu_train.py``.
        """
        if self.world_size == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        buffer = torch.cat([gradient.flatten() for gradient in gradients]) / self.world_size
        with self.collective():
            distributed.all_reduce(buffer)
        for gradient, average in zip(gradients, buffer.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(average.view_as(gradient))

    def barrier(self) -> None:
        """Wait until all ranks have called this method."""
        if self.world_size > 1:
            with self.collective():
                distributed.barrier()

    def all_max(self, value: int) -> int:
        """Return the maximum of ``value`` over all ranks."""
        if self.world_size == 1:
            return value
        maximum = torch.tensor(value)
        with self.collective():
            distributed.all_reduce(maximum, distributed.ReduceOp.MAX)
        return int(maximum)

    def all_equal(self, value: int) -> bool:
        """Return whether ``value`` is the same on all ranks."""
        maximum, minimum = self.all_max(value), -self.all_max(-value)
        return maximum == minimum

    @contextmanager
    def collective(self) -> Iterator[None]:
        """Wrap a collective operation: if another process has ended, rank 0 raises an error and others exit.

        Raises:
            TrainingError: Another process has ended; raised on rank 0.
            SystemExit: Another process has ended; raised on all other ranks.
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
            raise TrainingError(
                f"a process of this run is gone; start the run again and it continues ({error})"
            ) from error


def started_ranks() -> int:
    """Return the number of processes that torchrun started; 1 without torchrun."""
    return int(os.environ["WORLD_SIZE"]) if distributed.is_torchelastic_launched() else 1


def started_rank() -> int:
    """Return the rank of this process, which torchrun sets; 0 without torchrun."""
    return int(os.environ["RANK"]) if distributed.is_torchelastic_launched() else 0


@contextmanager
def connect_ranks() -> Iterator[Ranks]:
    """Connect the processes that torchrun started, while the block runs; without torchrun, there is only one rank."""
    if not distributed.is_torchelastic_launched():
        yield Ranks()
        return
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield Ranks(distributed.get_rank(), distributed.get_world_size())
    finally:
        with suppress(RuntimeError):  # other processes may be gone
            distributed.destroy_process_group()
