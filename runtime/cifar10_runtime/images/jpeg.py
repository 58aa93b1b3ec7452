"""Decode JPEG files by libjpeg-turbo, and refuse files that have lost data.

libjpeg-turbo replaces lost data by gray or wrong pixels and only warns. simplejpeg raises an exception with the text of
the first warning. Some warnings are harmless, and some losses cause no warning: this module tells them apart. Names of
markers and parameters are those of the standard, ITU-T T.81.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from cifar10_runtime.errors import ImageError
from cifar10_runtime.images import pillow_jpeg

try:  # some platforms have no wheels of these packages
    import simplejpeg
except ImportError:
    simplejpeg = pillow_jpeg
try:
    from kornia_rs.io import decode_image_jpegturbo
except ImportError:
    decode_image_jpegturbo = None

_DHT, _EOI, _SOS, _APP0, _APP1, _APP2, _APP14, _APP15, _COM = 0xC4, 0xD9, 0xDA, 0xE0, 0xE1, 0xE2, 0xEE, 0xEF, 0xFE
_METADATA = (_APP1, _APP2)
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""The markers SOF0 to SOF15."""
_SEQUENTIAL_FRAMES, _PROGRESSIVE_FRAMES = {0xC0, 0xC1, 0xC9}, {0xC2, 0xCA}
_MARKERS = frozenset({*range(0x02, 0xD0), *range(0xD8, 0xFF)})
"""The markers of segments and EOI. In compressed data, 0xFF precedes only 0 and the markers of restarts (D0 to D7)."""
_MARKER = re.compile(rb"\xff[\x02-\xcf\xd8-\xfe]")
_PREFIX = struct.Struct(">BBH")
"""What precedes the payload of a segment: 0xFF, the marker, and the length of this length and the payload."""
_SIZE = struct.Struct(">HHB")
"""Height, width and number of components in the payload of a frame, after the number of bits."""
_END = b"\xff\xd9"
_DAMAGED_OR_RARE = "damaged JPEG, or with sampling factors that libjpeg-turbo does not support"

_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
_LARGEST_SCALE = 8
"""libjpeg-turbo decodes an image at 1/2, 1/4 or 1/8 of its size in less time than at its full size."""
_ALL_COEFFICIENTS = (1 << 64) - 1
_STRAY_BYTES = re.compile(r"Corrupt JPEG data: (\d+) extraneous bytes before marker 0x(?!d[0-7])..")
_MOST_STRAY_BYTES = 16
"""Some cameras write a few bytes too many after the compressed data; many bytes too many are blocks without a place."""
_ZEROS = bytes(64)
"""A disk sector that cannot be read becomes 512 zeros or more; compressed data seldom have as many as these."""


@dataclass(slots=True)
class Header:
    """What a JPEG file says before its first compressed data.

    Attributes:
        frame: The marker of the frame, SOF0 to SOF15.
        scan: Where the payload of the first SOS segment starts.
        has_metadata: Whether there are segments that may contain EXIF, XMP or a color profile.
    """

    frame: int = 0
    width: int = 0
    height: int = 0
    components: int = 0
    scan: int = 0
    has_metadata: bool = False


def is_jpeg(beginning: bytes) -> bool:
    """Return whether a file that begins with these bytes is a JPEG file."""
    return beginning.startswith(b"\xff\xd8\xff")


def read_image(file: IO[bytes], first_read: int) -> bytes:
    """Return the content of a large file up to the end of its image, or more; any amount of other data may follow.

    Args:
        file: The file.
        first_read: How many bytes to read at first; the following reads double the amount.
    """
    content = b""
    while more := file.read(max(first_read, len(content))):
        content += more
        if any(marker == _EOI for marker, _, _ in _segments(content)):
            break
    return content


def read_header(content: bytes) -> Header:
    """Return what the segments up to the first SOS say.

    Raises:
        ImageError: The file has no frame or no scan, or does not have 8 bits per sample.
    """
    header, position, last = Header(), 2, len(content) - _PREFIX.size
    while position <= last:  # as in _segments, but every JPEG file passes here, and a generator takes longer
        first, marker, length = _PREFIX.unpack_from(content, position)
        if first != 0xFF or marker not in _MARKERS:
            found = _MARKER.search(content, position)
            position = found.start() if found else len(content)
            continue
        start = position + 4
        position = start if length < 2 else position + 2 + length
        if marker == _EOI or position > len(content):
            break
        if marker in _METADATA:
            header.has_metadata = True
        elif marker in _FRAMES and length >= 8:
            if content[start] != 8:
                raise ImageError(f"a JPEG with {content[start]} bits per sample: convert the image to 8 bits")
            header.frame = marker
            header.height, header.width, header.components = _SIZE.unpack_from(content, start + 1)
        elif marker == _SOS and header.frame and length >= 8:
            header.scan = start
            return header
    raise ImageError("damaged JPEG: no image data")


