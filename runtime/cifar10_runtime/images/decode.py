"""Image files: decode them and bring them to the size of the model.

Plain PNG and JPEG files, which are nearly all small ones, go to a decoder without frills that is several times as fast
as Pillow, refuses whatever is damaged and gives the same pixels. Pillow decodes all others, and says what is wrong.
"""

import contextlib
import ctypes
import io
import logging
import os
import stat
import struct
from typing import IO

import numpy as np
import simplejpeg
from kornia_rs.io import decode_image_png_u8
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageColor, UnidentifiedImageError, _imaging

from cifar10_runtime.errors import ImageError, UsageError
from cifar10_runtime.text import one_line

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
"""The formats that are decoded; no other is even tried."""
BACKGROUND = "white"
"""What transparent pixels are laid on by default."""
MAX_PIXELS = 1 << 26
"""Width by height of the largest image that is decoded by default: 67 megapixels, which take up to 1 GiB of memory."""
REDUCED = 4
"""A JPEG file may be decoded at 1/2, 1/4 or 1/8 of its size, as long as it stays this many times larger than needed."""

_Image = Image.Image
_Pixels = NDArray[np.uint8]
_FILTER = Image.Resampling.BICUBIC
_ONE_READ = 1 << 16
_IN_MEMORY = 1 << 26

_PNG_COLORS = {0: "mono", 2: "rgb"}
"""Colour types without palette and transparency."""
_PLAIN_PIXELS = 1 << 20
"""In a PNG file at most: the fast decoder is not prepared for want of memory."""
_PLAIN_CHUNKS = {b"IHDR", b"IDAT", b"IEND", b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"pHYs", b"tIME"}
"""Of a PNG file whose pixels are what they seem: no palette, transparency, animation, colour profile or orientation."""
_PLAIN_MARKERS = {0xE0, 0xE2, 0xDB, 0xC0, 0xC2, 0xC4, 0xDD, 0xFE, 0xDA}
"""Of a JPEG file without EXIF and without Adobe's colours: JFIF, profile, tables, frame, restart, comment, scan."""
_FRAMES = (0xC0, 0xC2)

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns an image of each EXIF orientation upright."""
_COLUMNS_REVERSED, _ROWS_REVERSED = (2, 3, 7, 8), (3, 4, 6, 7)

# Of a damaged file Pillow would speak on stderr, without its path. A program that sets up logging still hears.
logging.getLogger("PIL").addHandler(logging.NullHandler())
with contextlib.suppress(AttributeError, OSError):  # where libtiff is no library of its own
    ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(None)  # Pillow has done so with its warnings


def check_options(background: str, max_pixels: int) -> None:
    """See whether ``decode`` can work with these.

    Raises:
        UsageError: there is no such colour, or no image is so small.
    """
    try:
        opaque = len(ImageColor.getrgb(background)) == 3
    except ValueError:
        opaque = False
    if not opaque:
        raise UsageError(f"background {background}: name a colour such as white, or #rrggbb")
    if max_pixels < 1:
        raise UsageError(f"max_pixels must be 1 or more, not {max_pixels}")


Source = str | bytes | ImageError
"""An image file: its path, its content, or why neither is to be had."""


def decode(source: Source, size: int, background: str = BACKGROUND, max_pixels: int = MAX_PIXELS) -> _Pixels:
    """Decode an image file to RGB [size, size, 3] uint8.

    The first frame, turned upright by its EXIF orientation; transparency is laid on ``background``. An image of another
    size is cropped to the middle square and resized with an antialiased bicubic filter.

    Args:
        background: a colour as Pillow names them: ``white``, ``#rrggbb``.
        max_pixels: width by height of the largest image to decode; of a large JPEG file, as it is decoded.

    Raises:
        ImageError: the file cannot be read or decoded completely, or has too many pixels.
    """
    try:
        if isinstance(source, ImageError):
            raise source
        content = _read(source) if isinstance(source, str) else source
        if not content:
            raise ImageError("the file is empty")
        pixels = _decode_plain(content, size, max_pixels) if isinstance(content, bytes) else None
        if pixels is None:
            return _decode_any(content, size, background, max_pixels)
    except ImageError:
        raise
    except MemoryError:
        raise ImageError("not enough memory for so large an image") from None
    except Exception as error:  # Pillow's decoders raise almost anything on damaged files
        raise ImageError(_reason(error)) from error
    return pixels if pixels.shape == (size, size, 3) else np.asarray(_fit(Image.fromarray(pixels), size))


def _read(path: str) -> bytes | IO[bytes]:
    """All of a file, in as few system calls as it takes, since threads wait at each; a large one as an open file."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        content = os.read(descriptor, _ONE_READ)
        if 0 < len(content) < _ONE_READ:
            return content
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ImageError("not a regular file")  # a device need not have an end
        if status.st_size > _IN_MEMORY:
            os.lseek(descriptor, 0, os.SEEK_SET)
            return open(os.dup(descriptor), "rb")
        while len(content) < status.st_size and (more := os.read(descriptor, status.st_size - len(content))):
            content += more
        return content
    except BlockingIOError:
        raise ImageError("not a regular file") from None  # a pipe that would keep us waiting
    finally:
        os.close(descriptor)


