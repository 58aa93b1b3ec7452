"""cifar10-infer and Classifier: the model's answers for real files, in rows that others can rely on."""

import csv
import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from cifar10_runtime import Classifier, ImageError, ModelError, Prediction, UsageError, images
from command_line import CIFAR10_INFER, assert_fails_cleanly, infer, run
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cifar10_zoo import checkpoint, dataset, image_folders
from cifar10_zoo.dataset import Dataset
from cifar10_zoo.evaluate import predict

FORMATS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "BMP": "bmp", "GIF": "gif", "TIFF": "tiff"}


@pytest.fixture(scope="module")
def folder(synthetic_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 300 test images as PNG files in class folders."""
    data = dataset.load(synthetic_dir, "test")
    target = tmp_path_factory.mktemp("images") / "test"
    image_folders.write(Dataset(data.name, data.classes, data.images[:300], data.labels[:300]), target)
    return target


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PNG file of 40 x 60 pixels."""
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 256, (60, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_class_folders_give_the_classes_of_pytorch(
    folder: Path, model_file: Path, train_dir: Path, synthetic_dir: Path, tmp_path: Path
) -> None:
    """The answers for the files are those of PyTorch for the data set, image for image, and so is the accuracy."""
    result = infer(folder, "--model", model_file, "--output", tmp_path / "out.csv", "--batch-size", 7)
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    rows = rows_of(tmp_path / "out.csv")
    assert list(rows[0]) == ["path", "label", "probability", "error"]

    test = dataset.load(synthetic_dir, "test")
    logits = predict(checkpoint.read(train_dir / "model.ckpt-60.safetensors").averaged_model(), test.images[:300])
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
    assert re.search(r"300 images, 0 failed, \d+ images/s, device cpu, model .* \(synthetic, step 60\)", result.stderr)


def test_top_k_columns_and_json_lines(folder: Path, model_file: Path, tmp_path: Path) -> None:
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
    assert all(re.fullmatch(r"\w+ +\d+\.\d\d%  disc/\d+\.png", line) for line in lines)
    assert "images/s" in result.stderr


@pytest.mark.parametrize(
    "paths",
    [
        ["{}/disc", "{}/ring"],
        ["{}/disc/", "{}/ring/*.png"],
        ["{}/[dr]i[sn]*"],
        ["{}/disc/**", "{}/ring/**/*.png"],
    ],
)
def test_folders_files_and_globs(folder: Path, paths: list[str]) -> None:
    found = images.find(path.format(folder) for path in paths)
    expected = sorted(str(path) for name in ("disc", "ring") for path in (folder / name).iterdir())
    assert [str(Path(path)) for path in found] == expected


def test_folders_are_searched_for_visible_images_alone(tmp_path: Path) -> None:
    for name in ("b.PNG", "a/c.Jpeg", "a/.hidden.png", ".git/d.png", "notes.txt", "a/e.svg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert list(images.find([str(tmp_path)])) == [str(tmp_path / "b.PNG"), str(tmp_path / "a/c.Jpeg")]


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


@pytest.mark.parametrize(("pillow_format", "suffix"), FORMATS.items())
def test_every_format_is_decoded(tmp_path: Path, pillow_format: str, suffix: str) -> None:
    pixels = np.full((32, 32, 3), (200, 40, 90), dtype=np.uint8)
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(pixels).save(path, pillow_format)
    decoded = images.decode(str(path), 32)
    assert decoded.shape == (32, 32, 3)
    assert decoded.dtype == np.uint8
    assert np.abs(decoded.astype(int) - pixels).max() <= 8, "lossy formats may be a little off"


def test_another_format_is_not_even_tried(tmp_path: Path) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "image.png", "PPM")
    with pytest.raises(ImageError, match="not an image in a known format"):
        images.decode(str(tmp_path / "image.png"), 32)


@settings(max_examples=25, deadline=None)
@given(width=st.integers(1, 90), height=st.integers(1, 90))
def test_other_sizes_show_the_middle_square(tmp_path_factory: pytest.TempPathFactory, width: int, height: int) -> None:
    """A grey image whose sides beyond the middle square are white: none of the white may be seen."""
    side = min(width, height)
    pixels = np.full((height, width, 3), 255, dtype=np.uint8)
    top, left = (height - side) // 2, (width - side) // 2
    pixels[top : top + side, left : left + side] = 100
    path = tmp_path_factory.getbasetemp() / "size.png"
    Image.fromarray(pixels).save(path)
    assert (images.decode(str(path), 32) == 100).all()


def test_shrinking_averages_the_pixels(tmp_path: Path) -> None:
    """A fine checkerboard becomes grey; without antialiasing it would become black, white or stripes."""
    board = (np.indices((256, 256)).sum(axis=0) % 2 * 255).astype(np.uint8)
    Image.fromarray(board).save(tmp_path / "board.png")
    decoded = images.decode(str(tmp_path / "board.png"), 32).astype(int)
    assert np.abs(decoded - 127).max() <= 3


def upright() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("orientation", "undo"),
    [
        (1, None),
        (2, Image.Transpose.FLIP_LEFT_RIGHT),
        (3, Image.Transpose.ROTATE_180),
        (4, Image.Transpose.FLIP_TOP_BOTTOM),
        (5, Image.Transpose.TRANSPOSE),
        (6, Image.Transpose.ROTATE_90),
        (7, Image.Transpose.TRANSVERSE),
        (8, Image.Transpose.ROTATE_270),
    ],
)
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, undo: Image.Transpose | None) -> None:
    stored = upright() if undo is None else upright().transpose(undo)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "turned.png", exif=exif)
    assert (images.decode(str(tmp_path / "turned.png"), 32) == np.asarray(upright())).all()


