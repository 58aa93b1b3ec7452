"""Image files: find them, decode them, bring them to the size of the model."""

import glob
import os
import stat
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from cifar10_runtime.errors import ImageError, UsageError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
"""The formats that are decoded; no other is even tried."""
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
"""Files that are taken from folders, in lower or upper case."""
BACKGROUND = "white"
"""What transparent pixels are laid on."""

_Image = Image.Image
_FILTER = Image.Resampling.BICUBIC


def find(paths: Iterable[str]) -> Iterator[str]:
    """The image files that ``paths`` mean, in a stable order.

    A file stands for itself, a folder for the files with a known suffix in it and below, except hidden ones; anything
    else is a glob pattern, ``**`` included.

    Raises:
        UsageError: a path does not exist, a pattern matches nothing, or a folder cannot be read.
    """
    for path in paths:
        if os.path.isdir(path):
            yield from _walk(path)
        elif os.path.lexists(path):
            yield path
        elif matches := sorted(glob.glob(path, recursive=True)):
            found = find(match for match in matches if os.path.isdir(match) or _has_known_suffix(match))
            yield from dict.fromkeys(found)  # a pattern can match a folder and its files
        else:
            raise UsageError(f"{path} does not exist and matches no file")


def _walk(folder: str) -> Iterator[str]:
    for parent, folders, files in os.walk(folder, onerror=_refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (os.path.join(parent, name) for name in sorted(files) if _is_image_name(name))


def _refuse(error: OSError) -> None:
    """A folder that cannot be read is no empty folder."""
    raise UsageError(f"{error.filename} cannot be read: {error.strerror}")


def _is_image_name(name: str) -> bool:
    return _has_known_suffix(name) and not name.startswith(".")


def _has_known_suffix(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def decode(path: str, size: int) -> NDArray[np.uint8]:
    """Decode an image file to RGB [size, size, 3] uint8.

    The first frame, turned upright by its EXIF orientation; transparency is laid on white. An image of another size is
    cropped to the middle square and resized with an antialiased bicubic filter.

    Raises:
        ImageError: the file cannot be read or decoded completely.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ImageError("not a regular file")  # a pipe would keep us waiting
        with Image.open(path, formats=FORMATS) as image:
            rgb = _to_rgb(ImageOps.exif_transpose(image))
    except ImageError:
        raise
    except Exception as error:  # Pillow's decoders raise almost anything on damaged files
        raise ImageError(_reason(error)) from error
    return np.asarray(rgb if rgb.size == (size, size) else _middle_square(rgb).resize((size, size), _FILTER))


def _middle_square(image: _Image) -> _Image:
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return image.crop((left, top, left + side, top + side))


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
