"""The models that ship, and the manifest that describes them."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cifar10_export import Variant
from cifar10_export.exporter import Images
from release.golden import GOLDEN
from release.models import MANIFEST, MODELS, file_entry
from release.ship import SHIPPED, Options, ShippedModel, export_models, ship

from cifar10_zoo.errors import DatasetError
from cifar10_zoo.training.checkpoint import Checkpoint
from tests.helpers.onnx_files import metadata_of


def read_models(folder: Path) -> dict[str, dict[str, Any]]:
    models: dict[str, dict[str, Any]] = read_manifest(folder)["models"]
    return models


def read_manifest(folder: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    return manifest


def metadata_of_listed_file(folder: Path, file: dict[str, Any]) -> dict[str, str]:
    """The metadata of a file, whose size and hash equal the entries of the manifest."""
    content = (folder / file["name"]).read_bytes()
    assert (len(content), hashlib.sha256(content).hexdigest()) == (file["bytes"], file["sha256"])
    return metadata_of(content)


def test_ship_writes_a_manifest_and_deletes_models_that_no_longer_ship(
    train_dir: Path, tmp_path: Path, synthetic_dir: Path
) -> None:
    (tmp_path / "old.onnx").touch()
    ship(Options(train_dir, train_dir, synthetic_dir, tmp_path), {})
    assert sorted(path.name for path in tmp_path.iterdir()) == [GOLDEN, MANIFEST]
    assert read_models(tmp_path) == {}


def test_exporting_writes_models_and_their_manifest_and_deletes_other_models(
    trained: Checkpoint, few_images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("release.golden.IMAGES", 10)  # the reference implementation takes 0.1 s per image
    small = ShippedModel("modern", (Variant("int8", "direct"), Variant(conv2_algorithm="winograd")))
    (tmp_path / "old.onnx").touch()
    export_models({"small": small}, {"modern": trained}, few_images, tmp_path)
    names = [GOLDEN, MANIFEST, "small-winograd.onnx", "small.onnx"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    entry = read_models(tmp_path)["small"]
    assert (entry["recipe"], entry["dataset"], entry["step"]) == ("modern", "custom", 60)
    for layout, file in entry["files"].items():
        metadata = metadata_of_listed_file(tmp_path, file)
        assert metadata["layout"] == layout
    assert read_manifest(tmp_path)["golden"] == file_entry(GOLDEN, (tmp_path / GOLDEN).read_bytes())
    assert np.load(tmp_path / GOLDEN).files == ["images", "small.onnx", "small-winograd.onnx"]


def test_ship_needs_a_data_set(train_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"--data-dir .*nothing has no data set"):
        ship(Options(train_dir, train_dir, tmp_path / "nothing", tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_the_manifest_describes_the_files_that_ship() -> None:
    models = read_models(MODELS)
    assert list(models) == list(SHIPPED)
    names = [file["name"] for entry in models.values() for file in entry["files"].values()]
    assert sorted(names) == sorted(path.name for path in MODELS.glob("*.onnx"))
    for entry in models.values():
        for layout, file in entry["files"].items():
            metadata = metadata_of_listed_file(MODELS, file)
            for key in ("dataset", "step", "precision", "views"):
                assert metadata[key] == str(entry[key])
            assert metadata["test_accuracy"] == f"{entry['test_accuracy']:.4f}"
            assert metadata["layout"] == layout
    assert models["int8"]["test_accuracy"] >= models["fp32"]["test_accuracy"] - 0.002
    assert models["int8"]["test_accuracy"] >= 0.88
    assert models["views10"]["test_accuracy"] >= 0.9
    assert read_manifest(MODELS)["golden"] == file_entry(GOLDEN, (MODELS / GOLDEN).read_bytes())
