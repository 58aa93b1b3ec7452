"""From a checkpoint to the content of a verified .onnx file: build, describe, serialize, verify."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
from torch import Tensor

from cifar10_export.quantize import CALIBRATION_IMAGES
from cifar10_export.variants import Variant, build
from cifar10_export.verify import verify, verify_final
from cifar10_zoo import __version__
from cifar10_zoo.data.dataset import Dataset, ReadOptions
from cifar10_zoo.data.load import is_present, load
from cifar10_zoo.errors import ZooError
from cifar10_zoo.training.checkpoint import Checkpoint


@dataclass(frozen=True)
class Images:
    """The images that an export uses, of the data set that the checkpoint was trained on."""

    test: Dataset | None = None
    """The test images, to compare all answers with PyTorch; without them only random images are compared."""
    calibration: Tensor | None = None
    """Training images [N, 3, 32, 32] uint8, to calibrate int8."""


@dataclass(frozen=True)
class ExportedModel:
    """The content of a verified .onnx file."""

    content: bytes
    test_accuracy: float | None
    """Top-1 accuracy on the test images, or None without them."""


def export_checkpoint(checkpoint: Checkpoint, variant: Variant, images: Images) -> ExportedModel:
    """Export the EMA weights of ``checkpoint``.

    The metadata include the test accuracy, which is measured on the serialized model. So the model is serialized
    twice: all answers of the first content are compared with PyTorch; then the second content, which includes the
    accuracy, is opened and checked again.

    Raises:
        ZooError: The images are of other classes than the checkpoint.
        VerificationError: The exported model differs from PyTorch.
    """
    if images.test is not None:
        checkpoint.require_classes_of(images.test)
    network = checkpoint.ema_model()
    variant = replace(variant, temperature=checkpoint.temperatures.get(10 if variant.ten_crop else 1, 1.0))
    model = build(network, variant, images.calibration)
    metadata = describe(checkpoint, variant)
    accuracy = verify(_serialize(model, metadata), network, variant, images.test)
    if accuracy is not None:
        metadata["test_accuracy"] = f"{accuracy:.4f}"
    content = _serialize(model, metadata)
    verify_final(content, network, variant, metadata, images.test)
    return ExportedModel(content, accuracy)


def describe(checkpoint: Checkpoint, variant: Variant) -> dict[str, str]:
    """Return the metadata of an exported model: labels, origin of the weights, and variant."""
    return {
        "labels": json.dumps(checkpoint.classes),
        "dataset": checkpoint.dataset,
        "step": str(checkpoint.step),
        "precision": variant.precision,
        "layout": variant.conv2_algorithm,
        "views": "10" if variant.ten_crop else "1",
        "temperature": str(variant.temperature),
        "checkpoint_sha256": checkpoint.sha256,
        "cifar10_zoo_version": __version__,
    }


def load_images(data_dir: Path, needs_calibration: bool, options: ReadOptions | None = None) -> Images:
    """Load from ``data_dir`` the images for an export; without a data set there are none.

    Args:
        data_dir: The directory or file of the data set.
        needs_calibration: Whether to load the training images that calibrate int8 as well.
        options: What to read; without it, the defaults.

    Raises:
        ZooError: The data set is damaged, or it is missing and int8 needs it.
    """
    if not is_present(data_dir, options):
        if needs_calibration:
            raise ZooError(
                f"--precision int8 is calibrated on training images, and {data_dir} has none: name --data-dir"
            )
        return Images()
    test = load(data_dir, "test", options=options)
    if not needs_calibration:
        return Images(test)
    training = load(data_dir, "train", options=options, quiet=True)
    return Images(test, training.images[:CALIBRATION_IMAGES])


def _serialize(model: onnx.ModelProto, metadata: dict[str, str]) -> bytes:
    onnx.helper.set_model_props(model, metadata)
    content: bytes = model.SerializeToString()
    return content
