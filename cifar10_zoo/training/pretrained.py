"""Trained weights to start a new run from: ``--init-from``."""

from dataclasses import dataclass
from pathlib import Path

from cifar10_runtime import atomic

from cifar10_zoo.data.dataset import Dataset
from cifar10_zoo.errors import OptionError, ZooError
from cifar10_zoo.network.exported import read_exported
from cifar10_zoo.network.model import Cifar10Net
from cifar10_zoo.training import checkpoint
from cifar10_zoo.training.state import TrainingState

SHIPPED: dict[str, str] = {"modern": "fp32-direct.onnx", "tutorial": "tutorial.onnx"}
"""Files of the models that ship with cifar10-infer, by the recipe that trained them."""


def initialize(state: TrainingState, data: Dataset) -> bool:
    """Replace the random initial weights of a new run as its hyperparameters ask for.

    Returns:
        Whether the last layer is that of ``init_from``.

    Raises:
        OptionError: The weights of ``init_from`` cannot be used.
    """
    if state.hyperparameters.init_from:
        return start_from(state.hyperparameters.init_from, state, data)
    if state.hyperparameters.whiten:
        state.whiten(data.images)
    return False


def start_from(source: str, state: TrainingState, data: Dataset) -> bool:
    """Set the weights and EMA weights of ``state``, which is at step 0, to trained weights.

    The last layer keeps its new initial weights, unless the source was trained on the classes of ``data``.

    Args:
        source: A name in ``SHIPPED``, or a directory of checkpoints, whose newest one is used.
        state: The state of a new run.
        data: The training images of the new run.

    Returns:
        Whether the last layer is also that of the source.

    Raises:
        OptionError: The weights cannot be read, belong to images of another size, or were trained without batch
            normalization for a run that has it: their layers do not have the outputs that it expects.
    """
    try:
        trained = _read(source)
    except ZooError as error:
        raise OptionError(f"--init-from {source}: {error}") from None
    network = trained.network
    if state.hyperparameters.batch_norm and not trained.batch_norm:
        raise OptionError(
            f"--init-from {source} has weights that were trained without batch normalization: choose a recipe without "
            "it, such as --recipe tutorial, or --init-from modern"
        )
    if network.image_size != (size := data.images.shape[-1]):
        raise OptionError(
            f"--init-from {source} has weights for images of {network.image_size}x{network.image_size} pixels, not "
            f"{size}x{size}: choose --image-size {network.image_size}, or other weights"
        )
    keep_classes = trained.classes == data.classes
    state.start_from(network, data.images, keep_classes)
    return keep_classes


def read_shipped(name: str) -> tuple[Cifar10Net, tuple[str, ...]]:
    """Return the network and the class names of a model that ships with cifar10-infer, by its name in ``SHIPPED``."""
    return read_exported(Path(atomic.__file__).with_name("models") / SHIPPED[name])


@dataclass(frozen=True)
class _Trained:
    network: Cifar10Net
    """Batch normalization is folded."""
    classes: tuple[str, ...]
    batch_norm: bool
    """Whether the network was trained with batch normalization: then the outputs of its layers have a variance of 1."""


def _read(source: str) -> _Trained:
    if source in SHIPPED:
        network, classes = read_shipped(source)
        return _Trained(network, classes, batch_norm=source == "modern")
    saved = checkpoint.read_newest(Path(source))
    return _Trained(saved.ema_model(), saved.classes, saved.hyperparameters.batch_norm)
