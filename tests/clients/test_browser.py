"""The page of web/: it resizes as Pillow does and gives, in a real browser, the answers of cifar10-infer."""

import base64
import csv
import json
import shutil
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.helpers.command_line import ROOT, infer
from tests.helpers.icc_profiles import ADOBE_RGB, DISPLAY_P3, PROPHOTO, SRGB, cmyk_profile, dull_inks, gray_profile
from tests.helpers.image_files import picture
from tests.helpers.jpeg_cases import damaged_files, encode, harmless_faults, scene
from tests.helpers.npm import need_node, need_packages, node, npm

WEB = ROOT / "web"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.parametrize("size", [32, 7])
def test_the_page_resizes_squares_as_pillow_does(size: int) -> None:
    need_node()
    rng = np.random.default_rng(size)
    squares = [
        rng.integers(0, 256, (side, side, 3), np.uint8) for side in (1, 2, 5, 31, 32, 33, 47, 64, 100, 257, 1001)
    ]
    squares.append(np.indices((96, 96, 3)).sum(axis=0).astype(np.uint8) % 2 * 255)  # beyond black and white
    lines = (json.dumps({"side": len(square), "rgba": rgba(square)}) for square in squares)
    result = node(WEB / "test" / "resize.mjs", size, stdin="\n".join(lines))
    assert result.returncode == 0, result.stderr
    for square, line in zip(squares, result.stdout.splitlines(), strict=True):
        expected = Image.fromarray(square).resize((size, size), Image.Resampling.BICUBIC)
        assert base64.b64decode(line) == expected.tobytes(), f"{len(square)} pixels"


def rgba(square: np.ndarray) -> str:
    """The opaque RGBA bytes of an RGB square, in base64."""
    return base64.b64encode(Image.fromarray(square).convert("RGBA").tobytes()).decode()


@pytest.fixture
def page_url() -> Iterator[str]:
    """The URL of the page, which is built and served."""
    if not CHROMIUM:
        pytest.skip("chromium is not installed")
    need_packages(WEB)
    result = npm("run", "build", cwd=WEB)
    assert result.returncode == 0, result.stderr
    with served(ROOT / "dist" / "page") as url:
        yield url


