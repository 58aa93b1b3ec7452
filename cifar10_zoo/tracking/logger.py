"""What happens at each step of a run besides training: console output, TensorBoard, losses.csv and checkpoints."""

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from torch import Tensor

from cifar10_zoo.config import flag
from cifar10_zoo.data.batches import LazyBatch
from cifar10_zoo.data.dataset import Dataset
from cifar10_zoo.errors import OptionError, TrainingError
from cifar10_zoo.tracking import history, plots
from cifar10_zoo.tracking.console import Lap, Progress
from cifar10_zoo.tracking.tensorboard import Summaries
from cifar10_zoo.tracking.validation import Validation
from cifar10_zoo.training import checkpoint
from cifar10_zoo.training.run_control import SIGPIPE, StopRequest
from cifar10_zoo.training.schedule import learning_rate
from cifar10_zoo.training.state import TrainingState


@dataclass(frozen=True, kw_only=True)
class LoggerOptions:
    """Where and how often a run is logged and saved."""

    train_dir: Path = Path("cifar10_train")
    """Directory of the checkpoints."""
    log_frequency: int = 10
    """Steps between two lines on the console."""
    summary_frequency: int = 100
    """Steps between two TensorBoard summaries, written to --train-dir; 0 writes none."""
    save_checkpoint_secs: float = 600.0
    """Seconds between two checkpoints; the last step is always saved."""

    def __post_init__(self) -> None:
        for name in ("log_frequency", "save_checkpoint_secs"):
            if not getattr(self, name) > 0:
                raise OptionError(f"{flag(name)} must be above 0, not {getattr(self, name)}")
        if self.summary_frequency < 0:
            raise OptionError(f"--summary-frequency must be 0 or more, not {self.summary_frequency}")


class RunLogger:
    """Logs and saves a run; at the end of its ``with`` block, it saves the last step and draws the curves.

    Args:
        options: Where and how often.
        state: The training state, at the step that the run continues with.
        data: The training images.
        last_step: The number of completed steps at which the run ends.
        validation: Validates the run; None without validation images.
        stop: Receives a request when the console is closed, as SIGPIPE.
    """

    def __init__(
        self,
        options: LoggerOptions,
        state: TrainingState,
        data: Dataset,
        last_step: int,
        validation: Validation | None,
        stop: StopRequest,
    ) -> None:
        self._options, self._state, self._data, self._stop = options, state, data, stop
        self._validation = validation
        recipe = state.hyperparameters
        self._images_per_step = recipe.batch_size * recipe.num_gpus
        self._losses = history.Losses(options.train_dir, state.step)
        self._summaries = Summaries(options.train_dir, first_step=state.step) if options.summary_frequency else None
        self._progress = Progress(state.step, last_step, recipe.batch_size, recipe.num_gpus)
        self._summarized, self._saved = Lap(state.step), Lap(state.step)

    def __enter__(self) -> "RunLogger":
        recipe = self._state.hyperparameters
        what = f"{len(self._data.images)} {self._data.name} images, device {self._state.device}, {recipe.precision}"
        ranks = f", {recipe.num_gpus} processes" if recipe.num_gpus > 1 else ""
        print(f"training on {what}{ranks}, from step {self._state.step}", file=sys.stderr)
        return self

    def on_step_begin(self, step: int, batch: LazyBatch) -> None:
        """Summarize the batch and its activations with the weights before the update of ``step``."""
        if self._summaries and self._is_summarized(step):
            self._summaries.batch(step, batch.images, self._state.activations(batch.images))

    def on_step_end(self, step: int, losses: Tensor) -> None:
        """Summarize, log, validate and save after the update of ``step``, each if it is due.

        Args:
            step: The step, counted from 0.
            losses: The losses before the update, [4] float32; the last one is the total loss.

        Raises:
            TrainingError: The loss or the weights are not finite; diverged weights are not saved.
        """
        if self._summaries and self._is_summarized(step):
            speed = self._summarized.steps_per_second(self._state.step) * self._images_per_step
            self._summaries.training(step, self._state, losses, speed)
        if step % self._options.log_frequency == 0:
            self._log(step, float(losses[-1]))
        self._advance()
        if self._is_new_best() or self._saved.seconds() > self._options.save_checkpoint_secs:
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
            plots.draw(self._options.train_dir, self._options.train_dir)

    def _is_summarized(self, step: int) -> bool:
        return step % self._options.summary_frequency == 0

    def _log(self, step: int, loss: float) -> None:
        self._require_finite(loss, step)
        self._losses.add(history.Loss(step, loss, learning_rate(step, self._state.hyperparameters)))
        try:
            self._progress.report(step, loss, self._state.step)
        except OSError:
            self._stop.request(SIGPIPE)

    def _is_new_best(self) -> bool:
        """Validate if it is due; return whether this validation is the best one."""
        if self._validation is None or not self._validation.is_due:
            return False
        accuracy = self._validation.run()
        try:
            self._progress.validated(self._state.step, accuracy)
        except OSError:  # the console was closed
            self._stop.request(SIGPIPE)
        return self._validation.is_best

    def _advance(self) -> None:
        try:
            self._progress.advance()
        except OSError:
            self._stop.request(SIGPIPE)

    def _save(self) -> None:
        total = sum(tensor.sum() for tensor in self._state.model.state_dict().values())
        self._require_finite(float(total), self._state.step)
        self._losses.save()
        save_checkpoint(self._state, self._data, self._options.train_dir)
        self._saved = Lap(self._state.step)

    def _require_finite(self, value: float, step: int) -> None:
        if not math.isfinite(value):
            last_good = checkpoint.latest(self._options.train_dir) or "none"
            raise TrainingError(
                f"model diverged: loss or weights are {value} at step {step}; last checkpoint: {last_good}"
            )


def save_checkpoint(state: TrainingState, data: Dataset, directory: Path) -> None:
    """Save ``state``, then delete older checkpoints, except the newest ones and the one with the best accuracy."""
    checkpoint.save(state, directory, data.name, data.classes, data.test_fraction)
    checkpoint.prune(directory, keep_steps=(state.step, history.best_step(directory)))
