"""Train the network, or continue training from the newest checkpoint in --train-dir.

    python -m cifar10_zoo.train --max-steps 100000
    torchrun --nproc-per-node=2 -m cifar10_zoo.train

Sources: ``cifar10_train.py``, ``cifar10_multi_gpu_train.py``.
"""

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import torch
import tyro
from torch import Tensor

from cifar10_zoo.cli import DataOptions, run
from cifar10_zoo.config import Hyperparameters, flag, spelled
from cifar10_zoo.data import class_weights
from cifar10_zoo.data.batches import LazyBatch, TrainingBatches
from cifar10_zoo.data.dataset import Dataset
from cifar10_zoo.data.load import load
from cifar10_zoo.data.validation import split_off
from cifar10_zoo.errors import CheckpointError, OptionError, Stopped, TrainingError
from cifar10_zoo.network.model import require_image_size
from cifar10_zoo.recipes import chosen_recipe
from cifar10_zoo.tracking.logger import LoggerOptions, RunLogger
from cifar10_zoo.tracking.validation import Validation
from cifar10_zoo.training import checkpoint
from cifar10_zoo.training.checkpoint import Checkpoint
from cifar10_zoo.training.cuda_graph import GraphedStep
from cifar10_zoo.training.device import DeviceChoice, choose_device, keep_freed_memory
from cifar10_zoo.training.distributed import Ranks, connect_ranks, started_rank, started_ranks
from cifar10_zoo.training.pretrained import initialize
from cifar10_zoo.training.run_control import StopRequest, run_lock, signal_name, stop_on_signals
from cifar10_zoo.training.schedule import last_step
from cifar10_zoo.training.state import TrainingState

STOP_CHECK_STEPS = 10
"""Number of steps between two checks whether a rank got a stop signal: each check is a collective operation.

torchrun kills a rank 30 seconds after a stop signal, so the checks must be frequent."""

_LONGEST_VALUE = 80
"""Largest number of characters of a value in an error."""
_COMPILERS = {"darwin": "clang++", "win32": "cl"}
"""The C++ compilers that torch.compile calls without CXX, by system; g++ on others."""


