"""Decode JPEG files by Pillow where simplejpeg is not installed, with the same pixels.

libjpeg-turbo in Pillow decodes the file, but Pillow drops libjpeg's warnings about lost data. kornia-rs, if it is
installed, reports a warning as an error, without its text. So it also refuses files whose stray bytes are harmless.
"""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

try:
    from kornia_rs.io import decode_image_jpegturbo
except ImportError:
    decode_image_jpegturbo = None

_SCALES = (8, 4, 2)
_MOST_CHECKED_PIXELS = 1 << 26
"""Larger files are not checked, because kornia-rs ends the process when memory runs out."""


def decode_jpeg(content: bytes, colors: str, min_height: int, min_width: int, strict: bool) -> NDArray[np.uint8]:
    """Return the pixels [H, W, 3] or [H, W, 4] uint8, like ``simplejpeg.decode_jpeg``.

    Args:
        content: The whole file.
        colors: ``RGB``, or ``CMYK`` for the inverted values that the file has.
        min_height: Rows that the result must have; 0 for the full size.
        min_width: Columns that the result must have; 0 for the full size.
        strict: Whether a warning of libjpeg is an error.

    Raises:
        ValueError: The file is truncated, or libjpeg cannot decode it or warns about it.
    """
    try:
        with Image.open(io.BytesIO(content), formats=["JPEG"]) as image:
            if strict and colors == "RGB" and image.width * image.height <= _MOST_CHECKED_PIXELS:
                _check(content)
            width, height = image.size
            for scale in _SCALES if min_height else ():
                if -(-height // scale) >= min_height and -(-width // scale) >= min_width:
                    image.draft(None, (width // scale, height // scale))
                    break
            return np.asarray(image.convert("RGB")) if colors == "RGB" else 255 - np.asarray(image)
    except (OSError, SyntaxError) as error:  # the message of UnidentifiedImageError would have the address of an object
        truncated = str(error).startswith("image file is truncated")
        raise ValueError("premature end of data segment" if truncated else "it cannot be decoded") from None


def _check(content: bytes) -> None:
    """Let kornia-rs decode the file, because it reports libjpeg's warnings."""
    if decode_image_jpegturbo is None:
        return
    try:
        decode_image_jpegturbo(content, "rgb")
    except Exception:  # kornia-rs has no narrower class, and its message has no reason
        raise ValueError("lost data or stray bytes; with the package simplejpeg, the error says which") from None
