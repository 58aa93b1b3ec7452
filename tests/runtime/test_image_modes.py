"""Each Pillow mode in each EXIF orientation and extreme sizes, compared with pixels computed without Pillow."""

import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cifar10_runtime import ImageError
from cifar10_runtime.images.decode import decode
from cifar10_runtime.images.read import MAX_IN_MEMORY
from numpy.typing import NDArray
from PIL import Image

from tests.helpers.icc_profiles import DISPLAY_P3, RgbSpace
from tests.helpers.image_files import STORED

Array = NDArray[np.float64]

SIZES = [(1, 1), (1, 5000), (32, 32), (5000, 3)]
"""Width and height of the upright image."""


def gray(values: Array) -> Array:
    return np.repeat(values[..., None], 3, axis=2)


def on_white(colors: Array, alpha: Array) -> Array:
    return (colors * alpha + 255 * (255 - alpha)) / 255


def from_ycbcr(values: Array) -> Array:
    """The conversion that JFIF defines."""
    y, cb, cr = values[..., 0], values[..., 1] - 128, values[..., 2] - 128
    rgb = np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], axis=2)
    return rgb.clip(0, 255)


def opaque(_: Array) -> Array:
    return np.array(255.0)


PALETTE = np.random.default_rng(1).integers(0, 256, (256, 3))

EXPECTED: dict[str, tuple[str, int, Callable[[Array], Array], Callable[[Array], Array]]] = {
    "1": ("png", 1, lambda v: gray(np.where(v > 127, 255.0, 0.0)), opaque),
    "L": ("png", 1, gray, opaque),
    "P": ("png", 1, lambda v: PALETTE[v.astype(int)].astype(float), opaque),
    "RGB": ("png", 3, lambda v: v, opaque),
    "RGBX": ("tif", 4, lambda v: v[..., :3], opaque),
    "RGBA": ("png", 4, lambda v: v[..., :3], lambda v: v[..., 3:]),
    "LA": ("png", 2, lambda v: gray(v[..., 0]), lambda v: v[..., 1:]),
    "PA": ("tif", 2, lambda v: PALETTE[v[..., 0].astype(int)].astype(float), lambda v: v[..., 1:]),
    "CMYK": ("tif", 4, lambda v: (255 - v[..., :3]) * (255 - v[..., 3:]) / 255, opaque),
    "YCbCr": ("tif", 3, from_ycbcr, opaque),
    "I;16": ("png", 16, lambda v: gray(np.floor(v / 256)), opaque),
    "I;16L": ("tif", 16, lambda v: gray(np.floor(v / 256)), opaque),
    "I;16B": ("tif", 16, lambda v: gray(np.floor(v / 256)), opaque),
}
"""By mode: the suffix of its file, its bands (16 means one band of 16 bits), the RGB and the alpha of stored values."""
READ_AS = {"RGBX": "RGB", "I;16L": "I;16", "YCbCr": "RGB"}
"""Modes that have another name once Pillow reads the file."""
REFUSED = ("I", "F")
"""Modes without a defined white."""
IN_MEMORY = {"HSV", "La", "RGBa", "I;16N"}
"""Modes that no file format has."""


def test_every_mode_of_pillow_is_tested() -> None:
    assert set(Image.MODES) - IN_MEMORY == EXPECTED.keys() | {*REFUSED, "LAB"}


def picture(mode: str, values: np.ndarray) -> Image.Image:
    """Return an image with the stored ``values`` [H, W] or [H, W, bands]."""
    if mode == "1":
        return Image.fromarray(values > 127)
    if mode.startswith("I;16"):
        kind = ">u2" if mode.endswith("B") else "<u2"
        return Image.frombytes(mode, values.shape[1::-1], np.ascontiguousarray(values.astype(kind)).tobytes())
    if mode in ("P", "PA"):
        index = Image.frombytes(
            "P", values.shape[1::-1], np.ascontiguousarray(values[..., :1] if mode == "PA" else values)
        )
        index.putpalette(PALETTE.astype(np.uint8).tobytes())
        if mode == "P":
            return index
        index = index.convert("PA")
        index.putalpha(Image.fromarray(np.ascontiguousarray(values[..., 1])))
        return index
    return Image.frombytes(mode, values.shape[1::-1], np.ascontiguousarray(values).tobytes())


def random_values(mode: str, width: int, height: int) -> np.ndarray:
    bands = EXPECTED[mode][1]
    random = np.random.default_rng(width + height)
    if bands == 16:
        return random.integers(0, 1 << 16, (height, width), dtype=np.uint16)
    return random.integers(0, 256, (height, width) if bands == 1 else (height, width, bands), dtype=np.uint8)


def middle(pixels: Array) -> Array:
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top : top + side, left : left + side]


def enlarge(pixels: Array, size: int) -> Array:
    """Keys' cubic convolution with a = -0.5; weights beyond the border are dropped, and the rest is scaled to sum 1."""
    side = len(pixels)
    distance = np.abs((np.arange(size)[:, None] + 0.5) * side / size - 0.5 - np.arange(side)[None, :])
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    weights = np.where(distance < 1, near, np.where(distance < 2, far, 0))
    weights /= weights.sum(axis=1, keepdims=True)
    columns = np.einsum("oi,hic->hoc", weights, pixels).clip(0, 255)
    both: Array = np.einsum("oi,iwc->owc", weights, columns).clip(0, 255)
    return both


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", EXPECTED)
@pytest.mark.parametrize("space", [None, DISPLAY_P3], ids=["no profile", "Display P3"])
def test_every_mode_orientation_and_size_gives_the_expected_pixels(
    tmp_path: Path, mode: str, orientation: int, space: RgbSpace | None
) -> None:
    suffix, _, colors_of, alpha_of = EXPECTED[mode]
    exif = Image.Exif()
    exif[0x0112] = orientation
    profile: dict[str, Any] = {"icc_profile": space.profile()} if space else {}
    for width, height in SIZES:
        upright = random_values(mode, width, height)
        path = tmp_path / f"{width}x{height}.{suffix}"
        picture(mode, STORED[orientation](upright)).save(path, exif=exif, **profile)
        with Image.open(path) as stored:
            assert stored.mode == READ_AS.get(mode, mode)
        colors, alpha = colors_of(upright.astype(float)), alpha_of(upright.astype(float))
        if space and mode != "CMYK":  # a profile of RGB does not describe inks
            colors = space.to_srgb(colors)
        expected = enlarge(middle(on_white(colors, alpha)), 32)
        np.testing.assert_allclose(decode(str(path), 32), expected, rtol=0, atol=4 if space else 2)


