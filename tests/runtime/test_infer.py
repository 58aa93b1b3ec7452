"""cifar10-infer and Classifier: predictions for image files, and rows that other programs can rely on."""

import argparse
import csv
import dataclasses
import json
import os
import re
import subprocess
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import ModuleType

import cifar10_runtime
import onnx
import pytest
import tyro
from cifar10_runtime import Classifier
from cifar10_runtime.cli.parser import parser as infer_parser
from cifar10_runtime.cluster.options import RayOptions
from cifar10_runtime.cluster.parser import parser as ray_parser
from cifar10_runtime.engine import models
from cifar10_runtime.engine.models import bundled
from cifar10_runtime.images.find import find
from cifar10_runtime.options import ClassifierOptions, InferOptions
from cifar10_runtime.results import rows
from cifar10_runtime.version import NOT_INSTALLED, version_of
from PIL import Image
from pyarrow import parquet

from cifar10_zoo import evaluate, from_tensorflow, image_folders, synthetic, train
from cifar10_zoo.data import cifar10 as dataset
from cifar10_zoo.data.load import load
from cifar10_zoo.training import checkpoint
from cifar10_zoo.training.inference import predict
from tests.helpers import jpeg_cases, png_cases
from tests.helpers.command_line import CIFAR10_INFER, ROOT, assert_fails_cleanly, infer, run


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_predictions_for_class_folders_are_those_of_pytorch(
    folder: Path, model_file: Path, train_dir: Path, drawings_dir: Path, tmp_path: Path
) -> None:
    """The label and probability of each file, and the accuracy, are those of PyTorch on the data set."""
    result = infer(folder, "--model", model_file, "--output", tmp_path / "out.csv", "--batch-size", 7)
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    rows = rows_of(tmp_path / "out.csv")
    assert list(rows[0]) == ["path", "label", "probability", "error"]

    test = load(drawings_dir, "test")
    logits = predict(checkpoint.read(train_dir / "model.ckpt-60.safetensors").ema_model(), test.images)
    expected = {}
    for number, (label, scores) in enumerate(zip(test.labels.tolist(), logits, strict=False)):
        path = folder / test.classes[label] / f"{number:05d}.png"
        expected[str(path)] = (test.classes[int(scores.argmax())], float(scores.softmax(0).max()))
    assert {row["path"]: row["label"] for row in rows} == {path: label for path, (label, _) in expected.items()}
    for row in rows:
        assert float(row["probability"]) == pytest.approx(expected[row["path"]][1], abs=2e-6)
        assert row["error"] == ""
    assert [row["path"] for row in rows] == sorted(expected), "in a stable order"

    correct = sum(Path(path).parent.name == label for path, (label, _) in expected.items())
    assert f"accuracy {correct / 300:.4f} ({correct} of 300 images" in result.stderr
    assert re.search(r"300 images, 0 failed, \d+ images/s, device cpu, model .* \(custom, step 60\)", result.stderr)


def test_csv_and_json_lines_have_the_same_columns_for_top_k(folder: Path, model_file: Path, tmp_path: Path) -> None:
    for suffix in ("csv", "jsonl"):
        words = (folder / "disc", "--model", model_file, "--top-k", 3, "--output", tmp_path / f"out.{suffix}")
        assert infer(*words).returncode == 0
    rows = rows_of(tmp_path / "out.csv")
    columns = ["path", "label", "probability", "error", "label_2", "probability_2", "label_3", "probability_3"]
    assert list(rows[0]) == columns
    objects = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    for row, values in zip(rows, objects, strict=True):
        assert list(values) == columns
        assert values["error"] is None
        assert values["probability"] >= values["probability_2"] >= values["probability_3"] >= 0
        assert {name: "" if value is None else str(value) for name, value in values.items()} == row


def test_the_table_goes_to_stdout_and_the_summary_to_stderr(folder: Path, model_file: Path) -> None:
    result = infer("disc/*.png", "--model", model_file, cwd=folder)
    assert result.returncode == 0
    lines = result.stdout.splitlines()
    assert len(lines) == len(list((folder / "disc").iterdir()))
    assert all(re.fullmatch(r"\w+ +\d+\.\d\d%  disc[/\\]\d+\.png", line) for line in lines)
    assert "images/s" in result.stderr


