"""Models of 2 to 1,000 classes, for several image sizes, from training to every client, by whole command lines."""

import csv
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from cifar10_export import ServingGraph, Variant
from cifar10_export.exporter import Images, export_checkpoint
from PIL import Image

from cifar10_zoo import evaluate, image_folders
from cifar10_zoo.data.dataset import Dataset
from cifar10_zoo.tracking import history
from cifar10_zoo.training.inference import predict, predict_ten_crop
from tests.clients.test_browser import CHROMIUM, WEB, served
from tests.clients.test_clients import classify
from tests.helpers.command_line import ROOT, infer, run
from tests.helpers.npm import need_packages, node, npm
from tests.helpers.onnx_files import session
from tests.helpers.shapes import SHAPES, Trained
from tests.stress import ray_sources

VARIANTS = {
    "fp32": Variant(),
    "fp32-direct": Variant(conv2_algorithm="direct"),
    "fp16": Variant("fp16", "direct"),
    "int8": Variant("int8", "direct"),
    "views10": Variant(ten_crop=True),
}
MODELS = [
    (2, 48, "fp32"),
    (2, 48, "int8"),
    (2, 48, "views10"),
    (3, 32, "int8"),
    (17, 64, "fp32"),
    (17, 64, "fp16"),
    (100, 96, "fp32"),
    (100, 96, "int8"),
    (1000, 32, "fp32-direct"),
    (1000, 32, "int8"),
]
"""Shapes and variants: not all pairs, because an export takes seconds."""
RELATIVE_TOLERANCE = {"fp32": 1e-5, "fp16": 5e-3, "int8": 0.1}
COUNT = 12
"""Number of pictures to classify."""

models = pytest.mark.parametrize(("classes", "size", "variant"), MODELS)
largest = pytest.mark.parametrize(("classes", "size", "variant"), [(1000, 32, "fp32-direct")])

ModelOf = Callable[[int, int, str], Path]


@pytest.fixture(scope="session")
def model_of(trained_shape: Trained, tmp_path_factory: pytest.TempPathFactory) -> ModelOf:
    """A function that returns the exported and verified model of a shape, by the name of its variant."""

    @cache
    def export(classes: int, size: int, variant: str) -> Path:
        saved, data = trained_shape(classes, size)
        path = tmp_path_factory.mktemp("model") / "model.onnx"
        path.write_bytes(export_checkpoint(saved, VARIANTS[variant], Images(data, data.images)).content)
        return path

    return export


def some(data: Dataset) -> Dataset:
    return Dataset(data.name, data.classes, data.images[:COUNT], data.labels[:COUNT])


@pytest.fixture
def pictures(trained_shape: Trained, classes: int, size: int, tmp_path: Path) -> Path:
    """The first images of a shape as PNG files in class folders."""
    _, data = trained_shape(classes, size)
    image_folders.write(some(data), tmp_path / "pictures")
    return tmp_path / "pictures"


def probabilities_of(trained_shape: Trained, classes: int, size: int, views: int = 1) -> torch.Tensor:
    """The probabilities in PyTorch of the images that ``pictures`` has, [N, classes]."""
    saved, data = trained_shape(classes, size)
    if views == 10:
        return predict_ten_crop(saved.ema_model(), some(data).images)
    return predict(saved.ema_model(), some(data).images).softmax(dim=1)


