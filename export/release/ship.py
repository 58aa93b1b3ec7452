"""Export the models that ship with the runtime, and the manifest that describes them."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cifar10_export.exporter import ExportedModel, Images, export_checkpoint, load_images
from cifar10_export.variants import Variant
from cifar10_runtime import atomic

from cifar10_zoo.config import RecipeName
from cifar10_zoo.data.cifar10 import default_data_dir, is_present
from cifar10_zoo.errors import DatasetError
from cifar10_zoo.training.checkpoint import Checkpoint, read_newest
from release.golden import GOLDEN, format_golden
from release.models import MANIFEST, MODELS, file_entry, format_manifest


@dataclass(frozen=True)
class ShippedModel:
    """A model that ships: one name, one or more files."""

    recipe: RecipeName
    """The recipe that trained it."""
    variants: tuple[Variant, ...]
    """One variant per file, the default first. Only ``conv2_algorithm`` differs; the runtime chooses by device."""


SHIPPED: Mapping[str, ShippedModel] = {
    "fp32": ShippedModel("modern", (Variant(), Variant(conv2_algorithm="direct"))),
    "int8": ShippedModel("modern", (Variant("int8", "direct"),)),
    "fp16": ShippedModel("modern", (Variant("fp16", "direct"),)),
    "views10": ShippedModel("modern", (Variant(ten_crop=True),)),
    "tutorial": ShippedModel("tutorial", (Variant(),)),
}


@dataclass(frozen=True)
class Options:
    """Export and verify every model that ships with cifar10-infer, with golden.npz and the manifest beside them."""

    modern_dir: Path = Path("modern_train")
    """Folder of the checkpoints of the modern recipe."""
    tutorial_dir: Path = Path("cifar10_train")
    """Folder of the checkpoints of the tutorial's recipe."""
    data_dir: Path = field(default_factory=default_data_dir)
    """Folder of cifar-10-batches-bin/. Never downloaded; $CIFAR10_DATA_DIR sets the default."""
    output_dir: Path = MODELS
    """Folder of the models, of golden.npz and of manifest.json."""


@dataclass(frozen=True)
class ShippedFile:
    """One exported file of a model that ships."""

    name: str
    variant: Variant
    model: ExportedModel


def ship(options: Options, models: Mapping[str, ShippedModel] = SHIPPED) -> None:
    """Export ``models`` with golden.npz and the manifest, and delete the files of models that no longer ship.

    Raises:
        ZooError: A checkpoint or the data set is missing, or a model differs from PyTorch (VerificationError).
    """
    if not is_present(options.data_dir):
        raise DatasetError(
            f"--data-dir {options.data_dir} has no data set: choose a folder with cifar-10-batches-bin/, "
            "because the manifest needs the accuracy of each model"
        )
    images = load_images(options.data_dir, needs_calibration=True)
    folders: dict[RecipeName, Path] = {"modern": options.modern_dir, "tutorial": options.tutorial_dir}
    checkpoints = {recipe: read_newest(folder) for recipe, folder in folders.items()}
    export_models(models, checkpoints, images, options.output_dir)


def export_models(
    models: Mapping[str, ShippedModel], checkpoints: Mapping[RecipeName, Checkpoint], images: Images, folder: Path
) -> None:
    """Export ``models`` to ``folder``, with golden.npz and their manifest; delete all other models there.

    Args:
        models: by name.
        checkpoints: the trained weights of each recipe.
        images: test images, whose accuracy the manifest names, and calibration images for int8.
        folder: created if it does not exist.

    Raises:
        ZooError: the images are of other classes, or a model differs from PyTorch (VerificationError).
    """
    files: list[ShippedFile] = []
    entries: dict[str, dict[str, Any]] = {}
    for name, model in models.items():
        checkpoint = checkpoints[model.recipe]
        exported = _export(name, model, checkpoint, images)
        entries[name] = _manifest_entry(model, checkpoint, exported)
        files += exported
    golden = format_golden({file.name: file.model.content for file in files})
    manifest = format_manifest({"models": entries, "golden": file_entry(GOLDEN, golden)})
    _write(folder, files, golden, manifest)


def _export(name: str, model: ShippedModel, checkpoint: Checkpoint, images: Images) -> list[ShippedFile]:
    """Return the exported file of each variant of ``model``; print its size and accuracy on stderr."""
    files = []
    for variant in model.variants:
        suffix = "" if variant == model.variants[0] else f"-{variant.conv2_algorithm}"
        file = ShippedFile(f"{name}{suffix}.onnx", variant, export_checkpoint(checkpoint, variant, images))
        size, accuracy = len(file.model.content), file.model.test_accuracy
        print(f"{file.name}: {size:,} bytes, top-1 accuracy {accuracy:.4f}", file=sys.stderr)
        files.append(file)
    return files


def _manifest_entry(model: ShippedModel, checkpoint: Checkpoint, files: Sequence[ShippedFile]) -> dict[str, Any]:
    default = files[0]
    return {
        "recipe": model.recipe,
        "dataset": checkpoint.dataset,
        "step": checkpoint.step,
        "precision": default.variant.precision,
        "views": 10 if default.variant.ten_crop else 1,
        "files": {file.variant.conv2_algorithm: file_entry(file.name, file.model.content) for file in files},
        "test_accuracy": default.model.test_accuracy,
    }


def _write(folder: Path, files: Iterable[ShippedFile], golden: bytes, manifest: str) -> None:
    """Write the models and golden.npz, then the manifest that names them, then delete all other models."""
    folder.mkdir(parents=True, exist_ok=True)
    names = set()
    for file in files:
        atomic.write_file(folder / file.name, file.model.content)
        names.add(file.name)
    atomic.write_file(folder / GOLDEN, golden)
    atomic.write_file(folder / MANIFEST, manifest.encode())
    for path in folder.glob("*.onnx"):
        if path.name not in names:
            path.unlink()
