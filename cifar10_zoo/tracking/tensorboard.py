"""Write the tutorial's TensorBoard summaries; docs/tutorial-map.md maps the tutorial's tags to these tags.

To see them, run ``tensorboard --logdir cifar10_train``.
"""

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, TracebackType

import torch
from torch import Tensor

from cifar10_zoo.network.model import tutorial_name
from cifar10_zoo.training.loss import LOSS_NAMES
from cifar10_zoo.training.schedule import learning_rate
from cifar10_zoo.training.state import TrainingState

# TensorBoard imports TensorFlow if it is installed. The import takes seconds and prints on stderr, and event files do
# not need TensorFlow. A module with this name makes TensorBoard skip the import.
sys.modules.setdefault("tensorboard.compat.notf", ModuleType("notf"))
from torch.utils.tensorboard.writer import SummaryWriter  # noqa: E402

LAYERS = ("conv1", "conv2", "local3", "local4", "softmax_linear")
"""The layers whose activations are summarized."""
IMAGES = 3
"""Number of images per batch to show."""
_BINS = 64


class Summaries:
    """Writes event files to ``directory``.

    Args:
        directory: The log directory.
        first_step: The first step of a resumed run. TensorBoard hides the events that an earlier run in the same
            directory wrote for this step and later ones, so that the curves do not overlap.
    """

    def __init__(self, directory: Path, first_step: int | None = None) -> None:
        self._writer = SummaryWriter(str(directory), purge_step=first_step)

    def __enter__(self) -> "Summaries":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Write the buffered events and close the file."""
        self._writer.close()

    def batch(self, step: int, images: Tensor, activations: Mapping[str, Tensor]) -> None:
        """Add the first images of a batch, and the histogram and sparsity of the activations of each layer.

        Args:
            step: The step of the batch.
            images: [N, 3, H, W] float32, standardized.
            activations: The result of ``Cifar10Net.activations`` for ``images``.
        """
        for number, image in enumerate(images[:IMAGES].cpu()):
            scaled = image / (2 * image.abs().max().clamp(min=1e-9)) + 0.5  # 0 becomes middle gray
            self._writer.add_image(f"images/{number}", scaled, step)
        self._histograms({f"{name}/activations": activations[name] for name in LAYERS}, step)
        sparsity = torch.stack([(activations[name] == 0).float().mean() for name in LAYERS]).tolist()
        for name, value in zip(LAYERS, sparsity, strict=True):
            self._writer.add_scalar(f"{name}/sparsity", value, step)

    def training(self, step: int, state: TrainingState, losses: Tensor, examples_per_sec: float) -> None:
        """Add losses, learning rate, weights, gradients and speed of ``step``.

        Args:
            step: The step, counted from 0.
            state: The state after the update of ``step``.
            losses: The losses before the update, [4] float32 in the order of ``LOSS_NAMES``.
            examples_per_sec: Training speed in images per second.
        """
        raw_and_averaged = torch.stack([losses, state.loss_averages.values]).tolist()
        for name, raw, averaged in zip(LOSS_NAMES, *raw_and_averaged, strict=True):
            self._writer.add_scalar(f"{name}/raw", raw, step)
            self._writer.add_scalar(f"{name}/averaged", averaged, step)
        self._writer.add_scalar("learning_rate", learning_rate(step, state.hyperparameters), step)
        self._writer.add_scalar("examples_per_sec", examples_per_sec, step)
        parameters = {tutorial_name(name): parameter for name, parameter in state.model.named_parameters()}
        gradients = {f"{tag}/gradients": p.grad for tag, p in parameters.items() if p.grad is not None}
        self._histograms(parameters | gradients, step)

    def precision(self, step: int, accuracy: float) -> None:
        """Add the top-1 accuracy of the checkpoint of ``step``, under the tutorial's name."""
        self._writer.add_scalar("precision_at_1", accuracy, step)

    def _histograms(self, tensors: Mapping[str, Tensor], step: int) -> None:
        """Add a histogram of each tensor; the host reads all statistics from the device at once.

        For 1M values, this is 100 times as fast as ``SummaryWriter.add_histogram``.
        """
        rows = torch.stack([_statistics(tensor.detach()) for tensor in tensors.values()]).tolist()
        for (tag, tensor), row in zip(tensors.items(), rows, strict=True):
            if not all(map(math.isfinite, row)):  # RunLogger reports infinite values; show only the finite ones
                finite = tensor.detach()[tensor.isfinite()]
                if not len(finite):
                    continue
                row = _statistics(finite).tolist()
            self._add_histogram(tag, tensor.numel(), row, step)

    def _add_histogram(self, tag: str, count: int, row: list[float], step: int) -> None:
        low, high, total, squares, *bins = row
        self._writer.add_histogram_raw(
            tag,
            min=low,
            max=high,
            num=count,
            sum=total,
            sum_squares=squares,
            bucket_limits=torch.linspace(low, high, _BINS + 1)[1:].tolist(),
            bucket_counts=bins,
            global_step=step,
        )


def _statistics(values: Tensor) -> Tensor:
    """Return minimum, maximum, sum and sum of squares of ``values``, then the numbers of values in 64 equal bins.

    Returns:
        [4 + 64] float64, on the device of ``values``: nothing here waits for a GPU.
    """
    values = values.float().flatten()
    low, high = torch.aminmax(values)
    high = torch.maximum(high, low + low.abs() * 1e-6 + 1e-12)
    bins = torch.histc((values - low) / (high - low), _BINS, 0, 1)
    doubles = values.double()
    return torch.cat([torch.stack([low, high, doubles.sum(), doubles.square().sum()]), bins.double()])