@pytest.mark.parametrize(
    "paths",
    [
        pytest.param(["{}/disc", "{}/ring"], id="folders"),
        pytest.param(["{}/disc/", "{}/ring/*.png"], id="folder and pattern"),
        pytest.param(["{}/[dr]i[sn]*"], id="pattern of folders"),
        pytest.param(["{}/disc/**", "{}/ring/**/*.png"], id="recursive patterns"),
    ],
)
def test_folders_and_patterns_find_the_same_files(folder: Path, paths: list[str]) -> None:
    found = find(path.format(folder) for path in paths)
    expected = sorted(str(path) for name in ("disc", "ring") for path in (folder / name).iterdir())
    assert [str(Path(path)) for path in found] == expected


@pytest.mark.posix
def test_links_to_folders_are_followed_only_if_they_are_named(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.png").touch()
    (tmp_path / "real" / "loop").symlink_to(".")
    (tmp_path / "link").symlink_to("real")
    real, linked = str(tmp_path / "real" / "a.png"), str(tmp_path / "link" / "a.png")
    for words, expected in (
        ([str(tmp_path)], [real]),
        ([f"{tmp_path}/**/*.png"], [real]),
        ([f"{tmp_path}/**"], [real]),
        ([f"{tmp_path}/link/**/*.png"], [linked]),
        ([f"{tmp_path}/link"], [linked]),
    ):
        assert list(find(words)) == expected, words


def test_folders_are_searched_only_for_visible_images(tmp_path: Path) -> None:
    for name in ("b.PNG", "a/c.Jpeg", "a/.hidden.png", ".git/d.png", "notes.txt", "a/e.svg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert list(find([str(tmp_path)])) == [str(tmp_path / "b.PNG"), str(tmp_path / "a/c.Jpeg")]


def test_a_bad_file_has_a_row_with_its_error(folder: Path, model_file: Path, tmp_path: Path) -> None:
    good = next((folder / "disc").iterdir()).read_bytes()
    (tmp_path / "cut.png").write_bytes(good[: len(good) // 2])
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "good.png").write_bytes(good)
    (tmp_path / "page.png").write_text("<html>")
    output = tmp_path / "out.csv"
    result = infer(tmp_path, "--model", model_file, "--top-k", 2, "--output", output)
    assert result.returncode == 3
    assert "4 images, 3 failed" in result.stderr
    rows = {Path(row["path"]).name: row for row in rows_of(output)}
    assert list(rows) == ["cut.png", "empty.jpg", "good.png", "page.png"]
    assert rows["good.png"]["label"] in dataset.CLASSES["synthetic"]
    for name in ("cut.png", "empty.jpg", "page.png"):
        assert rows[name]["error"]
        assert {rows[name][column] for column in rows[name]} == {rows[name]["path"], rows[name]["error"], ""}


def test_damaged_files_are_errors_and_harmless_faults_are_not(model_file: Path, tmp_path: Path) -> None:
    jpeg, progressive = (jpeg_cases.encode(jpeg_cases.scene(0), progressive=option) for option in (False, True))
    png = png_cases.opaque_files()["RGB"][0]
    middle = len(jpeg) // 2
    contents = {
        "a.jpg": jpeg,
        "b.jpg": jpeg[:-2] + b"\x13" + jpeg[-2:] + bytes(300),
        "c.jpg": jpeg[:middle] + jpeg_cases.END,
        "d.jpg": jpeg[:middle] + bytes(4096) + jpeg[middle + 4096 :],
        "e.jpg": progressive[: jpeg_cases.scan_starts(progressive)[3]] + jpeg_cases.END,
        "f.png": png[:200] + bytes([png[200] ^ 1]) + png[201:],
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    result = infer(tmp_path, "--model", model_file, "--output", tmp_path / "out.csv")
    assert result.returncode == 3
    assert "6 images, 4 failed" in result.stderr
    whole, benign, *damaged = rows_of(tmp_path / "out.csv")
    assert (benign["label"], benign["probability"]) == (whole["label"], whole["probability"])
    assert [row["error"] for row in damaged] == [
        "damaged JPEG: premature end of data segment",
        "damaged JPEG: zeros in place of compressed data",
        "damaged JPEG: scans are missing at the end",
        "damaged PNG: wrong checksum of the chunk IDAT",
    ]


@pytest.mark.parametrize(
    ("words", "status", "part"),
    [
        pytest.param([], 2, "cifar10-infer images/", id="no paths"),
        pytest.param(["nowhere"], 2, "nowhere does not exist", id="missing path"),
        pytest.param(["{empty}"], 2, "no images", id="folder without images"),
        pytest.param(["{photo}", "--batch-size", "0"], 2, "--batch-size", id="batch size 0"),
        pytest.param(["{photo}", "--top-k", "11"], 2, "--top-k", id="top-k above the number of classes"),
        pytest.param(
            ["{photo}", "--device", "cpu", "--fast-math"], 2, "--fast-math is for CUDA GPUs", id="fast math on the CPU"
        ),
        pytest.param(["{photo}", "--output", "out.txt"], 2, "--output out.txt", id="unknown suffix"),
        pytest.param(
            ["{photo}", "--output", "nowhere/out.csv"], 2, "--output nowhere/out.csv", id="missing output folder"
        ),
        pytest.param(["{photo}", "--output", "folder.csv"], 2, "not a regular file", id="output is a folder"),
        pytest.param(
            ["{photo}", "--device", "gpu"],
            2,
            "device gpu: choose one of auto, cpu, cuda, cuda:N, openvino",
            id="unknown device",
        ),
        pytest.param(["{photo}", "--device", "cuda:x"], 2, "device cuda:x", id="device number that is not a number"),
        pytest.param(["{photo}", "--device", "cpu:1"], 2, "device cpu:1", id="device number of the CPU"),
        pytest.param(
            ["{photo}", "--device", "cuda:1"],
            1,
            "--device cuda:1: this ONNX Runtime has no CUDA",
            id="CUDA without CUDA",
        ),
        pytest.param(
            ["{photo}", "--background", "transparent"], 2, "background transparent", id="transparent background"
        ),
        pytest.param(["{photo}", "--max-pixels", "0"], 2, "--max-pixels", id="max-pixels 0"),
        pytest.param(["{photo}", "--max-failures", "-1"], 2, "--max-failures", id="max-failures below 0"),
        pytest.param(["{photo}", "--resume"], 2, "--output", id="resume without output"),
        pytest.param(
            ["{photo}", "--report", "a.csv"],
            2,
            "--report a.csv: the name must end in .html",
            id="report with another suffix",
        ),
        pytest.param(["{photo}", "--output", "loop.csv"], 2, "--output loop.csv", id="output is a link to itself"),
        pytest.param(["{photo}", "--top-k", "x"], 2, "--top-k", id="top-k that is not a number"),
        pytest.param(["{photo}", "--bogus"], 2, "--bogus", id="unknown option"),
        pytest.param(
            ["{photo}", "--output", "a.csv", "--format", "csv"], 2, "--format", id="format with an output file"
        ),
        pytest.param(
            ["{photo}", "--report", "nowhere/a.html"], 2, "--report nowhere/a.html", id="missing report folder"
        ),
        pytest.param(["--files-from", "nowhere"], 2, "--files-from nowhere", id="missing list of paths"),
        pytest.param(["{photo}", "--model", "nothing"], 1, "model nothing", id="missing model"),
        pytest.param(["{photo}", "--model", "{photo}"], 1, "photo.png cannot be loaded", id="model that is an image"),
    ],
)
def test_wrong_usage_is_an_error_of_one_line(
    words: list[str], status: int, part: str, photo: Path, model_file: Path, tmp_path: Path
) -> None:
    words = [word.format(photo=photo, empty=tmp_path) for word in words]
    options = [] if "--model" in words else ["--model", model_file]
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "loop.csv").symlink_to("loop.csv")
    result = infer(*words, *options, cwd=tmp_path)
    assert_fails_cleanly(result, status, part)
    assert result.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.csv", "loop.csv"]


@pytest.mark.linux
def test_unusual_file_types_and_names_get_rows(folder: Path, model_file: Path, tmp_path: Path) -> None:
    """A pipe, a dangling link, names of any bytes; the names read from CSV and JSON lines are the original names."""
    good = next((folder / "disc").iterdir()).read_bytes()
    names = ["carriage\rreturn.png", 'comma, "quoted".png', "line\nbreak.png", "not utf-8 \udcff.png", "é ✓.png"]
    for name in names:
        (tmp_path / name).write_bytes(good)
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to("nowhere")
    expected = sorted([*names, "link.png", "pipe.png"])
    for suffix in ("csv", "jsonl"):
        result = infer(".", "--model", model_file, "--output", f"out.{suffix}", cwd=tmp_path)
        assert result.returncode == 3, result.stderr
        assert "7 images, 2 failed" in result.stderr
    with open(tmp_path / "out.csv", encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = list(csv.DictReader(file))
    objects = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    for found in (rows, objects):
        assert [os.path.relpath(row["path"], ".") for row in found] == expected
        assert [bool(row["error"]) for row in found] == [name in ("link.png", "pipe.png") for name in expected]
    for paths in (["link.png"], ["*.png"]):
        assert infer(*paths, "--model", model_file, cwd=tmp_path).returncode == 3


@pytest.mark.posix
def test_a_closed_pipe_ends_the_command_without_a_message(folder: Path, model_file: Path) -> None:
    """cifar10-infer images/ | head -n 1."""
    command = [str(CIFAR10_INFER), str(folder), "--model", str(model_file), "--batch-size", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
    assert process.returncode == 1
    assert errors == ""


def test_the_runtime_imports_neither_torch_nor_the_training_package(photo: Path, model_file: Path) -> None:
    """Classification works although importing them raises."""
    code = f"""
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name in ("torch", "onnx", "cifar10_zoo", "cifar10_export"):
            raise ImportError(name + " is not for the runtime")

sys.meta_path.insert(0, Refuse())
from cifar10_runtime.cli.main import main
main([{str(photo)!r}, "--model", {str(model_file)!r}])
"""
    result = run("-c", code)
    assert result.returncode == 0, result.stderr
    assert str(photo) in result.stdout


def test_bundled_models_have_the_accuracy_in_their_manifest_on_real_images(cifar10_dir: Path, tmp_path: Path) -> None:
    """The command classifies the 10,000 test images of CIFAR-10 as PNG files with the three fast models."""
    data = dataset.load(cifar10_dir, "test")
    image_folders.write(data, tmp_path / "images")
    for name, words in (("fp32", ()), ("int8", ("--model", "int8")), ("tutorial", ("--model", "tutorial"))):
        result = infer(tmp_path / "images", "--output", tmp_path / "out.csv", "--overwrite", *words)
        assert result.returncode == 0, result.stderr
        said = bundled()[name]["test_accuracy"]
        assert f"accuracy {said:.4f} ({round(said * 10_000)} of 10000 images" in result.stderr
        assert f"model {name} (cifar10, " in result.stderr
        assert said >= 0.86


@pytest.mark.gpu("onnxruntime-gpu")
def test_cuda_and_cpu_give_the_same_predictions(folder: Path, model_file: Path) -> None:
    paths = list(find([str(folder)]))
    on_cpu = Classifier(model_file, device="cpu").classify(paths)
    on_cuda = Classifier(model_file, device="cuda").classify(paths)
    for cpu, cuda in zip(on_cpu, on_cuda, strict=True):
        assert cuda.label == cpu.label or cpu.ranking[0][1] - cpu.ranking[1][1] < 1e-3
        assert cuda.probability == pytest.approx(cpu.probability, abs=1e-3)


def test_csv_and_json_lines_on_stdout_have_the_bytes_of_the_files(
    folder: Path, model_file: Path, tmp_path: Path
) -> None:
    words = (folder / "disc", "--model", model_file, "--top-k", 2)
    for name, options in (("csv", ["--output", "-"]), ("csv", ["--format", "csv"]), ("jsonl", ["--format", "jsonl"])):
        output = tmp_path / f"out.{name}"
        assert infer(*words, "--output", output, "--overwrite").returncode == 0
        result = infer(*words, *options)
        assert result.returncode == 0, result.stderr
        assert result.stdout == output.read_text()


@pytest.mark.linux
def test_parquet_has_the_same_rows_as_json_lines(folder: Path, model_file: Path, tmp_path: Path) -> None:
    """With the same types, nulls and order; in a name that is not UTF-8, bytes are escaped."""
    odd = tmp_path / "not utf-8 \udcff.png"
    odd.write_bytes(next((folder / "disc").iterdir()).read_bytes())
    (tmp_path / "bad.png").touch()
    words = (folder, odd, tmp_path / "bad.png", "--model", model_file, "--top-k", 3)
    for suffix in ("jsonl", "parquet"):
        assert infer(*words, "--output", tmp_path / f"out.{suffix}").returncode == 3
    objects = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    objects[-2]["path"] = str(tmp_path / "not utf-8 \\udcff.png")
    table = parquet.read_table(tmp_path / "out.parquet")
    assert table.to_pylist() == objects
    assert {str(table.schema.field(name).type) for name in ("label", "error", "path")} == {"string"}
    assert str(table.schema.field("probability_3").type) == "double"


def test_the_report_shows_the_accuracy_and_is_not_overwritten(folder: Path, model_file: Path, tmp_path: Path) -> None:
    words = (folder, "--model", model_file, "--output", tmp_path / "out.csv", "--report", tmp_path / "report.html")
    assert infer(*words).returncode == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    rows = rows_of(tmp_path / "out.csv")
    correct = sum(Path(row["path"]).parent.name == row["label"] for row in rows)
    assert f"{correct / 3:.2f}%" in page, "the accuracy of 300 images"
    assert page.count("data:image/") > 50
    assert_fails_cleanly(infer(*words[:3], "--report", tmp_path / "report.html"), 2, "--report", "--overwrite")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page


def test_labels_from_a_file_replace_the_labels_of_the_model(photo: Path, model_file: Path, tmp_path: Path) -> None:
    names = [f"class {number}" for number in range(10)]
    (tmp_path / "lines.txt").write_text("\n".join(names))
    (tmp_path / "list.json").write_text(json.dumps(names))
    (tmp_path / "few.txt").write_text("one\ntwo\n")
    (tmp_path / "windows.txt").write_text("\r\n".join([*names, "", ""]), encoding="utf-8-sig", newline="")
    (tmp_path / "bad.json").write_text('["one", 2]')
    answers = {
        infer(photo, "--model", model_file, "--labels", tmp_path / name).stdout
        for name in ("lines.txt", "list.json", "windows.txt")
    }
    assert len(answers) == 1
    assert answers.pop().startswith("class ")
    for name, status, part in (
        ("few.txt", 2, "--labels): there are 2 for the 10 classes"),
        ("bad.json", 2, "--labels"),
        ("none", 2, "--labels"),
    ):
        assert_fails_cleanly(infer(photo, "--model", model_file, "--labels", tmp_path / name), status, part)


def test_background_and_max_pixels_options_reach_the_decoder(model_file: Path, tmp_path: Path) -> None:
    Image.new("RGBA", (32, 32), (0, 0, 0, 0)).save(tmp_path / "glass.png")
    for color in ("red", "#0000ff"):
        Image.new("RGB", (32, 32), color).save(tmp_path / f"{color.strip('#')}.png")
    shown = {}
    for name, options in (("glass", ("--background", "red")), ("red", ()), ("0000ff", ())):
        result = infer(tmp_path / f"{name}.png", "--model", model_file, "--output", "-", "--top-k", 10, *options)
        shown[name] = result.stdout.splitlines()[1].partition(",")[2]
    assert shown["glass"] == shown["red"] != shown["0000ff"]
    result = infer(tmp_path, "--model", model_file, "--max-pixels", 1023, "--output", "-")
    assert result.returncode == 3
    assert result.stdout.count("32 x 32 pixels are more than 1023") == 3


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["doctor", "--help"]], ids=" ".join)
def test_help_and_version_import_no_slow_module(words: list[str]) -> None:
    result = run("-X", "importtime", CIFAR10_INFER, *words)
    assert result.returncode == 0
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert "cifar10_runtime.cli.main" in imported
    assert not imported & {"PIL", "importlib.metadata", "jinja2", "numpy", "onnxruntime"}


def test_versions_are_those_of_the_package_metadata() -> None:
    packages = ["cifar10-zoo", "kornia-rs", "numpy", "onnxruntime", "pillow", "pyarrow", "simplejpeg"]
    assert {name: version_of(name) for name in packages} == {name: metadata.version(name) for name in packages}
    assert version_of("no-such-package") == NOT_INSTALLED


def test_a_model_that_crashes_onnx_runtime_is_an_error(photo: Path, tmp_path: Path) -> None:
    """A stride of 12 leaves a pooling layer no input, and ONNX Runtime 1.32 divides by zero."""
    model = onnx.load(models.FOLDER / "fp16.onnx")
    convolution = next(node for node in model.graph.node if node.op_type == "Conv")
    next(attribute for attribute in convolution.attribute if attribute.name == "strides").ints[0] = 12
    onnx.save(model, tmp_path / "crash.onnx")
    (tmp_path / "numpy.py").write_text("raise SystemExit('code of the current folder was run')")
    assert_fails_cleanly(infer(photo, "--model", tmp_path / "crash.onnx", cwd=tmp_path), 1, "crash.onnx")


@pytest.mark.parametrize(
    ("parser", "options"),
    [
        pytest.param(infer_parser, InferOptions, id="cifar10-infer"),
        pytest.param(ray_parser, RayOptions, id="cifar10-infer-ray"),
    ],
)
def test_help_and_page_document_every_option(
    parser: Callable[[], argparse.ArgumentParser], options: type[ClassifierOptions]
) -> None:
    page = (ROOT / "docs" / f"{parser().prog}.md").read_text(encoding="utf-8")
    for action in parser()._actions:
        assert action.help
        for option in action.option_strings:
            if option.startswith("--"):
                assert f"`{option}" in page or f" {option}" in page, option
    names = {action.dest for action in parser()._actions} - {"help", "version"}
    assert names <= {field.name for field in dataclasses.fields(options)}
    for part in (*names, *rows.Columns(2, has_unknown=True).names):
        assert part.replace("_", "-") in page or part in page


@pytest.mark.filterwarnings("ignore:get_parser")
@pytest.mark.parametrize(
    "module",
    [evaluate, from_tensorflow, image_folders, synthetic, train],
    ids=lambda module: module.__name__.rpartition(".")[2],
)
def test_every_training_command_and_option_is_documented(module: ModuleType) -> None:
    """The README has the command, the help has every option."""
    assert f"python -m {module.__name__}" in (ROOT / "README.md").read_text(encoding="utf-8")
    actions = tyro.extras.get_parser(module.Options)._actions
    assert len(actions) > 1
    for action in actions:
        assert action.help, action.option_strings


def test_the_public_names_do_not_change() -> None:
    """Every change of these lists breaks programs that use the library."""
    assert cifar10_runtime.__all__ == [
        "Classifier",
        "DeviceError",
        "ImageError",
        "InferenceError",
        "ModelError",
        "OutputError",
        "Prediction",
        "TooManyFailures",
        "UsageError",
    ]
    errors = {
        name: getattr(cifar10_runtime, name) for name in cifar10_runtime.__all__ if name.endswith(("Error", "es"))
    }
    assert all(issubclass(error, cifar10_runtime.InferenceError) for error in errors.values())
    public = {name for name in dir(Classifier) if not name.startswith("_")} | set(Classifier.__annotations__)
    assert public == {
        "batch_size",
        "classify",
        "classify_contents",
        "close",
        "device",
        "input_size",
        "labels",
        "metadata",
        "model_path",
        "model_sha256",
        "probabilities",
        "threads",
    }
