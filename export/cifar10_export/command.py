"""The command python -m cifar10_export, and export/to_onnx.py in the checkout."""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

import onnx
from cifar10_runtime import atomic

from cifar10_export.graph import Layout, Views, build, build_half
from cifar10_export.quantize import CALIBRATION_IMAGES, quantize
from cifar10_export.verify import Precision, verify
from cifar10_zoo import __version__
from cifar10_zoo.data import cifar10 as dataset
from cifar10_zoo.data.cifar10 import Dataset
from cifar10_zoo.errors import OptionError, ZooError
from cifar10_zoo.training import checkpoint
from cifar10_zoo.training.checkpoint import Checkpoint


@dataclass(frozen=True)
class Variant:
    """Which of the graphs of one network."""

    precision: Precision = "fp32"
    """fp32; fp16, for GPUs; int8, for CPUs, calibrated on training images, which --data-dir must hold."""
    layout: Layout | None = None
    """How fp32 computes conv2: winograd is the fastest on a CPU and the default, direct on a GPU. The same numbers."""
    views: Views = 1
    """1 for the centre of each image; 10 for the average of centre and corners, mirrored too: 10 times the work."""

    def __post_init__(self) -> None:
        if self.precision != "fp32" and self.layout == "winograd":
            raise OptionError(f"--layout winograd is for --precision fp32, not {self.precision}")
        if self.precision == "int8" and self.views != 1:
            raise OptionError("--views 10 is for --precision fp32 or fp16, not int8")
        if self.layout is None:
            object.__setattr__(self, "layout", "winograd" if self.precision == "fp32" else "direct")


@dataclass(frozen=True)
class Options(Variant):
    """Export the averaged weights of the newest checkpoint to one .onnx file, verified against PyTorch."""

    checkpoint_dir: Path = Path("cifar10_train")
    """Folder of the checkpoints."""
    output: Path = Path("cifar10.onnx")
    """File to write."""
    data_dir: Path = field(default_factory=dataset.default_data_dir)
    """Folder of cifar-10-batches-bin/, for a last check with all 10,000 test images: the same best class in fp32, at
    most 0.1 (fp16) or 0.2 points (int8) less accurate. Never downloaded; $CIFAR10_DATA_DIR sets the default."""


def export(options: Options) -> None:
    """Write ``options.output``, or nothing at all where the verification fails.

    Raises:
        ZooError: there is no usable checkpoint, or the exported model differs from PyTorch (VerificationError).
    """
    _require_writable(options.output)
    saved = checkpoint.read_newest(options.checkpoint_dir)
    exported, accuracy = exported_model(saved, options, options.data_dir)
    atomic.write_file(options.output, exported.SerializeToString())
    equal = "equal to PyTorch" if options.precision == "fp32" else f"as accurate as PyTorch in {options.precision}"
    checked = "no test images at hand" if accuracy is None else f"precision @ 1 = {accuracy:.4f} on all test images"
    print(f"{options.output}: {saved.dataset}, step {saved.step}, {equal}, {checked}", file=sys.stderr)


def exported_model(saved: Checkpoint, variant: Variant, data_dir: Path) -> tuple[onnx.ModelProto, float | None]:
    """The verified graph of a checkpoint with its metadata, and its precision @ 1 where there are test images.

    Raises:
        ZooError: the data set is of other classes, or missing for int8; or the model differs from PyTorch.
    """
    test = _data(data_dir, "test", saved)
    model = saved.ema_model()
    if variant.precision == "int8":
        train = _data(data_dir, "train", saved)
        if train is None:
            raise ZooError(f"--precision int8 is calibrated on training images, and {data_dir} has none: --data-dir")
        exported = quantize(model, train.images[:CALIBRATION_IMAGES])
    elif variant.precision == "fp16":
        exported = build_half(model, variant.views)
    else:
        exported = build(model, variant.layout or "winograd", variant.views)
    accuracy = verify(exported, model, test, variant.precision, variant.views)
    metadata = {
        "labels": json.dumps(saved.classes),
        "dataset": saved.dataset,
        "step": str(saved.step),
        "precision": variant.precision,
        "layout": str(variant.layout),
        "views": str(variant.views),
        "checkpoint_sha256": saved.sha256,
        "cifar10_zoo_version": __version__,
    }
    if accuracy is not None:
        metadata["test_accuracy"] = f"{accuracy:.4f}"
    onnx.helper.set_model_props(exported, metadata)
    return exported, accuracy


def _data(data_dir: Path, split: dataset.Split, saved: Checkpoint) -> Dataset | None:
    if not dataset.is_present(data_dir):
        return None
    data = dataset.load(data_dir, split)
    saved.require_classes_of(data)
    return data


def _require_writable(output: Path) -> None:
    """Find out before the work whether ``output`` can be written at all."""
    if not output.parent.is_dir():
        raise OptionError(f"--output {output}: the folder {output.parent} does not exist")
    if output.exists() and not output.is_file():
        raise OptionError(f"--output {output} exists and is not a regular file")
