"""Each script under benchmarks/ runs once on small inputs; its output is checked, never its speed."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from cifar10_runtime import Classifier
from cifar10_runtime.engine.models import bundled
from PIL import Image
from torch import nn

from benchmarks import other_pictures
from benchmarks.comparisons import COMPARISONS
from benchmarks.machine import file_name, this_machine
from benchmarks.pages import replace_part
from benchmarks.peers import (
    Hint,
    PlainNet,
    ResNet8,
    Run,
    export_by_default,
    export_by_default_in_int8,
    openvino_runs,
    plain_session,
    plain_step,
    torch_eager,
)
from benchmarks.plain_loop import load
from benchmarks.plot import strongest
from cifar10_zoo.config import Precision
from tests.helpers.command_line import ROOT, run
from tests.helpers.image_files import picture

BENCHMARKS = ROOT / "benchmarks"
FP32 = ROOT / "runtime" / "cifar10_runtime" / "models" / "fp32.onnx"


@pytest.fixture(scope="module")
def default_export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_by_default(tmp_path_factory.mktemp("peer") / "default.onnx")


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (70, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def expected(images: np.ndarray) -> np.ndarray:
    """The probabilities of the shipped model fp32."""
    with Classifier("fp32", device="cpu") as classifier:
        return classifier.probabilities(images)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with copies of benchmarks/ and of the pages that its scripts update."""
    folder = tmp_path / "checkout"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(BENCHMARKS, folder / "benchmarks", ignore=ignored)
    (folder / "docs").mkdir()
    for page in ("README.md", "MODEL_CARD.md", "docs/benchmarks.md"):
        shutil.copy(ROOT / page, folder / page)
    return folder


