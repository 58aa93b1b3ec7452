"""The command python -m cifar10_export; in a checkout, also python export/to_onnx.py."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cifar10_runtime import atomic

from cifar10_export.exporter import ExportedModel, export_checkpoint, load_images
from cifar10_export.variants import Conv2Algorithm, Precision, Variant, default_conv2_algorithm
from cifar10_zoo.cli import require_writable_file
from cifar10_zoo.data.cifar10 import default_data_dir
from cifar10_zoo.data.dataset import ReadOptions
from cifar10_zoo.tracking.validation import read_checkpoint
from cifar10_zoo.training.checkpoint import Checkpoint


@dataclass(frozen=True)
class Options(ReadOptions):
    """Export the EMA weights of the newest checkpoint to one .onnx file, verified against PyTorch."""

    precision: Precision = Variant.precision
    """fp32; fp16, for GPUs; int8, for CPUs, calibrated on training images, which --data-dir must hold."""
    layout: Conv2Algorithm | None = None
    """How fp32 computes conv2: winograd, the default, is fastest on CPUs, direct on GPUs. The answers are equal."""
    views: Literal[1, 10] = 1
    """1 for the center crop of each image; 10 to average ten crops (center and corners, each also mirrored), which
    takes 10 times as long."""
    checkpoint_dir: Path = Path("cifar10_train")
    """Folder of the checkpoints."""
    best: bool = False
    """Export the checkpoint with the best validation accuracy instead of the newest one."""
    output: Path = Path("cifar10.onnx")
    """File to write."""
    data_dir: Path = field(default_factory=default_data_dir)
    """Data set that the model was trained on. If it exists, all test images are compared: equal top-1 predictions in
    fp32, accuracy at most 0.1 (fp16) or 0.2 points (int8) lower. Never downloaded; $CIFAR10_DATA_DIR sets the
    default."""
    variant: Variant = field(init=False)

    def __post_init__(self) -> None:
        conv2_algorithm = self.layout or default_conv2_algorithm(self.precision)
        object.__setattr__(self, "variant", Variant(self.precision, conv2_algorithm, ten_crop=self.views == 10))


def export(options: Options) -> None:
    """Write ``options.output`` after verification; if that fails, write nothing.

    Raises:
        ZooError: There is no usable checkpoint, or the exported model differs from PyTorch (VerificationError).
    """
    require_writable_file("--output", options.output)
    checkpoint = read_checkpoint(options.checkpoint_dir, options.best)
    images = load_images(
        options.data_dir, options.precision == "int8", options.with_default_size(checkpoint.image_size)
    )
    exported = export_checkpoint(checkpoint, options.variant, images)
    atomic.write_file(options.output, exported.content)
    print(_summary(options, checkpoint, exported), file=sys.stderr)


def _summary(options: Options, checkpoint: Checkpoint, exported: ExportedModel) -> str:
    """Return one line: the file, the origin of its weights, and what was verified."""
    compared = "equal to PyTorch" if options.precision == "fp32" else f"as accurate as PyTorch in {options.precision}"
    accuracy = exported.test_accuracy
    tested = "no test images found" if accuracy is None else f"top-1 accuracy {accuracy:.4f} on all test images"
    return f"{options.output}: {checkpoint.dataset}, step {checkpoint.step}, {compared}, {tested}"
