"""Models of 2 to 1,000 classes and of all image sizes, from training and export to every client."""

import csv
import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from cifar10_export import ServingGraph, Variant
from cifar10_export.exporter import Images, export_checkpoint
from cifar10_runtime.cli.run import run as classify_files
from cifar10_runtime.options import InferOptions
from filelock import FileLock
from PIL import Image

from cifar10_zoo import evaluate, image_folders
from cifar10_zoo.tracking import history
from cifar10_zoo.training.inference import Views, logits, predict
from tests.clients.test_browser import CHROMIUM, WEB, served
from tests.clients.test_clients import classify
from tests.helpers.command_line import ROOT, kept_signal_handlers
from tests.helpers.npm import need_packages, node, npm
from tests.helpers.onnx_files import few_verified, first, session
from tests.helpers.shapes import SHAPES, Trained
from tests.stress import ray_sources

VARIANTS = {
    "fp32": Variant(),
    "int8": Variant("int8", "direct"),
    "views10": Variant(ten_crop=True),
    "fp32-direct": Variant(conv2_algorithm="direct"),
    "fp16": Variant("fp16", "direct"),
}
FOR_ALL_CLASSES = ("fp32", "int8", "views10")
"""The variants of every shape; images that are larger than CIFAR-10's also have the other variants."""
MODELS = [(*shape, variant) for shape in SHAPES for variant in VARIANTS if variant in FOR_ALL_CLASSES or shape[1] > 32]
RELATIVE_TOLERANCE = {"fp32": 1e-5, "fp16": 5e-3, "int8": 0.1}
COUNT = 6
"""Number of pictures to classify."""

models = pytest.mark.parametrize(("classes", "size", "variant"), MODELS)
shapes = pytest.mark.parametrize(("classes", "size"), SHAPES)

ModelOf = Callable[[int, int, str], Path]


@pytest.fixture(scope="session")
def model_of(trained_shape: Trained, tmp_path_factory: pytest.TempPathFactory) -> ModelOf:
    """A function that returns the exported and verified model of a shape, by the name of its variant.

    Test processes share the models, because an export takes seconds. Few images are verified: ``test_sizes`` tests the
    sizes of the verified batches.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if base.name.startswith("popen-gw") else base) / "models"
    folder.mkdir(exist_ok=True)

    @cache
    def export(classes: int, size: int, variant: str) -> Path:
        path = folder / f"{classes}-{size}-{variant}.onnx"
        with FileLock(path.with_suffix(".lock")), few_verified():
            if not path.exists():
                saved, data = trained_shape(classes, size)
                images = Images(first(COUNT, data), data.images[:32])
                path.write_bytes(export_checkpoint(saved, VARIANTS[variant], images).content)
        return path

    return export


@pytest.fixture(scope="session")
def pictures_of(trained_shape: Trained, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, int], Path]:
    """A function that returns the first images of a shape as PNG files in class folders."""

    @cache
    def write(classes: int, size: int) -> Path:
        _, data = trained_shape(classes, size)
        folder = tmp_path_factory.mktemp("shape") / "pictures"
        image_folders.write(first(COUNT, data), folder)
        return folder

    return write


@pytest.fixture
def pictures(pictures_of: Callable[[int, int], Path], classes: int, size: int) -> Path:
    """The pictures of one shape."""
    return pictures_of(classes, size)


def probabilities_of(trained_shape: Trained, classes: int, size: int, variant: str) -> torch.Tensor:
    """The probabilities in PyTorch of the images that ``pictures`` has, [N, classes]."""
    saved, data = trained_shape(classes, size)
    views: Views = 10 if VARIANTS[variant].ten_crop else 1
    return logits(saved.ema_model(), data.images[:COUNT], views).softmax(dim=1)


@shapes
def test_a_checkpoint_is_evaluated_and_recorded_with_a_report(
    trained_shape: Trained, classes: int, size: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved, data = trained_shape(classes, size)
    report = tmp_path / "report.html"
    options = evaluate.Options(checkpoint_dir=tmp_path, data_dir=tmp_path, report=report)
    evaluate.evaluate_checkpoint(saved, data, torch.device("cpu"), options)
    accuracy = float((predict(saved.ema_model(), data.images).argmax(dim=1) == data.labels).double().mean())
    assert f"precision @ 1 = {accuracy:.3f}" in capsys.readouterr().out
    assert [row.precision for row in history.evaluations(tmp_path)] == [pytest.approx(accuracy)]
    page = report.read_text(encoding="utf-8")
    assert f"<dd>{accuracy:.2%} <small>" in page
    assert ("The 50 most frequent of" in page) == (classes > 50)


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
        assert expected[0].shape == (count, classes)
        for actual, wanted in zip(run(None, {"images": pixels.numpy()}), expected, strict=True):
            tolerance = RELATIVE_TOLERANCE[VARIANTS[variant].precision] * max(1, float(wanted.abs().max()))
            assert actual.shape == wanted.shape
            np.testing.assert_allclose(actual, wanted, rtol=0, atol=tolerance)


@models
def test_cifar10_infer_gives_pytorchs_answers_and_a_report(
    trained_shape: Trained, model_of: ModelOf, pictures: Path, classes: int, size: int, variant: str, tmp_path: Path
) -> None:
    output, report = tmp_path / "rows.csv", tmp_path / "report.html"
    infer(pictures, model_of(classes, size, variant), output, report)
    expected = probabilities_of(trained_shape, classes, size, variant)
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


def infer(pictures: Path, model: Path, output: Path, report: Path | None = None) -> None:
    """Do what ``cifar10-infer`` does, in this process."""
    options = InferOptions(paths=(str(pictures),), model=str(model), top_k=2, output=str(output), report=report)
    with kept_signal_handlers():
        assert classify_files(options) == 0


def test_cifar10_infer_ray_writes_the_rows_of_cifar10_infer(
    model_of: ModelOf,
    pictures_of: Callable[[int, int], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All models share one cluster, because its start takes seconds."""
    ray = pytest.importorskip("ray")
    from cifar10_runtime.cluster import main as command

    monkeypatch.setattr(command, "connected", lambda *_: nullcontext())
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        for (classes, size), variant in zip(SHAPES, 2 * FOR_ALL_CLASSES, strict=False):
            model, pictures = model_of(classes, size, variant), pictures_of(classes, size)
            rows, folder = tmp_path / f"{classes}.parquet", tmp_path / str(classes)
            infer(pictures, model, rows)
            words = [str(pictures), "--model", str(model), "--top-k", "2", "--output", str(folder)]
            with kept_signal_handlers(), pytest.raises(SystemExit) as end:
                command.main(words)
            assert end.value.code == 0
            assert sorted(ray_sources.rows_of(folder)) == sorted(ray_sources.rows_of(rows))
    finally:
        ray.shutdown()


