"""TIFF files give the pixels that the specification defines, or an error that says why they have none."""

import contextlib
import io
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
from cifar10_runtime import ImageError
from cifar10_runtime.images.decode import decode
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.helpers.tiff_files import DEFLATE, LZW, PACKBITS, UNCOMPRESSED, Photometric, tiff

LAYOUTS: dict[str, dict[str, Any]] = {
    "one strip": {},
    "strips": {"rows_per_strip": 5},
    "tiles": {"tiled": True},
    "LZW": {"compression": LZW},
    "deflate": {"compression": DEFLATE},
    "deflate, tiles": {"compression": DEFLATE, "tiled": True},
    "LZW, differences": {"compression": LZW, "predictor": True},
    "PackBits, strips": {"compression": PACKBITS, "rows_per_strip": 16},
    "BigTIFF": {"big": True},
}
ORDERS: dict[str, Literal["<", ">"]] = {"little-endian": "<", "big-endian": ">"}
LAYOUTS_AND_ORDERS = {
    f"{layout}, {order}": (LAYOUTS[layout], ORDERS[order])
    for layout in LAYOUTS
    for order in ORDERS
    if (layout, order) != ("BigTIFF", "big-endian")  # Pillow cannot read it
}
UNSPECIFIED, PREMULTIPLIED, ALPHA = [0], [1], [2]
EXTRA_SAMPLES = 338


def gray(values: np.ndarray) -> np.ndarray:
    return values.repeat(3, axis=2)