def gray16() -> Image.Image:
    return Image.fromarray(np.full((32, 32), 0x8040, dtype=np.uint16))


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: Image.new("L", (32, 32), 70), (70, 70, 70)),
        (lambda: Image.new("1", (32, 32), 1), (255, 255, 255)),
        (lambda: Image.new("RGBA", (32, 32), (10, 20, 30, 0)), (255, 255, 255)),
        (lambda: Image.new("RGBA", (32, 32), (0, 0, 0, 51)), (204, 204, 204)),
        (lambda: Image.new("LA", (32, 32), (0, 51)), (204, 204, 204)),
        (lambda: Image.new("RGB", (32, 32), (9, 8, 7)).quantize(2), (9, 8, 7)),
        (gray16, (128, 128, 128)),
    ],
    ids=["grey", "1 bit", "transparent", "half transparent", "grey half transparent", "palette", "16 bit"],
)
def test_every_kind_of_pixel_becomes_rgb(
    tmp_path: Path, make: Callable[[], Image.Image], expected: tuple[int, int, int]
) -> None:
    make().save(tmp_path / "image.png")
    decoded = images.decode(str(tmp_path / "image.png"), 32).astype(int)
    assert np.abs(decoded - expected).max() == 0


def test_32_bit_pixels_are_an_error_instead_of_a_black_picture(tmp_path: Path) -> None:
    for mode in ("I", "F"):
        Image.new(mode, (32, 32), 1).save(tmp_path / "image.tif")
        with pytest.raises(ImageError, match="32-bit pixels"):
            images.decode(str(tmp_path / "image.tif"), 32)


def test_the_library(model_file: Path, photo: Path) -> None:
    classifier = Classifier(model_file, device="cpu")
    assert classifier.labels == dataset.CLASSES["synthetic"]
    assert classifier.input_size == 32
    assert classifier.device == "cpu"
    good, missing = classifier.classify([photo, "missing.png"])
    assert good.path == str(photo)
    assert good.error == ""
    assert [label for label, _ in good.ranking] == sorted(
        classifier.labels, key=lambda label: -dict(good.ranking)[label]
    )
    assert sum(probability for _, probability in good.ranking) == pytest.approx(1, abs=1e-5)
    pixels = images.decode(str(photo), 32)
    probabilities = classifier.probabilities(pixels[None])
    assert probabilities.shape == (1, 10)
    assert good.probability == pytest.approx(float(probabilities.max()))
    assert missing == Prediction("missing.png", (), "No such file or directory")


@pytest.mark.parametrize(
    ("words", "status", "part"),
    [
        ([], 2, "cifar10-infer images/"),
        (["nowhere"], 2, "nowhere does not exist"),
        (["{empty}"], 2, "no images"),
        (["{photo}", "--batch-size", "0"], 2, "--batch-size"),
        (["{photo}", "--top-k", "11"], 2, "--top-k"),
        (["{photo}", "--output", "out.txt"], 2, "--output out.txt"),
        (["{photo}", "--output", "nowhere/out.csv"], 2, "--output nowhere/out.csv"),
        (["{photo}", "--output", "folder.csv"], 2, "not a regular file"),
        (["{photo}", "--model", "nothing"], 1, "model nothing"),
        (["{photo}", "--model", "{photo}"], 1, "photo.png cannot be loaded"),
    ],
)
def test_bad_usage_is_an_error_of_one_line(
    words: list[str], status: int, part: str, photo: Path, model_file: Path, tmp_path: Path
) -> None:
    words = [word.format(photo=photo, empty=tmp_path) for word in words]
    options = [] if "--model" in words else ["--model", model_file]
    (tmp_path / "folder.csv").mkdir()
    assert_fails_cleanly(infer(*words, *options, cwd=tmp_path), status, part)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.csv"]