@contextmanager
def served(folder: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    """Serves files without a log."""

    def log_message(self, *args: object) -> None:
        """Log nothing."""


@pytest.fixture
def pictures(folder: Path, tmp_path: Path) -> Path:
    """164 files: test images in class folders, files of many formats, damaged ones, and ones with harmless faults."""
    target = tmp_path / "pictures"
    for source in sorted(folder.glob("*/*.png"))[:84]:
        (target / source.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target / source.parent.name)
    others = target / "others"
    others.mkdir()
    for name, (size, mode, options) in OTHERS.items():
        picture(*size, mode).save(others / name, **options)
    damaged = (others / "odd.png").read_bytes()
    (others / "damaged.png").write_bytes(damaged[: len(damaged) // 2])
    for encoding, whole in WHOLE_JPEG.items():
        write_all(target / f"{encoding} with harmless faults", harmless_faults(whole))
        write_all(target / f"{encoding} damaged", damaged_files(whole, np.random.default_rng(0)))
    return target


def write_all(target: Path, files: Iterator[tuple[str, bytes]]) -> None:
    target.mkdir()
    for name, content in files:
        (target / f"{name}.jpg").write_bytes(content)


TURNED = {orientation: Image.Exif() for orientation in (3, 5, 6)}
for orientation, exif in TURNED.items():
    exif[0x0112] = orientation
LINEAR = PngInfo()
LINEAR.add(b"gAMA", struct.pack(">I", 100_000))
LINEAR.add(b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000))
OTHERS: dict[str, tuple[tuple[int, int], str, dict[str, Any]]] = {
    "bitmap.bmp": ((33, 32), "RGB", {}),
    "frames.gif": ((50, 40), "P", {"save_all": True, "append_images": [picture(50, 40, "RGB").rotate(90)]}),
    "gray.jpg": ((32, 32), "L", {}),
    "large.jpg": ((1601, 1203), "RGB", {"quality": 92}),
    "lossless.webp": ((41, 57), "RGB", {"lossless": True}),
    "lossy.webp": ((90, 33), "RGB", {}),
    "odd.png": ((201, 99), "RGB", {}),
    "palette.png": ((64, 48), "P", {"transparency": 3}),
    "progressive.jpg": ((199, 240), "RGB", {"progressive": True}),
    "small.jpg": ((32, 32), "RGB", {"quality": 90}),
    "tiny.png": ((5, 4), "RGB", {}),
    "transparent.png": ((63, 47), "RGBA", {}),
    "turned-3.jpg": ((60, 41), "RGB", {"exif": TURNED[3]}),
    "turned-5.jpg": ((60, 41), "RGB", {"exif": TURNED[5]}),
    "turned-6.png": ((41, 60), "RGB", {"exif": TURNED[6]}),
    "adobe-rgb.png": ((48, 64), "RGB", {"icc_profile": ADOBE_RGB.profile()}),
    "display-p3.jpg": ((64, 48), "RGB", {"quality": 92, "icc_profile": DISPLAY_P3.profile()}),
    "prophoto.webp": ((40, 40), "RGBA", {"lossless": True, "icc_profile": PROPHOTO.profile()}),
    "gray-profile.png": ((40, 40), "L", {"icc_profile": gray_profile(1.8)}),
    "inks.jpg": ((64, 48), "CMYK", {"quality": 92, "icc_profile": cmyk_profile(dull_inks)}),
    "picture.avif": ((64, 48), "RGB", {"quality": 90, "icc_profile": DISPLAY_P3.profile()}),
    "gamma.png": ((40, 40), "RGB", {"pnginfo": LINEAR}),
    "srgb.jfif": ((64, 48), "RGB", {"format": "JPEG", "icc_profile": SRGB.profile()}),
}
"""Files of other sizes, formats and pixel types: size, mode and options of Pillow's ``save``."""
WHOLE_JPEG = {
    "baseline": encode(scene(0, 60, 60), quality=98),
    "progressive": encode(scene(0, 60, 60), quality=98, progressive=True),
    "restart markers": encode(scene(0, 60, 60), quality=98, restart_marker_rows=2),
}
DIFFERENT = {
    "large.jpg": 0.1,  # cifar10-infer decodes it at a reduced size, a browser does not
    **dict.fromkeys((name for name, (_, _, options) in OTHERS.items() if "icc_profile" in options), 0.02),
}
"""Largest differences of probabilities; browsers and LittleCMS round the colors of a profile differently."""


def answers(paths: Path, model: str, output: Path) -> dict[str, dict[str, str]]:
    """The rows of cifar10-infer, by path relative to the parent folder of ``paths``."""
    result = infer(paths, "--model", model, "--output", output)
    assert result.returncode == 3, result.stderr
    with output.open(newline="") as file:
        return {str(Path(row["path"]).relative_to(paths.parent)): row for row in csv.DictReader(file)}


def test_the_page_gives_the_predictions_of_cifar10_infer(page_url: str, pictures: Path, tmp_path: Path) -> None:
    some = sorted(pictures.glob("*/*.png"))[:40]
    steps = [{"model": "fp32", "drop": [str(pictures)]}, {"model": "int8", "choose": [str(path) for path in some]}]
    task = {"chromium": CHROMIUM, "profile": str(tmp_path / "profile"), "url": page_url, "steps": steps}
    result = node(WEB / "test" / "drive.mjs", stdin=json.dumps(task))
    assert result.returncode == 0, result.stderr
    seen = json.loads(result.stdout)
    assert seen["complaints"] == []
    assert all(url.startswith((page_url, f"blob:{page_url}", "data:")) for url in seen["requests"]), seen["requests"]
    assert list(seen["reached"].values()) == [False, False], "page and worker must not reach another origin"

    dropped, chosen = seen["steps"]
    expected = answers(pictures, "fp32", tmp_path / "fp32.csv")
    assert len(expected) == 164
    assert [card["path"] for card in dropped] == list(expected), "the cards have the order of the rows"
    for card in dropped:
        compare(card, expected[card["path"]], DIFFERENT.get(Path(card["path"]).name, 1e-4))
    closed = [card["error"] for card in dropped if card["path"].endswith("with an end marker.jpg")]
    assert len(closed) == 6
    assert all(error.startswith("damaged JPEG: ") for error in closed), closed
    by_name = {Path(path).name: row for path, row in answers(pictures, "int8", tmp_path / "int8.csv").items()}
    assert len(chosen) == 40
    for card in chosen:
        compare(card, by_name[card["path"]], 1e-3)


def compare(card: dict[str, Any], row: dict[str, str], tolerance: float) -> None:
    """Check that a card of the page and a row of cifar10-infer agree."""
    assert bool(card["error"]) == bool(row["error"]), card
    if not card["error"]:
        label, probability = card["ranking"][0]
        assert label == row["label"], card
        assert probability == pytest.approx(float(row["probability"]), abs=tolerance), card
