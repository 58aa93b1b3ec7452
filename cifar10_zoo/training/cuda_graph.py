"""A whole training step as one CUDA graph: a single launch, and nothing waits for the GPU."""

import torch
from torch import Tensor

from cifar10_zoo.data.batches import TrainingBatches
from cifar10_zoo.data.transforms import Augmentation
from cifar10_zoo.training.state import TrainingState

_EAGER_STEPS = 3
"""Steps before the capture, in which libraries choose their kernels and allocate what they need."""


class GraphedStep:
    """Takes training steps on a CUDA GPU: assembles the batch, updates weights and averages.

    The first steps run as usual, on a stream of their own; the next is captured, and replayed from then on.
    Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#whole-network-capture.
    """

    def __init__(self, state: TrainingState, batches: TrainingBatches) -> None:
        self._state, self._batches = state, batches
        self._stream = torch.cuda.Stream()
        self._graph: torch.cuda.CUDAGraph | None = None
        self._eager_steps = 0
        self._drawn = batches.draw(0)  # what the graph reads; each step writes its own draw into it
        self._losses: Tensor

    def __call__(self, number: int) -> Tensor:
        """Train on batch ``number``; returns the losses, [4] float32, valid until the next step."""
        self._write(self._batches.draw(number))
        self._state.begin_step()
        if self._graph is not None:
            self._graph.replay()
        elif self._eager_steps < _EAGER_STEPS:
            self._eager_steps += 1
            self._run_aside()
        else:
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._losses = self._run()
            self._graph.replay()  # the capture itself computes nothing
        return self._losses

    def _run(self) -> Tensor:
        return self._state.update(*self._batches.assemble(self._drawn))

    def _run_aside(self) -> None:
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            self._losses = self._run()
        torch.cuda.current_stream().wait_stream(self._stream)

    def _write(self, drawn: tuple[Tensor, Augmentation]) -> None:
        (index, distortions), (new_index, new_distortions) = self._drawn, drawn
        for target, source in zip(
            [index, *distortions.tensors()], [new_index, *new_distortions.tensors()], strict=True
        ):
            target.copy_(source)
