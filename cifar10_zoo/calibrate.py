"""Fit the temperature of a checkpoint on the validation images of its run, and store it in the checkpoint.

    python -m cifar10_zoo.train --validation-fraction 0.1
    python -m cifar10_zoo.calibrate

An export of the checkpoint gives probabilities = softmax(logits / temperature); its top-1 predictions do not change.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from cifar10_zoo.cli import DataOptions, run
from cifar10_zoo.data.load import load
from cifar10_zoo.data.validation import split_off
from cifar10_zoo.errors import CheckpointError
from cifar10_zoo.tracking.validation import read_checkpoint
from cifar10_zoo.training import checkpoint
from cifar10_zoo.training.device import DeviceChoice, choose_device
from cifar10_zoo.training.temperature import temperatures


@dataclass(frozen=True, kw_only=True)
class Options(DataOptions):
    """Fit the temperature on the validation images, and store it in the newest checkpoint."""

    checkpoint_dir: Path = Path("cifar10_train")
    """Directory of the checkpoints of a run with --validation-fraction."""
    best: bool = False
    """Use the checkpoint with the best validation instead of the newest one."""
    store_in: Path | None = None
    """Directory of another run, whose newest checkpoint gets the temperature: one of the same recipe that trained on
    all images."""
    device: DeviceChoice = "auto"
    """Device to compute on; auto uses a CUDA GPU if one is available."""


def calibrate(options: Options) -> None:
    """Store the temperatures for one crop and for ten crops.

    Raises:
        ZooError: The data set or a checkpoint cannot be used, or the run has no validation images.
    """
    device = choose_device(options.device)
    saved = read_checkpoint(options.checkpoint_dir, options.best)
    target = checkpoint.read_newest(options.store_in) if options.store_in else saved
    if not (fraction := saved.hyperparameters.validation_fraction):
        raise CheckpointError(
            f"{saved.path} was trained on all training images: calibrate a run with --validation-fraction, "
            "and name the directory of this one in --store-in"
        )
    if (recipe := saved.hyperparameters.recipe) != target.hyperparameters.recipe:
        raise CheckpointError(
            f"{target.path} was trained with --recipe {target.hyperparameters.recipe}, not {recipe}: a temperature "
            "holds for one recipe"
        )
    data = load(options.data_dir, "train", options.data_url, options.with_default_size(saved.image_size))
    for each in (saved, target):
        each.require_classes_of(data)
    _, validation = split_off(data, fraction)
    fitted = temperatures(saved.ema_model().to(device), validation)
    checkpoint.calibrated(target, fitted)
    print(
        f"{target.path}: temperature {fitted[1]:g}, with ten crops {fitted[10]:g}, "
        f"fitted on {len(validation.images):,} validation images",
        file=sys.stderr,
    )


if __name__ == "__main__":
    run(calibrate, Options)
