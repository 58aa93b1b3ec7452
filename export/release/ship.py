"""The models that ship with the runtime, and the manifest that describes them."""

import hashlib
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cifar10_export.command import Variant, exported_model
from cifar10_runtime import atomic

from cifar10_zoo.config import RecipeName
from cifar10_zoo.data import cifar10 as dataset
from cifar10_zoo.errors import DatasetError
from cifar10_zoo.training import checkpoint

MODELS = Path(__file__).parents[2] / "runtime" / "cifar10_runtime" / "models"
MANIFEST = "manifest.json"

SHIPPED: dict[str, tuple[RecipeName, tuple[Variant, ...]]] = {
    "fp32": ("modern", (Variant(), Variant(layout="direct"))),
    "int8": ("modern", (Variant("int8"),)),
    "fp16": ("modern", (Variant("fp16"),)),
    "views10": ("modern", (Variant(views=10),)),
    "tutorial": ("tutorial", (Variant(),)),
}
"""The recipe that trained each model, and its files: one a layout, from which the runtime chooses by device."""


@dataclass(frozen=True)
class Options:
    """Export every model that ships with cifar10-infer, verified, and write the manifest beside them."""

    modern_dir: Path = Path("modern_train")
    """Folder of the checkpoints of the modern recipe."""
    tutorial_dir: Path = Path("cifar10_train")
    """Folder of the checkpoints of the tutorial's recipe."""
    data_dir: Path = field(default_factory=dataset.default_data_dir)
    """Folder of cifar-10-batches-bin/. Never downloaded; $CIFAR10_DATA_DIR sets the default."""
    output_dir: Path = MODELS
    """Folder of the models and of manifest.json."""


def ship(options: Options) -> None:
    """Write all files, the manifest last; files of models that are no longer shipped go.

    Raises:
        ZooError: a checkpoint or the data set is missing, or a model differs from PyTorch (VerificationError).
    """
    if not dataset.is_present(options.data_dir):
        raise DatasetError(f"--data-dir {options.data_dir} has no data set: shipped models say how accurate they are")
    folders: dict[RecipeName, Path] = {"modern": options.modern_dir, "tutorial": options.tutorial_dir}
    checkpoints = {recipe: checkpoint.read_newest(folder) for recipe, folder in folders.items()}
    files: dict[str, bytes] = {}
    models: dict[str, Any] = {}
    for name, (recipe, variants) in SHIPPED.items():
        saved = checkpoints[recipe]
        entry = models[name] = {"recipe": recipe, "dataset": saved.dataset, "step": saved.step}
        entry |= {"precision": variants[0].precision, "views": variants[0].views, "files": {}}
        for variant in variants:
            exported, accuracy = exported_model(saved, variant, options.data_dir)
            file = f"{name}.onnx" if variant == variants[0] else f"{name}-{variant.layout}.onnx"
            content = files[file] = exported.SerializeToString()
            sha256 = hashlib.sha256(content).hexdigest()
            entry["test_accuracy"] = accuracy
            entry["files"][variant.layout] = {"name": file, "bytes": len(content), "sha256": sha256}
            print(f"{file}: {len(content):,} bytes, precision @ 1 = {accuracy:.4f}", file=sys.stderr)
    options.output_dir.mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        atomic.write_file(options.output_dir / file, content)
    atomic.write_file(options.output_dir / MANIFEST, (json.dumps({"models": models}, indent=2) + "\n").encode())
    for path in options.output_dir.glob("*.onnx"):
        if path.name not in files:
            path.unlink()
