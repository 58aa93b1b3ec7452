"""cifar10-fit: train on your own images, and write a verified model and a report.

    cifar10-fit flowers/

It does what ``cifar10_zoo.train``, ``cifar10_export`` and ``cifar10-infer`` do, one after another.
"""

import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import tyro
from cifar10_runtime import atomic

from cifar10_export.exporter import Images, export_checkpoint
from cifar10_export.quantize import CALIBRATION_IMAGES
from cifar10_export.variants import Precision, Variant, default_conv2_algorithm
from cifar10_export.verify import VerificationError
from cifar10_zoo import image_folders
from cifar10_zoo.cli import run
from cifar10_zoo.config import Hyperparameters, flag
from cifar10_zoo.data import class_weights, folders
from cifar10_zoo.data.dataset import Dataset, ReadOptions
from cifar10_zoo.data.load import is_present, load
from cifar10_zoo.data.validation import split_off
from cifar10_zoo.errors import OptionError
from cifar10_zoo.network.model import require_image_size
from cifar10_zoo.recipes.modern import MODERN
from cifar10_zoo.tracking.validation import read_best
from cifar10_zoo.train import Options as TrainOptions
from cifar10_zoo.train import train
from cifar10_zoo.training import checkpoint
from cifar10_zoo.training.checkpoint import Checkpoint
from cifar10_zoo.training.device import DeviceChoice
from cifar10_zoo.training.schedule import EXAMPLES_PER_EPOCH
from cifar10_zoo.training.temperature import temperatures
from cifar10_zoo.training.trial import better_start

EPOCHS = 50.0
BATCH_SIZE = MODERN.batch_size // 2
"""Half of the recipe's, with half of its learning rate: few images need more steps."""
FEWEST_STEPS = 1200
"""Steps of the default number of epochs, at least: fewer leave a small data set unlearned."""
_MOST_EPOCHS = 1_000_000
MARK = ".cifar10-fit"
"""An empty file in the directory that the command writes: its files may be replaced."""
FILES: dict[Precision, str] = {"fp32": "model.onnx", "int8": "model-int8.onnx"}
"""The files of the models, by dtype."""


@dataclass(frozen=True, kw_only=True)
class Options(ReadOptions):
    """Train on your own images by the modern recipe; write models, a report and checkpoints into one directory.

    The same command continues an interrupted run.
    """

    folder: tyro.conf.Positional[Path]
    """Directory with a folder of images per class; any other kind of data set that training reads, too."""
    output: Path | None = None
    """Directory to write; by default, the name of FOLDER with _model at its end, in the current directory."""
    epochs: float | None = None
    """How often the training sees each image; by default 50 times, but at least 1,200 batches of 64 images."""
    init_from: str = "auto"
    """Trained weights to start from: modern, tutorial, a directory of checkpoints, or none. auto compares modern and
    none in short trainings."""
    class_weights: str = Hyperparameters.class_weights
    """Weights of the classes in the loss: none; balanced, inversely proportional to their numbers of training images;
    or a file, CSV with the columns class and weight, or a JSON object of weights by class."""
    validation_fraction: float = 0.1
    """Fraction of the training images of each class to validate with: they choose the start, the checkpoint and the
    temperature. 0 trains with all images."""
    mirror: bool = Hyperparameters.mirror
    """Mirror half of the training images; --no-mirror for classes such as letters, which a mirror changes."""
    seed: int = Hyperparameters.seed
    """Seed of the initial weights, the order of the images and the augmentation."""
    device: DeviceChoice = "auto"
    """Device to train on; auto uses a CUDA GPU if one is available."""

    def __post_init__(self) -> None:
        Hyperparameters(validation_fraction=self.validation_fraction, seed=self.seed)  # checks the values
        require_image_size(self.pixels)
        if self.epochs is not None and not 0 < self.epochs <= _MOST_EPOCHS:
            raise OptionError(f"--epochs must be above 0 and at most {_MOST_EPOCHS:,}, not {self.epochs}")

    @property
    def directory(self) -> Path:
        """The directory to write."""
        return self.output or Path(f"{self.folder.resolve().stem}_model")


def fit(options: Options) -> None:
    """Train, export, verify and report.

    Raises:
        ZooError: The images cannot be used, or an exported model differs from PyTorch.
        Stopped: A signal stopped the training, which the same command continues.
    """
    try:
        _fit(options)
    except KeyboardInterrupt:  # before or after the training, which has its own message
        print("interrupted: the same command continues from the last checkpoint, if there is one", file=sys.stderr)
        raise


def _fit(options: Options) -> None:
    if not options.folder.exists() or not is_present(options.folder, options):
        raise OptionError(f"{options.folder} has no images: name a directory with a folder of images per class")
    data = load(options.folder, "train", options=options)
    test = load(options.folder, "test", options=options)  # not quiet: each call reports the damaged files of its part
    folders.require_directory_names(test.classes)
    options = replace(options, class_weights=class_weights.with_values(options.class_weights, data.classes))
    training, validation = split_off(data, options.validation_fraction)
    if not len(validation.images):
        print(
            "no validation images: the newest checkpoint is exported, without a temperature, and no start is compared; "
            "a higher --validation-fraction or more images change that",
            file=sys.stderr,
        )
    claim(options.directory, options.folder)
    train(train_options(options, training, validation), data)
    saved = trained_checkpoint(options, validation)
    accuracies = {name: write_model(options, saved, name, training, test) for name in FILES}
    write_report(options.directory, test)
    print(summary(options.directory, accuracies, len(test.images)))


