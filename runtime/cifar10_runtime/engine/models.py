"""Model files: those that ship with the package (``models/manifest.json``), and others."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from cifar10_runtime.errors import ModelError

FOLDER = Path(__file__).parents[1] / "models"
DEFAULT_MODEL = "fp32"
_LARGEST = (1 << 31) - 1  # of a protobuf message
_EXTERNAL = b"\x0a\x08location\x12"
"""How a tensor begins to say in which other file its values are."""


def bundled() -> dict[str, dict[str, Any]]:
    """What the manifest says of each model, by name."""
    models: dict[str, dict[str, Any]] = json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))["models"]
    return models


def find_model(model: str | Path, layout: str) -> tuple[Path, str]:
    """The file of a bundled model by its name, in ``layout`` if there is a choice, and its SHA-256; else ``model``, "".

    Raises:
        ModelError: it is neither.
    """
    models = bundled()
    if entry := models.get(str(model)):
        files = entry["files"]
        file = files.get(layout, next(iter(files.values())))
        return FOLDER / str(file["name"]), str(file["sha256"])
    if os.path.isfile(model):
        return Path(model), ""
    raise ModelError(f"model {model} is neither a file nor a model that ships with the package ({', '.join(models)})")


def read_model(path: Path, sha256: str) -> tuple[bytes, str]:
    """The content of a model file, of which nothing lies in other files, and its SHA-256.

    Args:
        sha256: of a bundled model, what it must be; else empty.

    Raises:
        ModelError: it cannot be read, or is not what it should be.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise ModelError(f"{path} cannot be loaded: it is larger than any ONNX file, 2 GiB")
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    actual = hashlib.sha256(content).hexdigest()
    if sha256 not in ("", actual):
        raise ModelError(f"{path} is damaged (SHA-256): reinstall the package")
    if _EXTERNAL in content:
        raise ModelError(f"{path} keeps weights in another file, which is refused: export it as one file")
    return content, actual
