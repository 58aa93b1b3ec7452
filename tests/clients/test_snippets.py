"""The code of the pages that promises the answers of cifar10-infer gives them, for pictures of every shape."""

import csv
import io
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from cifar10_runtime.images.decode import decode
from PIL import Image

from tests.clients.test_clients import MODELS, classify
from tests.helpers.command_line import ROOT, infer
from tests.helpers.image_files import picture


def code_of(page: str) -> str:
    """The first Python code on a page."""
    found = re.search(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    assert found
    return found[1]


def files() -> Iterator[tuple[str, bytes]]:
    """Names and contents of pictures that are not square, turned, transparent, gray or large."""

    def saved(image: Image.Image, suffix: str, **options: object) -> bytes:
        image.save(buffer := io.BytesIO(), suffix, **options)
        return buffer.getvalue()

    for width, height in ((32, 32), (33, 32), (61, 40), (40, 61), (7, 90)):
        yield f"{width}x{height}.png", saved(picture(width, height, "RGB"), "png")
        yield f"{width}x{height}.jpg", saved(picture(width, height, "RGB"), "jpeg")
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        for width, height in ((61, 40), (40, 61)):
            name = f"turned-{orientation}-{width}x{height}"
            yield f"{name}.jpg", saved(picture(width, height, "RGB"), "jpeg", exif=exif)
            yield f"{name}.png", saved(picture(width, height, "RGB"), "png", exif=exif)
    for mode in ("RGBA", "LA", "PA"):
        image = picture(63, 47, "RGB").convert("RGBA")
        image.putalpha(picture(63, 47, "L"))
        yield f"{mode}.png", saved(image.quantize().convert("P") if mode == "PA" else image.convert(mode), "png")
    yield "palette.png", saved(picture(64, 48, "P"), "png", transparency=3)
    yield "color.png", saved(picture(64, 48, "RGB"), "png", transparency=(127, 127, 127))
    yield "frames.gif", saved(picture(50, 40, "P"), "gif", transparency=3)
    yield "gray.jpg", saved(picture(50, 40, "L"), "jpeg")
    yield "cmyk.jpg", saved(picture(50, 40, "CMYK"), "jpeg")
    yield "lossy.webp", saved(picture(50, 40, "RGBA"), "webp")
    exif = Image.Exif()
    exif[0x0112] = 6
    for side in (255, 256, 300, 1100):
        yield f"large-{side}.jpg", saved(picture(side + 77, side, "RGB"), "jpeg", exif=exif)


FILES = dict(files())


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def answers(pictures: Path) -> Callable[[str], dict[str, tuple[str, float]]]:
    """A function that returns label and probability of each picture, as cifar10-infer answers with a model."""

    def ask(model: str) -> dict[str, tuple[str, float]]:
        output = pictures.parent / f"{pictures.name}-{model}.csv"
        result = infer(pictures, "--model", model, "--output", output, "--overwrite", "--device", "cpu")
        assert result.returncode == 0, result.stderr
        with output.open(newline="") as file:
            return {Path(row["path"]).name: (row["label"], float(row["probability"])) for row in csv.DictReader(file)}

    return ask


@pytest.fixture
def folder_of_the_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a model."""
    shutil.copy(MODELS / "fp32.onnx", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_python_client_gives_the_answers_of_the_command(
    pictures: Path, answers: Callable[[str], dict[str, tuple[str, float]]], folder_of_the_reader: Path
) -> None:
    """The code is run as it is printed, once per picture."""
    code = compile(code_of("docs/clients.md"), "docs/clients.md", "exec")
    expected = answers("fp32")
    assert expected.keys() == FILES.keys()
    for name, (label, probability) in expected.items():
        shutil.copy(pictures / name, folder_of_the_reader / "cat.png")
        with redirect_stdout(io.StringIO()) as output:
            exec(code, {})
        printed_label, printed_probability = output.getvalue().split()
        assert printed_label == label, name
        assert float(printed_probability) == pytest.approx(probability, abs=2e-6), name


def test_the_node_client_gives_the_answers_of_the_command_for_ppm_files_of_the_python_client(
    pictures: Path, answers: Callable[[str], dict[str, tuple[str, float]]], folder_of_the_reader: Path
) -> None:
    shutil.copy(pictures / "RGBA.png", folder_of_the_reader / "cat.png")
    names: dict[str, Callable[[Path], np.ndarray]] = {}
    with redirect_stdout(io.StringIO()):
        exec(code_of("docs/clients.md"), names)
    paths = [folder_of_the_reader / f"{name}.ppm" for name in FILES]
    for path in paths:
        Image.fromarray(names["pixels"](pictures / path.stem)).save(path)
    result = classify(MODELS / "fp32.onnx", *paths)
    assert result.returncode == 0, result.stderr
    rows = [line.split(",") for line in result.stdout.splitlines()]
    expected = answers("fp32")
    for row in rows:
        label, probability = expected[Path(row[0]).stem]
        assert row[1] == label, row
        assert float(row[2]) == pytest.approx(probability, abs=1e-4), row


def test_the_library_on_the_first_page_gives_the_answers_of_the_command(
    pictures: Path, answers: Callable[[str], dict[str, tuple[str, float]]], folder_of_the_reader: Path
) -> None:
    code, expected = compile(code_of("README.md"), "README.md", "exec"), answers("int8")
    names = sorted(FILES)
    for first, second in zip(names[::2], names[1::2], strict=False):
        shutil.copy(pictures / first, folder_of_the_reader / "cat.png")
        shutil.copy(pictures / second, folder_of_the_reader / "ship.jpg")
        with redirect_stdout(io.StringIO()) as output:
            exec(code, {})
        for line, name in zip(output.getvalue().splitlines(), (first, second), strict=True):
            _, label, probability = line.split()
            assert label == expected[name][0], name
            assert float(probability) == pytest.approx(expected[name][1], abs=2e-6), name


def test_the_python_client_makes_the_pixels_of_the_command(pictures: Path, folder_of_the_reader: Path) -> None:
    """Equal answers could hide small differences of the pixels."""
    shutil.copy(pictures / "RGBA.png", folder_of_the_reader / "cat.png")
    names: dict[str, Callable[[str], np.ndarray]] = {}
    with redirect_stdout(io.StringIO()):
        exec(code_of("docs/clients.md"), names)
    for name in FILES:
        path = str(pictures / name)
        np.testing.assert_array_equal(names["pixels"](path), decode(path, 32), err_msg=name)
