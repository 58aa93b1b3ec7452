"""The command behind export/to_onnx.py."""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from cifar10_export.graph import build
from cifar10_export.verify import verify
from cifar10_zoo import __version__, atomic, checkpoint, dataset
from cifar10_zoo.errors import OptionError


@dataclass(frozen=True)
class Options:
    """Export the averaged weights of the newest checkpoint to one .onnx file, verified against PyTorch."""

    checkpoint_dir: Path = Path("cifar10_train")
    """Folder of the checkpoints."""
    output: Path = Path("cifar10.onnx")
    """File to write."""
    data_dir: Path = field(default_factory=dataset.default_data_dir)
    """Folder of cifar-10-batches-bin/, for a last check: the same best class for all 10,000 test images. Never
    downloaded; $CIFAR10_DATA_DIR sets the default."""


def export(options: Options) -> None:
    """Write ``options.output``, or nothing at all where the verification fails.

    Raises:
        ZooError: there is no usable checkpoint, or the exported model differs from PyTorch (VerificationError).
    """
    _require_writable(options.output)
    saved = checkpoint.read_newest(options.checkpoint_dir)
    data = dataset.load(options.data_dir, "test") if dataset.is_present(options.data_dir) else None
    if data is not None:
        saved.require_classes_of(data)
    model = saved.averaged_model()
    exported = build(model)
    accuracy = verify(exported, model, data)
    metadata = {
        "labels": json.dumps(saved.classes),
        "dataset": saved.dataset,
        "step": str(saved.step),
        "precision": "fp32",
        "checkpoint_sha256": saved.sha256,
        "cifar10_zoo_version": __version__,
    }
    if accuracy is not None:
        metadata["test_accuracy"] = f"{accuracy:.4f}"
    onnx.helper.set_model_props(exported, metadata)
    atomic.write_file(options.output, exported.SerializeToString())
    checked = "no test images at hand" if accuracy is None else f"precision @ 1 = {accuracy:.4f} on all test images"
    print(f"{options.output}: {saved.dataset}, step {saved.step}, equal to PyTorch, {checked}", file=sys.stderr)


def _require_writable(output: Path) -> None:
    """Find out before the work whether ``output`` can be written at all."""
    if not output.parent.is_dir():
        raise OptionError(f"--output {output}: the folder {output.parent} does not exist")
    if output.exists() and not output.is_file():
        raise OptionError(f"--output {output} exists and is not a regular file")
