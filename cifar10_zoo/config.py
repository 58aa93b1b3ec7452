"""Every number that shapes a training run, in one place."""

from dataclasses import dataclass

from cifar10_zoo.errors import OptionError


@dataclass(frozen=True)
class Hyperparameters:
    """The tutorial's recipe. A checkpoint carries its hyperparameters, and resuming with others is refused.

    Sources: ``cifar10.py`` unless said otherwise.
    """

    seed: int = 0
    """Seed of the initial weights, the order of the images and their distortions (ours: the tutorial has none)."""
    batch_size: int = 128
    """Images in a batch (the flag of the same name)."""
    initial_learning_rate: float = 0.1
    """Learning rate at step 0 (INITIAL_LEARNING_RATE)."""
    learning_rate_decay_factor: float = 0.1
    """Factor by which the learning rate falls at each stair (LEARNING_RATE_DECAY_FACTOR)."""
    num_epochs_per_decay: float = 350.0
    """Epochs of 50,000 images between two stairs (NUM_EPOCHS_PER_DECAY)."""
    weight_decay: float = 0.004
    """Factor of sum(w^2)/2 of the weights of local3 and of local4 in the loss (wd in inference())."""
    moving_average_decay: float = 0.9999
    """Upper limit of the decay of the averaged weights, per step (MOVING_AVERAGE_DECAY)."""
    loss_average_decay: float = 0.9
    """Decay of the averaged losses, per step (_add_loss_summaries())."""

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise OptionError(f"--seed must be between 0 and 2^63 - 1, not {self.seed}")
        for name in ("batch_size", "initial_learning_rate", "learning_rate_decay_factor", "num_epochs_per_decay"):
            if not 0 < getattr(self, name) < float("inf"):
                raise OptionError(f"{flag(name)} must be above 0, not {getattr(self, name)}")
        if not 0 <= self.weight_decay < float("inf"):
            raise OptionError(f"--weight-decay must be 0 or more, not {self.weight_decay}")
        for name in ("moving_average_decay", "loss_average_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise OptionError(f"{flag(name)} must be at least 0 and below 1, not {getattr(self, name)}")


def flag(name: str) -> str:
    """The command-line spelling of a field: ``batch_size`` -> ``--batch-size``."""
    return "--" + name.replace("_", "-")