@pytest.mark.parametrize(("classes", "size"), SHAPES)
def test_a_checkpoint_is_evaluated_and_recorded(
    trained_shape: Trained, classes: int, size: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved, data = trained_shape(classes, size)
    options = evaluate.Options(checkpoint_dir=tmp_path, data_dir=tmp_path)
    evaluate.evaluate_checkpoint(saved, data, torch.device("cpu"), options)
    accuracy = float((predict(saved.ema_model(), data.images).argmax(dim=1) == data.labels).double().mean())
    assert f"precision @ 1 = {accuracy:.3f}" in capsys.readouterr().out
    assert [row.precision for row in history.evaluations(tmp_path)] == [pytest.approx(accuracy)]


@models
def test_an_exported_model_gives_pytorchs_outputs(
    trained_shape: Trained, model_of: ModelOf, classes: int, size: int, variant: str
) -> None:
    saved, data = trained_shape(classes, size)
    run = session(model_of(classes, size, variant).read_bytes()).run
    reference = ServingGraph(saved.ema_model(), VARIANTS[variant].ten_crop, size).eval()
    for count in (1, 3):
        pixels = data.images[:count].permute(0, 2, 3, 1).contiguous()
        with torch.inference_mode():
            expected = reference(pixels)
        for actual, wanted in zip(run(None, {"images": pixels.numpy()}), expected, strict=True):
            tolerance = RELATIVE_TOLERANCE[VARIANTS[variant].precision] * max(1, float(wanted.abs().max()))
            assert actual.shape == (count, classes)
            np.testing.assert_allclose(actual, wanted, rtol=0, atol=tolerance)


@models
def test_cifar10_infer_gives_pytorchs_answers_and_a_report(
    trained_shape: Trained, model_of: ModelOf, pictures: Path, classes: int, size: int, variant: str, tmp_path: Path
) -> None:
    output, report = tmp_path / "rows.csv", tmp_path / "report.html"
    words = ("--model", model_of(classes, size, variant), "--top-k", 2, "--output", output, "--report", report)
    result = infer(pictures, *words)
    assert result.returncode == 0, result.stderr
    expected = probabilities_of(trained_shape, classes, size, views=10 if variant == "views10" else 1)
    _, data = trained_shape(classes, size)
    with output.open(newline="", encoding="utf-8") as file:
        rows = {int(Path(row["path"]).stem): row for row in csv.DictReader(file)}
    assert len(rows) == COUNT
    tolerance = {"int8": 0.1, "fp16": 5e-3}.get(variant, 1e-5)
    for number, row in rows.items():
        for label, probability in (("label", "probability"), ("label_2", "probability_2")):
            wanted = float(expected[number, data.classes.index(row[label])])
            assert float(row[probability]) == pytest.approx(wanted, abs=tolerance)
        assert float(row["probability"]) >= float(row["probability_2"])
        assert float(expected[number].max()) == pytest.approx(float(row["probability"]), abs=tolerance)
    page = report.read_text(encoding="utf-8")
    assert f"{COUNT} images" in page
    assert ("The 50 most frequent of" in page) == (classes > 50)


@largest
def test_cifar10_infer_ray_writes_the_rows_of_cifar10_infer(
    model_of: ModelOf, pictures: Path, classes: int, size: int, variant: str, tmp_path: Path
) -> None:
    words = ("--model", model_of(classes, size, variant), "--top-k", 2)
    assert infer(pictures, *words, "--output", tmp_path / "cli.parquet").returncode == 0
    result = run(ray_sources.INFER_ON_RAY, pictures, *words, "--output", tmp_path / "ray")
    assert result.returncode == 0, result.stderr
    assert sorted(ray_sources.rows_of(tmp_path / "ray")) == sorted(ray_sources.rows_of(tmp_path / "cli.parquet"))


@pytest.mark.parametrize(("classes", "size", "variant"), [model for model in MODELS if "fp32" in model[2]])
def test_the_node_client_gives_pytorchs_answers(
    trained_shape: Trained, model_of: ModelOf, pictures: Path, classes: int, size: int, variant: str, tmp_path: Path
) -> None:
    _, data = trained_shape(classes, size)
    paths = []
    for source in sorted(pictures.glob("*/*.png"), key=lambda path: path.name):
        paths.append(tmp_path / f"{source.stem}.ppm")
        Image.open(source).save(paths[-1])
    result = classify(model_of(classes, size, variant), *paths)
    assert result.returncode == 0, result.stderr
    rows = list(csv.reader(result.stdout.splitlines()))
    expected = probabilities_of(trained_shape, classes, size)
    assert [row[0] for row in rows] == [str(path) for path in paths]
    for number, (_, label, probability) in enumerate(rows):
        assert float(probability) == pytest.approx(float(expected[number].max()), abs=1e-4)
        assert float(expected[number, data.classes.index(label)]) == pytest.approx(float(probability), abs=1e-4)


@largest
def test_the_page_of_the_browser_gives_the_answers_of_cifar10_infer(
    model_of: ModelOf, pictures: Path, classes: int, size: int, variant: str, tmp_path: Path
) -> None:
    if not CHROMIUM:
        pytest.skip("chromium is not installed")
    need_packages(WEB)
    model = model_of(classes, size, variant)
    models = (str(model), str(model_of(classes, size, "int8")))
    built = npm("run", "build", "--", "--output", str(tmp_path / "page"), *models, cwd=WEB)
    assert built.returncode == 0, built.stderr
    with served(tmp_path / "page") as url:
        steps = [{"model": "fp32", "drop": [str(pictures)]}]
        task = {"chromium": CHROMIUM, "profile": str(tmp_path / "profile"), "url": url, "steps": steps}
        result = node(WEB / "test" / "drive.mjs", stdin=json.dumps(task))
    assert result.returncode == 0, result.stderr
    seen = json.loads(result.stdout)
    assert seen["complaints"] == []
    assert infer(pictures, "--model", model, "--output", tmp_path / "rows.csv").returncode == 0
    with (tmp_path / "rows.csv").open(newline="", encoding="utf-8") as file:
        rows = {Path(row["path"]).name: row for row in csv.DictReader(file)}
    assert len(seen["steps"][0]) == COUNT
    for card in seen["steps"][0]:
        row = rows[Path(card["path"]).name]
        label, probability = card["ranking"][0]
        assert label == row["label"]
        assert probability == pytest.approx(float(row["probability"]), abs=1e-4)


@pytest.mark.parametrize(("classes", "size", "variant"), [(2, 48, "fp32")])
def test_torch_hub_loads_the_network_of_an_exported_model(
    trained_shape: Trained, model_of: ModelOf, classes: int, size: int, variant: str
) -> None:
    saved, data = trained_shape(classes, size)
    path = str(model_of(classes, size, variant))
    network = torch.hub.load(str(ROOT), "cifar10_cnn", source="local", pretrained=path)
    to_input = torch.hub.load(str(ROOT), "cifar10_input", source="local")
    with torch.no_grad():
        logits = network(to_input(data.images[:3]))
    np.testing.assert_allclose(logits, predict(saved.ema_model(), data.images[:3]), rtol=0, atol=1e-5)
    untrained = torch.hub.load(str(ROOT), "cifar10_cnn", source="local", classes=7, image_size=96)
    assert untrained(torch.zeros(1, 3, 72, 72)).shape == (1, 7)
