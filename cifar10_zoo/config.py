"""Every number that shapes a training run, in one place."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from cifar10_zoo.errors import OptionError

Precision = Literal["fp32", "bf16", "fp16"]
RecipeName = Literal["tutorial", "modern"]


@dataclass(frozen=True)
class Hyperparameters:
    """What shapes a run; the defaults are the tutorial's. A checkpoint carries its hyperparameters, and resuming with
    others is refused. ``recipes.py`` has the choices that belong together.

    Sources: ``cifar10.py`` unless said otherwise.
    """

    recipe: RecipeName = "tutorial"
    """Where all other defaults come from: recipes.py says what each recipe gives."""
    seed: int = 0
    """Seed of the initial weights, the order of the images and their distortions (ours: the tutorial has none)."""
    batch_size: int = 128
    """Images in a batch (the flag of the same name)."""
    initial_learning_rate: float = 0.1
    """Learning rate at step 0, or the highest of a triangle (INITIAL_LEARNING_RATE)."""
    schedule: Literal["staircase", "triangle"] = "staircase"
    """Course of the learning rate: the tutorial's, or up from 0 in a fifth of --epochs and down to 0 in the rest."""
    learning_rate_decay_factor: float = 0.1
    """Factor by which a staircase falls at each stair (LEARNING_RATE_DECAY_FACTOR)."""
    num_epochs_per_decay: float = 350.0
    """Epochs of 50,000 images between two stairs, as one process alone counts them (NUM_EPOCHS_PER_DECAY)."""
    epochs: float = 0.0
    """Epochs of 50,000 images after which training ends; 0 for no such end (ours)."""
    momentum: float = 0.0
    """Nesterov's; the tutorial has none."""
    weight_decay: float = 0.004
    """Factor of sum(w^2)/2 of the weights of local3 and of local4 in the loss (wd in inference())."""
    kernel_decay: float = 0.0
    """The same for all weights, biases excepted, in the gradient alone (ours)."""
    label_smoothing: float = 0.0
    """Probability that the loss wants spread over all classes (ours)."""
    distort_colors: float = 1.0
    """Strength of the distortions of brightness and contrast, 0 for none (distorted_inputs())."""
    alternate_flips: bool = False
    """Mirror each image in every other epoch, instead of by chance (ours)."""
    batch_norm: bool = False
    """Train with batch normalization, folded into the weights for evaluation and export (ours)."""
    whiten: bool = False
    """Begin with filters in conv1 that whiten patches of the training images (ours)."""
    moving_average_decay: float = 0.9999
    """Upper limit of the decay of the averaged weights, per step (MOVING_AVERAGE_DECAY)."""
    loss_average_decay: float = 0.9
    """Decay of the averaged losses, per step (_add_loss_summaries())."""
    precision: Precision = "fp32"
    """Type that layers compute in; the weights and their averages stay float32, and so does evaluation."""
    num_gpus: Annotated[int, tyro.conf.Suppress] = 1
    """Processes that train together, each on batches of its own (the flag of the same name); torchrun says how many."""

    def __post_init__(self) -> None:
        for name, (low, high) in _LIMITS.items():
            if not low <= (value := getattr(self, name)) <= high:
                raise OptionError(f"{flag(name)} must be between {low} and {high}, not {value}")
        if self.batch_norm and self.batch_size == 1:
            raise OptionError("--batch-size must be above 1 with --batch-norm")
        if self.schedule == "triangle" and not self.epochs:
            raise OptionError("--schedule triangle needs an end: name --epochs")


_LIMITS: dict[str, tuple[float, float]] = {
    "seed": (0, 2**63 - 1),
    "batch_size": (1, 65_536),
    "initial_learning_rate": (1e-12, 1e12),
    "learning_rate_decay_factor": (1e-12, 1),
    "num_epochs_per_decay": (1e-9, 1e9),
    "epochs": (0, 1e9),
    "momentum": (0, 1),
    "weight_decay": (0, 1e6),
    "kernel_decay": (0, 1e6),
    "label_smoothing": (0, 1),
    "distort_colors": (0, 1.25),
    "moving_average_decay": (0, 1),
    "loss_average_decay": (0, 1),
}


def flag(name: str) -> str:
    """The command-line spelling of a field: ``batch_size`` -> ``--batch-size``."""
    return "--" + name.replace("_", "-")