def on_white(colors: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    blended: np.ndarray = colors * alpha + 1 - alpha
    return blended


KINDS: dict[str, tuple[Photometric, int, dict[int, list[int]], Callable[[np.ndarray], np.ndarray]]] = {
    "BlackIsZero": (Photometric.BLACK_IS_ZERO, 1, {}, gray),
    "WhiteIsZero": (Photometric.WHITE_IS_ZERO, 1, {}, lambda v: 1 - gray(v)),
    "RGB": (Photometric.RGB, 3, {}, lambda v: v),
    "RGB with a fourth sample": (Photometric.RGB, 4, {EXTRA_SAMPLES: UNSPECIFIED}, lambda v: v[..., :3]),
    "RGB with alpha": (Photometric.RGB, 4, {EXTRA_SAMPLES: ALPHA}, lambda v: on_white(v[..., :3], v[..., 3:])),
    "CMYK": (Photometric.CMYK, 4, {}, lambda v: (1 - v[..., :3]) * (1 - v[..., 3:])),
}
"""By name: photometric interpretation, samples per pixel, more tags, and the colors 0 to 1 of samples 0 to 1."""


@pytest.mark.parametrize("planar", [False, True], ids=["chunky", "planar"])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(("layout", "order"), LAYOUTS_AND_ORDERS.values(), ids=LAYOUTS_AND_ORDERS)
@pytest.mark.parametrize("kind", KINDS)
def test_samples_of_8_and_16_bits_give_their_colors(
    kind: str, layout: dict[str, Any], order: Literal["<", ">"], bits: int, planar: bool
) -> None:
    photometric, count, tags, look = KINDS[kind]
    values = np.random.default_rng(0).integers(0, 1 << bits, (32, 32, count), dtype=f"u{bits // 8}")
    content = tiff(values, photometric, order=order, planar=planar, tags=tags, **layout)
    expected = look(values / ((1 << bits) - 1)) * 255
    np.testing.assert_allclose(decode(content, 32), expected, rtol=0, atol=2)


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("kind", ["BlackIsZero", "WhiteIsZero"])
@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("compression", [UNCOMPRESSED, DEFLATE], ids=["uncompressed", "deflate"])
def test_gray_of_few_bits_is_stretched_to_8_bits(
    compression: int, order: Literal["<", ">"], kind: str, bits: int
) -> None:
    photometric, _, _, look = KINDS[kind]
    values = np.random.default_rng(0).integers(0, 1 << bits, (32, 32, 1), dtype=np.uint8)
    content = tiff(values, photometric, bits=bits, order=order, compression=compression)
    np.testing.assert_allclose(decode(content, 32), look(values / ((1 << bits) - 1)) * 255, rtol=0, atol=0.5)


@pytest.mark.parametrize("compression", [UNCOMPRESSED, DEFLATE], ids=["uncompressed", "deflate"])
def test_gray_of_12_bits_gives_its_upper_8_bits(compression: int) -> None:
    values = np.random.default_rng(0).integers(0, 1 << 12, (32, 32), dtype=np.uint16)
    content = tiff(values, Photometric.BLACK_IS_ZERO, bits=12, compression=compression)
    np.testing.assert_array_equal(decode(content, 32), (values >> 4)[..., None].repeat(3, axis=2))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("planar", [False, True], ids=["chunky", "planar"])
@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("compression", [UNCOMPRESSED, DEFLATE], ids=["uncompressed", "deflate"])
def test_colors_that_are_stored_times_alpha_are_drawn_over_white(
    compression: int, order: Literal["<", ">"], planar: bool, bits: int
) -> None:
    alpha = np.random.default_rng(0).integers(1 << bits - 1, 1 << bits, (32, 32, 1)) / ((1 << bits) - 1)
    colors = np.random.default_rng(1).random((32, 32, 3))
    stored = np.concatenate([colors * alpha, alpha], axis=2) * ((1 << bits) - 1)
    values = stored.round().astype(f"u{bits // 8}")
    tags = {EXTRA_SAMPLES: PREMULTIPLIED}
    content = tiff(values, Photometric.RGB, order=order, planar=planar, tags=tags, compression=compression)
    np.testing.assert_allclose(decode(content, 32), on_white(colors, alpha) * 255, rtol=0, atol=3)


@pytest.mark.parametrize("kind", [ALPHA, PREMULTIPLIED], ids=["alpha", "gray times alpha"])
def test_gray_with_alpha_is_drawn_over_white(kind: list[int]) -> None:
    values = np.empty((32, 32, 2), np.uint8)
    values[...] = (60, 102) if kind == PREMULTIPLIED else (150, 102)
    content = tiff(values, Photometric.BLACK_IS_ZERO, tags={EXTRA_SAMPLES: kind})
    np.testing.assert_allclose(decode(content, 32), 150 * 0.4 + 255 * 0.6, rtol=0, atol=1)


@pytest.mark.parametrize("factor", [257, 1], ids=["16 bits", "8 bits"])
@pytest.mark.parametrize("compression", [UNCOMPRESSED, DEFLATE], ids=["uncompressed", "deflate"])
def test_a_palette_gives_its_colors(compression: int, factor: int) -> None:
    """A palette has 16 bits; some programs write 8, which libtiff's own viewer accepts if all values are below 256."""
    random = np.random.default_rng(0)
    values, palette = random.integers(0, 256, (32, 32), dtype=np.uint8), random.integers(0, 256, (256, 3))
    tags = {320: [factor * int(value) for value in palette.T.reshape(-1)]}
    content = tiff(values, Photometric.PALETTE, tags=tags, compression=compression)
    np.testing.assert_array_equal(decode(content, 32), palette[values])


@pytest.mark.parametrize("compression", [UNCOMPRESSED, DEFLATE], ids=["uncompressed", "deflate"])
def test_ycbcr_with_fewer_chroma_samples_gives_its_colors(compression: int) -> None:
    """Each unit is a block of 2 x 2 pixels: four Y, one Cb, one Cr (TIFF 6.0, section 21)."""
    y, cb, cr = 130, 90, 200
    units = np.empty((16, 16, 6), np.uint8)
    units[...] = (y, y, y, y, cb, cr)
    tags = {256: [32], 257: [32], 258: [8, 8, 8], 277: [3], 278: [32], 339: [1, 1, 1]}
    content = tiff(units.reshape(16, 96), Photometric.YCBCR, compression=compression, tags=tags)
    expected = (y + 1.402 * (cr - 128), y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128), y + 1.772 * (cb - 128))
    np.testing.assert_allclose(decode(content, 32), np.broadcast_to(expected, (32, 32, 3)), rtol=0, atol=2)


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("count", [1, 3], ids=["gray", "RGB"])
@pytest.mark.parametrize("compression", [UNCOMPRESSED, DEFLATE], ids=["uncompressed", "deflate"])
@pytest.mark.parametrize(
    ("dtype", "message"),
    [
        ("i1", "8-bit signed integers"),
        ("i2", "16-bit signed integers"),
        ("i4", "32-bit signed integers"),
        ("u4", "32-bit unsigned integers"),
        ("u8", "64-bit unsigned integers"),
        ("f2", "16-bit floating-point numbers"),
        ("f4", "32-bit floating-point numbers"),
        ("f8", "64-bit floating-point numbers"),
        ("c8", "64-bit complex floating-point numbers"),
    ],
)
def test_numbers_without_a_white_are_an_error_that_says_so(
    dtype: str, message: str, compression: int, count: int, order: Literal["<", ">"]
) -> None:
    photometric = Photometric.BLACK_IS_ZERO if count == 1 else Photometric.RGB
    content = tiff(np.ones((32, 32, count), dtype), photometric, order=order, compression=compression)
    with pytest.raises(ImageError, match=f"^{message}: the file does not say which value is white; convert"):
        decode(content, 32)


