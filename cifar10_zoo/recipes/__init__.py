"""Recipes: sets of hyperparameters for ``python -m cifar10_zoo.train --recipe NAME``.

An option of a hyperparameter, such as ``--momentum``, changes one value of the recipe.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import tyro

from cifar10_zoo.config import Hyperparameters, RecipeName
from cifar10_zoo.recipes.modern import MODERN
from cifar10_zoo.recipes.tutorial import TUTORIAL

__all__ = ["MODERN", "RECIPES", "TUTORIAL", "chosen_recipe"]

RECIPES: dict[RecipeName, Hyperparameters] = {"tutorial": TUTORIAL, "modern": MODERN}


@dataclass(frozen=True)
class _RecipeOption:
    recipe: RecipeName = "tutorial"


def chosen_recipe(arguments: Sequence[str]) -> Hyperparameters:
    """Return the hyperparameters of the recipe that ``--recipe`` in ``arguments`` names; the default is the tutorial's.

    A command parses its arguments twice: first ``--recipe`` (here), then all options, with the recipe's values as
    defaults. The second parser reports wrong options. So this function reports nothing and returns the default.
    """
    try:
        option, _ = tyro.cli(
            _RecipeOption, args=arguments, return_unknown_args=True, add_help=False, console_outputs=False
        )
    except SystemExit:
        return TUTORIAL
    return RECIPES[option.recipe]
