"""Decode image files to RGB pixels of the size that a model takes.

libjpeg-turbo decodes JPEG files (``jpeg.py``). A fast decoder decodes plain PNG files (``png.py``). Pillow decodes all
other files.
"""

import contextlib
import ctypes
import io
import logging
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageColor, _imaging

from cifar10_runtime.errors import ImageError, UsageError
from cifar10_runtime.images import jpeg, png
from cifar10_runtime.images.color import image_to_srgb, needs_conversion
from cifar10_runtime.images.open import open_image
from cifar10_runtime.images.read import MAX_IN_MEMORY, read_file
from cifar10_runtime.options import ClassifierOptions
from cifar10_runtime.text import one_line

_JPEG_MARGIN = 4
"""A JPEG is decoded at 1/2, 1/4 or 1/8 of its size if the result's side is at least this many times the needed side."""
_FILTER = Image.Resampling.BICUBIC
_LONGEST_SIGNATURE = 8

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The operation that turns an image of each EXIF orientation upright."""
_COLUMNS_REVERSED, _ROWS_REVERSED = (2, 3, 7, 8), (3, 4, 6, 7)

# Pillow and libtiff would print messages about damage on stderr, without the name of the file. Loggers that a program
# configures still work.
logging.getLogger("PIL").addHandler(logging.NullHandler())
with contextlib.suppress(AttributeError, OSError):  # raised where Pillow does not export libtiff's symbols
    ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(None)  # Pillow itself silences only libtiff's warnings


def check_options(background: str, max_pixels: int) -> None:
    """Check the options of ``decode``.

    Raises:
        UsageError: ``background`` is not an opaque color, or ``max_pixels`` is below 1.
    """
    try:
        opaque = len(ImageColor.getrgb(background)) == 3
    except ValueError:
        opaque = False
    if not opaque:
        raise UsageError(f"background {background}: name a color such as white, or #rrggbb")
    if max_pixels < 1:
        raise UsageError(f"max_pixels must be 1 or more, not {max_pixels}")


def decode(
    source: str | bytes,
    size: int,
    background: str = ClassifierOptions.background,
    max_pixels: int = ClassifierOptions.max_pixels,
) -> NDArray[np.uint8]:
    """Return the RGB pixels [size, size, 3] uint8 of an image file.

    The function takes the first frame, rotates it as its EXIF orientation says, and blends transparent pixels with
    ``background``. A color profile in the file is applied, so that the result is sRGB. An image of another size is
    cropped to the middle square and resized with an antialiased bicubic filter.

    Args:
        source: The path of the file, or its whole content.
        size: Height and width of the result in pixels.
        background: An opaque color in Pillow's notation: ``white``, ``#rrggbb``.
        max_pixels: Width times height of the largest image to decode; for a JPEG, of the reduced size that is decoded.

    Raises:
        ImageError: The file cannot be read or decoded completely, or has too many pixels.
    """
    try:
        content = read_file(source) if isinstance(source, str) else source
        if not content:
            raise ImageError("the file is empty")
        if isinstance(content, bytes):
            return _decode_content(content, size, background, max_pixels)
        with content as file:
            return _decode_large(file, size, background, max_pixels)
    except ImageError:
        raise
    except MemoryError:
        raise ImageError("not enough memory for so large an image") from None
    except Exception as error:  # Pillow's decoders raise almost any class on damaged files
        raise ImageError(_reason(error)) from error


def _decode_content(content: bytes, size: int, background: str, max_pixels: int) -> NDArray[np.uint8]:
    if jpeg.is_jpeg(content):
        return _decode_jpeg(content, size, max_pixels)
    if png.is_png(content):
        pixels = png.decode_plain(content, max_pixels)
        if pixels is not None:
            return _resized(pixels, size)
        chunks = png.check(io.BytesIO(content), max_pixels)
        return decode_with_pillow(io.BytesIO(png.without_texts(content)), size, background, max_pixels, chunks)
    return decode_with_pillow(io.BytesIO(content), size, background, max_pixels)


def _decode_large(file: IO[bytes], size: int, background: str, max_pixels: int) -> NDArray[np.uint8]:
    """Decode a file that is too large to be read at once; nothing needs to be fast."""
    beginning = file.read(_LONGEST_SIGNATURE)
    file.seek(0)
    if jpeg.is_jpeg(beginning):
        return _decode_jpeg(jpeg.read_image(file, MAX_IN_MEMORY), size, max_pixels)
    chunks = png.check(file, max_pixels) if png.is_png(beginning) else None
    return decode_with_pillow(file, size, background, max_pixels, chunks)


def _decode_jpeg(content: bytes, size: int, max_pixels: int) -> NDArray[np.uint8]:
    header = jpeg.read_header(content)
    pixels = jpeg.decode(content, header, _JPEG_MARGIN * size, max_pixels)
    is_cmyk = header.components == 4
    if not header.has_metadata and not is_cmyk:
        return _resized(pixels, size)
    orientation, profile = jpeg.orientation(content, header), jpeg.icc_profile(content, header)
    if not is_cmyk and not needs_conversion(profile):
        return _resized(pixels, size, orientation)
    image = Image.fromarray(pixels, "CMYK" if is_cmyk else "RGB")
    square = _reduced(_middle_square(image, orientation), size)
    return np.asarray(_resize_upright(image_to_srgb(square, profile), size, orientation))


def _resized(pixels: NDArray[np.uint8], size: int, orientation: int = 1) -> NDArray[np.uint8]:
    if pixels.shape == (size, size, 3) and orientation not in _UPRIGHT:
        return pixels
    return np.asarray(crop_and_resize(Image.fromarray(pixels), size, orientation))


def decode_with_pillow(
    file: IO[bytes], size: int, background: str, max_pixels: int, png_chunks: dict[bytes, bytes] | None = None
) -> NDArray[np.uint8]:
    """Decode an image by Pillow, like ``decode``; Pillow's exceptions are not converted.

    Args:
        file: The image file.
        size: As in ``decode``.
        background: As in ``decode``.
        max_pixels: As in ``decode``.
        png_chunks: For a PNG file, the result of ``png.check``.
    """
    with open_image(file) as image:
        if image.width * image.height > max_pixels:
            raise ImageError(f"{image.width} x {image.height} pixels are more than {max_pixels}")
        image.load()  # before getexif, because a PNG may have EXIF at its end; a truncated file fails here
        orientation, profile = _orientation_of(image), _profile_of(image)
        if png_chunks:
            png.set_transparency(image, file, png_chunks)
        square = _middle_square(_to_8_bits(image), orientation)
        return np.asarray(_resize_upright(_to_rgb(square, profile, background), size, orientation))


def crop_and_resize(image: Image.Image, size: int, orientation: int = 1) -> Image.Image:
    """Return the middle square of ``image``, turned upright and resized to ``size``.

    If an odd number of rows or columns is cut off, the right or bottom of the upright image loses
    one row or column more than the left or top.
    """
    return _resize_upright(_middle_square(image, orientation), size, orientation)


def _middle_square(image: Image.Image, orientation: int) -> Image.Image:
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    if orientation in _COLUMNS_REVERSED:  # the crop precedes the rotation, so the offset counts from the other side
        left = width - side - left
    if orientation in _ROWS_REVERSED:
        top = height - side - top
    return image if width == height else image.crop((left, top, left + side, top + side))


def _reduced(square: Image.Image, size: int) -> Image.Image:
    """Return the square of a JPEG at the smallest size that ``_JPEG_MARGIN`` permits.

    The conversion of colors then takes a fraction of the time. The last reduction follows the conversion, as in
    browsers, so that the colors at edges are right.
    """
    side = _JPEG_MARGIN * size
    return square.resize((side, side), _FILTER) if square.width >= 2 * side else square


def _resize_upright(square: Image.Image, size: int, orientation: int) -> Image.Image:
    upright = square.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else square
    return upright.resize((size, size), _FILTER)


def _orientation_of(image: Image.Image) -> int:
    try:
        orientation: int = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # Pillow raises many classes on damaged metadata, which viewers ignore
        return 1
    return orientation


def _profile_of(image: Image.Image) -> bytes | None:
    profile = image.info.get("icc_profile")
    return profile if isinstance(profile, bytes) else None  # Pillow puts the texts of a PNG into info, under any name


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Return a loaded image in a mode that Pillow converts to RGB or RGBA without loss of gray values or of alpha."""
    if image.format in ("BMP", "DIB") and image.mode == "RGBA" and not image.getchannel("A").getbbox():
        return image.convert("RGB")  # an alpha channel of zeros is not in use, so viewers show the image opaque
    if image.mode == "La":  # gray times alpha; convert("RGBA") would drop the alpha
        return image.convert("LA")
    if not image.mode.startswith("I;16"):
        return image
    gray = Image.fromarray(_upper_8_bits(image))
    transparent = image.info.get("transparency")
    if not isinstance(transparent, int):
        return gray
    opaque = Image.fromarray(np.where(np.asarray(image) == transparent, 0, 255).astype(np.uint8))
    return Image.merge("LA", (gray, opaque))