@pytest.mark.parametrize(
    ("dtype", "count", "photometric", "options"),
    [
        pytest.param("u2", 3, Photometric.CIELAB, {}, id="16-bit LAB"),
        pytest.param("u1", 3, Photometric.CIELAB, {"planar": True}, id="planar LAB"),
        pytest.param("u2", 1, Photometric.PALETTE, {"tags": {320: [0] * 3 * 65535}}, id="palette of 65,536 colors"),
        pytest.param("u2", 2, Photometric.BLACK_IS_ZERO, {"tags": {EXTRA_SAMPLES: ALPHA}}, id="16-bit gray with alpha"),
        pytest.param(
            "u1", 2, Photometric.BLACK_IS_ZERO, {"planar": True, "tags": {EXTRA_SAMPLES: ALPHA}}, id="planar alpha"
        ),
        pytest.param("u2", 1, Photometric.BLACK_IS_ZERO, {"bits": 14}, id="14 bits"),
        pytest.param("u2", 3, Photometric.RGB, {"bits": 12}, id="12-bit RGB"),
        pytest.param("u2", 1, Photometric.WHITE_IS_ZERO, {"order": ">", "tags": {266: [2]}}, id="low bits first"),
        pytest.param("u1", 1, Photometric.BLACK_IS_ZERO, {"tags": {259: [34712]}}, id="JPEG 2000"),
    ],
)
def test_a_rare_kind_of_tiff_is_an_error_that_names_the_kind(
    dtype: str, count: int, photometric: Photometric, options: dict[str, Any]
) -> None:
    content = tiff(np.zeros((32, 32, count), dtype), photometric, **options)
    with pytest.raises(ImageError, match=f"one of a rare kind .*photometric interpretation {photometric}.*: convert"):
        decode(content, 32)


def test_a_big_endian_bigtiff_is_an_error_that_says_so() -> None:
    content = tiff(np.zeros((32, 32), np.uint8), Photometric.BLACK_IS_ZERO, order=">", big=True)
    with pytest.raises(ImageError, match="big-endian BigTIFF"):
        decode(content, 32)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@given(data=st.data())
def test_a_damaged_tiff_is_an_error_or_an_image(data: st.DataObject) -> None:
    """The file is cut off, or one byte is changed."""
    dtype = data.draw(st.sampled_from(["u1", "u2", "i2", "f4"]))
    options = {"order": data.draw(st.sampled_from("<>")), **data.draw(st.sampled_from(list(LAYOUTS.values())))}
    content = bytearray(tiff(np.ones((32, 32, 3), dtype), Photometric.RGB, **options))
    position = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        del content[position:]
    else:
        content[position] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(ImageError):
        assert decode(bytes(content), 32).shape == (32, 32, 3)


def test_of_several_pages_the_first_is_read() -> None:
    pages = [Image.new("I;16", (32, 32), value) for value in (0x4000, 0x8000)]
    pages[0].save(file := io.BytesIO(), "TIFF", save_all=True, append_images=pages[1:])
    assert (decode(file.getvalue(), 32) == 0x40).all()
