"""Train the network.

    python -m cifar10_zoo.train --max-steps 100000

Continues from the newest checkpoint in --train-dir. Source: ``cifar10_train.py``.
"""

import math
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Annotated

import tyro
from filelock import FileLock, Timeout
from torch import Tensor

from cifar10_zoo import checkpoint, curves, dataset, history
from cifar10_zoo.cli import DataOptions, run
from cifar10_zoo.config import Hyperparameters, flag
from cifar10_zoo.device import DeviceChoice, choose_device
from cifar10_zoo.errors import CheckpointError, OptionError, TrainingError
from cifar10_zoo.inputs import TrainingBatches
from cifar10_zoo.progress import Lap, Progress
from cifar10_zoo.schedule import learning_rate
from cifar10_zoo.state import TrainingState
from cifar10_zoo.summaries import Summaries


@dataclass(frozen=True, kw_only=True)
class Options(DataOptions):
    """Train the CIFAR-10 network; continues from the newest checkpoint in --train-dir."""

    train_dir: Path = Path("cifar10_train")
    """Folder of the checkpoints."""
    max_steps: int = 1_000_000
    """Step at which training ends, counted from the first run."""
    log_frequency: int = 10
    """Steps between two lines on the console."""
    summary_frequency: int = 100
    """Steps between two summaries for TensorBoard, written to --train-dir; 0 writes none."""
    save_checkpoint_secs: float = 600.0
    """Seconds between two checkpoints; the last step is always saved."""
    device: DeviceChoice = "auto"
    """Where to compute; auto takes a CUDA GPU where there is one."""
    hyperparameters: Annotated[Hyperparameters, tyro.conf.arg(name="")] = field(default_factory=Hyperparameters)
    log_device_placement: bool = False
    """Print where the data set, the weights and the averages lie."""
    use_fp16: bool = False
    """The tutorial's spelling of --precision fp16."""

    def __post_init__(self) -> None:
        for name in ("max_steps", "log_frequency", "save_checkpoint_secs"):
            if not getattr(self, name) > 0:
                raise OptionError(f"{flag(name)} must be above 0, not {getattr(self, name)}")
        if self.summary_frequency < 0:
            raise OptionError(f"--summary-frequency must be 0 or more, not {self.summary_frequency}")
        if self.use_fp16:
            object.__setattr__(self, "hyperparameters", replace(self.hyperparameters, precision="fp16"))


def train(options: Options) -> TrainingState:
    """Train to ``options.max_steps``, saving checkpoints, and return the final state.

    SIGINT, SIGTERM, SIGHUP and a closed console let the step under way finish; it is saved before the program exits.

    Raises:
        ZooError: the data set or a checkpoint cannot be used, or the loss is no longer finite.
        SystemExit: stopped by a signal; the status is 128 and its number, as in a shell.
    """
    where = choose_device(options.device)
    data = options.load("train")
    with _alone_in(options.train_dir), _stop_signals() as stops:
        state = _resume(options, data, TrainingState(options.hyperparameters, where))
        if state.step < options.max_steps:
            _loop(options, data, state, stops)
    print(f"step {state.step}: {checkpoint.latest(options.train_dir)}", file=sys.stderr)
    if stops:
        print(f"stopped by {signal.Signals(stops[0]).name}; the same command goes on from here", file=sys.stderr)
        sys.exit(128 + stops[0])
    return state


