"""Evaluate the EMA weights of the newest checkpoint.

    python -m cifar10_zoo.evaluate --run-once

Source: ``cifar10_eval.py``.
"""

import os
import sys
import time
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal

import torch
from cifar10_runtime.atomic import write_file
from torch import Tensor

from cifar10_zoo.cli import DataOptions, require_writable_file, run
from cifar10_zoo.data import folders
from cifar10_zoo.data.dataset import Dataset
from cifar10_zoo.data.load import load
from cifar10_zoo.data.transforms import evaluation_images
from cifar10_zoo.errors import OptionError
from cifar10_zoo.network.model import Cifar10Net, scaled_count
from cifar10_zoo.tracking import class_metrics, history, plots
from cifar10_zoo.tracking.history import Evaluation
from cifar10_zoo.tracking.report import report_page
from cifar10_zoo.tracking.tensorboard import Summaries
from cifar10_zoo.tracking.validation import read_checkpoint
from cifar10_zoo.training import checkpoint, inference
from cifar10_zoo.training.checkpoint import Checkpoint
from cifar10_zoo.training.device import DeviceChoice, choose_device
from cifar10_zoo.training.inference import BATCH_SIZE, Views

_YEAR = 365 * 24 * 3600  # seconds


@dataclass(frozen=True, kw_only=True)
class Options(DataOptions):
    """Print precision @ 1 (top-1 accuracy) of the EMA weights of the newest checkpoint, and of each newer one."""

    checkpoint_dir: Path = Path("cifar10_train")
    """Directory of the checkpoints."""
    best: bool = False
    """Evaluate the checkpoint with the best validation accuracy instead of the newest one, and exit."""
    eval_dir: Path | None = None
    """Directory of all files that the evaluation writes. By default, the history files are in --checkpoint-dir, where
    training keeps the checkpoint with the best evaluation, and the TensorBoard summaries in its subdirectory eval/."""
    eval_data: Literal["test", "train_eval"] = "test"
    """The test images, or the training images without augmentation."""
    num_examples: int | None = None
    """Evaluate only this number of images, the first ones; their accuracy is only printed, not recorded."""
    batch_size: int = BATCH_SIZE
    """Images of 32x32 pixels per batch; it changes the speed, not the accuracy."""
    views: Views = 1
    """Crops per image. 1: the center, as in training. 10: ten-crop test-time augmentation (center and corners, each
    mirrored too); its accuracy is only printed, not recorded."""
    eval_interval_secs: float = 300.0
    """Seconds between two checks for a newer checkpoint."""
    json: Path | None = None
    """File to write: accuracy, confusion matrix, and precision, recall and F1 score per class. A terminal shows them,
    too."""
    report: Path | None = None
    """File to write: the .html page that cifar10-infer --report writes, for this evaluation: accuracy, confusion
    matrix, worst mistakes with pictures."""
    run_once: bool = False
    """Evaluate once and exit."""
    device: DeviceChoice = "auto"
    """Device to compute on; auto uses a CUDA GPU if one is available."""
    use_fp16: bool = False
    """The tutorial's flag, which changes nothing here: the evaluation computes in float32, also of checkpoints that
    were trained in float16."""

    def __post_init__(self) -> None:
        if not 0 < self.eval_interval_secs <= _YEAR:
            raise OptionError(f"--eval-interval-secs must be above 0 and at most a year, not {self.eval_interval_secs}")
        if self.num_examples is not None and self.num_examples < 1:
            raise OptionError(f"--num-examples must be 1 or more, not {self.num_examples}")
        for option, path in (("--json", self.json), ("--report", self.report)):
            if path:
                require_writable_file(option, path)
        if self.json and self.report and self.json.resolve() == self.report.resolve():
            raise OptionError(f"--json and --report both name {self.json}: name two files")
        if self.batch_size < 1:
            raise OptionError(f"--batch-size must be 1 or more, not {self.batch_size}")

    @property
    def history_dir(self) -> Path:
        """Directory of the history files."""
        return self.eval_dir or self.checkpoint_dir

    @property
    def summary_dir(self) -> Path:
        """Directory of the TensorBoard summaries."""
        return self.eval_dir or self.checkpoint_dir / "eval"


