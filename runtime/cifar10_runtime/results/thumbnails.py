"""Small pictures of image files."""

import io
import os

from PIL import Image

from cifar10_runtime.errors import ImageError
from cifar10_runtime.images.decode import FORMATS, decode
from cifar10_runtime.text import one_line

THUMBNAIL = 64
"""Largest height and width in pixels."""
_IN_MEMORY = 1 << 26
"""Largest file, in bytes, that is read into memory as a whole: a TIFF file can have thousands of pages."""


def thumbnail(path: str, background: str, max_pixels: int) -> bytes:
    """Return the middle square of an image as a WebP file of at most ``THUMBNAIL`` pixels in each direction.

    Images as small as CIFAR-10's keep every pixel.

    Args:
        path: the image file.
        background: color behind transparent pixels, as in ``images.decode.decode``.
        max_pixels: largest width times height to decode, as in ``images.decode.decode``.

    Raises:
        ImageError: the file cannot be read or decoded.
    """
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            with Image.open(file, formats=FORMATS) as image:
                side = min(THUMBNAIL, *image.size)
            file.seek(0)
            source = file.read() if os.fstat(file.fileno()).st_size <= _IN_MEMORY else path
    except Exception as error:  # Pillow raises almost anything for damaged files
        raise ImageError(one_line(error)) from error
    picture = io.BytesIO()
    pixels = decode(source, side, background, max_pixels)
    Image.fromarray(pixels).save(picture, "WEBP", quality=80, lossless=side <= THUMBNAIL // 2)
    return picture.getvalue()


def _open_without_waiting(path: str, flags: int) -> int:
    """Open a file; a pipe without a writer would otherwise block."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
