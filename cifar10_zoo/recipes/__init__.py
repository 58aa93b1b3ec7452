"""The recipes: sets of hyperparameters that belong together, for ``python -m cifar10_zoo.train --recipe NAME``.

A flag beside ``--recipe`` changes one value of it. Precision @ 1 is that of the averaged weights on the 10,000 test
images, one centre crop.
"""

import argparse
from collections.abc import Sequence

from cifar10_zoo.config import Hyperparameters, RecipeName

TUTORIAL = Hyperparameters()
"""The original, exactly.

Source: cifar10.py and cifar10_train.py of the TensorFlow tutorial.
Expected: 0.815 after 10,000 steps, 0.837 after 20,000, 0.854 after 40,000, 0.864 after 85,000; with
``--precision bf16`` 0.812, 0.833, 0.852, 0.863, and 0.862 after 100,000.
Hardware and time: 2 cores with AVX-512: 1,300 to 2,200 images/s in fp32, 2,500 in bf16: 100,000 steps in 86 minutes.
Command: ``python -m cifar10_zoo.train --max-steps 100000``
"""

MODERN = Hyperparameters(
    recipe="modern",
    initial_learning_rate=0.2,
    schedule="triangle",
    epochs=51.2,
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
"""The same network and the same ONNX graph, better trained; by default for 20,000 steps.

Source: batch normalization (Ioffe and Szegedy 2015), folded into the weights afterwards; label smoothing (Szegedy et
al. 2015); whitening filters and alternating flips (Jordan 2024); a triangular learning rate (Page 2018, "How to train
your ResNet"). Chosen on 5,000 held-out training images; ARCHITECTURE.md has the trials.
Expected: 0.861 after 20,000 steps (0.885 with ten views), 0.868 (0.891) with ``--epochs 100``, 0.877 (0.902) with
``--epochs 250``.
Hardware and time: cores with AVX-512, bf16: 1,390 images/s on one, ``--epochs 100`` in 60 minutes; 2,470 on two,
``--epochs 250`` in 85.
Command: ``python -m cifar10_zoo.train --recipe modern --precision bf16``
"""

RECIPES: dict[RecipeName, Hyperparameters] = {"tutorial": TUTORIAL, "modern": MODERN}


def named_in(words: Sequence[str]) -> Hyperparameters:
    """The recipe that a command line names with --recipe, the tutorial's where it names none."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--recipe", nargs="?")
    name = parser.parse_known_args(words)[0].recipe
    return RECIPES.get(name, TUTORIAL)  # of a wrong or missing name, the parser of all options complains
