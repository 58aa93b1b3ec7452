"""Decoding: each file gives the pixels that a viewer shows, or an error; the fast decoders give Pillow's pixels."""

import gc
import io
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from cifar10_runtime import ImageError
from cifar10_runtime.images import jpeg, png
from cifar10_runtime.images.decode import crop_and_resize, decode, decode_with_pillow
from cifar10_runtime.options import ClassifierOptions
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

FORMATS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "BMP": "bmp", "GIF": "gif", "TIFF": "tiff"}


@pytest.mark.parametrize(("pillow_format", "suffix"), FORMATS.items(), ids=FORMATS)
def test_every_format_is_decoded(tmp_path: Path, pillow_format: str, suffix: str) -> None:
    pixels = np.full((32, 32, 3), (200, 40, 90), dtype=np.uint8)
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(pixels).save(path, pillow_format)
    decoded = decode(str(path), 32)
    assert decoded.shape == (32, 32, 3)
    assert decoded.dtype == np.uint8
    assert np.abs(decoded.astype(int) - pixels).max() <= 8, "lossy formats change pixels a little"


def test_an_unsupported_format_is_an_error(tmp_path: Path) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "image.png", "PPM")
    with pytest.raises(ImageError, match="not an image in a known format"):
        decode(str(tmp_path / "image.png"), 32)


@settings(max_examples=25, deadline=None)
@given(width=st.integers(1, 90), height=st.integers(1, 90))
def test_an_image_of_another_size_is_cropped_to_its_middle_square(
    tmp_path_factory: pytest.TempPathFactory, width: int, height: int
) -> None:
    """The middle square is gray and the rest white; no white may remain."""
    side = min(width, height)
    pixels = np.full((height, width, 3), 255, dtype=np.uint8)
    top, left = (height - side) // 2, (width - side) // 2
    pixels[top : top + side, left : left + side] = 100
    path = tmp_path_factory.getbasetemp() / "size.png"
    Image.fromarray(pixels).save(path)
    assert (decode(str(path), 32) == 100).all()


def test_shrinking_is_antialiased(tmp_path: Path) -> None:
    """A fine checkerboard becomes gray; without antialiasing it would become black, white or striped."""
    board = (np.indices((256, 256)).sum(axis=0) % 2 * 255).astype(np.uint8)
    Image.fromarray(board).save(tmp_path / "board.png")
    decoded = decode(str(tmp_path / "board.png"), 32).astype(int)
    assert np.abs(decoded - 127).max() <= 3


def upright() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))


def decoded_by_pillow(content: bytes, size: int) -> np.ndarray:
    return decode_with_pillow(io.BytesIO(content), size, ClassifierOptions.background, ClassifierOptions.max_pixels)


def decoded_by_fast_decoder(content: bytes) -> np.ndarray | None:
    """Return the pixels that the fast decoder of the format gives; None if it leaves the file to Pillow."""
    if jpeg.is_jpeg(content):
        return jpeg.decode(content, jpeg.read_header(content), side=128, max_pixels=ClassifierOptions.max_pixels)
    if not png.is_png(content):
        return None
    return png.decode_plain(content, ClassifierOptions.max_pixels)


def encode(image: Image.Image, pillow_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, pillow_format, **options)
    return file.getvalue()


@settings(max_examples=150)
@given(
    width=st.integers(1, 80),
    height=st.integers(1, 80),
    gray=st.booleans(),
    pillow_format=st.sampled_from(["PNG", "JPEG"]),
    progressive=st.booleans(),
    subsampling=st.integers(0, 2),
    quality=st.integers(1, 100),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_fast_decoders_give_the_pixels_of_pillow(
    width: int, height: int, gray: bool, pillow_format: str, seed: int, **options: object
) -> None:
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).convert("L" if gray else "RGB")
    content = encode(picture, pillow_format, **options)
    fast = decoded_by_fast_decoder(content)
    assert fast is not None, "plain files must take the fast path"
    with Image.open(io.BytesIO(content)) as image:
        np.testing.assert_array_equal(fast, np.asarray(image.convert("RGB")))


ROTATED_EXIF = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"


@pytest.mark.parametrize(
    ("mode", "pillow_format", "options"),
    [
        pytest.param("RGBA", "PNG", {}, id="PNG with alpha"),
        pytest.param("LA", "PNG", {}, id="gray PNG with alpha"),
        pytest.param("P", "PNG", {}, id="PNG with a palette"),
        pytest.param("1", "PNG", {}, id="PNG of 1 bit"),
        pytest.param("I;16", "PNG", {}, id="PNG of 16 bits"),
        pytest.param("RGB", "PNG", {"transparency": (0, 0, 0)}, id="PNG with a transparent color"),
        pytest.param("RGB", "PNG", {"exif": ROTATED_EXIF}, id="PNG with EXIF"),
        pytest.param("RGB", "WEBP", {}, id="WebP"),
    ],
)
def test_the_fast_decoders_refuse_files_that_are_not_plain(
    mode: str, pillow_format: str, options: dict[str, object]
) -> None:
    assert decoded_by_fast_decoder(encode(Image.new(mode, (32, 32)), pillow_format, **options)) is None


