"""Fast decoders for plain PNG and JPEG files. Most small image files are plain.

kornia-rs and simplejpeg are several times as fast as Pillow, give the same pixels and refuse damaged files. They ignore
transparency, orientation and similar features, so they get only files without such features.
"""

import struct

import numpy as np
import simplejpeg
from kornia_rs.io import decode_image_png_u8
from numpy.typing import NDArray

from cifar10_runtime.images.color import needs_conversion

_PNG_COLORS = {0: "mono", 2: "rgb"}
"""The names in kornia-rs of the PNG color types without palette and transparency."""
_MAX_PNG_PIXELS = 1 << 20
"""Larger PNG files go to Pillow, because kornia-rs ends the process when memory runs out."""
_PLAIN_CHUNKS = {b"IHDR", b"IDAT", b"IEND", b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"pHYs", b"tIME"}
"""PNG chunks that add no palette, transparency, animation, color profile or orientation."""
_PLAIN_MARKERS = {0xE0, 0xE2, 0xDB, 0xC0, 0xC2, 0xC4, 0xDD, 0xFE, 0xDA}
"""The JPEG markers of a plain file: JFIF, color profile, tables, frame, restart, comment, scan; not EXIF, not Adobe."""
_FRAME_MARKERS = (0xC0, 0xC2)
_APP2 = 0xE2
_SCAN_MARKER = 0xDA
_ICC_PROFILE = b"ICC_PROFILE\0"
"""Identifies APP2 segments with a part of a color profile (ICC.1:2022, B.4)."""


def decode_plain(content: bytes, max_pixels: int, jpeg_side_limit: int) -> NDArray[np.uint8] | None:
    """Return the pixels [H, W, 3] uint8 RGB of a plain PNG or JPEG file; None if the file is not plain, or damaged.

    Args:
        content: The whole file.
        max_pixels: Width times height of the largest image to decode.
        jpeg_side_limit: A JPEG file whose shorter side has at least this many pixels is not plain, because Pillow
            decodes it at a reduced size.
    """
    if content[:2] == b"\xff\xd8":
        return _decode_jpeg(content) if _is_plain_jpeg(content, max_pixels, jpeg_side_limit) else None
    return _decode_png(content, max_pixels)


def _decode_jpeg(content: bytes) -> NDArray[np.uint8] | None:
    try:
        rgb: NDArray[np.uint8] = simplejpeg.decode_jpeg(content)
    except ValueError:  # the file is damaged; Pillow, which decodes it next, describes the damage or tolerates it
        return None
    return rgb


def _is_plain_jpeg(content: bytes, max_pixels: int, side_limit: int) -> bool:
    """Return whether the file is a gray or YCbCr JPEG without EXIF, within both limits."""
    start = 2
    while start + 10 <= len(content):
        marker, length = content[start + 1], int.from_bytes(content[start + 2 : start + 4], "big")
        if content[start] != 0xFF or marker not in _PLAIN_MARKERS:
            return False
        if marker in _FRAME_MARKERS:
            height, width, components = struct.unpack_from(">HHB", content, start + 5)
            if components not in (1, 3) or not 0 < width * height <= max_pixels:
                return False
            if min(width, height) >= side_limit:
                return False
        elif marker == _SCAN_MARKER:
            return True
        elif marker == _APP2 and not _has_srgb_colors(content[start + 4 : start + 2 + length]):
            return False
        start += 2 + length
    return False


def _has_srgb_colors(segment: bytes) -> bool:
    """Return whether an APP2 segment has no part of a color profile, or a whole profile that is sRGB."""
    if not segment.startswith(_ICC_PROFILE):
        return True
    number_and_count = segment[len(_ICC_PROFILE) : len(_ICC_PROFILE) + 2]
    return number_and_count == b"\1\1" and not needs_conversion(segment[len(_ICC_PROFILE) + 2 :])


def _decode_png(content: bytes, max_pixels: int) -> NDArray[np.uint8] | None:
    if content[:8] != b"\x89PNG\r\n\x1a\n" or content[12:16] != b"IHDR" or len(content) < 33:
        return None
    width, height, depth, color, _, _, interlaced = struct.unpack_from(">IIBBBBB", content, 16)
    if depth != 8 or color not in _PNG_COLORS or interlaced:
        return None
    if not 0 < width * height <= min(max_pixels, _MAX_PNG_PIXELS) or not _has_plain_chunks(content):
        return None
    try:
        pixels: NDArray[np.uint8] = decode_image_png_u8(content, (height, width), _PNG_COLORS[color])
    except Exception:  # kornia-rs has no narrower class; the file is damaged, and Pillow describes the damage
        return None
    return pixels if color else np.repeat(pixels, 3, axis=2)


def _has_plain_chunks(content: bytes) -> bool:
    """Return whether all chunks are in ``_PLAIN_CHUNKS`` and no bytes follow the last chunk."""
    start = 8
    while start < len(content):
        if content[start + 4 : start + 8] not in _PLAIN_CHUNKS:
            return False
        start += 12 + int.from_bytes(content[start : start + 4], "big")
    return start == len(content)