@pytest.mark.parametrize(
    ("classes", "size", "variant"),
    [(*shape, variant) for shape, variant in zip(SHAPES, ("fp32", "int8", "fp32", "views10", "fp32"), strict=True)],
)
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
    expected = probabilities_of(trained_shape, classes, size, variant)
    assert [row[0] for row in rows] == [str(path) for path in paths]
    tolerance = 0.1 if variant == "int8" else 1e-4
    for number, (_, label, probability) in enumerate(rows):
        assert float(probability) == pytest.approx(float(expected[number].max()), abs=tolerance)
        assert float(expected[number, data.classes.index(label)]) == pytest.approx(float(probability), abs=tolerance)


@pytest.fixture
def pages(model_of: ModelOf, tmp_path: Path) -> Path:
    """A folder with the page of each shape, in a folder with the name of its number of classes."""
    if not CHROMIUM:
        pytest.skip("chromium is not installed")
    need_packages(WEB)
    files = {classes: [model_of(classes, size, name) for name in ("fp32", "int8")] for classes, size in SHAPES}
    built, *others = (tmp_path / "pages" / str(classes) for classes in files)
    result = npm("run", "build", "--", "--output", str(built), *map(str, next(iter(files.values()))), cwd=WEB)
    assert result.returncode == 0, result.stderr
    for page in others:
        shutil.copytree(built, page)
        for path, name in zip(files[int(page.name)], ("fp32.onnx", "int8.onnx"), strict=True):
            shutil.copy(path, page / name)
    return tmp_path / "pages"


def test_the_page_of_the_browser_gives_the_answers_of_cifar10_infer(
    model_of: ModelOf, pictures_of: Callable[[int, int], Path], pages: Path, tmp_path: Path
) -> None:
    """One browser opens the pages of all shapes."""
    with served(pages) as url:
        steps = [
            {"url": f"{url}{classes}/", "model": variant, "drop": [str(pictures_of(classes, size))]}
            for classes, size in SHAPES
            for variant in ("fp32", "int8")
        ]
        task = {"chromium": CHROMIUM, "profile": str(tmp_path / "profile"), "url": f"{url}2/", "steps": steps}
        result = node(WEB / "test" / "drive.mjs", stdin=json.dumps(task))
    assert result.returncode == 0, result.stderr
    seen = json.loads(result.stdout)
    assert seen["complaints"] == []
    all_cards = iter(seen["steps"])
    for classes, size in SHAPES:
        for variant, tolerance in (("fp32", 1e-4), ("int8", 1e-3)):
            output = tmp_path / f"{classes}-{variant}.csv"
            infer(pictures_of(classes, size), model_of(classes, size, variant), output)
            with output.open(newline="", encoding="utf-8") as file:
                rows = {Path(row["path"]).name: row for row in csv.DictReader(file)}
            cards = next(all_cards)
            assert len(cards) == COUNT
            for card in cards:
                row = rows[Path(card["path"]).name]
                label, probability = card["ranking"][0]
                assert label == row["label"]
                assert probability == pytest.approx(float(row["probability"]), abs=tolerance)


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