@pytest.mark.parametrize("mode", REFUSED)
def test_a_32_bit_mode_is_an_error(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (32, 32)).save(tmp_path / "image.tif")
    with pytest.raises(ImageError, match="32-bit"):
        decode(str(tmp_path / "image.tif"), 32)


@pytest.mark.parametrize(
    ("lab", "rgb"),
    [((54.29, 80.81, 69.89), (255, 0, 0)), ((87.82, -79.27, 80.99), (0, 255, 0)), ((29.57, 68.3, -112), (0, 0, 255))],
    ids=["red", "green", "blue"],
)
def test_lab_values_of_the_srgb_primaries_give_the_primaries(
    tmp_path: Path, lab: tuple[float, ...], rgb: tuple[int, ...]
) -> None:
    """LAB for illuminant D50, as in ICC profiles; at the edge of the gamut, rounding to 8 bits changes much."""
    stored = (round(lab[0] * 2.55), round(lab[1] + 128), round(lab[2] + 128))
    Image.new("LAB", (32, 32), stored).save(tmp_path / "image.tif")
    decoded = decode(str(tmp_path / "image.tif"), 32)
    np.testing.assert_allclose(decoded, np.broadcast_to(rgb, (32, 32, 3)), rtol=0, atol=30)


@pytest.mark.parametrize("background", ["white", "black", "#204060"])
def test_transparent_pixels_show_the_background(tmp_path: Path, background: str) -> None:
    color = {"white": (255, 255, 255), "black": (0, 0, 0), "#204060": (0x20, 0x40, 0x60)}[background]
    Image.new("RGBA", (40, 32), (200, 100, 0, 51)).save(tmp_path / "image.png")
    expected = [(51 * shown + 204 * behind) / 255 for shown, behind in zip((200, 100, 0), color, strict=True)]
    decoded = decode(str(tmp_path / "image.png"), 32, background)
    np.testing.assert_allclose(decoded, np.broadcast_to(expected, (32, 32, 3)), rtol=0, atol=1)


def test_a_transparent_16_bit_value_shows_the_background(tmp_path: Path) -> None:
    values = np.full((32, 32), 0x4000, np.uint16)
    values[:16] = 0x8001
    Image.fromarray(values).save(tmp_path / "image.png", transparency=0x8001)
    decoded = decode(str(tmp_path / "image.png"), 32)
    assert (decoded[:16] == 255).all()
    assert (decoded[16:] == 0x40).all()


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_an_animation_gives_its_first_frame(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (32, 32), color) for color in ("red", "lime", "blue")]
    frames[0].save(tmp_path / f"image.{suffix}", save_all=True, append_images=frames[1:], lossless=True)
    decoded = decode(str(tmp_path / f"image.{suffix}"), 32)
    np.testing.assert_allclose(decoded, np.broadcast_to((255, 0, 0), (32, 32, 3)), rtol=0, atol=2)


@pytest.mark.parametrize("suffix", ["bmp", "gif", "jpg", "png", "tif", "webp"])
def test_an_image_with_too_many_pixels_is_an_error(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"image.{suffix}"
    Image.new("RGB", (100, 101)).save(path)
    assert decode(str(path), 32, max_pixels=10_100).shape == (32, 32, 3)
    with pytest.raises(ImageError, match="100 x 101 pixels are more than 10099"):
        decode(str(path), 32, max_pixels=10_099)


def test_a_decompression_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    """A PNG of a few bytes that claims 60,000 x 60,000 pixels."""
    Image.new("1", (8, 8)).save(tmp_path / "bomb.png")
    content = bytearray((tmp_path / "bomb.png").read_bytes())
    content[16:24] = (60_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    (tmp_path / "bomb.png").write_bytes(content)
    with pytest.raises(ImageError, match="pixels"):
        decode(str(tmp_path / "bomb.png"), 32)


def test_a_truncated_file_is_an_error(tmp_path: Path) -> None:
    """Each format, cut off at nine places."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    for suffix in ("bmp", "gif", "jpg", "png", "tif", "webp"):
        whole = tmp_path / f"whole.{suffix}"
        noise.save(whole)
        decode(str(whole), 32)
        content = whole.read_bytes()
        for tenths in range(1, 10):
            (tmp_path / f"part.{suffix}").write_bytes(content[: len(content) * tenths // 10])
            with pytest.raises(ImageError):
                decode(str(tmp_path / f"part.{suffix}"), 32)


def test_a_large_file_gives_the_pixels_of_a_small_one(tmp_path: Path) -> None:
    """Pillow reads the large file piece by piece and ignores the bytes after the end of the image."""
    path = tmp_path / "image.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)).save(path)
    expected = decode(str(path), 32)
    os.truncate(path, MAX_IN_MEMORY + 1)  # a sparse file
    assert (decode(str(path), 32) == expected).all()
