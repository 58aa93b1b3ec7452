"""Small pictures of image files."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cifar10_runtime.errors import ImageError
from cifar10_runtime.images.decode import crop_and_resize, decode
from cifar10_runtime.images.open import open_image
from cifar10_runtime.images.read import read_file
from cifar10_runtime.text import one_line

THUMBNAIL = 64
"""Largest height and width in pixels."""


def thumbnail(path: str, background: str, max_pixels: int) -> bytes:
    """Return the middle square of an image as a WebP file of at most ``THUMBNAIL`` pixels in each direction.

    Images as small as CIFAR-10's keep every pixel.

    Args:
        path: The image file.
        background: Color behind transparent pixels, as in ``images.decode.decode``.
        max_pixels: Largest width times height to decode, as in ``images.decode.decode``.

    Raises:
        ImageError: The file cannot be read or decoded.
    """
    try:
        content = read_file(path)
        with (
            io.BytesIO(content) if isinstance(content, bytes) else content as file,
            open_image(file) as image,
        ):
            side = min(THUMBNAIL, *image.size)
    except ImageError:
        raise
    except Exception as error:  # Pillow raises almost anything for damaged files
        raise ImageError(one_line(error)) from error
    return thumbnail_of(decode(content if isinstance(content, bytes) else path, side, background, max_pixels))


def thumbnail_of(pixels: NDArray[np.uint8]) -> bytes:
    """Return decoded pixels [H, W, 3] RGB as ``thumbnail`` returns the image of a file."""
    side = min(THUMBNAIL, *pixels.shape[:2])
    picture = io.BytesIO()
    crop_and_resize(Image.fromarray(pixels), side).save(picture, "WEBP", quality=80, lossless=side <= THUMBNAIL // 2)
    return picture.getvalue()