def _decode_plain(content: bytes, size: int, max_pixels: int) -> _Pixels | None:
    """RGB [H, W, 3] of a plain file, or None: Pillow has to look at it."""
    if content[:2] == b"\xff\xd8":
        return _decode_plain_jpeg(content) if _is_plain_jpeg(content, size, max_pixels) else None
    return _decode_plain_png(content, max_pixels)


def _decode_plain_jpeg(content: bytes) -> _Pixels | None:
    try:
        rgb: _Pixels = simplejpeg.decode_jpeg(content)
    except ValueError:  # damaged: Pillow knows what to say, or how to go on
        return None
    return rgb


def _decode_plain_png(content: bytes, max_pixels: int) -> _Pixels | None:
    """RGB of a PNG file of 8-bit RGB or grey pixels and nothing that changes how they look."""
    if content[:8] != b"\x89PNG\r\n\x1a\n" or content[12:16] != b"IHDR" or len(content) < 33:
        return None
    width, height, depth, color, _, _, interlaced = struct.unpack_from(">IIBBBBB", content, 16)
    if depth != 8 or color not in _PNG_COLORS or interlaced or not 0 < width * height <= min(max_pixels, _PLAIN_PIXELS):
        return None
    start = 8
    while start < len(content):
        if content[start + 4 : start + 8] not in _PLAIN_CHUNKS:
            return None
        start += 12 + int.from_bytes(content[start : start + 4], "big")
    if start != len(content):
        return None
    try:
        pixels: _Pixels = decode_image_png_u8(content, (height, width), _PNG_COLORS[color])
    except Exception:  # the only class of its errors; damaged, as above
        return None
    return pixels if color else np.repeat(pixels, 3, axis=2)


def _is_plain_jpeg(content: bytes, size: int, max_pixels: int) -> bool:
    """Whether it is a grey or YCbCr JPEG file without EXIF, and too small to be decoded at a part of its size."""
    start = 2
    while start + 10 <= len(content):
        marker, length = content[start + 1], int.from_bytes(content[start + 2 : start + 4], "big")
        if content[start] != 0xFF or marker not in _PLAIN_MARKERS:
            return False
        if marker in _FRAMES:
            height, width, components = struct.unpack_from(">HHB", content, start + 5)
            if components not in (1, 3) or not 0 < width * height <= max_pixels:
                return False
            if min(width, height) >= 2 * REDUCED * size:
                return False
        elif marker == 0xDA:
            return True
        start += 2 + length
    return False


def _decode_any(content: bytes | IO[bytes], size: int, background: str, max_pixels: int) -> _Pixels:
    """RGB [size, size, 3] of a file in any of ``FORMATS``."""
    opened = io.BytesIO(content) if isinstance(content, bytes) else content
    with opened as file, Image.open(file, formats=FORMATS) as image:
        image.draft(None, (REDUCED * size, REDUCED * size))  # to no other mode
        if image.width * image.height > max_pixels:
            raise ImageError(f"{image.width} x {image.height} pixels are more than {max_pixels}")
        image.load()  # all of it: only then is it known to be complete, and a PNG file's EXIF to be read
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        return np.asarray(_fit(_to_rgb(image, background), size, orientation))


def _fit(image: _Image, size: int, orientation: int = 1) -> _Image:
    """The middle square of ``image``, turned upright, at ``size``; of an odd rest more is cut off right and bottom."""
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    if orientation in _COLUMNS_REVERSED:  # right is what will be right
        left = width - side - left
    if orientation in _ROWS_REVERSED:
        top = height - side - top
    square = image if width == height else image.crop((left, top, left + side, top + side))
    upright = square.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else square
    return upright.resize((size, size), _FILTER)


def _to_rgb(image: _Image, background: str) -> _Image:
    if image.mode in ("I", "F"):
        raise ImageError("32-bit pixels have no range that says what is white")
    if image.mode.startswith("I;16"):
        return _from_16_bits(image, background)
    if image.has_transparency_data:
        return _on_background(image if image.mode == "RGBA" else image.convert("RGBA"), background)
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_16_bits(image: _Image, background: str) -> _Image:
    """The upper eight bits: Pillow would make everything above 255 white."""
    pixels = np.asarray(image)
    grey = Image.fromarray((pixels >> 8).astype(np.uint8))
    transparent = image.info.get("transparency")
    if not isinstance(transparent, int):
        return grey.convert("RGB")
    opaque = Image.fromarray(np.where(pixels == transparent, 0, 255).astype(np.uint8))
    return _on_background(Image.merge("LA", (grey, opaque)).convert("RGBA"), background)


def _on_background(image: _Image, background: str) -> _Image:
    canvas = Image.new("RGB", image.size, background)
    canvas.paste(image, mask=image.getchannel("A"))
    return canvas


def _reason(error: Exception) -> str:
    """One short line, without the path."""
    if isinstance(error, UnidentifiedImageError):
        return f"not an image in a known format ({', '.join(FORMATS)}), or its beginning is damaged"
    return one_line(error)
