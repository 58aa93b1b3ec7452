"""Convert a checkpoint of the original TensorFlow program, with its EMA weights and its step.

    pip install -e '.[tf]'
    python -m cifar10_zoo.from_tensorflow /tmp/cifar10_train/model.ckpt-100000

The converted checkpoint can be evaluated, exported and trained further, as any other.
"""

import math
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from torch import Tensor

from cifar10_zoo.cli import run
from cifar10_zoo.config import Hyperparameters
from cifar10_zoo.data import class_weights
from cifar10_zoo.data.cifar10 import CLASSES
from cifar10_zoo.errors import CheckpointError, OptionError, one_line
from cifar10_zoo.network.model import image_size_of, tutorial_name
from cifar10_zoo.training import checkpoint
from cifar10_zoo.training.loss import LOSS_NAMES
from cifar10_zoo.training.state import TrainingState

Variables = Mapping[str, NDArray[Any]]

_EMA = "/ExponentialMovingAverage"
_LOSS_AVERAGE = "/avg"
_WEIGHTS = ("/weights", "/biases")
_STEP = "global_step"
_OLD_STEP = "Variable"
"""TensorFlow's name of the step in early versions of the original program, which gave the step no name."""
_ZERO_LOSSES = tuple(f"{layer}/weight_loss{_LOSS_AVERAGE}" for layer in ("conv1", "conv2", "softmax_linear"))
"""Loss averages that are 0: early versions had a weight loss with factor 0 for these layers."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Convert a checkpoint of the original TensorFlow program."""

    source: tyro.conf.Positional[Path]
    """Prefix of the checkpoint files, such as model.ckpt-100000 for model.ckpt-100000.index and its .data files."""
    train_dir: Path = Path("cifar10_train")
    """Directory to write the converted checkpoint to."""
    labels: Path | None = None
    """File with the class names, one per line, in the order of the labels. By default, ten classes are those of
    CIFAR-10, and any other number of classes are called 0, 1, 2, ..."""
    hyperparameters: Annotated[Hyperparameters, tyro.conf.arg(name="")] = field(default_factory=Hyperparameters)


def convert(variables: Variables, hyperparameters: Hyperparameters) -> TrainingState:
    """Return the training state that equals the variables of the original program.

    Args:
        variables: By their TensorFlow names, in TensorFlow's axis order. The loss averages may be missing, because the
            multi-GPU trainer has none. Without any EMA weight, the weights are used as EMA weights.
        hyperparameters: Of the network to create; only the tutorial's network can be created.

    Raises:
        CheckpointError: A variable is missing, unknown or has another shape.
        OptionError: The hyperparameters do not describe the tutorial's network.
    """
    if hyperparameters.recipe != "tutorial" or hyperparameters.batch_norm or hyperparameters.whiten:
        raise OptionError("--recipe modern, --batch-norm and --whiten do not fit checkpoints of the original program")
    if hyperparameters.init_from:
        raise OptionError("--init-from does not fit a converted checkpoint, which has its own weights")
    variables = complete(variables)
    classes, image_size = shape_of(variables)
    state = TrainingState(hyperparameters, classes=classes, image_size=image_size)
    targets: dict[str, Tensor] = {}
    for name, parameter in state.model.named_parameters():
        variable = tutorial_name(name)
        targets |= {variable: parameter, variable + _EMA: state.ema.weights[name]}
    losses = {name + _LOSS_AVERAGE: value for name, value in zip(LOSS_NAMES, state.loss_averages.values, strict=True)}
    if losses.keys() & variables.keys():
        targets |= losses
    require_names(variables, {*targets, _STEP})
    with torch.no_grad():
        for name, target in targets.items():
            target.copy_(to_torch(name, variables[name], target))
    state.step = int(variables[_STEP])
    return state


def shape_of(variables: Variables) -> tuple[int, int]:
    """Return the number of classes and the image size of the network with these variables; 10 and 32 if unknown.

    If the shapes fit no network, ``to_torch`` says which variable has another shape than expected.
    """
    biases, local3 = (variables.get(name, np.empty(0)) for name in ("softmax_linear/biases", "local3/weights"))
    return biases.size or 10, image_size_of(math.prod(local3.shape[:1]))


def with_step(variables: Variables, source: Path) -> Variables:
    """Return ``variables`` with the step in the name of ``source``, model.ckpt-STEP, if they have no step."""
    step = re.fullmatch(r".*-(\d+)(\.index)?", source.name)
    if step is None or {_STEP, _OLD_STEP} & variables.keys():
        return variables
    return {**variables, _STEP: np.array(int(step[1]))}


def has_ema(variables: Variables) -> bool:
    """Return whether any of ``variables`` is an EMA weight."""
    return any(name.endswith(_EMA) for name in variables)