def change_labels(labels: str | None) -> Callable[[onnx.ModelProto], None]:
    """Give the model other labels, or none."""

    def change(model: onnx.ModelProto) -> None:
        others = [entry for entry in model.metadata_props if entry.key != "labels"]
        del model.metadata_props[:]
        model.metadata_props.extend(others)
        if labels is not None:
            model.metadata_props.add(key="labels", value=labels)

    return change


def rename_output(model: onnx.ModelProto) -> None:
    model.graph.output[1].name = model.graph.node[-1].output[0] = "other"


def fix_batch_size(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_labels(None), "no labels"),
        (change_labels("cat"), "no labels"),
        (change_labels("5"), "no labels"),
        (change_labels('"abcdefghij"'), "no labels"),
        (change_labels('["a", "b"]'), "2 labels for 10 classes"),
        (rename_output, "expected input images uint8"),
        (fix_batch_size, "expected input images uint8"),
    ],
)
def test_a_model_that_breaks_the_contract_is_refused(
    model_file: Path, tmp_path: Path, change: Callable[[onnx.ModelProto], None], message: str
) -> None:
    model = onnx.load(model_file)
    change(model)
    onnx.save(model, tmp_path / "broken.onnx")
    with pytest.raises(ModelError, match=message):
        Classifier(tmp_path / "broken.onnx", device="cpu")


def test_wrong_use_of_the_library_is_an_error(model_file: Path, photo: Path) -> None:
    classifier = Classifier(model_file, device="cpu")
    for batch in (np.zeros((1, 32, 32, 3), np.float32), np.zeros((32, 32, 3), np.uint8)):
        with pytest.raises(UsageError, match=r"must be uint8 \[N, 32, 32, 3\]"):
            classifier.probabilities(batch)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="a list of paths"):
        classifier.classify(str(photo))
    with pytest.raises(UsageError, match="batch_size"):
        classifier.classify([photo], batch_size=0)
    with pytest.raises(UsageError, match="device gpu"):
        Classifier(model_file, device="gpu")  # type: ignore[arg-type]


def test_strange_files_are_rows_with_errors(folder: Path, model_file: Path, tmp_path: Path) -> None:
    """A pipe, a link to nothing, names of any bytes; read back from CSV and JSON lines as they were."""
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


def test_a_reader_that_has_seen_enough_ends_it_quietly(folder: Path, model_file: Path) -> None:
    """As in cifar10-infer images/ | head -n 1."""
    command = [str(CIFAR10_INFER), str(folder), "--model", str(model_file), "--batch-size", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
    assert process.returncode == 1
    assert errors == ""


def test_the_runtime_needs_neither_torch_nor_the_training_package(photo: Path, model_file: Path) -> None:
    """Importing any of them would raise; classification works all the same."""
    code = f"""
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name in ("torch", "onnx", "cifar10_zoo", "cifar10_export"):
            raise ImportError(name + " is not for the runtime")

sys.meta_path.insert(0, Refuse())
from cifar10_runtime.command import main
main([{str(photo)!r}, "--model", {str(model_file)!r}])
"""
    result = run("-c", code)
    assert result.returncode == 0, result.stderr
    assert str(photo) in result.stdout


def test_the_shipped_models_have_the_accuracy_that_they_say_on_real_images(cifar10_dir: Path, tmp_path: Path) -> None:
    """10,000 test images of CIFAR-10 as PNG files through the command; the best model is the default."""
    data = dataset.load(cifar10_dir, "test")
    image_folders.write(data, tmp_path / "images")
    accuracy = {}
    for name, words in (("modern", ()), ("tutorial", ("--model", "tutorial"))):
        result = infer(tmp_path / "images", "--output", tmp_path / "out.csv", "--device", "cpu", *words)
        assert result.returncode == 0, result.stderr
        said = Classifier(name, device="cpu").metadata["test_accuracy"]
        correct = int(float(said) * 10_000 + 0.5)
        assert f"accuracy {said} ({correct} of 10000 images" in result.stderr
        assert f"model {name} (cifar10, " in result.stderr
        accuracy[name] = float(said)
    assert accuracy["modern"] >= accuracy["tutorial"] >= 0.86


@pytest.mark.gpu
@pytest.mark.skipif(
    "CUDAExecutionProvider" not in onnxruntime.get_available_providers(), reason="needs onnxruntime-gpu and a CUDA GPU"
)
def test_cuda_gives_what_the_cpu_gives(folder: Path, model_file: Path) -> None:
    paths = list(images.find([str(folder)]))
    on_cpu = Classifier(model_file, device="cpu").classify(paths)
    on_cuda = Classifier(model_file, device="cuda").classify(paths)
    for cpu, cuda in zip(on_cpu, on_cuda, strict=True):
        assert cuda.label == cpu.label or cpu.ranking[0][1] - cpu.ranking[1][1] < 1e-3
        assert cuda.probability == pytest.approx(cpu.probability, abs=1e-3)
