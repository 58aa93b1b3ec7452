"""Color profiles: pixels are converted to sRGB by the formulas of the color spaces."""

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cifar10_runtime import Classifier
from cifar10_runtime.images.color import needs_conversion, to_srgb
from cifar10_runtime.images.decode import decode
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from tests.helpers.icc_profiles import (
    ADOBE_RGB,
    DISPLAY_P3,
    PROPHOTO,
    SRGB,
    RgbSpace,
    cmyk_profile,
    dull_inks,
    gray_profile,
    gray_to_srgb,
    lab_to_srgb,
)
from tests.helpers.image_files import picture

SPACES = {"Adobe RGB": ADOBE_RGB, "Display P3": DISPLAY_P3, "ProPhoto RGB": PROPHOTO}
ALL_COLORS = np.stack(np.meshgrid(*[np.arange(0, 256, 8, dtype=np.uint8)] * 3), axis=-1).reshape(32, 32, 32, 3)
"""32 images of 32 x 32 pixels with 32,768 colors."""


def encode(image: Image.Image, pillow_format: str, **options: Any) -> bytes:
    image.save(file := io.BytesIO(), pillow_format, **options)
    return file.getvalue()


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_all_colors_are_converted_by_the_formulas_of_the_space(space: RgbSpace) -> None:
    for pixels in ALL_COLORS:
        expected = space.to_srgb(pixels)
        np.testing.assert_allclose(to_srgb(pixels, space.profile()), expected, rtol=0, atol=2)


def test_a_profile_of_srgb_changes_nothing() -> None:
    """The curves are a formula, or a table as in the profile that most cameras write; or there is no profile."""
    with_table = RgbSpace(SRGB.primaries, table=1024).profile()
    made_by_littlecms = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (SRGB.profile(), with_table, made_by_littlecms, None, b""):
        assert not needs_conversion(profile)
        np.testing.assert_array_equal(to_srgb(ALL_COLORS[7], profile), ALL_COLORS[7])


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda profile: profile[:200], id="truncated"),
        pytest.param(lambda profile: profile[:4], id="four bytes"),
        pytest.param(lambda profile: profile.replace(b"acsp", b"abcd"), id="another signature"),
        pytest.param(lambda profile: profile.replace(b"para", b"what"), id="unknown curves"),
        pytest.param(lambda profile: profile.replace(b"RGB ", b"CMYK"), id="for other colors"),
        pytest.param(lambda profile: b"no profile" + profile[10:], id="another header"),
    ],
)
def test_a_damaged_profile_is_ignored(damage: Callable[[bytes], bytes]) -> None:
    image = Image.fromarray(ALL_COLORS[20])
    for pillow_format in ("PNG", "TIFF"):
        content = encode(image, pillow_format, icc_profile=damage(ADOBE_RGB.profile()))
        np.testing.assert_array_equal(decode(content, 32), ALL_COLORS[20])


LOSSLESS: dict[str, dict[str, Any]] = {"PNG": {}, "TIFF": {}, "WEBP": {"lossless": True, "exact": True}}


@pytest.mark.parametrize("pillow_format", LOSSLESS)
@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_the_profile_in_a_file_is_applied(space: RgbSpace, pillow_format: str) -> None:
    image = Image.fromarray(ALL_COLORS[11])
    content = encode(image, pillow_format, icc_profile=space.profile(), **LOSSLESS[pillow_format])
    np.testing.assert_allclose(decode(content, 32), space.to_srgb(ALL_COLORS[11]), rtol=0, atol=2)


@pytest.mark.parametrize("size", [32, 500], ids=["whole", "reduced"])
@pytest.mark.parametrize("padding", [0, 70_000], ids=["one segment", "two segments"])
def test_the_profile_of_a_jpeg_is_applied(size: int, padding: int) -> None:
    """A profile of more than 64 KiB is in several segments; a large JPEG is decoded at a reduced size."""
    profile = DISPLAY_P3.profile() + bytes(padding)
    profile = struct.pack(">I", len(profile)) + profile[4:]
    content = encode(Image.new("RGB", (size, size), (200, 40, 90)), "JPEG", quality=100, icc_profile=profile)
    expected = np.broadcast_to(DISPLAY_P3.to_srgb(np.array([200, 40, 90])), (32, 32, 3))
    np.testing.assert_allclose(decode(content, 32), expected, rtol=0, atol=3)


@pytest.mark.parametrize("size", [32, 500], ids=["whole", "reduced"])
def test_a_profile_of_srgb_changes_no_pixel(size: int) -> None:
    image = picture(size, size, "RGB")
    plain = decode(encode(image, "JPEG"), 32)
    np.testing.assert_array_equal(decode(encode(image, "JPEG", icc_profile=SRGB.profile()), 32), plain)
    assert not np.array_equal(decode(encode(image, "JPEG", icc_profile=DISPLAY_P3.profile()), 32), plain)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "I;16"])
