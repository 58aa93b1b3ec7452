"""A whole training step as one CUDA graph: one launch per step, and the host never waits for the GPU."""

import torch
from torch import Tensor

from cifar10_zoo.data.batches import BatchSample, TrainingBatches
from cifar10_zoo.training.state import TrainingState

_EAGER_STEPS = 3
"""Number of warm-up steps before the capture: libraries choose kernels and allocate memory in these steps."""


class GraphedStep:
    """Takes training steps on a CUDA GPU: assembles the batch, then updates weights and EMA weights.

    The first steps run eagerly on a separate stream. The next step is captured, and all later steps replay it.

    Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#whole-network-capture.
    """

    def __init__(self, state: TrainingState, batches: TrainingBatches) -> None:
        self._state, self._batches = state, batches
        self._stream = torch.cuda.Stream()
        self._graph: torch.cuda.CUDAGraph | None = None
        self._eager_steps = 0
        self._sample = batches.sample(0)  # static input of the graph: each step copies its sample into these tensors
        self._losses: Tensor

    def __call__(self, number: int) -> Tensor:
        """Train on batch ``number``; return the losses, [4] float32, valid until the next step."""
        self._copy_sample(self._batches.sample(number))
        self._state.begin_step()
        if self._graph is not None:
            self._graph.replay()
        elif self._eager_steps < _EAGER_STEPS:
            self._eager_steps += 1
            self._update_on_own_stream()
        else:
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._losses = self._update()
            self._graph.replay()  # the capture only records the step
        return self._losses

    def _update(self) -> Tensor:
        return self._state.update(*self._batches.assemble(self._sample))

    def _update_on_own_stream(self) -> None:
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            self._losses = self._update()
        torch.cuda.current_stream().wait_stream(self._stream)

    def _copy_sample(self, sample: BatchSample) -> None:
        for target, source in zip(self._sample.tensors(), sample.tensors(), strict=True):
            target.copy_(source)
