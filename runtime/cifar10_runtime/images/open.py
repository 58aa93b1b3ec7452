"""Open an image file: its first bytes choose the reader, or say why there is none."""

import os
from functools import lru_cache
from typing import IO

from PIL import Image, UnidentifiedImageError, features

from cifar10_runtime.errors import ImageError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "GIF", "AVIF")
"""Pillow's names of the formats that Pillow opens without help; it tries no other format."""
_NAMES = "JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF, HEIC"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""The beginnings of TIFF and BigTIFF files in both byte orders."""
_HEIC, _AVIF = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}, {b"avif", b"avis"}
"""The brands that tell the formats of files of ISO/IEC 14496-12."""
_BEGINNING = 128
"""Number of bytes that tell the format."""
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""The JPEG markers SOF0 to SOF15 (T.81, table B.1)."""


def open_image(file: IO[bytes]) -> Image.Image:
    """Open the first image of a file; its pixels are not decoded yet.

    Raises:
        ImageError: The format is unknown, or no installed package decodes it.
    """
    beginning = file.read(_BEGINNING)
    file.seek(0)
    if beginning.startswith(_TIFF):
        from cifar10_runtime.images.tiff import open_tiff  # imported late, because most images are no TIFF files

        return open_tiff(file)
    if _brands(beginning) & _HEIC:
        return _open_heic(file)
    try:
        return Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:
        raise ImageError(_why_unidentified(file, beginning)) from None


def _why_unidentified(file: IO[bytes], beginning: bytes) -> str:
    if beginning.startswith(b"\xff\xd8") and (bits := _jpeg_precision(file)) != 8:
        return f"a JPEG with {bits} bits per sample, which no decoder here reads: convert the image to 8 bits"
    if _brands(beginning) & _AVIF and not features.check("avif"):
        return "AVIF: the installed Pillow cannot decode it; install one of Pillow's wheels"
    return f"not an image in a known format ({_NAMES}), or its beginning is damaged"


def _brands(beginning: bytes) -> set[bytes]:
    """Return the major and the compatible brands of a file of ISO/IEC 14496-12, such as AVIF and HEIC."""
    if beginning[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(beginning[:4], "big"), len(beginning))
    return {beginning[8:12], *(beginning[start : start + 4] for start in range(16, end, 4))}


def _open_heic(file: IO[bytes]) -> Image.Image:
    try:
        _register_heic()
    except ImportError:
        raise ImageError("HEIC: its decoder is not installed: pip install 'cifar10-zoo[heif]'") from None
    try:
        return Image.open(file, formats=["HEIF"])
    except UnidentifiedImageError:
        raise ImageError("a damaged HEIC file") from None


@lru_cache(maxsize=1)
def _register_heic() -> None:
    from pillow_heif import register_heif_opener  # imported late, because few files need it

    register_heif_opener()


def _jpeg_precision(file: IO[bytes]) -> int:
    """Return the bits per sample in the frame header of a JPEG file (T.81, B.2.2); 8 if it has no frame header."""
    file.seek(2)
    while len(segment := file.read(4)) == 4 and segment[0] == 0xFF:
        if segment[1] in _FRAME_HEADERS:
            return (file.read(1) or b"\x08")[0]
        file.seek(int.from_bytes(segment[2:], "big") - 2, os.SEEK_CUR)
    return 8
