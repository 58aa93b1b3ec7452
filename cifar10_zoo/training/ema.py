"""The exponential moving average (EMA) of the weights; evaluation and export use the EMA weights."""

from itertools import accumulate

import torch
from torch import Tensor

from cifar10_zoo.network.batch_norm import named_tensors
from cifar10_zoo.network.model import Cifar10Net

_ALIGNMENT = 16
"""Each tensor in the buffer begins at a multiple of 64 bytes, as kernels like it."""


def ema_decay(step: int, limit: float) -> float:
    """Return min(limit, (1 + step) / (10 + step)), the decay after ``step`` updates.

    The decay is small at first, so that the EMA soon forgets the initial weights.

    Source: ``tf.train.ExponentialMovingAverage(decay, num_updates)``.
    """
    return min(limit, (1 + step) / (10 + step))


class EmaWeights:
    """The EMA of each weight and running statistic of ``model``; initially equal to ``model``.

    The tensors of ``model`` become views of one buffer, and so do the averages: an update is one kernel.
    """

    weights: dict[str, Tensor]
    """By the names in a checkpoint, as in ``named_tensors``."""

    def __init__(self, model: Cifar10Net) -> None:
        self._current = _move_into_buffer(model)
        self._averaged = self._current.clone()
        self.weights = {
            name: self._averaged.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())
            for name, tensor in named_tensors(model).items()
        }

    @torch.no_grad()
    def update(self, ema_weight: Tensor) -> None:
        """Move the EMA toward the present weights.

        Args:
            ema_weight: 1 minus the decay, a scalar tensor.
        """
        self._averaged.lerp_(self._current, ema_weight)


@torch.no_grad()
def _move_into_buffer(model: Cifar10Net) -> Tensor:
    """Make each tensor in a checkpoint of ``model`` a view of one new buffer; return the buffer."""
    saved = model.state_dict().keys()
    tensors = [t for name, t in (*model.named_parameters(), *model.named_buffers()) if name in saved]
    sizes = [-(-tensor.numel() // _ALIGNMENT) * _ALIGNMENT for tensor in tensors]
    buffer = tensors[0].new_zeros(sum(sizes))
    for tensor, end, size in zip(tensors, accumulate(sizes), sizes, strict=True):
        view = buffer.as_strided(tensor.shape, tensor.stride(), end - size)  # keeps the memory format
        view.copy_(tensor)
        tensor.data = view
    return buffer
