"""Decode plain PNG files fast, check the checksums of all PNG files, and find their transparent pixels.

kornia-rs is several times as fast as Pillow and gives the same pixels. It ignores transparency, orientation and similar
features, so it gets only files without such features. Names of chunks are those of the standard, PNG (third edition).
"""

import io
import struct
import zlib
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from cifar10_runtime.errors import ImageError
from cifar10_runtime.text import printable

try:
    from kornia_rs.io import decode_image_png_u8
except ImportError:  # some platforms have no wheel of it
    decode_image_png_u8 = None

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLORS = {0: "mono", 2: "rgb"}
"""The names in kornia-rs of the color types without palette and transparency."""
_MAX_PLAIN_PIXELS = 1 << 20
"""Larger files go to Pillow, because kornia-rs ends the process when memory runs out."""
_PLAIN_CHUNKS = {b"IHDR", b"IDAT", b"IEND", b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"pHYs", b"tIME"}
"""Chunks that add no palette, transparency, animation, color profile or orientation."""
_CRITICAL_CHUNKS = {b"IHDR", b"IDAT", b"IEND"}
_HEADER = struct.Struct(">IIBBBBB")
"""Width, height, bit depth, color type, compression, filter and interlace methods in the chunk IHDR."""
_DEPTH = 8
"""The place of the bit depth in the chunk IHDR."""
_PREFIX = struct.Struct(">I4s")
"""What precedes the data of a chunk: their length, and the type of the chunk."""
_CRC = struct.Struct(">I")
"""What follows the data of a chunk."""
_EMPTY_CHUNK = _PREFIX.size + _CRC.size
"""Bytes of a chunk without data."""
_TEXTS = {b"tEXt", b"zTXt", b"iTXt"}
_XMP = b"XML:com.adobe.xmp\0"
"""The keyword of the text that may contain the orientation."""
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples per pixel, by color type."""
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""First column, first row, and distances of columns and rows in each pass of an interlaced image."""
_END = b"\0\0\0\0IEND\xaeB`\x82"
"""The chunk IEND, with its CRC."""
_SMALLEST = 33
"""Bytes of the signature and the chunk IHDR."""
_KEPT = 16
"""How many bytes of a chunk ``check`` returns."""
_PIECE = 1 << 20
"""Bytes of a chunk to read at once."""

PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY  # color profiles, which count as texts, can be large


def is_png(beginning: bytes) -> bool:
    """Return whether a file that begins with these bytes is a PNG file."""
    return beginning.startswith(_SIGNATURE)


def check(file: IO[bytes], max_pixels: int) -> dict[bytes, bytes]:
    """Check the CRC of every chunk, and that the file has the data of all rows; Pillow checks neither.

    Args:
        file: The file, which is read to the end of the chunk IEND and rewound; any amount of data may follow.
        max_pixels: Width times height of the largest image.

    Returns:
        The first 16 bytes of the first chunk of each type, by type.

    Raises:
        ImageError: A CRC is wrong, the file ends before the chunk IEND does, rows are missing, or the image is too
            large.
    """
    chunks: dict[bytes, bytes] = {}
    rows = _MissingRows(0)
    file.seek(len(_SIGNATURE))
    while b"IEND" not in chunks:
        prefix = file.read(_PREFIX.size)
        if len(prefix) < _PREFIX.size:
            raise ImageError("truncated PNG")
        left, kind = _PREFIX.unpack(prefix)
        crc, first = zlib.crc32(kind), b""
        while left and (piece := file.read(min(left, _PIECE))):
            crc, left, first = zlib.crc32(piece, crc), left - len(piece), first or piece[:_KEPT]
            if kind == b"IDAT":
                rows.inflate(piece)
        checksum = file.read(_CRC.size)
        if len(checksum) < _CRC.size:
            raise ImageError("truncated PNG")
        if _CRC.unpack(checksum)[0] != crc:
            raise ImageError(f"damaged PNG: wrong checksum of the chunk {printable(kind.decode('latin-1'))}")
        if kind == b"IHDR" and kind not in chunks and len(first) == _HEADER.size:
            width, height, *_ = _HEADER.unpack(first)
            if width * height > max_pixels:
                raise ImageError(f"{width} x {height} pixels are more than {max_pixels}")
            rows = _MissingRows(_inflated_size(first))
        chunks.setdefault(kind, first)
    if rows.missing:
        raise ImageError("truncated PNG: rows are missing")
    file.seek(0)
    return chunks


class _MissingRows:
    """Counts the bytes that the IDAT chunks still have to give.

    Attributes:
        missing: Number of these bytes; less than 0 if there are too many.
    """

    def __init__(self, size: int) -> None:
        self.missing = size
        self._decompressor = zlib.decompressobj()

    def inflate(self, piece: bytes) -> None:
        """Count a piece of the compressed data; Pillow reports data that cannot be decompressed."""
        try:
            while piece and self.missing > 0:
                self.missing -= len(self._decompressor.decompress(piece, _PIECE))
                piece = self._decompressor.unconsumed_tail
        except zlib.error:
            self.missing = 0


