"""Files that phones, cameras and browsers write: AVIF, HEIC, MPO, APNG, DIB, and JPEG under other names."""

import io
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cifar10_runtime import ImageError
from cifar10_runtime.images.decode import decode
from cifar10_runtime.images.find import SUFFIXES, find
from cifar10_runtime.images.other_files import OtherFiles
from PIL import Image

from tests.helpers.command_line import ROOT, infer, run
from tests.helpers.icc_profiles import DISPLAY_P3

UPRIGHT = Image.fromarray(np.random.default_rng(2).integers(60, 196, (3, 4, 3), np.uint8)).resize(
    (64, 48), Image.Resampling.BICUBIC
)
"""Smooth, so that lossy formats keep it, and without any symmetry."""
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""How a camera stores an upright image, by EXIF orientation."""
LOSSY = ("JPEG", "MPO", "WEBP", "AVIF", "HEIF")
LOSS = 6
"""Largest difference that lossy compression makes here."""


def encode(image: Image.Image, pillow_format: str, **options: Any) -> bytes:
    if pillow_format == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    if pillow_format in LOSSY:
        options["quality"] = 95
    image.save(file := io.BytesIO(), pillow_format, **options)
    return file.getvalue()


def middle(image: Image.Image) -> np.ndarray:
    """The middle square in 48 x 48 pixels."""
    return np.asarray(image.crop((8, 0, 56, 48))).astype(float)


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("pillow_format", ["AVIF", "HEIF"])
def test_avif_and_heic_are_turned_upright(pillow_format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    operation = STORED[orientation]
    stored = UPRIGHT if operation is None else UPRIGHT.transpose(operation)
    decoded = decode(encode(stored, pillow_format, exif=exif.tobytes()), 48)
    np.testing.assert_allclose(decoded, middle(UPRIGHT), rtol=0, atol=LOSS)


@pytest.mark.parametrize("pillow_format", ["AVIF", "HEIF"])
def test_the_profile_of_avif_and_heic_is_applied(pillow_format: str) -> None:
    content = encode(UPRIGHT, pillow_format, icc_profile=DISPLAY_P3.profile())
    np.testing.assert_allclose(decode(content, 48), DISPLAY_P3.to_srgb(middle(UPRIGHT)), rtol=0, atol=1.5 * LOSS)


@pytest.mark.parametrize("pillow_format", ["AVIF", "HEIF"])
def test_transparent_pixels_of_avif_and_heic_show_the_background(pillow_format: str) -> None:
    content = encode(Image.new("RGBA", (64, 64), (200, 100, 0, 51)), pillow_format)
    expected = np.broadcast_to((0.2 * 200, 0.2 * 100, 0), (32, 32, 3))
    np.testing.assert_allclose(decode(content, 32, "black"), expected, rtol=0, atol=3)


@pytest.mark.parametrize("pillow_format", ["AVIF", "HEIF"])
def test_truncated_avif_and_heic_files_are_errors(pillow_format: str) -> None:
    content = encode(UPRIGHT, pillow_format)
    for tenths in range(1, 10):
        with pytest.raises(ImageError):
            decode(content[: len(content) * tenths // 10], 32)


@pytest.mark.parametrize("pillow_format", ["AVIF", "HEIF"])
def test_avif_and_heic_with_too_many_pixels_are_errors(pillow_format: str) -> None:
    content = encode(UPRIGHT, pillow_format)
    with pytest.raises(ImageError, match="64 x 48 pixels are more than 3071"):
        decode(content, 32, max_pixels=64 * 48 - 1)


HEIC_BEGINNINGS = {
    "iPhone": b"\0\0\0\x24ftypheic\0\0\0\0mif1MiHEMiPrmiafMiHBheic",
    "mif1": b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic",
}


@pytest.mark.parametrize("beginning", HEIC_BEGINNINGS.values(), ids=HEIC_BEGINNINGS)
def test_without_its_decoder_the_error_of_heic_names_format_and_extra(beginning: bytes, tmp_path: Path) -> None:
    (tmp_path / "photo.heic").write_bytes(beginning + bytes(100))
    script = "import sys; sys.modules['pillow_heif'] = None; from cifar10_runtime.cli.main import main; main()"
    result = run("-c", script, tmp_path, "--output", "-")
    assert result.returncode == 3
    assert "photo.heic,,,HEIC: its decoder is not installed: pip install 'cifar10-zoo[heif]'" in result.stdout


@pytest.mark.parametrize("beginning", HEIC_BEGINNINGS.values(), ids=HEIC_BEGINNINGS)
def test_a_damaged_heic_file_is_an_error_that_says_so(beginning: bytes) -> None:
    pytest.importorskip("pillow_heif")
    with pytest.raises(ImageError, match="a damaged or truncated HEIC file"):
        decode(beginning + bytes(100), 32)


@pytest.mark.parametrize(
    ("pillow_format", "name"), [("WEBP", "WebP"), ("AVIF", "AVIF"), ("GIF", "GIF"), ("BMP", "BMP")]
)
def test_the_error_of_a_truncated_file_says_so(pillow_format: str, name: str) -> None:
    content = encode(UPRIGHT, pillow_format)
    for length in (16, len(content) // 2, len(content) - 3):
        with pytest.raises(ImageError, match=rf"(?i)damaged or truncated {name}|truncated"):
            decode(content[:length], 32)


OTHER_FORMATS = {
    "JPEG XL": b"\xff\x0a\x7a\x1f",
    "JPEG XL, container": b"\0\0\0\x0cJXL \r\n\x87\n",
    "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n",
    "JPEG 2000, codestream": b"\xff\x4f\xff\x51\0\x2f",
    "Photoshop": b"8BPS\0\1",
    "PDF": b"%PDF-1.7\n",
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
}


@pytest.mark.parametrize(("name", "beginning"), OTHER_FORMATS.items(), ids=OTHER_FORMATS)
def test_a_format_that_is_not_read_is_named(name: str, beginning: bytes) -> None:
    with pytest.raises(
        ImageError, match=f"{name.partition(',')[0]} is not read: convert the image to one of JPEG, PNG"
    ):
        decode(beginning + bytes(100), 32)


def test_of_an_mpo_file_the_first_image_is_read() -> None:
    """Cameras with two lenses and phones write MPO files: JPEG files, one after another."""
    content = encode(UPRIGHT, "MPO", save_all=True, append_images=[UPRIGHT.transpose(Image.Transpose.ROTATE_180)])
    with Image.open(io.BytesIO(content)) as image:
        assert image.format == "MPO"
    np.testing.assert_allclose(decode(content, 48), middle(UPRIGHT), rtol=0, atol=LOSS)


def without_file_header(bmp: bytes) -> bytes:
    return bmp[14:]


@pytest.mark.parametrize("change", [bytes, without_file_header], ids=["as .bmp", "without file header"])
def test_dib_files_are_read(change: Callable[[bytes], bytes]) -> None:
    content = change(encode(UPRIGHT, "BMP"))
    np.testing.assert_array_equal(decode(content, 48), middle(UPRIGHT))


def test_a_jpeg_with_12_bits_per_sample_is_an_error_that_says_so() -> None:
    """The frame header states the bits per sample (T.81, B.2.2)."""
    content = encode(UPRIGHT, "JPEG", comment="text")
    at = content.index(b"\xff\xc0\0\x11\x08")
    content = content[: at + 1] + b"\xc1\0\x11\x0c" + content[at + 5 :]
    with pytest.raises(ImageError, match=r"a JPEG with 12 bits per sample.*: convert the image to 8 bits"):
        decode(content, 32)


@pytest.mark.parametrize(
    ("suffix", "pillow_format"),
    [
        *((suffix, "JPEG") for suffix in (".jpg", ".jpeg", ".jpe", ".jfif", ".JPG")),
        *((f".{name.lower()}", name) for name in ("MPO", "PNG", "WEBP", "AVIF", "BMP", "DIB", "GIF", "TIFF")),
        (".apng", "PNG"),
        (".tif", "TIFF"),
        (".heic", "HEIF"),
        (".heif", "HEIF"),
    ],
)
def test_a_folder_names_files_of_every_format(suffix: str, pillow_format: str, tmp_path: Path) -> None:
    (tmp_path / f"image{suffix}").write_bytes(encode(UPRIGHT, pillow_format))
    (found,) = find([str(tmp_path)])
    assert found == str(tmp_path / f"image{suffix}")
    assert decode(found, 32).shape == (32, 32, 3)


def test_the_page_for_browsers_finds_files_with_every_suffix() -> None:
    script = (ROOT / "web" / "src" / "files.js").read_text(encoding="utf-8")
    found = re.search(r"SUFFIXES = /(.*)/i;", script)
    assert found
    for suffix in SUFFIXES:
        assert re.search(found[1], f"image{suffix}"), suffix


def folder_of(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


NINE_SUFFIXES = [f"image.{letter}" for letter in "abcdefghi"]


@pytest.mark.parametrize(
    ("names", "summary"),
    [
        pytest.param(["a.txt", "b.TXT", "c.mov", "d.png"], "3 other files: 2 .txt, 1 .mov", id="suffixes"),
        pytest.param(["below/a.txt", "d.png"], "1 other file: 1 .txt", id="one file, in a subfolder"),
        pytest.param(["Makefile", "d.png"], "1 other file: 1 without a suffix", id="no suffix"),
        pytest.param(
            ["Makefile", "a.txt", "v1. final", "d.png"],
            "3 other files: 1 .txt, 2 with another suffix or none",
            id="names with dots",
        ),
        pytest.param(
            [*NINE_SUFFIXES, "d.png"],
            "9 other files: 1 .a, 1 .b, 1 .c, 1 .d, 1 .e, 1 .f, 1 .g, 1 .h, 1 with another suffix or none",
            id="many suffixes",
        ),
        pytest.param(["d.png", ".hidden.txt", ".git/config"], "", id="hidden files"),
    ],
)
@pytest.mark.parametrize(
    "path", ["{}", "{}/", "{}*", "{}/*"], ids=["folder", "folder and slash", "pattern of folders", "pattern"]
)
def test_files_that_a_folder_does_not_name_are_counted(
    path: str, names: list[str], summary: str, tmp_path: Path
) -> None:
    others = OtherFiles()
    images = list(find([path.format(folder_of(tmp_path / "images", *names))], others=others))
    assert len(images) == names.count("d.png")
    assert others.summary() == summary


def test_millions_of_suffixes_take_little_memory() -> None:
    others = OtherFiles()
    tracemalloc.start()
    for number in range(20_000):
        others.add(f"frame.{number}")
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 1 << 20
    assert others.summary().startswith("20000 other files: 1 .0, ")


def test_a_run_ends_with_the_number_of_other_files(photo: Path, tmp_path: Path) -> None:
    folder_of(tmp_path, *(f"{name}.txt" for name in range(9)), *(f"{name}.mov" for name in range(3)))
    (tmp_path / "photo.png").write_bytes(photo.read_bytes())
    result = infer(tmp_path)
    assert result.returncode == 0
    assert result.stderr.splitlines()[-1] == "12 other files: 9 .txt, 3 .mov"
    (tmp_path / "photo.png").unlink()
    result = infer(tmp_path)
    assert result.returncode == 2
    assert result.stderr.endswith("; 12 other files: 9 .txt, 3 .mov\n")


def test_a_run_without_other_files_says_nothing_of_them(photo: Path) -> None:
    result = infer(photo)
    assert "other file" not in result.stderr