def icc_profile(content: bytes, header: Header) -> bytes:
    """Return the ICC profile, whose parts are in APP2 segments; empty if there is none or a part is missing."""
    parts, count = {}, 0
    for marker, start, end in _header_segments(content, header):
        if marker == _APP2 and content.startswith(b"ICC_PROFILE\0", start) and end - start >= 14:
            parts[content[start + 12]], count = content[start + 14 : end], content[start + 13]
    return b"".join(parts[number] for number in sorted(parts)) if len(parts) == count else b""


def orientation(content: bytes, header: Header) -> int:
    """Return the orientation (1 to 8) in the EXIF or, without it, the XMP metadata; 1 if there is none to be read."""
    metadata: dict[str, bytes] = {}
    for marker, start, end in _header_segments(content, header):
        if marker == _APP1 and content.startswith(_EXIF, start):
            metadata["exif"] = metadata.get("exif", _EXIF) + content[start + len(_EXIF) : end]
        elif marker == _APP1 and content.startswith(_XMP, start):
            metadata["xmp"] = content[start + len(_XMP) : end]
    if not metadata:
        return 1
    image = Image.new("L", (1, 1))
    image.info.update(metadata)  # Pillow reads metadata only of an image
    try:
        value: int = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # Pillow raises many classes on damaged metadata, which viewers ignore
        return 1
    return value