def test_the_orientation_in_xmp_metadata_is_applied() -> None:
    """A PNG keeps XMP metadata in a text chunk."""
    text = PngInfo()
    text.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>')
    content = encode(upright(), "PNG", pnginfo=text)
    assert decoded_by_fast_decoder(content) is None
    assert (decoded_by_pillow(content, 32) == np.rot90(np.asarray(upright()), -1)).all()


@settings(max_examples=300)
@given(data=st.data(), pillow_format=st.sampled_from(["PNG", "JPEG"]))
def test_the_fast_decoders_give_pillows_pixels_of_a_damaged_file_or_refuse_it(
    data: st.DataObject, pillow_format: str
) -> None:
    """The file is cut off, or one byte is changed."""
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    content = bytearray(encode(Image.fromarray(pixels), pillow_format))
    position = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        del content[position:]
    else:
        content[position] ^= data.draw(st.integers(1, 255))
    try:
        fast = decoded_by_fast_decoder(bytes(content))
    except ImageError:
        return
    if fast is not None and fast.shape == (32, 32, 3):
        np.testing.assert_array_equal(fast, decoded_by_pillow(bytes(content), 32))


def test_a_large_jpeg_is_decoded_at_a_reduced_size(tmp_path: Path) -> None:
    """The pixels differ a little from those of a full decode, also with an EXIF orientation."""
    coarse = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    photo = Image.fromarray(coarse).resize((1600, 1200), Image.Resampling.BICUBIC)
    photo.save(tmp_path / "photo.jpg", quality=95)
    photo.save(tmp_path / "turned.jpg", quality=95, exif=ROTATED_EXIF)
    full = np.asarray(crop_and_resize(Image.open(tmp_path / "photo.jpg"), 32)).astype(int)
    reduced = decoded_by_fast_decoder((tmp_path / "photo.jpg").read_bytes())
    assert reduced is not None
    assert reduced.shape == (150, 200, 3)
    decoded = decode(str(tmp_path / "photo.jpg"), 32)
    assert 0 < np.abs(decoded - full).max() <= 6
    turned = decode(str(tmp_path / "turned.jpg"), 32)
    assert np.abs(turned - np.rot90(full, -1)).max() <= 6


@pytest.mark.parametrize("pillow_format", ["JPEG", "PNG"])
def test_damaged_files_do_not_leak_references_to_none(tmp_path: Path, pillow_format: str) -> None:
    """A decoder that releases None once too often per damaged file would crash the process after some thousands."""
    content = io.BytesIO()
    Image.effect_noise((32, 32), 90).convert("RGB").save(content, pillow_format)
    path = tmp_path / "damaged"
    path.write_bytes(content.getvalue()[: len(content.getvalue()) // 2])
    gc.collect()  # garbage of earlier tests refers to None as well
    before = sys.getrefcount(None)
    for _ in range(500):
        with pytest.raises(ImageError):
            decode(str(path), 32)
    assert sys.getrefcount(None) > before - 250


def bmp_with_alpha(pixels: np.ndarray) -> bytes:
    """Return a BMP file of BGRA pixels [H, W, 4], whose header (BITMAPV4HEADER) has a mask for alpha."""
    height, width = pixels.shape[:2]
    masks = (0x00FF0000, 0x0000FF00, 0x000000FF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII", 108, width, -height, 1, 32, 3, pixels.size, 2835, 2835, 0, 0)
    header += struct.pack("<4I", *masks) + b"BGRs" + bytes(48)
    start = 14 + len(header)
    return struct.pack("<2sIII", b"BM", start + pixels.size, 0, start) + header + pixels.tobytes()


def test_a_bmp_whose_alpha_is_zero_everywhere_is_opaque() -> None:
    """Many programs leave alpha at zero, so viewers ignore it then; with one other value, alpha is in use."""
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 4), dtype=np.uint8)
    pixels[..., 3] = 0
    np.testing.assert_array_equal(decode(bmp_with_alpha(pixels), 32), pixels[..., 2::-1])
    pixels[5, 7, 3] = 255
    expected = np.full((32, 32, 3), 255)
    expected[5, 7] = pixels[5, 7, 2::-1]
    np.testing.assert_array_equal(decode(bmp_with_alpha(pixels), 32), expected)
