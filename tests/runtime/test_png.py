"""PNG: every damaged bit is an error, and transparent values are compared at the depth of the file."""

import os
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
