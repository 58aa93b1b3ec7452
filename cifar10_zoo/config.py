"""All hyperparameters of a training run."""

from dataclasses import dataclass, fields
from typing import Literal

from cifar10_zoo.errors import OptionError

Precision = Literal["fp32", "tf32", "bf16", "fp16"]
RecipeName = Literal["tutorial", "modern"]


@dataclass(frozen=True)
class Hyperparameters:
    """The hyperparameters of a run; each default is the tutorial's value.

    A checkpoint contains its hyperparameters, and a run continues only with the same ones. ``recipes`` has sets of
    values that belong together. Names in parentheses are the tutorial's, in ``cifar10.py``; "new" marks an addition.
    """

    recipe: RecipeName = "tutorial"
    """Recipe that sets the defaults of the other hyperparameters."""
    seed: int = 0
    """Seed of the initial weights, the order of the images and the augmentation (new)."""
    init_from: str | None = None
    """Trained weights to start from: modern or tutorial, which ship with cifar10-infer, or a directory of checkpoints
    (new). The last layer is new unless its classes are those of the data."""
    validation_fraction: float = 0.0
    """Fraction of the training images of each class that training leaves out, for validation (new)."""
    batch_size: int = 128
    """Images per batch (batch_size)."""
    initial_learning_rate: float = 0.1
    """Learning rate at step 0, or the peak of a triangle (INITIAL_LEARNING_RATE)."""
    schedule: Literal["staircase", "triangle"] = "staircase"
    """Learning rate schedule: the tutorial's staircase, or a triangle: up from 0 for a fifth of --epochs, then down."""
    learning_rate_decay_factor: float = 0.1
    """Factor of the learning rate at each decay of a staircase (LEARNING_RATE_DECAY_FACTOR)."""
    num_epochs_per_decay: float = 350.0
    """Epochs of 50,000 images between decays of a staircase, counted in one process (NUM_EPOCHS_PER_DECAY)."""
    epochs: float = 0.0
    """Epochs of 50,000 images after which training ends; 0 for no limit (new)."""
    momentum: float = 0.0
    """Nesterov momentum; 0 for none (new)."""
    weight_decay: float = 0.004
    """Factor of sum(w^2)/2 in the loss, for the weights of local3 and of local4 (wd in inference())."""
    kernel_decay: float = 0.0
    """Weight decay of all weights except biases, added to the gradient instead of the loss (new)."""
    label_smoothing: float = 0.0
    """Label-smoothing factor (new)."""
    class_weights: str = "none"
    """Weights of the classes in the loss: none; balanced, inversely proportional to their numbers of images; or a file,
    CSV with the columns class and weight, or a JSON object of weights by class (new)."""
    distort_colors: float = 1.0
    """Strength of the random changes of brightness and contrast; 0 for none (distorted_inputs())."""
    blur_probability: float = 0.0
    """Probability that a training image is blurred, as photographs are that were enlarged and shrunk again (new)."""
    jpeg_probability: float = 0.0
    """Probability that a training image is compressed as JPEG of a random quality from 50 to 100 (new)."""
    cutout: int = 0
    """Height and width in pixels of a square that is erased at a random place of each crop; 0 for none (new)."""
    mixup: float = 0.0
    """Parameter of the beta distribution by which training mixes pairs of images and of labels; 0 for none (new)."""
    mirror: bool = True
    """Mirror half of the training images; --no-mirror for classes such as letters and arrows, which a mirror changes
    (random_flip_left_right)."""
    alternate_flips: bool = False
    """Mirror each image in every other epoch, instead of at random (new)."""
    batch_norm: bool = False
    """Train with batch normalization, which is folded into the weights for evaluation and export (new)."""
    whiten: bool = False
    """Initialize conv1 with filters that whiten patches of the training images (new)."""
    moving_average_decay: float = 0.9999
    """Upper limit of the decay of the EMA weights, per step (MOVING_AVERAGE_DECAY)."""
    loss_average_decay: float = 0.9
    """Decay of the loss averages, per step (_add_loss_summaries())."""
    precision: Precision = "fp32"
    """Dtype of the layers in training, or TF32 on a CUDA GPU; weights, EMA weights and evaluation stay float32."""
    num_gpus: int = 1
    """Processes that train together, each on its own batches (num_gpus); torchrun --nproc-per-node starts them."""

    def __post_init__(self) -> None:
        for name, (low, high) in _LIMITS.items():
            if not low <= (value := getattr(self, name)) <= high:
                raise OptionError(f"{flag(name)} must be between {low} and {high}, not {value}")
        if self.batch_norm and self.batch_size == 1:
            raise OptionError("--batch-size must be above 1 with --batch-norm")
        if self.schedule == "triangle" and not self.epochs:
            raise OptionError("--schedule triangle needs a last step: set --epochs")

    def differences(self, other: "Hyperparameters") -> list[str]:
        """Return the names of the fields that have another value in ``other``."""
        return [field.name for field in fields(self) if getattr(self, field.name) != getattr(other, field.name)]


_LIMITS: dict[str, tuple[float, float]] = {
    "seed": (0, 2**63 - 1),
    "validation_fraction": (0, 0.9),
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
    "blur_probability": (0, 1),
    "jpeg_probability": (0, 1),
    "cutout": (0, 72),
    "mixup": (0, 100),
    "moving_average_decay": (0, 1),
    "loss_average_decay": (0, 1),
    "num_gpus": (1, 65_536),
}


def spelled(name: str, value: object) -> str:
    """Return a field with its value as a command line spells them, such as ``--batch-size 128`` and ``--no-mirror``."""
    if isinstance(value, bool):
        return flag(name if value else f"no_{name}")
    return f"{flag(name)} {value}"


def flag(name: str) -> str:
    """Return the command-line option of a field: ``batch_size`` -> ``--batch-size``."""
    return "--" + name.replace("_", "-")
