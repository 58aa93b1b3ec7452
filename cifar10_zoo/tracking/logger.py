"""What a training tells and keeps: console, TensorBoard, losses, checkpoints and the picture of its curves."""

import math
import signal
import sys
from types import TracebackType
from typing import TYPE_CHECKING

from torch import Tensor

from cifar10_zoo.data.batches import TrainingBatches
from cifar10_zoo.data.cifar10 import Dataset
from cifar10_zoo.errors import TrainingError
from cifar10_zoo.tracking import history
from cifar10_zoo.tracking import plots as curves
from cifar10_zoo.tracking.console import Lap, Progress
from cifar10_zoo.tracking.tensorboard import Summaries
from cifar10_zoo.training import checkpoint
from cifar10_zoo.training.schedule import learning_rate
from cifar10_zoo.training.state import TrainingState

if TYPE_CHECKING:
    from cifar10_zoo.train import Options


class Journal:
    """Follows a training from the step of ``state`` to ``end``; as a context, it saves the last step when that is over.

    Args:
        stops: where a console that nobody reads any more is noted, as signal.SIGPIPE.
    """

    def __init__(self, options: "Options", state: TrainingState, data: Dataset, end: int, stops: list[int]) -> None:
        self._options, self._state, self._data, self._stops = options, state, data, stops
        recipe = state.hyperparameters
        what = f"{len(data.images)} {data.name} images, device {state.device}, {recipe.precision}"
        several = f", {recipe.num_gpus} processes" if recipe.num_gpus > 1 else ""
        print(f"training on {what}{several}, from step {state.step}", file=sys.stderr)
        self._images_per_step = recipe.batch_size * recipe.num_gpus
        self._losses = history.Losses(options.train_dir, state.step)
        self._summaries = Summaries(options.train_dir, first_step=state.step) if options.summary_frequency else None
        self._progress = Progress(state.step, end, recipe.batch_size, recipe.num_gpus)
        self._summarized, self._saved = Lap(state.step), Lap(state.step)

    def __enter__(self) -> "Journal":
        return self

    def before(self, step: int, batches: TrainingBatches, number: int) -> None:
        """Summarize ``step``, which trains on batch ``number``, as far as it can be seen before its update."""
        if self._summaries and self._is_summarized(step):
            images, _ = batches.batch(number)
            self._summaries.batch(step, images, self._state.activations(images))

    def after(self, step: int, losses: Tensor) -> None:
        """Tell and keep what is due after the update of ``step``.

        Raises:
            TrainingError: the loss or the weights are no longer finite; nothing of them is saved.
        """
        if self._summaries and self._is_summarized(step):
            speed = self._summarized.steps_per_second(self._state.step) * self._images_per_step
            self._summaries.training(step, self._state, losses, speed)
        try:
            if step % self._options.log_frequency == 0:
                loss = float(losses[-1])
                self._require_finite(loss, step)
                self._losses.add(history.Loss(step, loss, learning_rate(step, self._state.hyperparameters)))
                self._progress.report(step, loss, self._state.step)
            self._progress.advance()
        except OSError:  # nobody reads the console any more
            self._stops.append(signal.SIGPIPE)
        if self._saved.seconds() > self._options.save_checkpoint_secs:
            self._save()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.close()
        if self._summaries:
            self._summaries.close()
        if error is None:
            if self._state.step > self._saved.step:
                self._save()
            curves.draw(self._options.train_dir)

    def _is_summarized(self, step: int) -> bool:
        return step % self._options.summary_frequency == 0

    def _save(self) -> None:
        total = sum(tensor.sum() for tensor in self._state.model.state_dict().values())
        self._require_finite(float(total), self._state.step)
        self._losses.save()
        checkpoint.save(self._state, self._options.train_dir, self._data.name, self._data.classes)
        self._saved = Lap(self._state.step)

    def _require_finite(self, value: float, step: int) -> None:
        """Stop when training has diverged."""
        if not math.isfinite(value):
            last_good = checkpoint.latest(self._options.train_dir) or "none"
            raise TrainingError(
                f"model diverged: loss or weights are {value} at step {step}; last checkpoint: {last_good}"
            )