def _upper_8_bits(image: Image.Image) -> NDArray[np.uint8]:
    pixels = np.asarray(image)
    if image.format != "TIFF":
        return (pixels >> 8).astype(np.uint8)
    pixels = ~pixels if image.info["is_negative"] else pixels
    upper: NDArray[np.uint8] = (pixels >> (image.info["bits"] - 8)).astype(np.uint8)
    return upper


def _to_rgb(image: Image.Image, profile: bytes | None, background: str) -> Image.Image:
    """Return the sRGB pixels of an image; transparent pixels show ``background``."""
    if image.mode == "CMYK":
        return image_to_srgb(image, profile)
    if not image.has_transparency_data:
        return image_to_srgb(image if image.mode == "RGB" else image.convert("RGB"), profile)
    image = image if image.mode == "RGBA" else image.convert("RGBA")
    colors = image_to_srgb(image.convert("RGB"), profile) if needs_conversion(profile) else image
    canvas = Image.new("RGB", image.size, background)
    canvas.paste(colors, mask=image.getchannel("A"))
    return canvas


def _reason(error: Exception) -> str:
    text = one_line(error)
    if text.startswith("decoder error"):  # with a number, from libtiff
        return "damaged or truncated TIFF data, or compressed in a rare way"
    if text == "could not create decoder object":
        return "damaged or truncated WebP data"
    return text