def decode(content: bytes, header: Header, side: int, max_pixels: int) -> NDArray[np.uint8]:
    """Return the pixels at 1/1, 1/2, 1/4 or 1/8 of their size, [H, W, 3] uint8 RGB or [H, W, 4] uint8 CMYK.

    Args:
        content: The whole file.
        header: What ``read_header`` returned.
        side: The smallest scale is chosen that leaves this many rows and columns.
        max_pixels: Width times height of the largest result.

    Raises:
        ImageError: The file has lost data, is of a kind that libjpeg-turbo does not decode, or has too many pixels.
    """
    shortest, scale = min(header.width, header.height), _LARGEST_SCALE
    while scale > 1 and shortest < scale * side:
        scale //= 2
    width, height = -(-header.width // scale), -(-header.height // scale)
    if width * height > max_pixels:
        raise ImageError(f"{width} x {height} pixels are more than {max_pixels}")
    if _lacks_scans(content, header):
        raise ImageError("damaged JPEG: scans are missing at the end")
    if _has_lost_sector(content, header):
        raise ImageError("damaged JPEG: zeros in place of compressed data")
    try:
        pixels = _decode(content, header, scale)
    except ValueError:
        pixels = _decode_tolerantly(_standard_form(content, header), header, scale, max_pixels)
    if header.components == 4:
        return 255 - pixels  # all programs store inverted CMYK, because Adobe's do
    return pixels


def _segments(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, and start and end of the payload, of each segment and of EOI.

    Bytes between the segments are skipped: compressed data, padding and stray bytes.
    """
    position, last = 2, len(content) - _PREFIX.size
    while position <= last:
        first, marker, length = _PREFIX.unpack_from(content, position)
        if first != 0xFF or marker not in _MARKERS:
            found = _MARKER.search(content, position)
            if not found:
                return
            position = found.start()
        elif marker == _EOI:
            break
        else:
            start = position + 4
            position = start if length < 2 else position + 2 + length
            yield marker, start, position
    if content.startswith(_END, position):
        yield _EOI, position + 2, position + 2


def _header_segments(content: bytes, header: Header) -> list[tuple[int, int, int]]:
    """Return the segments up to the first SOS."""
    return list(takewhile(lambda segment: segment[1] <= header.scan, _segments(content)))


def _decode(
    content: bytes, header: Header, scale: int, strict: bool = True, library: Any = simplejpeg
) -> NDArray[np.uint8]:
    colors = "CMYK" if header.components == 4 else "RGB"
    least = (-(-header.height // scale), -(-header.width // scale)) if scale > 1 else (0, 0)
    pixels: NDArray[np.uint8] = library.decode_jpeg(
        content, colors, min_height=least[0], min_width=least[1], strict=strict
    )
    return pixels


def _decode_tolerantly(content: bytes, header: Header, scale: int, max_pixels: int) -> NDArray[np.uint8]:
    """Decode a file that ``_standard_form`` returned; a few stray bytes are the only warning that is harmless there.

    This warning hides later ones; a restart marker after the stray bytes means that there may be some.
    """
    try:
        return _decode(content, header, scale)
    except ValueError as error:
        reason = str(error)
    if (stray := _STRAY_BYTES.fullmatch(reason)) and int(stray[1]) <= _MOST_STRAY_BYTES:
        return _decode(content, header, scale, strict=False)
    if "subsampling" in reason:
        return _decode_rare_sampling(content, header, scale, max_pixels)
    raise ImageError(f"damaged JPEG: {reason.removeprefix('Corrupt JPEG data: ')}")


def _decode_rare_sampling(content: bytes, header: Header, scale: int, max_pixels: int) -> NDArray[np.uint8]:
    """Decode a file with sampling factors that simplejpeg does not know; RGB at its full size."""
    if header.components == 4 or decode_image_jpegturbo is None:
        try:
            return _decode(content, header, scale, strict=False, library=pillow_jpeg)  # does not tell about damage
        except ValueError:
            raise ImageError(_DAMAGED_OR_RARE) from None
    if header.width * header.height > max_pixels:
        raise ImageError(f"{header.width} x {header.height} pixels are more than {max_pixels}")
    try:
        pixels: NDArray[np.uint8] = decode_image_jpegturbo(content, "rgb")
    except Exception:  # kornia-rs has no narrower class, and its message has no reason
        raise ImageError(_DAMAGED_OR_RARE) from None
    return pixels


def _standard_form(content: bytes, header: Header) -> bytes:
    """Return the file without what makes libjpeg warn about its header although no data are lost.

    That is: stray bytes, an unknown version of JFIF or transform of Adobe, a damaged color profile, and SOS parameters
    that no sequential file has.
    """
    parts = [b"\xff\xd8"]
    for marker, start, end in _header_segments(content, header):
        payload = content[start:end]
        if marker == _APP0 and payload.startswith(b"JFIF\0"):
            payload = payload[:5] + b"\1" + payload[6:]
        elif marker == _APP14 and payload.startswith(b"Adobe") and len(payload) >= 12:
            transform = (b"\1" if header.components == 3 else b"\2") if payload[11] else b"\0"
            payload = payload[:11] + transform + payload[12:]
        elif _APP0 <= marker <= _APP15 or marker == _COM:
            continue
        elif marker == _SOS and header.frame in _SEQUENTIAL_FRAMES:
            payload = payload[:-3] + bytes((0, 63, 0))
        parts.append(_PREFIX.pack(0xFF, marker, len(payload) + 2) + payload)
    return b"".join((*parts, content[end:]))


def _lacks_scans(content: bytes, header: Header) -> bool:
    """Return whether the lowest bit of a coefficient of a component has no scan.

    libjpeg does not warn if a file with several scans ends after one of them.
    """
    if header.frame not in _PROGRESSIVE_FRAMES and content[header.scan] == header.components:
        return False
    complete: dict[int, int] = {}  # by component: the bits of the coefficients that have all scans
    for marker, start, end in _segments(content):
        scan = content[start:end]
        if marker == _SOS and len(scan) >= 6:
            first, last, bits = scan[-3:] if header.frame in _PROGRESSIVE_FRAMES else (0, 63, 0)
            if bits & 15 == 0:
                for component in scan[1:-3:2]:
                    complete[component] = complete.get(component, 0) | ((2 << last) - (1 << first))
    return len(complete) < header.components or any(done != _ALL_COEFFICIENTS for done in complete.values())


def _has_lost_sector(content: bytes, header: Header) -> bool:
    """Return whether compressed data have a run of zeros that no encoder writes.

    Zeros can be decoded, and a decoder finds the next code soon afterwards. So libjpeg does not always warn.
    """
    if content.find(_ZEROS, header.scan) < 0:
        return False
    first_symbols: dict[int, int] = {}  # by class and number of the Huffman table: what a code of zeros stands for
    data = len(content)  # where the data of a scan without zeros start
    for marker, start, end in _segments(content):
        if content.find(_ZEROS, data, start) >= 0:
            return True
        data = len(content)
        if marker == _DHT:
            while start + 17 < min(end, len(content)):
                first_symbols[content[start]] = content[start + 17]
                start += 17 + sum(content[start + 1 : start + 17])
        elif marker == _SOS and not _can_be_zeros(content[start:end], first_symbols):
            data = end
    return content.find(_ZEROS, data) >= 0


def _can_be_zeros(scan: bytes, first_symbols: dict[int, int]) -> bool:
    """Return whether zeros in the data of a scan can stand for equal blocks: no difference of DC, and end of block."""
    if len(scan) < 6:
        return True
    first, last, bits = scan[-3:]
    refines_dc = first == 0 and bits >> 4 > 0
    dc = first > 0 or refines_dc or all(first_symbols.get(tables >> 4, 1) == 0 for tables in scan[2:-3:2])
    ac = last == 0 or all(first_symbols.get(0x10 | tables & 15, 1) & 15 == 0 for tables in scan[2:-3:2])
    return dc and ac
