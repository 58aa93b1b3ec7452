"""Open an image file: its first bytes choose the reader, or say why there is none."""

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
_BEGINNINGS = {b"RIFF": "WebP", b"GIF8": "GIF", b"BM": "BMP"}
"""The beginnings of formats that are read: a file that Pillow does not open is damaged."""
_OTHER_BEGINNINGS = {
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"8BPS": "Photoshop",
    b"%PDF": "PDF",
    b"<svg": "SVG",
}
"""The beginnings of frequent formats that are not read."""
_BEGINNING = 128
"""Number of bytes that tell the format."""


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
        raise ImageError(_why_unidentified(beginning)) from None


def _why_unidentified(beginning: bytes) -> str:
    if _brands(beginning) & _AVIF and not features.check("avif"):
        return "AVIF: the installed Pillow cannot decode it; install one of Pillow's wheels"
    if _brands(beginning) & _AVIF:
        return "a damaged or truncated AVIF file"
    for signature, name in _OTHER_BEGINNINGS.items():
        if beginning.startswith(signature):
            return f"{name} is not read: convert the image to one of {_NAMES}"
    for signature, name in _BEGINNINGS.items():
        if beginning.startswith(signature):
            return f"a damaged or truncated {name} file"
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
        raise ImageError("a damaged or truncated HEIC file") from None


@lru_cache(maxsize=1)
def _register_heic() -> None:
    from pillow_heif import register_heif_opener  # imported late, because few files need it

    register_heif_opener()
