"""Decode plain PNG files fast, check the checksums of all PNG files, and find their transparent pixels.

kornia-rs is several times as fast as Pillow and gives the same pixels. It ignores transparency, orientation and similar
features, so it gets only files without such features. Names of chunks are those of the standard, PNG (third edition).
"""

import struct
import zlib
from typing import IO

import numpy as np
from kornia_rs.io import decode_image_png_u8
from numpy.typing import NDArray
from PIL import Image

from cifar10_runtime.errors import ImageError
from cifar10_runtime.text import printable

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLORS = {0: "mono", 2: "rgb"}
"""The names in kornia-rs of the color types without palette and transparency."""
_MAX_PLAIN_PIXELS = 1 << 20
"""Larger files go to Pillow, because kornia-rs ends the process when memory runs out."""
_PLAIN_CHUNKS = {b"IHDR", b"IDAT", b"IEND", b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"pHYs", b"tIME"}
"""Chunks that add no palette, transparency, animation, color profile or orientation."""
_HEADER = struct.Struct(">IIBBBBB")
"""Width, height, bit depth, color type, compression, filter and interlace methods in the chunk IHDR."""
_DEPTH = 8
"""The place of the bit depth in the chunk IHDR."""
_PREFIX = struct.Struct(">I4s")
"""What precedes the data of a chunk: their length, and the type of the chunk."""
_PIECE = 1 << 20
"""Bytes of a chunk to read at once."""


def is_png(beginning: bytes) -> bool:
    """Return whether a file that begins with these bytes is a PNG file."""
    return beginning.startswith(_SIGNATURE)


def read_chunks(file: IO[bytes]) -> dict[bytes, bytes]:
    """Check the CRC of every chunk; return the first 16 bytes of the first chunk of each type, by type.

    Pillow decodes a file whose pixels have a wrong CRC.

    Args:
        file: The file, which is read to the end of the chunk IEND and rewound.

    Raises:
        ImageError: A CRC is wrong, or the file ends before the chunk IEND does.
    """
    chunks: dict[bytes, bytes] = {}
    read = file.read
    file.seek(len(_SIGNATURE))
    while b"IEND" not in chunks:
        prefix = read(_PREFIX.size)
        if len(prefix) < _PREFIX.size:
            raise ImageError("truncated PNG")
        left, kind = _PREFIX.unpack(prefix)
        piece = read(min(left, _PIECE))
        crc = zlib.crc32(piece, zlib.crc32(kind))
        chunks.setdefault(kind, piece[:16])
        while piece and (left := left - len(piece)):
            piece = read(min(left, _PIECE))
            crc = zlib.crc32(piece, crc)
        checksum = read(4)
        if checksum != crc.to_bytes(4, "big"):
            fault = f"damaged PNG: wrong checksum of the chunk {printable(kind.decode('latin-1'))}"
            raise ImageError("truncated PNG" if len(checksum) < 4 else fault)
    file.seek(0)
    return chunks


def decode_plain(content: bytes, chunks: dict[bytes, bytes], max_pixels: int) -> NDArray[np.uint8] | None:
    """Return the pixels [H, W, 3] uint8 RGB of a plain file; None if the file is not plain, or damaged.

    Args:
        content: The whole file.
        chunks: What ``read_chunks`` returned.
        max_pixels: Width times height of the largest image to decode.
    """
    if not chunks.keys() <= _PLAIN_CHUNKS or len(chunks.get(b"IHDR", b"")) != _HEADER.size:
        return None
    width, height, depth, color, _, _, interlaced = _HEADER.unpack(chunks[b"IHDR"])
    if depth != 8 or color not in _COLORS or interlaced:
        return None
    if not 0 < width * height <= min(max_pixels, _MAX_PLAIN_PIXELS):
        return None
    try:
        pixels: NDArray[np.uint8] = decode_image_png_u8(content, (height, width), _COLORS[color])
    except Exception:  # kornia-rs has no narrower class; Pillow, which decodes the file next, describes the damage
        return None
    return pixels if color else np.repeat(pixels, 3, axis=2)


def set_transparency(image: Image.Image, file: IO[bytes]) -> None:
    """Change a loaded image so that Pillow's conversion to RGBA makes the pixels transparent that the file says.

    The chunk tRNS of gray and RGB files has one transparent value, at the depth of the file (11.3.1.1). Pillow compares
    it with pixels that it has expanded or reduced to 8 bits. In files with fewer than 16 bits, the upper bits of the
    value have no meaning.
    """
    if image.mode not in ("1", "L", "RGB") or "transparency" not in image.info:
        return
    chunks = read_chunks(file)
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
