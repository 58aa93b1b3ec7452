"""The recipes: each one documented set of hyperparameters."""

import argparse
from collections.abc import Sequence

from cifar10_zoo.config import Hyperparameters, RecipeName

TUTORIAL = Hyperparameters()
MODERN = Hyperparameters(
    recipe="modern",
    initial_learning_rate=0.2,
    schedule="triangle",
    epochs=50.0,
    momentum=0.9,
    weight_decay=0.0,
    kernel_decay=5e-4,
    label_smoothing=0.1,
    distort_colors=0.5,
    alternate_flips=True,
    batch_norm=True,
    whiten=True,
    moving_average_decay=0.999,
)
RECIPES: dict[RecipeName, Hyperparameters] = {"tutorial": TUTORIAL, "modern": MODERN}


def named_in(words: Sequence[str]) -> Hyperparameters:
    """The recipe that a command line names with --recipe, the tutorial's where it names none."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--recipe", default=TUTORIAL.recipe)
    name = parser.parse_known_args(words)[0].recipe
    return RECIPES.get(name, TUTORIAL)  # of a wrong name, the parser of all options complains