def _inflated_size(header: bytes) -> int:
    """Return the bytes of all rows, each with its filter, of an image with this IHDR chunk (7.2 and 8.1)."""
    width, height, depth, color, _, _, interlaced = _HEADER.unpack(header)
    bits = depth * _CHANNELS.get(color, 0)
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    sizes = [(-((x - width) // dx), -((y - height) // dy)) for x, y, dx, dy in passes]
    return sum(rows * (1 + (columns * bits + 7) // 8) for columns, rows in sizes if columns > 0 and rows > 0)


def without_texts(content: bytes) -> bytes:
    """Return a checked file without its texts, except XMP: Pillow takes the text of some keywords for other data."""
    parts, start = [_SIGNATURE], len(_SIGNATURE)
    while start < len(content):
        length, kind = _PREFIX.unpack_from(content, start)
        end = start + _EMPTY_CHUNK + length
        if kind not in _TEXTS or content.startswith(_XMP, start + _PREFIX.size):
            parts.append(content[start:end])
        if kind == b"IEND":
            break
        start = end
    return b"".join(parts)


def decode_plain(content: bytes, max_pixels: int) -> NDArray[np.uint8] | None:
    """Return the pixels [H, W, 3] uint8 RGB of a plain file; None if the file is not plain, or is damaged.

    kornia-rs checks the CRC of every critical chunk that it reads, which is every one but IEND. Where it is not
    installed, no file is decoded.

    Args:
        content: The whole file.
        max_pixels: Width times height of the largest image to decode.

    Raises:
        ImageError: The CRC of another chunk is wrong.
    """
    if decode_image_png_u8 is None:
        return None
    if content[12:16] != b"IHDR" or len(content) < _SMALLEST or not content.endswith(_END):
        return None
    width, height, depth, color, _, _, interlaced = _HEADER.unpack_from(content, 16)
    if depth != 8 or color not in _COLORS or interlaced:
        return None
    if not 0 < width * height <= min(max_pixels, _MAX_PLAIN_PIXELS) or not (kinds := _plain_kinds(content)):
        return None
    if not kinds <= _CRITICAL_CHUNKS:
        check(io.BytesIO(content), max_pixels)
    try:
        pixels: NDArray[np.uint8] = decode_image_png_u8(content, (height, width), _COLORS[color])
    except Exception:  # kornia-rs has no narrower class, and its message has no reason
        return None
    return pixels if color else np.repeat(pixels, 3, axis=2)


def _plain_kinds(content: bytes) -> set[bytes]:
    """Return the types of the chunks; none if a chunk is not in ``_PLAIN_CHUNKS`` or bytes follow the last chunk."""
    kinds, start = set(), len(_SIGNATURE)
    while start < len(content):
        kind = content[start + 4 : start + 8]
        if kind not in _PLAIN_CHUNKS:
            return set()
        kinds.add(kind)
        start += _EMPTY_CHUNK + int.from_bytes(content[start : start + 4], "big")
    return kinds if start == len(content) else set()


def set_transparency(image: Image.Image, file: IO[bytes], chunks: dict[bytes, bytes]) -> None:
    """Change a loaded image so that Pillow's conversion to RGBA makes the pixels transparent that the file says.

    The chunk tRNS of gray and RGB files has one transparent value, at the depth of the file (11.3.1.1). Pillow compares
    it with pixels that it has expanded or reduced to 8 bits. In files with fewer than 16 bits, the upper bits of the
    value have no meaning.
    """
    if image.mode not in ("1", "L", "RGB") or "transparency" not in image.info:
        return
    depth = chunks[b"IHDR"][_DEPTH]
    most = (1 << depth) - 1
    values = [value & most for value in struct.unpack_from(">3H" if image.mode == "RGB" else ">H", chunks[b"tRNS"])]
    if depth == 16:
        image.putalpha(_opaque(image, file, np.array(values)))
    elif image.mode == "RGB":
        image.info["transparency"] = tuple(values)
    else:
        image.info["transparency"] = values[0] * 255 // most


def _opaque(image: Image.Image, file: IO[bytes], color: np.ndarray) -> Image.Image:
    """Return the alpha channel of RGB with 16 bits: 0 where a pixel has the transparent color, else 255."""
    with Image.open(file, formats=["PNG"]) as again:
        again.tile = [again.tile[0]._replace(args="RGB;16L")]  # the name of the other byte order gives the lower bytes
        lower = np.asarray(again)
    equal = (np.asarray(image) == color >> 8) & (lower == color & 255)
    return Image.fromarray(np.where(equal.all(axis=2), 0, 255).astype(np.uint8))
