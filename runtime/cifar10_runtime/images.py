"""Image files: decode them and bring them to the size of the model.

OpenCV decodes plain PNG files, twice as fast as Pillow and to the same pixels; Pillow decodes all others. OpenCV makes
pictures of damaged JPEG files that Pillow refuses, so it gets none.
"""

import io
import os
import stat

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from cifar10_runtime.errors import ImageError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
"""The formats that are decoded; no other is even tried."""
BACKGROUND = "white"
"""What transparent pixels are laid on."""
REDUCED = 4
"""A JPEG file may be decoded at 1/2, 1/4 or 1/8 of its size, as long as it stays this many times larger than needed."""

_Image = Image.Image
_Pixels = NDArray[np.uint8]
_FILTER = Image.Resampling.BICUBIC
_SPECIAL_CHUNKS = (b"tRNS", b"eXIf", b"acTL", b"iCCP", b"tEXt", b"zTXt", b"iTXt")

cv2.setNumThreads(1)  # files are decoded in parallel instead
cv2.utils.logging.setLogLevel(0)  # what it cannot read, Pillow says better


def decode(path: str, size: int) -> _Pixels:
    """Decode an image file to RGB [size, size, 3] uint8.

    The first frame, turned upright by its EXIF orientation; transparency is laid on white. An image of another size is
    cropped to the middle square and resized with an antialiased bicubic filter.

    Raises:
        ImageError: the file cannot be read or decoded completely.
    """
    try:
        content = _read(path)
        pixels = _decode_plain(content)
        if pixels is None:
            pixels = _decode_any(content, size)
    except ImageError:
        raise
    except Exception as error:  # Pillow's decoders raise almost anything on damaged files
        raise ImageError(_reason(error)) from error
    return pixels if pixels.shape == (size, size, 3) else _resize(pixels, size)


def _read(path: str) -> bytes:
    """All of a file, in as few system calls as it takes: other threads get their turn at each."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ImageError("not a regular file")  # a pipe would keep us waiting
        content = os.read(descriptor, status.st_size)
        while len(content) < status.st_size and (more := os.read(descriptor, status.st_size - len(content))):
            content += more
        return content
    finally:
        os.close(descriptor)


def _decode_plain(content: bytes) -> _Pixels | None:
    """RGB [H, W, 3] of a PNG file that is nothing but 8-bit RGB or grey pixels, or None: Pillow has to look at it."""
    if not _is_plain_png(content):
        return None
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error:  # too many pixels
        return None
    return None if pixels is None else pixels.astype(np.uint8, copy=False)


def _is_plain_png(content: bytes) -> bool:
    """Whether it is a PNG file without transparency, palette, animation, colour profile and text, which may turn it."""
    if content[:8] != b"\x89PNG\r\n\x1a\n" or content[12:16] != b"IHDR" or len(content) < 33:
        return False
    depth, color, interlaced = content[24], content[25], content[28]
    special = any(chunk in content for chunk in _SPECIAL_CHUNKS)
    return depth == 8 and color in (0, 2) and not interlaced and not special


def _decode_any(content: bytes, size: int) -> _Pixels:
    """RGB [H, W, 3] of a file in any of ``FORMATS``."""
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        image.draft(None, (REDUCED * size, REDUCED * size))  # to no other mode
        return np.asarray(_to_rgb(ImageOps.exif_transpose(image)))


def _resize(pixels: _Pixels, size: int) -> _Pixels:
    """The middle square of ``pixels`` [H, W, 3] as [size, size, 3]."""
    height, width = pixels.shape[:2]
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    square = Image.fromarray(pixels[top : top + side, left : left + side])
    return np.asarray(square.resize((size, size), _FILTER))


def _to_rgb(image: _Image) -> _Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        image.load()
        return image
    if image.mode in ("I", "F"):
        raise ImageError("32-bit pixels have no range that says what is white")
    if image.mode.startswith("I;16"):  # Pillow would saturate instead of scale
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, BACKGROUND), rgba).convert("RGB")
    return image.convert("RGB")


def _reason(error: Exception) -> str:
    """One short line, without the path."""
    if isinstance(error, UnidentifiedImageError):
        return f"not an image in a known format ({', '.join(FORMATS)})"
    text = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
    return " ".join(text.split()) or type(error).__name__
