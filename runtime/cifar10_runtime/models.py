"""The models that ship with the package: ``models/manifest.json`` and the files that it names."""

import json
from pathlib import Path
from typing import Any

from cifar10_runtime.errors import ModelError

FOLDER = Path(__file__).parent / "models"
DEFAULT_MODEL = "fp32"


def bundled() -> dict[str, dict[str, Any]]:
    """What the manifest says of each model, by name."""
    models: dict[str, dict[str, Any]] = json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))["models"]
    return models


def find_model(model: str | Path, layout: str) -> Path:
    """The file of a bundled model by its name, in ``layout`` if there is a choice; else ``model`` itself.

    Raises:
        ModelError: it is neither.
    """
    models = bundled()
    if entry := models.get(str(model)):
        files = entry["files"]
        return FOLDER / str(files.get(layout, next(iter(files.values())))["name"])
    if Path(model).is_file():
        return Path(model)
    raise ModelError(f"model {model} is neither a file nor a model that ships with the package ({', '.join(models)})")
