"""Model files: the bundled ones, which ``models/manifest.json`` lists, and any other .onnx file."""

from __future__ import annotations

import hashlib
import io
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar10_runtime.errors import ModelError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FOLDER = Path(__file__).parents[1] / "models"
"""The folder of the bundled models."""
_LARGEST = (1 << 31) - 1
"""Size in bytes of the largest protobuf message, and so of the largest ONNX file."""
_EXTERNAL = b"\x0a\x08location\x12"
"""The serialized key ``location`` of ``external_data``: a tensor has it if its values are in another file."""

_HALF = b"\x0a\x09precision\x12\x04fp16"
"""The serialized metadata of a float16 model."""


@dataclass(frozen=True)
class Golden:
    """Images, and the logits that each bundled model file must give for them."""

    images: NDArray[np.uint8]
    """Synthetic images [100, 32, 32, 3], RGB."""
    logits: dict[str, NDArray[np.float32]]
    """Logits [100, classes] by file name, for example ``fp32.onnx``. The export computes them without ONNX Runtime."""


def bundled() -> dict[str, dict[str, Any]]:
    """Return the manifest's entry of each bundled model, by name."""
    models: dict[str, dict[str, Any]] = _manifest()["models"]
    return models


def golden() -> Golden:
    """Return the stored images and logits.

    Raises:
        ModelError: Their file is missing or damaged.
    """
    import numpy as np

    file = _manifest()["golden"]
    content, _ = _read(FOLDER / str(file["name"]), str(file["sha256"]))
    arrays = dict(np.load(io.BytesIO(content)))
    return Golden(arrays.pop("images"), arrays)


def _manifest() -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))
    return manifest


def find_model(model: str | Path, conv2_algorithm: str) -> tuple[Path, str]:
    """Return the file of a model and the SHA-256 that it must have, empty for a file that is not bundled.

    Args:
        model: Name of a bundled model, or path of a file.
        conv2_algorithm: The preferred algorithm of a bundled model that has files for both: ``winograd`` or ``direct``.

    Raises:
        ModelError: There is neither such a file nor such a bundled model.
    """
    models = bundled()
    if entry := models.get(str(model)):
        files = entry["files"]
        file = files.get(conv2_algorithm, next(iter(files.values())))
        return FOLDER / str(file["name"]), str(file["sha256"])
    if os.path.isfile(model):
        return Path(model), ""
    raise ModelError(f"model {model} is neither a file nor a bundled model ({', '.join(models)})")


def read_model(path: Path, sha256: str) -> tuple[bytes, str]:
    """Return the content of a model file and its SHA-256.

    Args:
        path: The file.
        sha256: The SHA-256 that a bundled model must have, empty for any other file.

    Raises:
        ModelError: The file cannot be read, has another SHA-256, or keeps weights in another file.
    """
    content, actual = _read(path, sha256)
    if _EXTERNAL in content:  # an untrusted model could name any file on this machine
        raise ModelError(f"{path} keeps weights in another file, which is not allowed: export the model as one file")
    return content, actual


def _read(path: Path, sha256: str) -> tuple[bytes, str]:
    """Return the content of a file and its SHA-256, which must be ``sha256`` if that is not empty."""
    try:
        if path.stat().st_size > _LARGEST:
            raise ModelError(f"{path} cannot be loaded: it is larger than any ONNX file, 2 GiB")
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    actual = hashlib.sha256(content).hexdigest()
    if sha256 not in ("", actual):
        raise ModelError(f"{path} is damaged (SHA-256): reinstall the package")
    return content, actual


def is_half(content: bytes) -> bool:
    """Return whether the content of a model file has the metadata of a float16 model."""
    return _HALF in content