def claim(directory: Path, folder: Path) -> None:
    """Create the directory to write, or check that it is one of an earlier run: no file of a user is replaced.

    Raises:
        OptionError: The directory has other files, or is in the directory of the images.
    """
    if directory.resolve().is_relative_to(folder.resolve()):
        raise OptionError(
            f"the output directory {directory} is in {folder}, whose folders are classes: name another --output"
        )
    if directory.exists() and not directory.is_dir():
        raise OptionError(f"--output {directory} is a file: name a directory")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()) and not (directory / MARK).exists():
            raise OptionError(f"--output {directory} has files, but not {MARK}, which cifar10-fit writes: name another")
        (directory / MARK).touch()
    except OSError as error:
        raise OptionError(f"--output {directory} cannot be written: {error.strerror}") from None


def trained_checkpoint(options: Options, validation: Dataset) -> Checkpoint:
    """Return the best checkpoint, calibrated on the validation images; without such images, the newest one."""
    train_dir = options.directory / "train"
    if not len(validation.images):
        return checkpoint.read_newest(train_dir)
    best = read_best(train_dir)
    return checkpoint.calibrated(best, temperatures(best.ema_model(), validation))


def train_options(options: Options, training: Dataset, validation: Dataset) -> TrainOptions:
    """Return the options of the training; a run that has begun keeps its start.

    Raises:
        OptionError: The run has begun with other images or options.
    """
    train_dir = options.directory / "train"
    saved = checkpoint.read_newest(train_dir) if checkpoint.latest(train_dir) else None
    recipe = replace(
        MODERN,
        seed=options.seed,
        mirror=options.mirror,
        batch_size=BATCH_SIZE,
        initial_learning_rate=MODERN.initial_learning_rate * BATCH_SIZE / MODERN.batch_size,
        class_weights=options.class_weights,
        validation_fraction=options.validation_fraction if len(validation.images) else 0.0,
        epochs=recipe_epochs(options.epochs, len(training.images)),
    )
    if options.init_from != "auto":
        recipe = replace(recipe, init_from=None if options.init_from == "none" else options.init_from)
    elif saved:
        recipe = replace(recipe, init_from=saved.hyperparameters.init_from)
    if saved and (other := _differences(saved, recipe, training)):
        raise OptionError(
            f"{options.directory} was begun with other {other}: continue with the same ones, or name another --output; "
            f"there, --init-from {train_dir} starts with these weights"
        )
    if options.init_from == "auto" and not saved:
        recipe = replace(recipe, init_from=better_start(recipe, training, validation, options.device))
    return TrainOptions(data_dir=options.folder, train_dir=train_dir, device=options.device, hyperparameters=recipe)


def _differences(saved: Checkpoint, recipe: Hyperparameters, training: Dataset) -> str:
    """Return what is different from the run of ``saved``, in words for an error; empty if nothing is."""
    if saved.classes != training.classes:
        return "classes"
    changed = saved.hyperparameters.differences(recipe)
    names = ", ".join("--epochs or the number of images" if name == "epochs" else flag(name) for name in changed)
    return f"values of {names}" if changed else ""


def recipe_epochs(epochs: float | None, images: int) -> float:
    """Return the epochs of 50,000 images, as recipes count them, for ``epochs`` of the ``images`` of a data set."""
    if epochs is not None:
        return epochs * images / EXAMPLES_PER_EPOCH
    return max(EPOCHS * images, FEWEST_STEPS * BATCH_SIZE) / EXAMPLES_PER_EPOCH


def write_model(
    options: Options, saved: Checkpoint, precision: Precision, training: Dataset, test: Dataset
) -> float | str:
    """Write one model after verification; return its test accuracy, or why it was not written.

    Raises:
        VerificationError: The float32 model differs from PyTorch.
    """
    path = options.directory / FILES[precision]
    images = Images(test, training.images[:CALIBRATION_IMAGES])
    try:
        exported = export_checkpoint(saved, Variant(precision, default_conv2_algorithm(precision)), images)
    except VerificationError as error:
        if precision == "fp32":
            raise
        path.unlink(missing_ok=True)  # of other weights
        return f"not written: {error}"
    atomic.write_file(path, exported.content)
    assert exported.test_accuracy is not None
    return exported.test_accuracy


def write_report(directory: Path, test: Dataset) -> None:
    """Write the test images as files, and classify them by cifar10-infer, which writes the report."""
    images, report = directory / "test_images", directory / "report.html"
    shutil.rmtree(images, ignore_errors=True)  # of an earlier run
    image_folders.write(test, images)
    words = [images, "--model", directory / FILES["fp32"], "--report", report, "--output", directory / "test.csv"]
    command = [sys.executable, "-m", "cifar10_runtime", *map(str, words), "--overwrite"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise VerificationError(f"cifar10-infer failed on {images}: {result.stderr.strip()}")


def summary(directory: Path, accuracies: dict[Precision, float | str], images: int) -> str:
    """Return a table of the files, and the next command."""
    rows = [
        *(
            (directory / FILES[precision], f"top-1 accuracy {result:.4f}" if isinstance(result, float) else result)
            for precision, result in accuracies.items()
        ),
        (directory / "report.html", f"accuracy, confusion matrix and mistakes of {images:,} test images"),
        (directory / "train", "checkpoints, losses.csv, curves.png"),
    ]
    width = max(len(str(path)) for path, _ in rows)
    lines = [f"{path!s:<{width}}  {text}" for path, text in rows]
    model = shlex.quote(str(directory / FILES["fp32"]))
    following = f"cifar10-infer NEW_IMAGES/ --model {model} --report report.html"
    return "\n".join(["", *lines, "", f"classify other images: {following}"])


def main() -> None:
    """Run the command ``cifar10-fit``."""
    run(fit, Options)


if __name__ == "__main__":
    main()
