"""Write the tutorial's TensorBoard summaries; docs/tutorial-map.md maps the tutorial's tags to these tags.

To see them, run ``tensorboard --logdir cifar10_train``.
"""

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
        for number, image in enumerate(images[:IMAGES]):
            scaled = image / (2 * image.abs().max().clamp(min=1e-9)) + 0.5  # 0 becomes middle gray
            self._writer.add_image(f"images/{number}", scaled.cpu(), step)
        for name in LAYERS:
            self._histogram(f"{name}/activations", activations[name], step)
            self._writer.add_scalar(f"{name}/sparsity", float((activations[name] == 0).float().mean()), step)

    def training(self, step: int, state: TrainingState, losses: Tensor, examples_per_sec: float) -> None:
        """Add losses, learning rate, weights, gradients and speed of ``step``.

        Args:
            step: The step, counted from 0.
            state: The state after the update of ``step``.
            losses: The losses before the update, [4] float32 in the order of ``LOSS_NAMES``.
            examples_per_sec: Training speed in images per second.
        """
        for name, raw, averaged in zip(LOSS_NAMES, losses.tolist(), state.loss_averages.values.tolist(), strict=True):
            self._writer.add_scalar(f"{name}/raw", raw, step)
            self._writer.add_scalar(f"{name}/averaged", averaged, step)
        self._writer.add_scalar("learning_rate", learning_rate(step, state.hyperparameters), step)
        self._writer.add_scalar("examples_per_sec", examples_per_sec, step)
        for name, parameter in state.model.named_parameters():
            tag = tutorial_name(name)
            self._histogram(tag, parameter, step)
            if parameter.grad is not None:
                self._histogram(f"{tag}/gradients", parameter.grad, step)

    def precision(self, step: int, accuracy: float) -> None:
        """Add the top-1 accuracy of the checkpoint of ``step``, under the tutorial's name."""
        self._writer.add_scalar("precision_at_1", accuracy, step)

    def _histogram(self, tag: str, values: Tensor, step: int) -> None:
        """Add a histogram of 64 equal bins; for 1M values, 100 times as fast as ``SummaryWriter.add_histogram``."""
        values = values.detach().float().flatten()
        values = values[values.isfinite()]  # histc fails on NaN and infinity; RunLogger reports them
        if not len(values):
            return
        low, high = (float(limit) for limit in torch.aminmax(values))
        high = max(high, low + abs(low) * 1e-6 + 1e-12)
        self._writer.add_histogram_raw(
            tag,
            min=low,
            max=high,
            num=values.numel(),
            sum=float(values.double().sum()),
            sum_squares=float(values.double().square().sum()),
            bucket_limits=torch.linspace(low, high, _BINS + 1)[1:].tolist(),
            bucket_counts=torch.histc(values, _BINS, low, high).tolist(),
            global_step=step,
        )
