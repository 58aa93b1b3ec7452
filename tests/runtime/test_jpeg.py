"""JPEG: whole files of every kind give their pixels, files that lost data are errors, harmless faults are accepted."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from cifar10_runtime import ImageError
from cifar10_runtime.images import jpeg
from cifar10_runtime.images.decode import crop_and_resize, decode
from cifar10_runtime.images.read import MAX_IN_MEMORY
from PIL import Image

from tests.helpers import jpeg_cases
from tests.helpers.image_files import STORED
from tests.helpers.jpeg_cases import encode, scene

SIZE = 32
WHOLE = {
    "baseline": encode(scene(0)),
    "progressive": encode(scene(0), progressive=True),
    "optimized": encode(scene(0), optimize=True),
    "restart markers": encode(scene(0), restart_marker_rows=2),
    "quality 98": encode(scene(0), quality=98, subsampling=0),
    "gray": encode(scene(0).convert("L")),
    "CMYK": encode(scene(0).convert("CMYK")),
}


def decoded_by_pillow(content: bytes, size: int = SIZE) -> np.ndarray:
    """Return what a decoder gives that ignores damage, reduced to the same scale."""
    with Image.open(io.BytesIO(content)) as image:
        image.draft(None, (4 * size, 4 * size))
        return np.asarray(crop_and_resize(image.convert("RGB"), size))


def share_that_differs(content: bytes, whole: bytes) -> float:
    """Return the share of full-size pixels that differ by more than 8 from those of the whole file."""
    with Image.open(io.BytesIO(content)) as damaged, Image.open(io.BytesIO(whole)) as original:
        difference = np.abs(np.asarray(damaged.convert("RGB"), int) - np.asarray(original.convert("RGB"), int))
    return float((difference.max(axis=2) > 8).mean())


@pytest.mark.parametrize("options", [pytest.param(options, id=name) for name, options in jpeg_cases.encodings()])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_every_kind_of_file_gives_the_pixels_of_pillow(mode: str, options: dict[str, object]) -> None:
    """At 1/1, 1/2 and 1/4 of the size; simplejpeg does not know most sampling factors of CMYK, which are rare."""
    content = encode(scene(1, 333, 271).convert(mode), **options)
    for size in (64, 32, 16):
        np.testing.assert_allclose(decode(content, size), decoded_by_pillow(content, size), rtol=0, atol=2)


@pytest.mark.parametrize(
    "factors",
    [
        pytest.param(((1, 1), (1, 1), (1, 1)), id="4:4:4"),
        pytest.param(((2, 1), (1, 1), (1, 1)), id="4:2:2"),
        pytest.param(((2, 2), (1, 1), (1, 1)), id="4:2:0"),
        pytest.param(((1, 2), (1, 1), (1, 1)), id="4:4:0"),
        pytest.param(((4, 1), (1, 1), (1, 1)), id="4:1:1"),
        pytest.param(((4, 2), (1, 1), (1, 1)), id="4:1:0"),
        pytest.param(((2, 2), (1, 2), (1, 2)), id="4:2:2 as 2x2 and 1x2"),
        pytest.param(((2, 2), (2, 1), (1, 2)), id="different factors of Cb and Cr"),
        pytest.param(((1, 4), (1, 1), (1, 1)), id="1x4"),
    ],
)
@pytest.mark.parametrize(
    "scans",
    [
        pytest.param([(0, 1, 2)], id="one scan"),
        pytest.param([(0,), (1,), (2,)], id="a scan per component"),
        pytest.param([(0,), (1, 2)], id="two scans"),
    ],
)
def test_every_subsampling_gives_the_pixels_of_the_formula(
    factors: list[tuple[int, int]], scans: list[tuple[int, ...]]
) -> None:
    gray = np.random.default_rng(0).integers(60, 200, (8, 8))
    content, pixels = jpeg_cases.flat_blocks(gray, factors, scans=scans)
    np.testing.assert_allclose(decode(content, 64), pixels.clip(0, 255), rtol=0, atol=2)
    if len(scans) > 1:
        without_last, _ = jpeg_cases.flat_blocks(gray, factors, scans=scans[:-1])
        with pytest.raises(ImageError, match="damaged JPEG: scans are missing at the end"):
            decode(without_last, 64)


@pytest.mark.parametrize("name", [name for name in WHOLE if name != "CMYK"])  # which has no JFIF marker
def test_a_harmless_fault_does_not_change_the_pixels(name: str) -> None:
    expected = decode(WHOLE[name], SIZE)
    for fault, content in jpeg_cases.harmless_faults(WHOLE[name]):
        np.testing.assert_array_equal(decode(content, SIZE), expected, err_msg=fault)


def test_an_unknown_color_transform_of_adobe_is_taken_as_the_usual_one() -> None:
    content = encode(scene(0), quality=90)
    marker = jpeg_cases.segment(0xEE, b"Adobe" + bytes((0, 100, 0, 0, 0, 0, 7)))
    without_jfif = content[:2] + content[20:]
    np.testing.assert_array_equal(decode(content[:2] + marker + without_jfif[2:], SIZE), decode(content, SIZE))


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_that_lost_data_is_an_error(name: str) -> None:
    """A few losses cannot be noticed, because JPEG has no checksum; they change almost nothing in the picture."""
    whole, refused = WHOLE[name], 0
    for seed in range(12):
        for fault, content in jpeg_cases.damaged_files(whole, np.random.default_rng(seed)):
            try:
                decode(content, SIZE)
            except ImageError:
                refused += 1
            else:
                assert share_that_differs(content, whole) <= 0.01, fault
    assert refused >= 90


def test_a_progressive_file_without_its_last_scans_is_an_error() -> None:
    content = WHOLE["progressive"]
    for start in jpeg_cases.scan_starts(content)[1:]:
        tables = content.rindex(b"\xff\xc4", 0, start)  # the Huffman table of this scan
        for end in (start, tables):
            with pytest.raises(ImageError, match="scans are missing at the end"):
                decode(content[:end] + jpeg_cases.END, SIZE)


def test_long_runs_of_zeros_are_accepted_where_they_are_data() -> None:
    """A white page, for which an optimized Huffman table has codes of one or two zero bits."""
    page = Image.new("RGB", (2000, 2000), "white")
    for options in ({"optimize": True}, {"progressive": True}):
        content = encode(page, **options)
        assert bytes(64) in content
        assert (decode(content, SIZE) == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("width", "height"), [(40, 30), (1200, 900)], ids=["small", "reduced"])
def test_every_orientation_turns_the_image_upright(orientation: int, width: int, height: int) -> None:
    upright = scene(2, width, height)
    turned = Image.fromarray(STORED[orientation](np.asarray(upright)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    expected = np.asarray(crop_and_resize(upright, SIZE)).astype(int)
    decoded = decode(encode(turned, quality=95, subsampling=0, exif=exif), SIZE)
    assert np.abs(decoded - expected).mean() < 3


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("exif", [b"", b"no TIFF header", b"MM\0*\0\0\0\x08\0\x09\x01"], ids=["empty", "text", "cut"])
def test_damaged_exif_metadata_are_ignored(exif: bytes) -> None:
    whole = WHOLE["baseline"]
    content = whole[:2] + jpeg_cases.segment(0xE1, b"Exif\0\0" + exif) + whole[2:]
    np.testing.assert_array_equal(decode(content, SIZE), decode(whole, SIZE))


def test_the_orientation_in_xmp_metadata_turns_the_image() -> None:
    whole = WHOLE["baseline"]
    xmp = b'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="3"/>'
    turned = decode(whole[:2] + jpeg_cases.segment(0xE1, xmp) + whole[2:], SIZE)
    np.testing.assert_allclose(turned, decode(whole, SIZE)[::-1, ::-1], rtol=0, atol=1)


def test_an_image_with_12_bits_per_sample_is_an_error() -> None:
    content = bytearray(WHOLE["baseline"])
    content[content.index(b"\xff\xc0") + 4] = 12
    with pytest.raises(ImageError, match="a JPEG with 12 bits per sample: convert the image to 8 bits"):
        decode(bytes(content), SIZE)


def test_the_reduced_size_counts_as_the_number_of_pixels() -> None:
    assert decode(WHOLE["baseline"], SIZE, max_pixels=200 * 150).shape == (SIZE, SIZE, 3)
    with pytest.raises(ImageError, match="200 x 150 pixels are more than 29999"):
        decode(WHOLE["baseline"], SIZE, max_pixels=200 * 150 - 1)


def test_a_large_file_is_read_to_the_end_of_its_image(tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    path.write_bytes(WHOLE["baseline"])
    os.truncate(path, MAX_IN_MEMORY + 1)  # a sparse file
    np.testing.assert_array_equal(decode(str(path), SIZE), decode(WHOLE["baseline"], SIZE))


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        pytest.param(((1, 2), (2, 2)), b"abcd", id="two parts"),
        pytest.param(((2, 2), (1, 2)), b"cdab", id="two parts in reverse order"),
        pytest.param(((1, 3), (2, 3)), b"", id="a missing part"),
        pytest.param((), b"", id="no profile"),
    ],
)
def test_the_parts_of_a_color_profile_are_joined_by_number(
    numbers: tuple[tuple[int, int], ...], expected: bytes
) -> None:
    parts = (
        jpeg_cases.segment(0xE2, b"ICC_PROFILE\0" + bytes(n) + d) for n, d in zip(numbers, (b"ab", b"cd"), strict=False)
    )
    content = WHOLE["baseline"][:2] + b"".join(parts) + WHOLE["baseline"][2:]
    assert jpeg.icc_profile(content, jpeg.read_header(content)) == expected
