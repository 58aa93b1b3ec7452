"""PNG files written byte by byte, with the pixels that the standard (PNG, third edition) says are seen on white."""

import struct
import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

SIDE = 32
PICTURE = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""By pass of an interlaced file: the first column, the first row, and the distance of columns and of rows."""


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(values: np.ndarray, depth: int, color: int, *chunks: bytes, interlaced: bool = False) -> bytes:
    """Return a PNG file of samples [H, W] or [H, W, channels] with ``depth`` bits and the given color type."""
    height, width = values.shape[:2]
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    rows = (packed(row, depth) for x, y, dx, dy in passes for row in values[y::dy, x::dx] if row.size)
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlaced)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"".join((b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), *chunks, chunk(b"IDAT", data), chunk(b"IEND", b"")))


def packed(row: np.ndarray, depth: int) -> bytes:
    """Return a row of samples, the first one in the highest bits (7.2)."""
    if depth == 16:
        return row.astype(">u2").tobytes()
    bits = row.reshape(-1, 1).astype(np.uint8) >> np.arange(depth - 1, -1, -1) & 1
    return np.packbits(bits).tobytes()


def gray(values: np.ndarray) -> Pixels:
    return np.repeat(values[..., None], 3, axis=2).astype(np.uint8)


def transparent_grays() -> Iterator[tuple[str, bytes, Pixels]]:
    """Yield name, file and pixels for each transparent value of gray with 1, 2 and 4 bits, and for some with 8 and 16.

    The upper bits of the value have no meaning (11.3.1.1), so some files set them.
    """
    for depth in (1, 2, 4, 8, 16):
        most = (1 << depth) - 1
        values = np.arange(SIDE * SIDE).reshape(SIDE, SIDE) // 7 * max(1, most // 251) % (most + 1)
        seen = values >> 8 if depth == 16 else values * 255 // most
        for key in range(most + 1) if depth < 8 else values[3, :20:6].tolist():
            for upper in (0, 0xFFFF & ~most) if depth < 16 else (0,):
                content = png(values, depth, 0, chunk(b"tRNS", struct.pack(">H", key | upper)))
                name = f"gray of {depth} bits, {key} transparent" + ", upper bits set" * (upper > 0)
                yield name, content, gray(np.where(values == key, 255, seen))


def transparent_colors() -> Iterator[tuple[str, bytes, Pixels]]:
    """Yield name, file and pixels of RGB with a transparent color.

    Neighbors of that color, which differ in one bit of one channel, are opaque.
    """
    pixels = PICTURE.copy()
    pixels[8:20, 8:20] = (10, 20, 30)
    for depth in (8, 16):
        values = pixels.astype(int) * (257 if depth == 16 else 1)
        key = values[10, 10].tolist()
        transparent = np.zeros((SIDE, SIDE), bool)
        transparent[8:20, 8:20] = True
        for bit in range(depth):
            for channel in range(3):
                values[8 + channel, 8 + bit % 12, channel] ^= 1 << bit
                transparent[8 + channel, 8 + bit % 12] = False
        content = chunk(b"tRNS", struct.pack(">HHH", *key))
        seen = values >> 8 if depth == 16 else values
        expected = np.where(transparent[..., None], 255, seen).astype(np.uint8)
        for interlaced in (False, True):
            name = f"RGB of {depth} bits" + ", interlaced" * interlaced
            yield name, png(values, depth, 2, content, interlaced=interlaced), expected


def opaque_files() -> dict[str, tuple[bytes, Pixels]]:
    """Return files without transparency and their pixels; the first two are plain, and Pillow decodes the others."""
    rgb = PICTURE
    alpha = np.dstack([rgb, np.full((SIDE, SIDE), 255, np.uint8)])
    text = chunk(b"tEXt", b"Comment\0a chunk that no decoder needs")
    return {
        "RGB": (png(rgb, 8, 2, chunk(b"gAMA", struct.pack(">I", 45455))), rgb),
        "gray": (png(rgb[..., 0], 8, 0), gray(rgb[..., 0])),
        "RGB with text": (png(rgb, 8, 2, text), rgb),
        "RGBA": (png(alpha, 8, 6), rgb),
        "RGB of 16 bits": (png(rgb.astype(int) * 257, 16, 2), rgb),
        "interlaced RGB": (png(rgb, 8, 2, interlaced=True), rgb),
    }
