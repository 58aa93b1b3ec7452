"""The programs in clients/ give the answers of the package in other languages."""

from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from cifar10_runtime import Classifier
from PIL import Image

from tests.helpers.command_line import ROOT, assert_fails_cleanly
from tests.helpers.npm import need_packages, node

NODE_CLIENT = ROOT / "clients" / "node"
MODELS = ROOT / "runtime" / "cifar10_runtime" / "models"


@pytest.fixture(scope="session")
def ppm_files(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """40 test images as PPM files."""
    target = tmp_path_factory.mktemp("ppm")
    paths = []
    for source in sorted(folder.glob("*/*.png"))[::7][:40]:
        paths.append(target / f"{source.stem}.ppm")
        Image.open(source).save(paths[-1])
    return paths


def classify(*words: object) -> CompletedProcess[str]:
    need_packages(NODE_CLIENT)
    return node(NODE_CLIENT / "classify.mjs", *words)


@pytest.mark.parametrize("model", ["fp32", "int8"])
def test_the_client_gives_the_predictions_of_the_package(model: str, ppm_files: list[Path]) -> None:
    result = classify(MODELS / f"{model}.onnx", *ppm_files)
    assert result.returncode == 0, result.stderr
    rows = [line.split(",") for line in result.stdout.splitlines()]
    with Classifier(model) as classifier:
        expected = classifier.probabilities(np.stack([np.asarray(Image.open(path)) for path in ppm_files]))
        labels = [classifier.labels[index] for index in expected.argmax(axis=1)]
    assert [row[:2] for row in rows] == [[str(path), label] for path, label in zip(ppm_files, labels, strict=True)]
    np.testing.assert_allclose([float(row[2]) for row in rows], expected.max(axis=1), atol=1e-4)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"P6 31 32 255\n" + bytes(31 * 32 * 3), "not a binary PPM (P6) of 32x32 pixels: convert the image"),
        (b"P6 32 32 255\n" + bytes(100), "100 bytes of pixels instead of 3072: the file is damaged"),
        (b"\x89PNG\r\n\x1a\n", "not a binary PPM (P6)"),
    ],
    ids=["31 pixels wide", "truncated", "PNG"],
)
def test_the_client_refuses_other_image_files(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "image.ppm"
    path.write_bytes(content)
    assert_fails_cleanly(classify(MODELS / "fp32.onnx", path), 1, str(path), reason)


def test_the_client_refuses_a_file_that_is_not_a_model(tmp_path: Path, ppm_files: list[Path]) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(b"not a model")
    assert_fails_cleanly(classify(model, ppm_files[0]), 1, str(model), "not a model with labels in its metadata")


def test_the_client_names_a_missing_model(tmp_path: Path, ppm_files: list[Path]) -> None:
    assert_fails_cleanly(classify(tmp_path / "missing.onnx", ppm_files[0]), 1, "missing.onnx")


def test_the_client_without_arguments_prints_its_usage() -> None:
    assert_fails_cleanly(classify(), 1, "usage: ")
