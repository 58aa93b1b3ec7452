"""The models that ship with the runtime: their folder, their manifest, their labels."""

import hashlib
import json
from pathlib import Path
from typing import Any

import onnx

ROOT = Path(__file__).parents[2]
"""The root of the checkout."""
MODELS = ROOT / "runtime" / "cifar10_runtime" / "models"
MANIFEST = "manifest.json"


def read_manifest() -> dict[str, dict[str, Any]]:
    """Return the manifest's entry of each model: recipe, step, accuracy; name, size and SHA-256 of each file."""
    models: dict[str, dict[str, Any]] = json.loads((MODELS / MANIFEST).read_text(encoding="utf-8"))["models"]
    return models


def format_manifest(manifest: dict[str, Any]) -> str:
    """Return the content of a manifest file."""
    return json.dumps(manifest, indent=2) + "\n"


def file_entry(name: str, content: bytes) -> dict[str, Any]:
    """Return the manifest's entry of a file: name, size and SHA-256."""
    return {"name": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def labels_of(model: onnx.ModelProto) -> list[str]:
    """Return the class names in the metadata of ``model``, in the order of its outputs."""
    labels: list[str] = json.loads(next(entry.value for entry in model.metadata_props if entry.key == "labels"))
    return labels
