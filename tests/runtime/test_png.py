"""PNG: every damaged bit is an error, and transparent values are compared at the depth of the file."""

import os
import zlib
from pathlib import Path

import numpy as np
import pytest
from cifar10_runtime import ImageError
from cifar10_runtime.images.decode import decode
from cifar10_runtime.images.read import MAX_IN_MEMORY

from tests.helpers import png_cases
from tests.helpers.png_cases import Pixels

OPAQUE = png_cases.opaque_files()


@pytest.mark.parametrize(("content", "pixels"), OPAQUE.values(), ids=OPAQUE)
def test_a_whole_file_gives_its_pixels_with_and_without_bytes_after_the_end(content: bytes, pixels: Pixels) -> None:
    np.testing.assert_array_equal(decode(content, 32), pixels)
    np.testing.assert_array_equal(decode(content + bytes(300), 32), pixels)


@pytest.mark.parametrize("content", [content for content, _ in OPAQUE.values()], ids=OPAQUE)
def test_every_flipped_bit_is_an_error(content: bytes) -> None:
    """One bit of each byte, in turn the lowest, the next one and so on."""
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        with pytest.raises(ImageError):
            decode(bytes(damaged), 32)


def test_a_flipped_bit_in_a_file_that_is_read_piece_by_piece_is_an_error(tmp_path: Path) -> None:
    content, pixels = OPAQUE["RGB"]
    damaged = bytearray(content)
    damaged[len(content) // 2] ^= 1
    for name, data in (("whole.png", content), ("damaged.png", bytes(damaged))):
        (tmp_path / name).write_bytes(data)
        os.truncate(tmp_path / name, MAX_IN_MEMORY + 1)  # a sparse file
    np.testing.assert_array_equal(decode(str(tmp_path / "whole.png"), 32), pixels)
    with pytest.raises(ImageError, match="damaged PNG: wrong checksum of the chunk IDAT"):
        decode(str(tmp_path / "damaged.png"), 32)


def test_a_file_that_is_cut_anywhere_is_an_error() -> None:
    content = OPAQUE["RGB"][0]
    for end in range(8, len(content)):
        with pytest.raises(ImageError, match="truncated PNG"):
            decode(content[:end], 32)


@pytest.mark.parametrize(
    ("content", "pixels"),
    [pytest.param(*case, id=name) for name, *case in png_cases.transparent_grays()],
)
def test_a_transparent_gray_value_shows_the_background(content: bytes, pixels: Pixels) -> None:
    np.testing.assert_array_equal(decode(content, 32), pixels)


@pytest.mark.parametrize(
    ("content", "pixels"),
    [pytest.param(*case, id=name) for name, *case in png_cases.transparent_colors()],
)
def test_only_the_exact_transparent_color_shows_the_background(content: bytes, pixels: Pixels) -> None:
    np.testing.assert_array_equal(decode(content, 32), pixels)


@pytest.mark.parametrize("interlaced", [False, True], ids=["rows", "passes"])
@pytest.mark.parametrize(("depth", "color", "channels"), [(8, 0, 1), (8, 2, 3), (8, 6, 4), (16, 2, 3), (4, 0, 1)])
def test_missing_rows_are_an_error_also_where_the_data_end_with_a_row(
    depth: int, color: int, channels: int, interlaced: bool
) -> None:
    """All checksums are right, and the chunk IEND is there."""
    values = np.random.default_rng(0).integers(0, 1 << depth, (32, 32, channels), dtype=np.uint16)
    whole = png_cases.png(values, depth, color, interlaced=interlaced)
    decode(whole, 32)
    start = whole.index(b"IDAT")
    rows = zlib.decompress(whole[start + 4 : -16])
    row = 1 + 32 * channels * depth // 8
    for size in (row, 16 * row, 31 * row, len(rows) - 1):
        cut = whole[: start - 4] + png_cases.chunk(b"IDAT", zlib.compress(rows[:size])) + png_cases.chunk(b"IEND", b"")
        with pytest.raises(ImageError):
            decode(cut, 32)


@pytest.mark.parametrize("keyword", ["transparency", "xmp", "exif", "bbox", "interlace", "icc_profile", "gamma"])
@pytest.mark.parametrize("color", [2, 6])
def test_a_text_with_any_keyword_changes_no_pixel(keyword: str, color: int) -> None:
    """Pillow stores texts beside what it reads from other chunks."""
    values = np.full((32, 32, 4), 255, np.uint8)
    values[..., :3] = png_cases.PICTURE
    texts = [png_cases.chunk(b"tEXt", f"{keyword}\0hello".encode()), png_cases.chunk(b"tEXt", b"Author\0me")]
    content = png_cases.png(values[..., : 3 + (color == 6)], 8, color, *texts)
    np.testing.assert_array_equal(decode(content, 32), png_cases.PICTURE)


def test_a_color_profile_above_1_mib_is_read() -> None:
    profile = zlib.compress(bytes(2 << 20))  # damaged, so it is ignored
    content = png_cases.png(png_cases.PICTURE, 8, 2, png_cases.chunk(b"iCCP", b"name\0\0" + profile))
    np.testing.assert_array_equal(decode(content, 32), png_cases.PICTURE)


@pytest.mark.parametrize("exif", [b"", bytes(8), b"XX*\0garbage", b"II*\0\xff\xff\xff\xff"])
def test_damaged_exif_metadata_are_ignored(exif: bytes) -> None:
    content = png_cases.png(png_cases.PICTURE, 8, 2, png_cases.chunk(b"eXIf", exif))
    np.testing.assert_array_equal(decode(content, 32), png_cases.PICTURE)


def test_the_orientation_in_xmp_is_applied() -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"><a tiff:Orientation="3"/>'
    text = png_cases.chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)
    np.testing.assert_array_equal(
        decode(png_cases.png(png_cases.PICTURE, 8, 2, text), 32), png_cases.PICTURE[::-1, ::-1]
    )