def run_copy(checkout: Path, script: str, *words: object) -> None:
    """Run a script of the copied benchmarks/, which imports the copied modules."""
    result = subprocess.run(
        [sys.executable, checkout / "benchmarks" / script, *map(str, words)],
        env=os.environ | {"PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def rows_of(output: Path) -> list[tuple[str, int, float]]:
    """Path, class and probability of each row that a loop wrote."""
    with output.open(newline="", encoding="utf-8") as file:
        return [(path, int(label), float(probability)) for path, label, probability in csv.reader(file)]


@pytest.mark.parametrize("script", ["plain_loop.py", "dataloader_loop.py"])
def test_each_loop_script_classifies_a_folder(script: str, folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    result = run(BENCHMARKS / script, FP32, folder, output)
    assert result.returncode == 0, result.stderr
    rows = rows_of(output)
    paths = sorted(folder.rglob("*.png"))
    assert [path for path, _, _ in rows] == [str(path) for path in paths]
    with Classifier("fp32", device="cpu") as classifier:
        expected = classifier.probabilities(np.stack([np.asarray(Image.open(path)) for path in paths]))
    assert [label for _, label, _ in rows] == expected.argmax(axis=1).tolist()
    np.testing.assert_allclose([probability for _, _, probability in rows], expected.max(axis=1), atol=1e-5)


def test_the_dataloader_loop_decodes_photographs_at_a_reduced_size(tmp_path: Path) -> None:
    folder, output = tmp_path / "photos", tmp_path / "out.csv"
    folder.mkdir()
    for number in range(9):
        picture(1024 + 8 * number, 768, "RGB").save(folder / f"{number}.jpg")
    result = run(BENCHMARKS / "dataloader_loop.py", FP32, folder, output, "--draft")
    assert result.returncode == 0, result.stderr
    paths = sorted(folder.iterdir())
    assert [path for path, _, _ in rows_of(output)] == [str(path) for path in paths]
    reduced = [probability for _, _, probability in rows_of(output)]
    with Classifier("fp32", device="cpu") as classifier:
        whole = classifier.probabilities(np.stack([load(path) for path in paths])).max(axis=1)
    np.testing.assert_allclose(reduced, whole, atol=0.1)
    assert np.abs(reduced - whole).max() > 1e-4, "the pixels of a reduced decoding differ"


def test_peers_give_the_probabilities_of_the_shipped_model(
    default_export: Path, images: np.ndarray, expected: np.ndarray
) -> None:
    peers: dict[str, Run] = {"default export": plain_session(default_export), "torch": torch_eager()}
    for name, peer in peers.items():
        np.testing.assert_allclose(peer(images), expected, atol=1e-4, err_msg=name)


def test_quantization_by_onnxruntime_keeps_the_probabilities_of_the_default_export(
    default_export: Path, images: np.ndarray, expected: np.ndarray, tmp_path: Path
) -> None:
    peer = plain_session(export_by_default_in_int8(default_export, tmp_path / "int8.onnx"))
    operators = [node.op_type for node in onnx.load(tmp_path / "int8.onnx").graph.node]
    assert operators.count("QuantizeLinear") > 5
    assert np.abs(peer(images) - expected).mean() < 0.03


def test_resnet8_has_the_parameters_of_mlperf_tiny() -> None:
    """Its README counts 78,666; a batch normalization has four per channel, after each 3x3 convolution."""
    resnet = ResNet8()
    channels = sum(m.out_channels for m in resnet.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3))
    assert sum(parameter.numel() for parameter in resnet.parameters()) + 4 * channels == 78_666
    logits, probabilities = resnet(torch.zeros(2, 32, 32, 3, dtype=torch.uint8))
    assert logits.shape == probabilities.shape == (2, 10)


@pytest.mark.parametrize("hint", ["THROUGHPUT", "LATENCY"])
def test_openvino_gives_the_probabilities_of_the_shipped_models(
    hint: Hint, default_export: Path, images: np.ndarray, expected: np.ndarray
) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install '.[bench]'")
    runs = openvino_runs(default_export, hint)
    assert {name.rpartition(", ")[0] for name in runs} == {
        f"OpenVINO on {file}" for file in ("default export", "fp32.onnx", "fp32-direct.onnx", "int8.onnx")
    }
    with Classifier("int8", device="cpu") as classifier:
        expected_int8 = classifier.probabilities(images)
    for name, peer in runs.items():
        wanted = expected_int8 if "int8" in name else expected
        tolerance = 1e-4 if name.endswith(", f32") and "int8" not in name else 0.1
        np.testing.assert_allclose(peer(images), wanted, atol=tolerance, err_msg=name)
        np.testing.assert_allclose(peer(images[:1]), wanted[:1], atol=tolerance, err_msg=name)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_step_of_the_plain_port_lowers_the_loss(precision: Precision) -> None:
    torch.manual_seed(0)
    model = PlainNet()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    images, labels = torch.randn(4, 3, 24, 24), torch.arange(4)

    def loss() -> float:
        with torch.no_grad():
            return float(torch.nn.functional.cross_entropy(model(images), labels))

    before = loss()
    for _ in range(3):
        plain_step(model, optimizer, images, labels, precision)
    assert loss() < before


def test_profile_model_prints_each_operation_and_the_total() -> None:
    result = run(BENCHMARKS / "profile_model.py", "int8", "--batch-size", "2")
    assert result.returncode == 0, result.stderr
    *operations, total = result.stdout.splitlines()
    kinds = {line.split()[1] for line in operations}
    assert {"QLinearConv", "Gemm", "Softmax"} <= kinds, kinds
    times = [float(line.split()[0]) for line in operations]
    value, text = total.split(maxsplit=1)
    assert text == "total, microseconds per image"
    assert float(value) == pytest.approx(sum(times), abs=0.01 * len(times))


def test_report_keeps_a_run_and_updates_the_pages(checkout: Path, tmp_path: Path) -> None:
    results = checkout / "benchmarks" / "results"
    for path in results.glob("bench-*"):
        path.unlink()
    machine = this_machine()
    photos = {"group": "photos", "name": "test_photos", "seconds": {"fp32": 4.0, "plain loop": 20.0}}
    earlier = {"date": "2026-01-01", "machine": machine, "benchmarks": [photos]}
    (results / f"{file_name(machine)}.run1.json").write_text(json.dumps(earlier))
    raw = tmp_path / "raw.json"
    raw.write_text(json.dumps(pytest_benchmark_report()))
    run_copy(checkout, "report.py", raw)

    kept = json.loads((results / f"{file_name(machine)}.run2.json").read_text())
    assert (kept["date"], kept["machine"]) == ("2026-01-02T03:04:05", machine)
    assert kept["benchmarks"][-1] == {
        "group": "cifar10-infer, 100,000 files",
        "name": "test_many_files",
        "median_s": 1.0,
        "rounds": 3,
        "ratio": 1.01,
    }
    lines = (results / f"{file_name(machine)}.csv").read_text().splitlines()
    assert lines[0] == "run,group,benchmark,measure,contestant,value"
    assert "1,photos,test_photos,seconds,plain loop,20.0" in lines
    assert "2,model alone,test_throughput[32],images_per_s,int8,8000" in lines
    with Image.open(results / "throughput.png") as plot:
        assert plot.format == "PNG"
    assert (results / "throughput.png").read_bytes() != (BENCHMARKS / "results" / "throughput.png").read_bytes()

    readme = part_of(checkout / "README.md", "<!-- results -->", "<!-- end of results -->")
    assert "| 4,000 images/s | 2,000 images/s: OpenVINO on fp32.onnx, bf16 | 2.00x |" in readme
    assert "| 8,000 images/s | 5,000 images/s: OpenVINO on int8.onnx, int8 and float32 | 1.60x |" in readme
    assert re.search(r"\| 2\.0 s \| 3\.0 s: DataLoader loop with reduced decoding .*, float32 \| 1\.50x \|", readme)
    assert f"PyTorch {torch.__version__}" in readme
    assert "the median of 2 runs" in readme
    page = part_of(checkout / "docs" / "benchmarks.md", "<!-- measured by make bench -->", "<!-- end -->")
    assert "| default export in ONNX Runtime, float32 | 1,000 images/s | 4.00x | 4.00x to 4.00x |" in page
    assert "| **this project: fp32** | **3.0 s** |" in page
    resnet = "ResNet-8 of MLPerf Tiny (another network, random weights)"
    assert f"| {resnet}, float32 | 8,000 images/s | 0.50x | 0.50x to 0.50x |" in page
    assert f"| {resnet}, int8 | 6,400 images/s | 1.25x | 1.25x to 1.25x |" in page
    assert "| plain loop with Pillow, default export, float32 | 20.0 s | 7.50x | 5.00x to 10.00x |" in page
    assert "| Peak memory for 100,000 files relative to 1,000 files | 1.01x |" in page
    assert "(../benchmarks/results/throughput.png)" in page


def test_the_plot_shows_the_fastest_openvino_run_per_kind_of_weights() -> None:
    curves = {
        "fp32": {1: 10.0, 32: 90.0},
        "OpenVINO on default export, bf16": {1: 1.0, 32: 2.0},
        "OpenVINO on fp32.onnx, f32": {1: 5.0, 32: 50.0},
        "OpenVINO on fp32-direct.onnx, bf16": {1: 4.0, 32: 60.0},
        "OpenVINO on int8.onnx, f32": {1: 9.0, 32: 80.0},
        "OpenVINO on int8.onnx, bf16": {1: 9.5, 32: 70.0},
    }
    assert list(strongest(curves)) == [
        "fp32",
        "OpenVINO on default export, bf16",
        "OpenVINO on fp32-direct.onnx, bf16",
        "OpenVINO on int8.onnx, f32",
    ]


def pytest_benchmark_report() -> dict[str, object]:
    """A report of pytest-benchmark with round numbers."""
    throughput = {
        "fp32": 4000,
        "int8": 8000,
        "default export": 1000,
        "OpenVINO on fp32.onnx, bf16": 2000,
        "OpenVINO on int8.onnx, f32": 5000,
        "ResNet-8": 8000,
        "ResNet-8, int8": 6400,
    }
    photos = {"fp32": 2.0, "int8": 1.9, "plain loop": 20.0, "DataLoader with draft": 3.0}
    benchmarks = [
        ("model alone", "test_throughput[32]", {"images_per_s": throughput, "batch": 32}),
        ("model alone", "test_throughput[1]", {"images_per_s": dict.fromkeys(throughput, 10), "batch": 1}),
        ("cifar10-infer, 200 photographs of 12 megapixels", "test_photos", {"seconds": photos}),
        ("cifar10-infer, 100,000 files", "test_many_files", {"ratio": 1.01}),
    ]
    return {
        "datetime": "2026-01-02T03:04:05",
        "benchmarks": [
            {"group": group, "name": name, "stats": {"median": 1.0, "rounds": 3}, "extra_info": extra}
            for group, name, extra in benchmarks
        ],
    }


def part_of(page: Path, begin: str, end: str) -> str:
    """The lines between two markers."""
    return page.read_text(encoding="utf-8").partition(begin)[2].partition(end)[0]


def test_the_readme_table_has_ten_rows_at_most() -> None:
    assert len(COMPARISONS) <= 10


def test_a_page_without_markers_is_named_and_stays_as_it_is(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    page.write_text("# Benchmarks\n<!-- begin -->\n")
    with pytest.raises(
        ValueError, match=f"{re.escape(str(page))}: the lines <!-- begin --> and <!-- end --> are missing"
    ):
        replace_part(page, "<!-- begin -->", "<!-- end -->", "text")
    assert page.read_text() == "# Benchmarks\n<!-- begin -->\n"


def test_model_card_writes_accuracy_tables_and_pictures(checkout: Path, cifar10_dir: Path) -> None:
    run_copy(checkout, "model_card.py", "--data-dir", cifar10_dir, "--images", 300)
    part = part_of(checkout / "MODEL_CARD.md", "<!-- measured by benchmarks/model_card.py -->", "<!-- end -->")
    rows = {line.split(" | ")[0].removeprefix("| "): re.findall(r"\d\.\d+", line) for line in part.splitlines()}
    assert [len(rows[name]) for name in ("airplane", "truck")] == [6, 6]
    assert len(rows["all"]) == 3
    assert all(0.8 < float(accuracy) < 0.95 for accuracy in rows["all"])
    assert rows["original"] == rows["all"]
    worst = [float(accuracy) for accuracy in rows["JPEG, quality 10"]]
    assert all(low < float(high) for low, high in zip(worst, rows["original"], strict=True))
    assert all(float(error) < 0.2 for error in rows["expected calibration error"])
    shares = [re.findall(r"([\d.]+)%", line) for line in part.splitlines() if re.match(r"\| (none|0\.\d+) \|", line)]
    kept = np.array(shares, float)  # [threshold, model]
    assert kept.shape == (8, 5)
    assert (kept[0] == 100).all()
    assert (np.diff(kept, axis=0) <= 0).all()
    for name in ("fp32", "int8", "tutorial"):
        assert name in bundled()
        written = checkout / "benchmarks" / "results" / f"confusion-{name}.png"
        assert written.read_bytes() != (BENCHMARKS / "results" / written.name).read_bytes()


def test_scores_of_test_images_and_other_pictures_are_compared_pair_by_pair() -> None:
    """Of 100 test images with the scores 0 to 99, 95 reach the score 5; ties count half."""
    test, others = torch.arange(100.0), torch.tensor([-1.0, 4.0, 5.0, 200.0])
    assert other_pictures.passing(test, others) == 2 / 4
    wins = sum((a > b) + 0.5 * (a == b) for a in test.tolist() for b in others.tolist())
    assert other_pictures.auroc(test, others) == pytest.approx(wins / 400)


def test_each_drawn_picture_has_more_than_one_color() -> None:
    rng = np.random.default_rng(1)
    for drawn in (other_pictures.letter(rng), other_pictures.gradient(rng, True), other_pictures.noise(rng, 4)):
        assert drawn.shape == (32, 32, 3)
        assert len(np.unique(drawn.reshape(-1, 3), axis=0)) > 1
