"""Average the weights of runs that started with the same trained weights, and write the mean as a new checkpoint.

    python -m cifar10_zoo.train --recipe modern --init-from start --initial-learning-rate 0.03 --train-dir a
    python -m cifar10_zoo.train --recipe modern --init-from start --initial-learning-rate 0.03 --train-dir b --seed 1
    python -m cifar10_zoo.average start a b --train-dir mean_train

Runs that start with the same weights, at a low learning rate, end so near to each other that the mean of their weights
is a good network as well, and often the best one.

Source: Wortsman et al. 2022, https://arxiv.org/abs/2203.05482 ("model soups").
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import tyro

from cifar10_zoo.cli import DataOptions, run
from cifar10_zoo.config import spelled
from cifar10_zoo.data.dataset import Dataset
from cifar10_zoo.data.load import load
from cifar10_zoo.data.validation import split_off
from cifar10_zoo.errors import CheckpointError, OptionError
from cifar10_zoo.network.model import Cifar10Net
from cifar10_zoo.training import checkpoint
from cifar10_zoo.training.checkpoint import Checkpoint
from cifar10_zoo.training.inference import top1_accuracy
from cifar10_zoo.training.pretrained import SHIPPED, read_shipped
from cifar10_zoo.training.run_control import run_lock
from cifar10_zoo.training.state import TrainingState

IMAGES = 2000
"""Number of training images whose accuracies are printed."""
LARGEST_LOSS = 0.1
"""How far the accuracy of the mean may be below the lowest accuracy; a mean of unrelated weights is far below."""


@dataclass(frozen=True, kw_only=True)
class Options(DataOptions):
    """Write the mean of the EMA weights of runs that started with the same trained weights, unless it is much worse.

    The accuracies of all of them on some training images say so.
    """

    sources: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN RUN [RUN ...]")]
    """Directories of checkpoints, whose newest ones are used; also modern or tutorial, the weights that ship with
    cifar10-infer, if the runs started with them."""
    train_dir: Path = Path("mean_train")
    """Directory to write the checkpoint to. It gets the hyperparameters of the first run, and the highest step of the
    runs; the weights that ship have none."""

    def __post_init__(self) -> None:
        if len({Path(source).resolve() for source in self.sources}) < len(self.sources):
            raise OptionError(f"{', '.join(self.sources)}: name each run once")
        if len(self.sources) < 2 or not set(self.sources) - SHIPPED.keys():
            raise OptionError(
                "name two or more runs, or a run and the weights that it started with: modern or tutorial"
            )


def average(options: Options) -> None:
    """Write a checkpoint with the mean of the EMA weights, and print the accuracies on some training images.

    Raises:
        ZooError: The data set or a checkpoint cannot be used, the runs do not belong together, or ``train_dir`` has a
            checkpoint or cannot be written to.
    """
    if checkpoint.latest(options.train_dir):
        raise OptionError(f"--train-dir {options.train_dir} has checkpoints: name a new directory")
    runs = {source: checkpoint.read_newest(Path(source)) for source in options.sources if source not in SHIPPED}
    first = next(iter(runs.values()))
    for saved in runs.values():
        require_same_kind(first, saved)
    networks = [runs[name].ema_model() if name in runs else shipped(name, first) for name in options.sources]
    data = load(options.data_dir, "train", options.data_url, options.with_default_size(first.image_size))
    first.require_classes_of(data)
    data, _ = split_off(data, first.hyperparameters.validation_fraction)
    mean = mean_network(networks)
    with run_lock(options.train_dir):
        compare(options.sources, networks, mean, data)
        state = TrainingState(first.hyperparameters, classes=len(data.classes), image_size=first.image_size)
        state.start_from(mean, data.images, keep_classes=True)
        state.step = max(saved.step for saved in runs.values())
        path = checkpoint.save(state, options.train_dir, data.name, data.classes, data.test_fraction)
    print(path, file=sys.stderr)


def require_same_kind(first: Checkpoint, other: Checkpoint) -> None:
    """Raise CheckpointError unless both runs have the same kind of weights, and left out the same images."""
    if (first.dataset, first.classes, first.image_size) != (other.dataset, other.classes, other.image_size):
        raise CheckpointError(
            f"{other.path} was trained on other classes or images of another size than {first.path}: leave one out"
        )
    for option in ("recipe", "batch_norm", "validation_fraction"):
        wanted, found = (spelled(option, getattr(saved.hyperparameters, option)) for saved in (first, other))
        if wanted != found:
            raise CheckpointError(
                f"{other.path} was trained with {found}, {first.path} with {wanted}: average runs with the same value"
            )


def shipped(name: str, run: Checkpoint) -> Cifar10Net:
    """Return the network of ``name`` in ``SHIPPED``; raise OptionError unless it is like that of ``run``."""
    network, classes = read_shipped(name)
    if (classes, network.image_size) != (run.classes, run.image_size):
        raise OptionError(f"{name} has other classes or another image size than {run.path}: name runs only")
    return network


@torch.no_grad()
def mean_network(networks: Sequence[Cifar10Net]) -> Cifar10Net:
    """Return a network whose weights are the means of those of ``networks``, which have the same shapes."""
    mean = Cifar10Net(classes=networks[0].classes, image_size=networks[0].image_size).eval()
    for target, *weights in zip(mean.parameters(), *(network.parameters() for network in networks), strict=True):
        target.copy_(torch.stack(weights).mean(dim=0))
    return mean


def compare(sources: Sequence[str], networks: Sequence[Cifar10Net], mean: Cifar10Net, data: Dataset) -> None:
    """Print the accuracies of ``networks`` and of their ``mean`` on the first training images.

    Raises:
        CheckpointError: The mean is much worse: the networks did not start with the same weights.
    """
    some = replace(data, images=data.images[:IMAGES], labels=data.labels[:IMAGES])
    each = [top1_accuracy(network, some) for network in networks]
    accuracy = top1_accuracy(mean, some)
    values = ", ".join(f"{name} {value:.3f}" for name, value in zip(sources, each, strict=True))
    print(f"accuracy on {len(some.images):,} training images: {values}, their mean {accuracy:.3f}", file=sys.stderr)
    if accuracy < min(each) - LARGEST_LOSS:
        raise CheckpointError(
            "the mean is much worse than each of them: average runs that started with the same trained weights, "
            "at a low learning rate"
        )


if __name__ == "__main__":
    run(average, Options)