def complete(variables: Variables) -> Variables:
    """Return the variables that the newest version of the original program would have saved.

    The step gets its present name, loss averages that are always 0 are left out, and the weights become the EMA weights
    if there are none.
    """
    found = {name: value for name, value in variables.items() if name not in _ZERO_LOSSES}
    if _STEP not in found and _OLD_STEP in found and found[_OLD_STEP].ndim == 0:
        found[_STEP] = found.pop(_OLD_STEP)
    if not has_ema(variables):
        found |= {name + _EMA: value for name, value in found.items() if name.endswith(_WEIGHTS)}
    return found


def require_names(variables: Variables, expected: set[str]) -> None:
    """Raise CheckpointError unless the names of ``variables`` are exactly the ``expected`` ones."""
    if missing := sorted(expected - variables.keys()):
        raise CheckpointError(f"it has no variable {', '.join(missing)}")
    if unknown := sorted(variables.keys() - expected):
        raise CheckpointError(f"it has variables that the tutorial does not have: {', '.join(unknown)}")


def to_torch(name: str, value: NDArray[Any], target: Tensor) -> Tensor:
    """Reorder the axes of a TensorFlow variable as PyTorch has them.

    Args:
        name: The TensorFlow name.
        value: A kernel [height, width, in, out], a dense weight [in, out] or a bias [out].
        target: A tensor of the expected PyTorch shape.

    Returns:
        [out, in, height, width], [out, in] or [out].

    Raises:
        CheckpointError: ``value`` has another shape.
    """
    shape = tuple(target.shape)
    tf_shape = (*shape[2:], *shape[1::-1])  # [out, in, height, width] -> [height, width, in, out]
    if value.shape != tf_shape:
        raise CheckpointError(f"variable {name} has shape {list(value.shape)}, expected {list(tf_shape)}")
    if name.startswith("local3/weights"):  # rows: (row, column, channel) of pool2 -> (channel, row, column)
        size = math.isqrt(len(value) // 64)
        value = value.reshape(size, size, 64, -1).transpose(2, 0, 1, 3).reshape(tf_shape)
    order = {4: (3, 2, 0, 1), 2: (1, 0)}.get(value.ndim, range(value.ndim))
    return torch.from_numpy(value.transpose(*order).copy())


def read(source: Path) -> Variables:
    """Read all variables of the TensorFlow checkpoint with the prefix ``source``.

    Raises:
        CheckpointError: The checkpoint is missing or damaged.
        OptionError: TensorFlow is not installed.
    """
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0"}  # silences notes on stderr
    try:
        import tensorflow
    except ImportError:
        raise OptionError("TensorFlow is needed to read its checkpoints: pip install tensorflow-cpu") from None
    prefix = source.with_suffix("") if source.suffix == ".index" else source
    if not prefix.with_name(prefix.name + ".index").exists():
        raise CheckpointError("the checkpoint does not exist; name it by its prefix, such as model.ckpt-100000")
    try:
        reader = tensorflow.train.load_checkpoint(str(prefix))
        return {name: np.asarray(reader.get_tensor(name)) for name in reader.get_variable_to_shape_map()}
    except Exception as error:  # TensorFlow raises exceptions of many types on damaged files
        raise CheckpointError(f"the checkpoint is damaged: {one_line(error)}") from None


def name_and_classes(labels: Path | None, count: int) -> tuple[str, tuple[str, ...]]:
    """Return the name of the data set and its class names, which a TensorFlow checkpoint does not have.

    Raises:
        OptionError: The file ``labels`` does not name ``count`` different classes.
    """
    if labels is None:
        return ("cifar10", CLASSES["cifar10"]) if count == 10 else ("custom", tuple(map(str, range(count))))
    lines = labels.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    classes = tuple(line.strip() for line in lines if line.strip())
    if len(set(classes)) != count or len(classes) != count:
        raise OptionError(f"--labels {labels} must name the {count} classes of the checkpoint, one per line")
    return next((name for name, known in CLASSES.items() if classes == known), "custom"), classes


def main(options: Options) -> None:
    """Read the checkpoint, convert it and write it."""
    try:
        variables = with_step(read(options.source), options.source)
        state = convert(variables, options.hyperparameters)
    except CheckpointError as error:
        raise CheckpointError(f"{options.source}: {error}") from None
    if checkpoint.find(options.train_dir):
        raise CheckpointError(f"{options.train_dir} has checkpoints of another training: name another --train-dir")
    name, classes = name_and_classes(options.labels, state.model.classes)
    weights = class_weights.with_values(options.hyperparameters.class_weights, classes)
    state.hyperparameters = replace(state.hyperparameters, class_weights=weights)
    target = checkpoint.save(state, options.train_dir, name, classes)
    used = "" if has_ema(variables) else "; it has no EMA weights, so the weights are also the EMA weights"
    print(f"{target}: step {state.step}, from {options.source}{used}", file=sys.stderr)


if __name__ == "__main__":
    run(main, Options)