@dataclass(frozen=True, kw_only=True)
class Options(LoggerOptions, DataOptions):
    """Train the CIFAR-10 network; continues from the newest checkpoint in --train-dir."""

    max_steps: int = 1_000_000
    """Step at which training ends, counted from the first run, unless --epochs ends it earlier."""
    patience: int = 0
    """Validations in a row without a better accuracy that end training; 0 for no limit. Needs --validation-fraction."""
    device: DeviceChoice = "auto"
    """Device to compute on; auto uses a CUDA GPU if one is available."""
    hyperparameters: Annotated[Hyperparameters, tyro.conf.arg(name="")] = field(default_factory=Hyperparameters)
    compile: bool = False
    """Compile the network with torch.compile; slower on most CPUs."""
    log_device_placement: bool = False
    """Print the device of the data set, the weights and the EMA weights."""
    use_fp16: bool = False
    """The tutorial's spelling of --precision fp16."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_image_size(self.pixels)
        if not self.max_steps > 0:
            raise OptionError(f"--max-steps must be above 0, not {self.max_steps}")
        if self.patience < 0:
            raise OptionError(f"--patience must be 0 or more, not {self.patience}")
        if self.patience and not self.hyperparameters.validation_fraction:
            raise OptionError("--patience counts validations: set --validation-fraction, such as 0.1")
        if (ranks := self.hyperparameters.num_gpus) not in (1, started_ranks()):
            command = f"torchrun --nproc-per-node={ranks} -m cifar10_zoo.train"
            raise OptionError(f"--num-gpus {ranks}: start {ranks} processes with {command}")
        compiler = _COMPILERS.get(sys.platform, "g++")
        if self.compile and not shutil.which(os.environ.get("CXX", compiler)):
            raise OptionError(f"--compile needs a C++ compiler: install {compiler}, or name one in CXX")


def train(options: Options, data: Dataset | None = None) -> TrainingState:
    """Train until the last step, saving checkpoints, and return the final state.

    SIGINT, SIGTERM, SIGHUP, SIGBREAK or a closed console stop training after the current step, and that step is saved.
    With several ranks, only rank 0 prints and writes.

    Raises:
        ZooError: The data set or a checkpoint cannot be used, the loss is not finite, or a rank is gone.
        Stopped: A signal stopped training.
    """
    device = choose_device(options.device, tf32=options.hyperparameters.precision == "tf32")
    keep_freed_memory()
    data = data or read_images(options)
    with connect_ranks() as ranks, run_lock(options.train_dir) if ranks.is_main else nullcontext():
        ranks.barrier()  # the other ranks wait until rank 0 has the lock, and exit here if rank 0 cannot get it
        hyperparameters, image_size = run_hyperparameters(options, data, ranks), data.images.shape[-1]
        data, held_out = split_off(data, fraction := hyperparameters.validation_fraction)
        if fraction and not len(held_out.images):
            raise OptionError(
                f"--validation-fraction {fraction:g} is no image of any class: choose a higher fraction, or 0"
            )
        state = TrainingState(hyperparameters, device, ranks, len(data.classes), image_size)
        state.weigh_classes(data.labels)
        with stop_on_signals(second_kills=ranks.world_size == 1) as stop:
            if checkpoint.latest(options.train_dir):
                saved = checkpoint.read_newest(options.train_dir)
                require_same_run(saved, data, state.hyperparameters)
                saved.restore(state)
            else:
                keeps_classes = initialize(state, data)
                if ranks.is_main and (source := state.hyperparameters.init_from):
                    last = "" if keeps_classes else ", except softmax_linear, which is new for these classes"
                    print(f"starting with the weights of {source}{last}", file=sys.stderr)
            require_same_step(state, ranks, options.train_dir)
            stop_signal = take_steps(options, data, held_out, state, ranks, stop)
    if ranks.is_main:
        print(f"step {state.step}: {checkpoint.latest(options.train_dir)}", file=sys.stderr)
        if stop_signal:
            print(f"stopped by {signal_name(stop_signal)}; the same command continues the run", file=sys.stderr)
    if stop_signal:
        raise Stopped(stop_signal)
    return state


def read_images(options: Options) -> Dataset:
    """Return the training images; a run that has begun continues with images of its size."""
    if checkpoint.latest(options.train_dir):
        options = options.with_default_size(checkpoint.read_newest(options.train_dir).image_size)
    return load(options.data_dir, "train", options.data_url, options, quiet=started_rank() > 0)


def take_steps(
    options: Options, data: Dataset, held_out: Dataset, state: TrainingState, ranks: Ranks, stop: StopRequest
) -> int:
    """Train until the last step, a stop request or --patience; return the signal that asked any rank to stop, else 0.

    Args:
        options: The options of the run.
        data: The images to train with.
        held_out: The images to validate with; no images for no validation.
        state: The state at the step to continue with.
        ranks: The processes that train together.
        stop: Receives the signals.
    """
    end = min(options.max_steps, last_step(state.hyperparameters))
    validation = Validation(options.train_dir, state, held_out, len(data.images), end) if len(held_out.images) else None
    converged = validation is not None and validation.has_converged(options.patience)
    if state.step >= end or converged:
        return 0
    batches = TrainingBatches(data, state.hyperparameters, state.device)
    if options.log_device_placement and ranks.is_main:
        print_devices(batches, state)
    take_step = step_function(state, batches, options.compile)
    stop_signal = 0
    with RunLogger(options, state, data, end, validation, stop) if ranks.is_main else nullcontext() as logger:
        while state.step < end and not stop_signal and not converged:
            step = state.step  # counted like the tutorial's: the loss of step 0 is the loss of the initial weights
            batch = LazyBatch(batches, number=step * ranks.world_size + ranks.rank)
            if logger:
                logger.on_step_begin(step, batch)
            losses = take_step(batch)
            if logger:
                logger.on_step_end(step, losses)
            if ranks.world_size == 1 or step % STOP_CHECK_STEPS == 0:
                stop_signal = ranks.all_max(stop.signal_number or 0)
            if validation and validation.is_due:  # only rank 0 has validated
                converged = bool(ranks.all_max(validation.has_converged(options.patience)))
    if converged and ranks.is_main:
        print(f"no better validation accuracy in {options.patience} validations: training ends", file=sys.stderr)
    return stop_signal


def step_function(state: TrainingState, batches: TrainingBatches, compiled: bool) -> Callable[[LazyBatch], Tensor]:
    """Return a function that takes one training step on a batch and returns the losses, [4] float32.

    On a CUDA GPU, the function is a CUDA graph. The names of the losses are ``loss.LOSS_NAMES``.
    """
    if compiled:
        state.network = torch.compile(state.network)  # type: ignore[assignment]
    if state.device.type == "cuda":
        graphed_step = GraphedStep(state, batches)
        return lambda batch: graphed_step(batch.number)
    return lambda batch: state.train_step(batch.images, batch.labels)


def run_hyperparameters(options: Options, data: Dataset, ranks: Ranks) -> Hyperparameters:
    """Return the hyperparameters of ``options`` with the number of ranks, the effect of --use-fp16 and class weights.

    Raises:
        OptionError: The file of --class-weights cannot be used.
    """
    given = options.hyperparameters
    precision = "fp16" if options.use_fp16 else given.precision
    weights = class_weights.with_values(given.class_weights, data.classes)
    return replace(given, num_gpus=ranks.world_size, precision=precision, class_weights=weights)


def require_same_run(saved: Checkpoint, data: Dataset, hyperparameters: Hyperparameters) -> None:
    """Raise CheckpointError unless ``saved`` was trained on the same data set with the same hyperparameters."""
    saved.require_classes_of(data)
    folder = saved.path.parent
    advice = (
        "continue with the same values, or start a new run with its weights: "
        f"choose another --train-dir and --init-from {folder}"
    )
    was, now = saved.hyperparameters, hyperparameters
    if was.num_gpus != now.num_gpus:
        raise CheckpointError(f"{saved.path} was trained by {was.num_gpus} processes, not {now.num_gpus}: {advice}")
    changed = [_difference(name, getattr(was, name), getattr(now, name)) for name in was.differences(now)]
    if changed:
        raise CheckpointError(f"{saved.path} was trained with {', '.join(changed)}: {advice}")


def _difference(name: str, was: object, now: object) -> str:
    if isinstance(was, bool):
        return f"{spelled(name, was)}, not {spelled(name, now)}"
    return f"{flag(name)} {_short(was)}, not {_short(now)}"


def _short(value: object) -> str:
    """Return a value for an error of one line: the weights of 1,000 classes lose their end."""
    text = str(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def require_same_step(state: TrainingState, ranks: Ranks, train_dir: Path) -> None:
    """Raise TrainingError unless all ranks continue from the same step."""
    if not ranks.all_equal(state.step):
        raise TrainingError(f"the processes see different checkpoints in {train_dir}: it must be a shared directory")


def print_devices(batches: TrainingBatches, state: TrainingState) -> None:
    """Print dtype, shape and device of the data set and of each tensor of the state: ``--log-device-placement``."""
    for name, tensor in ({"images": batches.images, "labels": batches.labels} | state.tensors()).items():
        print(f"{name}: {tensor.dtype} {list(tensor.shape)} on {tensor.device}", file=sys.stderr)


def recipe_options(words: Sequence[str]) -> Options:
    """Return the options whose hyperparameters are those of the recipe that ``--recipe`` in ``words`` names."""
    return Options(hyperparameters=chosen_recipe(words))


if __name__ == "__main__":
    run(train, Options, recipe_options)
