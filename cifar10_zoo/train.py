"""Train the network.

    python -m cifar10_zoo.train --max-steps 100000
    torchrun --nproc-per-node=2 -m cifar10_zoo.train

Continues from the newest checkpoint in --train-dir. Sources: ``cifar10_train.py``, ``cifar10_multi_gpu_train.py``.
"""

import os
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated

import torch
import tyro
from torch import Tensor

from cifar10_zoo.cli import DataOptions, run
from cifar10_zoo.config import Hyperparameters, flag
from cifar10_zoo.data import cifar10 as dataset
from cifar10_zoo.data.batches import TrainingBatches
from cifar10_zoo.errors import CheckpointError, OptionError, TrainingError
from cifar10_zoo.recipes import named_in
from cifar10_zoo.tracking.logger import Journal
from cifar10_zoo.training import checkpoint
from cifar10_zoo.training.cuda_graph import GraphedStep
from cifar10_zoo.training.device import DeviceChoice, choose_device
from cifar10_zoo.training.distributed import Ranks, connect_ranks
from cifar10_zoo.training.run_control import alone_in, stop_signals
from cifar10_zoo.training.schedule import last_step
from cifar10_zoo.training.state import TrainingState

_AGREEMENT_FREQUENCY = 10
"""Steps between two looks of several processes whether one was told to stop; torchrun kills what does not in 30 s."""


@dataclass(frozen=True, kw_only=True)
class Options(DataOptions):
    """Train the CIFAR-10 network; continues from the newest checkpoint in --train-dir."""

    train_dir: Path = Path("cifar10_train")
    """Folder of the checkpoints."""
    max_steps: int = 1_000_000
    """Step at which training ends, counted from the first run, unless --epochs ends it earlier."""
    log_frequency: int = 10
    """Steps between two lines on the console."""
    summary_frequency: int = 100
    """Steps between two summaries for TensorBoard, written to --train-dir; 0 writes none."""
    save_checkpoint_secs: float = 600.0
    """Seconds between two checkpoints; the last step is always saved."""
    device: DeviceChoice = "auto"
    """Where to compute; auto takes a CUDA GPU where there is one."""
    hyperparameters: Annotated[Hyperparameters, tyro.conf.arg(name="")] = field(default_factory=Hyperparameters)
    compile: bool = False
    """Compile the network with torch.compile; slower on most CPUs."""
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
        if self.compile and not shutil.which(os.environ.get("CXX", "g++")):
            raise OptionError("--compile needs a C++ compiler: install g++, or name one in CXX")
        if self.use_fp16:
            object.__setattr__(self, "hyperparameters", replace(self.hyperparameters, precision="fp16"))


def train(options: Options) -> TrainingState:
    """Train to ``options.max_steps``, saving checkpoints, and return the final state.

    SIGINT, SIGTERM, SIGHUP and a closed console let the step under way finish; it is saved before the program exits.
    Where torchrun has started several processes, the first of them alone prints and writes, and all stop together after
    a step that is a multiple of ``_AGREEMENT_FREQUENCY``.

    Raises:
        ZooError: the data set or a checkpoint cannot be used, the loss is no longer finite, or a process is gone.
        SystemExit: stopped by a signal; the status is 128 and its number, as in a shell.
    """
    where = choose_device(options.device)
    data = options.load("train")
    with connect_ranks() as processes, alone_in(options.train_dir) if processes.is_main else nullcontext():
        processes.barrier()  # for the first to have the folder; where it has not, the others end here
        recipe = replace(options.hyperparameters, num_gpus=processes.world_size)
        with stop_signals(second_kills=processes.world_size == 1) as stops:
            state = _start(options.train_dir, data, TrainingState(recipe, where))
            if not processes.all_equal(state.step):
                raise TrainingError(
                    f"the processes see different checkpoints in {options.train_dir}: it must be shared"
                )
            stop = _loop(options, data, state, processes, stops)
    if processes.is_main:
        print(f"step {state.step}: {checkpoint.latest(options.train_dir)}", file=sys.stderr)
        if stop:
            print(f"stopped by {signal.Signals(stop).name}; the same command goes on from here", file=sys.stderr)
    if stop:
        sys.exit(128 + stop)
    return state


def _loop(options: Options, data: dataset.Dataset, state: TrainingState, processes: Ranks, stops: list[int]) -> int:
    """Take steps until the last one, or until ``stops`` of any process holds a signal; returns that, else 0."""
    end = min(options.max_steps, last_step(state.hyperparameters))
    if state.step >= end:
        return 0
    batches = TrainingBatches(data, state.hyperparameters, state.device)
    if options.log_device_placement and processes.is_main:
        for name, tensor in ({"images": batches.images, "labels": batches.labels} | state.tensors()).items():
            print(f"{name}: {tensor.dtype} {list(tensor.shape)} on {tensor.device}", file=sys.stderr)
    take_step = _step_function(state, batches, processes, options.compile)
    stop = 0
    with Journal(options, state, data, end, stops) if processes.is_main else nullcontext() as journal:
        while state.step < end and not stop:
            step = state.step  # as the tutorial counts: the loss of step 0 is that of the initial weights
            number = step * processes.world_size + processes.rank
            if journal:
                journal.before(step, batches, number)
            with processes.collective():
                losses = take_step(number)
            if journal:
                journal.after(step, losses)
            if processes.world_size == 1 or step % _AGREEMENT_FREQUENCY == 0:
                stop = processes.all_max(stops[0] if stops else 0)
    return stop


def _step_function(
    state: TrainingState, batches: TrainingBatches, processes: Ranks, compiled: bool
) -> Callable[[int], Tensor]:
    """What takes a step on a batch, given its number, and returns the losses."""
    if compiled:
        state.network = torch.compile(state.network)  # type: ignore[assignment]
    state.network = processes.replicate(state.network)
    if state.device.type == "cuda" and processes.world_size == 1:
        return GraphedStep(state, batches)
    return lambda number: state.train_step(*batches.batch(number))


def _start(train_dir: Path, data: dataset.Dataset, state: TrainingState) -> TrainingState:
    """Restore the newest checkpoint, if there is one and it is of the same run."""
    if checkpoint.latest(train_dir) is None:
        if state.hyperparameters.whiten:
            state.whiten(data.images)
        return state
    saved = checkpoint.read_newest(train_dir)
    saved.require_classes_of(data)
    advice = f"continue with the same, or name another --train-dir than {train_dir}"
    was, now = asdict(saved.hyperparameters), asdict(state.hyperparameters)
    if (processes := was.pop("num_gpus")) != now["num_gpus"]:
        raise CheckpointError(f"{saved.path} was trained by {processes} processes, not {now['num_gpus']}: {advice}")
    if changed := [f"{flag(name)} {was[name]}, not {now[name]}" for name in was if was[name] != now[name]]:
        raise CheckpointError(f"{saved.path} was trained with {', '.join(changed)}: {advice}")
    saved.restore(state)
    return state


if __name__ == "__main__":
    run(train, Options, Options(hyperparameters=named_in(sys.argv[1:])))