def _loop(options: Options, data: dataset.Dataset, state: TrainingState, stops: list[int]) -> None:
    """Take steps, log and save until ``options.max_steps`` or until ``stops`` holds a signal."""
    batch_size = state.hyperparameters.batch_size
    batches = TrainingBatches(data, state.hyperparameters.seed, batch_size, state.device)
    first = state.step
    what = f"{len(data.images)} {data.name} images, device {state.device}, {state.hyperparameters.precision}"
    print(f"training on {what}, from step {first}", file=sys.stderr)
    if options.log_device_placement:
        _log_devices({"images": batches.images, "labels": batches.labels} | state.tensors())
    summarized, saved = Lap(first), Lap(first)
    losses_on_file = history.Losses(options.train_dir, first)
    writer = Summaries(options.train_dir, first_step=first) if options.summary_frequency else nullcontext()
    with writer as summaries, Progress(first, options.max_steps, batch_size) as progress:
        while state.step < options.max_steps and not stops:
            step = state.step  # as the tutorial counts: the loss of step 0 is that of the initial weights
            images, labels = batches.batch(step)
            due = summaries if summaries and step % options.summary_frequency == 0 else None
            if due:
                due.batch(step, images, state.activations(images))
            losses = state.train_step(images, labels)
            if due:
                due.training(step, state, losses, summarized.steps_per_second(state.step) * batch_size)
            try:
                if step % options.log_frequency == 0:
                    loss = float(losses[-1])
                    _require_finite(loss, step, options.train_dir)
                    losses_on_file.add(history.Loss(step, loss, learning_rate(step, state.hyperparameters)))
                    progress.report(step, loss, state.step)
                progress.advance()
            except OSError:  # nobody reads the console any more
                stops.append(signal.SIGPIPE)
            if saved.seconds() > options.save_checkpoint_secs:
                _save(state, data, losses_on_file, options.train_dir)
                saved = Lap(state.step)
    if state.step > saved.step:
        _save(state, data, losses_on_file, options.train_dir)
    curves.draw(options.train_dir)


@contextmanager
def _alone_in(train_dir: Path) -> Iterator[None]:
    """Refuse to train where another training is under way; its lock goes with its process, however that ends."""
    lock = FileLock(train_dir / ".lock", timeout=0)
    try:
        train_dir.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise TrainingError(f"another training is under way in {train_dir}: name another --train-dir") from None
    except OSError as error:
        raise OptionError(f"--train-dir {train_dir} cannot be written to: {error.strerror}") from None
    try:
        yield
    finally:
        lock.release()


def _resume(options: Options, data: dataset.Dataset, state: TrainingState) -> TrainingState:
    """Restore the newest checkpoint, if there is one and it is of the same run."""
    if checkpoint.latest(options.train_dir) is None:
        return state
    saved = checkpoint.read_newest(options.train_dir)
    saved.require_classes_of(data)
    advice = f"continue with the same, or name another --train-dir than {options.train_dir}"
    was, now = asdict(saved.hyperparameters), asdict(options.hyperparameters)
    if changed := [f"{flag(name)} {was[name]}, not {now[name]}" for name in was if was[name] != now[name]]:
        raise CheckpointError(f"{saved.path} was trained with {', '.join(changed)}: {advice}")
    saved.restore(state)
    return state


def _log_devices(tensors: dict[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        print(f"{name}: {tensor.dtype} {list(tensor.shape)} on {tensor.device}", file=sys.stderr)


def _save(state: TrainingState, data: dataset.Dataset, losses: history.Losses, train_dir: Path) -> None:
    _require_finite(float(sum(p.detach().sum() for p in state.model.parameters())), state.step, train_dir)
    losses.save()
    checkpoint.save(state, train_dir, data.name, data.classes)


def _require_finite(value: float, step: int, train_dir: Path) -> None:
    """Stop when training has diverged; nothing of it may be saved."""
    if not math.isfinite(value):
        last_good = checkpoint.latest(train_dir) or "none"
        raise TrainingError(f"model diverged: loss or weights are {value} at step {step}; last checkpoint: {last_good}")


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """Collect SIGINT, SIGTERM and SIGHUP in a list instead of dying of them; a second one kills as usual."""
    received: list[int] = []

    def receive(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        restore()

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    wanted = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    heeded = [number for number in wanted if signal.getsignal(number) != signal.SIG_IGN]  # nohup ignores SIGHUP
    previous = {number: signal.signal(number, receive) for number in heeded}
    try:
        yield received
    finally:
        restore()


if __name__ == "__main__":
    run(train, Options)