def evaluate(options: Options) -> None:
    """Evaluate the newest checkpoint; without ``run_once``, wait for newer checkpoints and evaluate them too.

    Raises:
        ZooError: The data set or the checkpoint cannot be used.
    """
    device = choose_device(options.device)
    if options.run_once or options.best:
        saved = read_checkpoint(options.checkpoint_dir, options.best)
        evaluate_checkpoint(saved, read_images(options.with_default_size(saved.image_size)), device, options)
        return
    if checkpoint.latest(options.checkpoint_dir) is None:
        print(f"waiting for a checkpoint in {options.checkpoint_dir}", file=sys.stderr)
    else:
        options = options.with_default_size(checkpoint.read_newest(options.checkpoint_dir).image_size)
    data = read_images(options)
    evaluated = None
    while True:
        if checkpoint.latest(options.checkpoint_dir) is not None:
            saved = checkpoint.read_newest(options.checkpoint_dir)
            if saved.path != evaluated:
                evaluate_checkpoint(saved, data, device, options)
                evaluated = saved.path
        time.sleep(options.eval_interval_secs)


def read_images(options: Options) -> Dataset:
    """Return the images that ``options`` name."""
    return load(options.data_dir, "test" if options.eval_data == "test" else "train", options.data_url, options)


def evaluate_checkpoint(saved: Checkpoint, data: Dataset, device: torch.device, options: Options) -> None:
    """Print the top-1 accuracy of one checkpoint; record the accuracy of all images and their center crops."""
    saved.require_classes_of(data)
    if options.report:
        folders.require_directory_names(data.classes)
    some = replace(data, images=data.images[: options.num_examples], labels=data.labels[: options.num_examples])
    is_recorded = options.views == 1 and len(some.images) == len(data.images)
    if is_recorded:
        require_writable(options)
    print(f"{saved.path}: step {saved.step}, {len(some.images)} {data.name} images", file=sys.stderr)
    model = saved.ema_model().to(device)
    logits = inference.logits(model, some.images, options.views, options.batch_size)
    accuracy = float((logits.argmax(dim=1) == some.labels).double().mean())
    print(f"{datetime.now()}: precision @ 1 = {accuracy:.3f}", flush=True)
    show_classes(saved, some, logits, options)
    if is_recorded:
        record(saved, data, model, accuracy, options)


def show_classes(saved: Checkpoint, data: Dataset, logits: Tensor, options: Options) -> None:
    """Print the measures of each class on a terminal, and write the files of --json and --report.

    Args:
        saved: The checkpoint.
        data: The evaluated images.
        logits: [N, classes] float32, on the CPU.
        options: The options of the command.
    """
    confusion = class_metrics.confusion_matrix(data.labels, logits.argmax(dim=1), len(data.classes))
    if sys.stdout.isatty():
        print(class_metrics.as_text(confusion, data.classes))
    if options.json:
        facts = {"step": saved.step, "dataset": data.name, "eval_data": options.eval_data, "views": options.views}
        write_file(options.json, class_metrics.as_json(confusion, data.classes, **facts).encode())
    if options.report:
        probabilities = (logits / saved.temperatures.get(options.views, 1.0)).softmax(dim=1)
        page = report_page(data, probabilities, str(options.data_dir), summary(saved, data, options))
        write_file(options.report, page.encode())


def record(saved: Checkpoint, data: Dataset, model: Cifar10Net, accuracy: float, options: Options) -> None:
    """Record the accuracy of ``model``, the network of ``saved``, in the history files and in TensorBoard."""
    history.record(options.history_dir, Evaluation(saved.step, options.eval_data, len(data.images), accuracy))
    plots.draw(options.checkpoint_dir, options.history_dir)
    with Summaries(options.summary_dir) as summaries, torch.no_grad():
        shown = data.images[: scaled_count(BATCH_SIZE, data.images.shape[-1])]
        images = evaluation_images(shown.to(model.softmax_linear.weight.device))
        summaries.batch(saved.step, images, model.activations(images))
        summaries.precision(saved.step, accuracy)


def summary(saved: Checkpoint, data: Dataset, options: Options) -> dict[str, str]:
    """Return the facts about an evaluation that its report page shows."""
    return {
        "Checkpoint": f"{saved.path} (step {saved.step})",
        "Images": f"{data.name}, {'test' if options.eval_data == 'test' else 'training'} images",
        "Crops per image": str(options.views),
        "Date": f"{datetime.now():%Y-%m-%d %H:%M}",
    }


def require_writable(options: Options) -> None:
    """Create the directory of the history files, and check before the work that it can be written to.

    Raises:
        OptionError: The directory cannot be created or written to.
    """
    option = "--eval-dir" if options.eval_dir else "--checkpoint-dir"
    try:
        options.history_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(f"{option} {options.history_dir} cannot be created: {error.strerror}") from None
    if not os.access(options.history_dir, os.W_OK):
        raise OptionError(f"{option} {options.history_dir} cannot be written to: name another --eval-dir")


if __name__ == "__main__":
    run(evaluate, Options)
