"""Average the weights of runs that started with the same trained weights, and write the mean as a new checkpoint.

    python -m cifar10_zoo.train --recipe modern --init-from modern --train-dir tuned_0 --jpeg-probability 0.5
    python -m cifar10_zoo.train --recipe modern --init-from modern --train-dir tuned_1 --jpeg-probability 0.5 --seed 1
    python -m cifar10_zoo.average modern tuned_0 tuned_1 --train-dir mean_train

Runs that start with the same weights, at a low learning rate, end so near to each other that the mean of their weights
is a good network as well, and often the best one.

Source: Wortsman et al. 2022, https://arxiv.org/abs/2203.05482 ("model soups").
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import tyro

from cifar10_zoo.cli import DataOptions, run
from cifar10_zoo.config import flag
from cifar10_zoo.data.dataset import Dataset
from cifar10_zoo.data.load import load
from cifar10_zoo.data.validation import split_off
from cifar10_zoo.errors import CheckpointError, OptionError
from cifar10_zoo.network.model import Cifar10Net
from cifar10_zoo.training import checkpoint
from cifar10_zoo.training.checkpoint import Checkpoint
from cifar10_zoo.training.inference import top1_accuracy
from cifar10_zoo.training.pretrained import SHIPPED, read_shipped
from cifar10_zoo.training.state import TrainingState

IMAGES = 2000
"""Number of training images whose accuracies are printed."""
LARGEST_LOSS = 0.1
"""How far the accuracy of the mean on these images may be below the lowest: a mean of unrelated weights guesses."""


@dataclass(frozen=True, kw_only=True)
class Options(DataOptions):
    """Average the EMA weights of runs that started with the same trained weights."""

    sources: tyro.conf.Positional[tuple[str, ...]]
    """Two or more: directories of checkpoints, whose newest ones are used; modern and tutorial, which ship with
    cifar10-infer, are the weights that such runs may have started with."""
    train_dir: Path = Path("mean_train")
    """Directory to write the checkpoint to. It gets the hyperparameters of the first run and the highest step."""

    def __post_init__(self) -> None:
        if len(self.sources) < 2 or not set(self.sources) - SHIPPED.keys():
            raise OptionError("name two or more runs, or one run and the weights that it started with")


def average(options: Options) -> None:
    """Write a checkpoint with the mean of the EMA weights, and print the accuracies on some training images.

    Raises:
        ZooError: The data set or a checkpoint cannot be used, the runs do not belong together, or ``train_dir`` has a
            checkpoint.
    """
    if checkpoint.latest(options.train_dir):
        raise OptionError(f"--train-dir {options.train_dir} has checkpoints: name a new directory")
    runs = {source: checkpoint.read_newest(Path(source)) for source in options.sources if source not in SHIPPED}
    first = next(iter(runs.values()))
    data = load(options.data_dir, "train", options.data_url, options.with_default_size(first.image_size))
    for saved in runs.values():
        saved.require_classes_of(data)
        require_same_recipe(first, saved)
    networks = [runs[name].ema_model() if name in runs else shipped(name, data) for name in options.sources]
    mean = mean_network(networks)
    images, _ = split_off(data, first.hyperparameters.validation_fraction)
    compare(options.sources, networks, mean, images)
    state = TrainingState(first.hyperparameters, classes=len(data.classes), image_size=first.image_size)
    state.start_from(mean, images.images, keep_classes=True)
    state.step = max(saved.step for saved in runs.values())
    path = checkpoint.save(state, options.train_dir, data.name, data.classes, data.test_fraction)
    print(path, file=sys.stderr)


def require_same_recipe(first: Checkpoint, other: Checkpoint) -> None:
    """Raise CheckpointError unless both runs have one recipe and the same validation images."""
    for option in ("recipe", "batch_norm", "validation_fraction"):
        wanted, found = (getattr(saved.hyperparameters, option) for saved in (first, other))
        if wanted != found:
            raise CheckpointError(
                f"{other.path} was trained with {flag(option)} {found}, {first.path} with {wanted}: "
                "average runs of one recipe"
            )


def shipped(name: str, data: Dataset) -> Cifar10Net:
    """Return the network of ``name`` in ``SHIPPED``; raise OptionError unless it is one for ``data``."""
    network, classes = read_shipped(name)
    if (classes, network.image_size) != (data.classes, data.images.shape[-1]):
        raise OptionError(f"{name} has weights for other classes or another image size: leave it out")
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
