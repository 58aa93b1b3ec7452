"""Evaluate the averaged weights of the newest checkpoint.

    python -m cifar10_zoo.evaluate --run-once

Source: ``cifar10_eval.py``.
"""

import sys
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from cifar10_zoo.cli import DataOptions, run
from cifar10_zoo.data.cifar10 import Dataset
from cifar10_zoo.data.transforms import evaluation_images, ten_crop
from cifar10_zoo.errors import OptionError
from cifar10_zoo.network.model import Cifar10Net
from cifar10_zoo.tracking import history
from cifar10_zoo.tracking import plots as curves
from cifar10_zoo.tracking.history import Evaluation
from cifar10_zoo.tracking.tensorboard import Summaries
from cifar10_zoo.training import checkpoint
from cifar10_zoo.training.checkpoint import Checkpoint
from cifar10_zoo.training.device import DeviceChoice, choose_device

BATCH_SIZE = 500
"""Images in a batch; no influence on the result."""
_YEAR = 365 * 24 * 3600  # seconds


@dataclass(frozen=True, kw_only=True)
class Options(DataOptions):
    """Print precision @ 1 of the averaged weights of the newest checkpoint, again whenever there is a newer one."""

    checkpoint_dir: Path = Path("cifar10_train")
    """Folder of the checkpoints."""
    eval_dir: Path | None = None
    """Folder of the summaries for TensorBoard; by default eval/ in --checkpoint-dir."""
    eval_data: Literal["test", "train_eval"] = "test"
    """The 10,000 test images, or the 50,000 training images without distortions."""
    views: Literal[1, 10] = 1
    """Views of each image: the centre, as in training; or the average of centre and corners, each mirrored too, which
    is only printed and does not count among the evaluations beside the checkpoints."""
    eval_interval_secs: float = 300.0
    """Seconds between two looks for a newer checkpoint."""
    run_once: bool = False
    """Evaluate once and end."""
    device: DeviceChoice = "auto"
    """Where to compute; auto takes a CUDA GPU where there is one."""

    def __post_init__(self) -> None:
        if not 0 < self.eval_interval_secs <= _YEAR:
            raise OptionError(f"--eval-interval-secs must be above 0 and at most a year, not {self.eval_interval_secs}")


@torch.inference_mode()
def predict(model: Cifar10Net, images: Tensor) -> Tensor:
    """Logits [N, 10] float32 of ``images`` [N, 3, H, W] uint8, on the device of ``model``."""
    where = next(model.parameters()).device
    return torch.cat([model(evaluation_images(batch.to(where))) for batch in images.split(BATCH_SIZE)])


@torch.inference_mode()
def predict_views(model: Cifar10Net, images: Tensor) -> Tensor:
    """Probabilities [N, 10] float32 of ``images`` [N, 3, H, W] uint8, averaged over the ten views of each."""
    where = next(model.parameters()).device
    views = (ten_crop(batch.to(where)) for batch in images.split(BATCH_SIZE))
    return torch.cat([torch.stack([model(view).softmax(dim=1) for view in ten]).mean(dim=0) for ten in views])


def top1_accuracy(model: Cifar10Net, data: Dataset, views: Literal[1, 10] = 1) -> float:
    """Share of the images whose highest score is that of their label; each image counts exactly once."""
    scores = predict(model, data.images) if views == 1 else predict_views(model, data.images)
    return float((scores.argmax(dim=1).cpu() == data.labels).double().mean())


def evaluate(options: Options) -> None:
    """Evaluate once, or for ever.

    Raises:
        ZooError: the data set or the checkpoint cannot be used.
    """
    where = choose_device(options.device)
    data = options.load("test" if options.eval_data == "test" else "train")
    evaluated = None
    if not options.run_once and checkpoint.latest(options.checkpoint_dir) is None:
        print(f"waiting for a checkpoint in {options.checkpoint_dir}", file=sys.stderr)
    while True:
        if options.run_once or checkpoint.latest(options.checkpoint_dir) is not None:
            saved = checkpoint.read_newest(options.checkpoint_dir)
            if saved.path != evaluated:
                _evaluate_once(saved, data, where, options)
                evaluated = saved.path
        if options.run_once:
            return
        time.sleep(options.eval_interval_secs)


def _evaluate_once(saved: Checkpoint, data: Dataset, where: torch.device, options: Options) -> None:
    """Evaluate one checkpoint, print the tutorial's line and keep the result beside the checkpoint."""
    saved.require_classes_of(data)
    print(f"{saved.path}: step {saved.step}, {len(data.images)} {data.name} images", file=sys.stderr)
    model = saved.ema_model().to(where)
    precision = top1_accuracy(model, data, options.views)
    print(f"{datetime.now()}: precision @ 1 = {precision:.3f}", flush=True)
    if options.views != 1:
        return
    row = Evaluation(saved.step, options.eval_data, len(data.images), precision)
    history.record(options.checkpoint_dir, row)
    curves.draw(options.checkpoint_dir)
    with Summaries(options.eval_dir or options.checkpoint_dir / "eval") as summaries, torch.no_grad():
        images = evaluation_images(data.images[:BATCH_SIZE].to(where))
        summaries.batch(saved.step, images, model.activations(images))
        summaries.precision(saved.step, precision)


if __name__ == "__main__":
    run(evaluate, Options)
