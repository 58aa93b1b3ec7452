"""Turn a checkpoint of the original TensorFlow program into one of ours, averages and step included.

    pip install -e '.[tf]'
    python -m cifar10_zoo.from_tensorflow /tmp/cifar10_train/model.ckpt-100000

It then evaluates, exports and continues training like any other.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from torch import Tensor

from cifar10_zoo.cli import run
from cifar10_zoo.config import Hyperparameters
from cifar10_zoo.data import cifar10 as dataset
from cifar10_zoo.errors import CheckpointError, OptionError
from cifar10_zoo.network.model import tutorial_name
from cifar10_zoo.training import checkpoint
from cifar10_zoo.training.loss import LOSS_NAMES
from cifar10_zoo.training.state import TrainingState

Variables = Mapping[str, NDArray[Any]]

_AVERAGE = "/ExponentialMovingAverage"
_LOSS_AVERAGE = "/avg"
_STEP = "global_step"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Turn a checkpoint of the original TensorFlow program into one of ours."""

    source: tyro.conf.Positional[Path]
    """The checkpoint by its prefix, such as model.ckpt-100000 for model.ckpt-100000.index and its .data files."""
    train_dir: Path = Path("cifar10_train")
    """Folder to write it to."""
    hyperparameters: Annotated[Hyperparameters, tyro.conf.arg(name="")] = field(default_factory=Hyperparameters)


def convert(variables: Variables, hyperparameters: Hyperparameters) -> TrainingState:
    """The training state that the variables of the original program stand for.

    Args:
        variables: by TensorFlow's names, in its layouts. The averages of the losses may be missing: the multi-GPU
            trainer keeps none.

    Raises:
        CheckpointError: a variable is missing, unknown or of another shape.
        OptionError: the hyperparameters want another network or another beginning than the original's.
    """
    if hyperparameters.recipe != "tutorial" or hyperparameters.batch_norm or hyperparameters.whiten:
        raise OptionError("--recipe modern, --batch-norm and --whiten are not for checkpoints of the original program")
    state = TrainingState(hyperparameters)
    targets: dict[str, Tensor] = {}
    for name, parameter in state.model.named_parameters():
        variable = tutorial_name(name)
        targets |= {variable: parameter, variable + _AVERAGE: state.ema.weights[name]}
    losses = {name + _LOSS_AVERAGE: value for name, value in zip(LOSS_NAMES, state.loss_averages.values, strict=True)}
    if losses.keys() & variables.keys():
        targets |= losses
    if missing := sorted({*targets, _STEP} - variables.keys()):
        raise CheckpointError(f"it has no variable {', '.join(missing)}")
    if unknown := sorted(variables.keys() - {*targets, _STEP}):
        raise CheckpointError(f"it has variables that the tutorial does not know: {', '.join(unknown)}")
    with torch.no_grad():
        for name, target in targets.items():
            target.copy_(_to_our_layout(name, variables[name], target))
    state.step = int(variables[_STEP])
    return state


def _to_our_layout(name: str, value: NDArray[Any], target: Tensor) -> Tensor:
    """Kernels [height, width, in, out] and dense weights [in, out] of TensorFlow as PyTorch has them."""
    shape = tuple(target.shape)
    tf_shape = (*shape[2:], *shape[1::-1])  # [out, in, height, width] -> [height, width, in, out]
    if value.shape != tf_shape:
        raise CheckpointError(f"variable {name} has shape {list(value.shape)}, expected {list(tf_shape)}")
    if name.startswith("local3/weights"):  # rows in (row, column, channel) order of pool2
        value = value.reshape(6, 6, 64, -1).transpose(2, 0, 1, 3).reshape(tf_shape)
    order = {4: (3, 2, 0, 1), 2: (1, 0)}.get(value.ndim, range(value.ndim))
    return torch.from_numpy(value.transpose(*order).copy())


def read(source: Path) -> Variables:
    """All variables of the TensorFlow checkpoint with the prefix ``source``.

    Raises:
        CheckpointError: it is missing or damaged.
        OptionError: TensorFlow is not installed.
    """
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0"}  # or it greets at length on stderr
    try:
        import tensorflow
    except ImportError:
        raise OptionError("TensorFlow reads its checkpoints, and is missing: pip install tensorflow-cpu") from None
    prefix = source.with_suffix("") if source.suffix == ".index" else source
    if not prefix.with_name(prefix.name + ".index").exists():
        raise CheckpointError("there is no such checkpoint; name it by its prefix, such as model.ckpt-100000")
    try:
        reader = tensorflow.train.load_checkpoint(str(prefix))
        return {name: np.asarray(reader.get_tensor(name)) for name in reader.get_variable_to_shape_map()}
    except Exception as error:  # its reader raises almost anything on damaged files
        raise CheckpointError(f"damaged: {str(error).splitlines()[0]}") from None


def main(options: Options) -> None:
    """Read, convert and write the checkpoint that ``options`` name."""
    try:
        state = convert(read(options.source), options.hyperparameters)
    except CheckpointError as error:
        raise CheckpointError(f"{options.source}: {error}") from None
    if checkpoint.find(options.train_dir):
        raise CheckpointError(f"{options.train_dir} holds checkpoints of another training: name another --train-dir")
    target = checkpoint.save(state, options.train_dir, "cifar10", dataset.CLASSES["cifar10"])
    print(f"{target}: step {state.step}, from {options.source}", file=sys.stderr)


if __name__ == "__main__":
    run(main, Options)
