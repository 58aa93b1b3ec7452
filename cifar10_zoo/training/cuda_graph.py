"""A whole training step as one CUDA graph: one copy and one launch per step, and the host never waits for the GPU."""

from itertools import cycle

import torch
from torch import Tensor

from cifar10_zoo.data.batches import BatchSample, TrainingBatches
from cifar10_zoo.training.state import TrainingState

_EAGER_STEPS = 3
"""Number of warm-up steps before the capture: libraries choose kernels and allocate memory in these steps."""
_STEPS_AHEAD = 8
"""Number of steps that the host may be ahead of the GPU."""


class GraphedStep:
    """Takes training steps on a CUDA GPU: assembles the batch, then updates weights and EMA weights.

    The first steps run eagerly on a separate stream. The next step is captured, and all later steps replay it. With
    several ranks, the graph contains the collective operation that averages the gradients.

    Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#whole-network-capture.
    """

    def __init__(self, state: TrainingState, batches: TrainingBatches) -> None:
        self._state, self._batches = state, batches
        self._stream = torch.cuda.Stream()
        self._graph: torch.cuda.CUDAGraph | None = None
        self._eager_steps = 0
        sample = batches.sample(0)
        self._input = SampleBuffer(sample, state.device)  # the graph reads it: each step copies its sample here
        self._pinned = cycle([_PinnedBuffer(sample) for _ in range(_STEPS_AHEAD)])
        self._losses: Tensor

    def __call__(self, number: int) -> Tensor:
        """Train on batch ``number``; return the losses, [4] float32, valid until the next step."""
        next(self._pinned).send(self._batches.sample(number), self._input)
        self._state.begin_step()
        if self._graph is not None:
            self._graph.replay()
        elif self._eager_steps < _EAGER_STEPS:
            self._eager_steps += 1
            self._update_on_own_stream()
        else:
            self._graph = torch.cuda.CUDAGraph()
            # thread_local: NCCL's watchdog thread may query events during the capture
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                self._losses = self._update()
            self._graph.replay()  # the capture only records the step
        return self._losses

    def _update(self) -> Tensor:
        return self._state.update(*self._batches.assemble(self._input.sample))

    def _update_on_own_stream(self) -> None:
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            self._losses = self._update()
        torch.cuda.current_stream().wait_stream(self._stream)


class SampleBuffer:
    """A ``BatchSample`` whose tensors are views of one buffer, so that one copy moves all of them.

    Args:
        sample: A sample with the dtypes and shapes of all later ones.
        device: The device of the buffer.
        pinned: Whether the buffer is in pinned memory, which a GPU can read while the host continues.
    """

    def __init__(self, sample: BatchSample, device: torch.device, pinned: bool = False) -> None:
        tensors = sample.tensors()
        sizes = [-(-tensor.nbytes // 16) * 16 for tensor in tensors]  # each view is aligned
        self.buffer = torch.zeros(sum(sizes), dtype=torch.uint8, device=device, pin_memory=pinned)
        parts = zip(tensors, self.buffer.split(sizes), strict=True)
        self.sample = BatchSample.of([part[: t.nbytes].view(t.dtype).view(t.shape) for t, part in parts])

    def fill(self, sample: BatchSample) -> None:
        """Copy ``sample`` into the buffer."""
        for target, source in zip(self.sample.tensors(), sample.tensors(), strict=True):
            target.copy_(source)


class _PinnedBuffer:
    """A buffer on the host, and the event that says when the GPU has read it."""

    def __init__(self, sample: BatchSample) -> None:
        self._host = SampleBuffer(sample, torch.device("cpu"), pinned=True)
        self._read = torch.cuda.Event()

    def send(self, sample: BatchSample, target: SampleBuffer) -> None:
        """Copy ``sample`` to ``target`` on the GPU; waits only if the GPU is ``_STEPS_AHEAD`` steps behind."""
        self._read.synchronize()
        self._host.fill(sample)
        target.buffer.copy_(self._host.buffer, non_blocking=True)
        self._read.record()
