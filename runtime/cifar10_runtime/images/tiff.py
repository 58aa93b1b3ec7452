"""Open TIFF files by Pillow and libtiff, and refuse those whose samples have no defined white.

The tags and their values are those of TIFF 6.0 (1992).
"""

from collections.abc import Mapping
from typing import IO, Any

from PIL import Image, ImagePalette, TiffImagePlugin
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    COLORMAP,
    COMPRESSION,
    PHOTOMETRIC_INTERPRETATION,
    PLANAR_CONFIGURATION,
    SAMPLEFORMAT,
)

from cifar10_runtime.errors import ImageError

_BIG_ENDIAN_BIG_TIFF = b"MM\0+"
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _CIELAB = 0, 1, 8
_PLANAR = 2
_UNSIGNED = 1
_SAMPLES = {
    _UNSIGNED: "unsigned integers",
    2: "signed integers",
    3: "floating-point numbers",
    4: "values of an undefined kind",
    5: "complex integers",
    6: "complex floating-point numbers",
}
"""The values of the tag SampleFormat; 5 and 6 are additions of libtiff."""
_MOST_BITS = 16
"""Samples with more bits rarely use their whole range, so that white is unknown."""

# libtiff decodes uncompressed files as well: Pillow's own reader takes planes of 16 bits for planes of 8 bits, and
# subsampled YCbCr for full YCbCr.
TiffImagePlugin.READ_LIBTIFF = True


def open_tiff(file: IO[bytes]) -> Image.Image:
    """Open the first image of a TIFF file; its pixels are not decoded yet.

    The ``info`` of the image says how many ``bits`` its samples have, and in ``is_negative`` whether the decoded pixels
    must be inverted.

    Raises:
        ImageError: The samples are not unsigned integers of at most 16 bits, or Pillow cannot read the file.
    """
    try:
        image = TiffImagePlugin.TiffImageFile(file)
        tags: Mapping[int, Any] = image.tag_v2
    except SyntaxError:
        image, tags = None, _read_tags(file)
    _check_samples(tags)
    if tags.get(PHOTOMETRIC_INTERPRETATION) == _WHITE_IS_ZERO and tags.get(BITSPERSAMPLE) == (16,):
        image = _open_inverted(file)
    is_planar = tags.get(PLANAR_CONFIGURATION) == _PLANAR
    is_lab = tags.get(PHOTOMETRIC_INTERPRETATION) == _CIELAB
    # Of planar LAB, Pillow takes the signed planes for unsigned planes; of planar gray with alpha, it loses the alpha.
    if image is None or (is_planar and (is_lab or image.mode in ("LA", "La"))):
        raise ImageError(f"a damaged TIFF, or one of a rare kind ({_kind(tags)}): convert the image to 8-bit RGB")
    if image.mode in ("P", "PA") and max(tags[COLORMAP]) < 256:  # 8 bits; the specification has 16
        image.palette = ImagePalette.raw("RGB;L", bytes(tags[COLORMAP]))
    image.info |= {"bits": max(tags.get(BITSPERSAMPLE, (1,))), "is_negative": isinstance(image, _Inverted)}
    return image


class _Inverted(TiffImagePlugin.TiffImageFile):
    """An image of 16-bit gray in which 0 is white, opened as if 0 were black.

    Pillow decodes such files without inverting the pixels if they are little-endian, and does not open the others.
    """

    def _setup(self) -> None:
        self.tag_v2[PHOTOMETRIC_INTERPRETATION] = _BLACK_IS_ZERO
        super()._setup()


def _open_inverted(file: IO[bytes]) -> TiffImagePlugin.TiffImageFile | None:
    file.seek(0)
    try:
        return _Inverted(file)
    except SyntaxError:
        return None


def _kind(tags: Mapping[int, Any]) -> str:
    names = {COMPRESSION: "compression", PHOTOMETRIC_INTERPRETATION: "photometric interpretation"}
    kind = [f"{name} {tags[tag]}" for tag, name in names.items() if isinstance(tags.get(tag), int)]
    return ", ".join([*kind, f"{max(tags.get(BITSPERSAMPLE, (1,)))} bits per sample"])


def _read_tags(file: IO[bytes]) -> Mapping[int, Any]:
    file.seek(0)
    header = file.read(16)
    if header.startswith(_BIG_ENDIAN_BIG_TIFF):
        raise ImageError("a big-endian BigTIFF, which Pillow cannot read: convert the image to TIFF or PNG")
    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(header if header[2:3] == b"+" else header[:8])
        file.seek(tags.next)
        tags.load(file)
        return dict(tags)
    except Exception as error:  # Pillow raises almost any class on damaged files
        raise ImageError("the beginning of the TIFF file is damaged") from error


def _check_samples(tags: Mapping[int, Any]) -> None:
    kind = max(tags.get(SAMPLEFORMAT, (_UNSIGNED,)))
    bits = max(tags.get(BITSPERSAMPLE, (1,)))
    if kind != _UNSIGNED or bits > _MOST_BITS:
        raise ImageError(
            f"{bits}-bit {_SAMPLES.get(kind, _SAMPLES[4])}: the file does not say which value is white; convert the "
            "image to unsigned integers of 8 or 16 bits"
        )