def test_a_profile_of_gray_is_applied_to_gray_pixels(mode: str) -> None:
    values = np.arange(1024).reshape(32, 32) // 4
    wide, narrow = (257 * values).astype(np.uint16), values.astype(np.uint8)
    image = Image.fromarray(wide) if mode == "I;16" else Image.fromarray(narrow).convert(mode)
    content = encode(image, "PNG", icc_profile=gray_profile(1.8))
    expected = gray_to_srgb(values, 1.8)[..., None].repeat(3, axis=2)
    np.testing.assert_allclose(decode(content, 32), expected, rtol=0, atol=1.5)


def test_a_profile_of_gray_is_ignored_in_a_colored_image() -> None:
    content = encode(Image.fromarray(ALL_COLORS[3]), "PNG", icc_profile=gray_profile(1.8))
    np.testing.assert_array_equal(decode(content, 32), ALL_COLORS[3])


def test_a_profile_of_rgb_is_applied_to_gray_pixels() -> None:
    values = np.arange(1024, dtype=np.uint16).reshape(32, 32) // 4
    content = encode(Image.fromarray(values.astype(np.uint8)), "PNG", icc_profile=PROPHOTO.profile())
    expected = gray_to_srgb(values, 1.8)[..., None].repeat(3, axis=2)
    np.testing.assert_allclose(decode(content, 32), expected, rtol=0, atol=1.5)


@pytest.mark.parametrize(("pillow_format", "options"), [("TIFF", {}), ("JPEG", {"quality": 100})], ids=["TIFF", "JPEG"])
@pytest.mark.parametrize("levels", [tuple(map(int, f"{number:04b}")) for number in range(16)], ids=str)
def test_cmyk_is_converted_by_its_profile(levels: tuple[int, ...], pillow_format: str, options: dict[str, Any]) -> None:
    image = Image.new("CMYK", (32, 32), tuple(255 * level for level in levels))
    content = encode(image, pillow_format, icc_profile=cmyk_profile(dull_inks), **options)
    expected = np.broadcast_to(lab_to_srgb(dull_inks(levels)), (32, 32, 3))
    np.testing.assert_allclose(decode(content, 32), expected, rtol=0, atol=3)


def test_a_damaged_profile_of_cmyk_is_ignored() -> None:
    image = Image.new("CMYK", (32, 32), (255, 0, 255, 0))
    for profile in (b"no profile", ADOBE_RGB.profile()):
        assert (decode(encode(image, "TIFF", icc_profile=profile), 32) == (0, 255, 0)).all()


def test_colors_are_converted_before_they_are_drawn_over_the_background() -> None:
    image = Image.new("RGBA", (32, 32), (200, 40, 90, 102))
    content = encode(image, "PNG", icc_profile=ADOBE_RGB.profile())
    expected = 0.4 * ADOBE_RGB.to_srgb(np.array([200, 40, 90])) + 0.6 * np.array([0x20, 0x40, 0x60])
    np.testing.assert_allclose(decode(content, 32, "#204060"), np.broadcast_to(expected, (32, 32, 3)), rtol=0, atol=2)


def test_an_image_and_its_conversion_to_adobe_rgb_get_the_same_prediction(tmp_path: Path) -> None:
    """The file with the profile is made by LittleCMS, as photo editors make it."""
    picture(32, 32, "RGB").save(tmp_path / "srgb.png")
    adobe = ImageCms.ImageCmsProfile(io.BytesIO(ADOBE_RGB.profile()))
    converted = ImageCms.profileToProfile(picture(32, 32, "RGB"), ImageCms.createProfile("sRGB"), adobe)
    assert converted is not None
    converted.save(tmp_path / "adobe.png", icc_profile=adobe.tobytes())
    with Classifier() as classifier:
        srgb, adobe_rgb = classifier.classify([tmp_path / "srgb.png", tmp_path / "adobe.png"])
    assert srgb.label == adobe_rgb.label
    assert srgb.probability == pytest.approx(adobe_rgb.probability, abs=0.02)


def test_a_text_that_is_named_like_a_profile_is_ignored() -> None:
    """Pillow returns the texts of a PNG and its profile in the same dictionary."""
    text = PngInfo()
    text.add_text("icc_profile", "a text")
    content = encode(Image.fromarray(ALL_COLORS[20]), "PNG", pnginfo=text)
    np.testing.assert_array_equal(decode(content, 32), ALL_COLORS[20])
