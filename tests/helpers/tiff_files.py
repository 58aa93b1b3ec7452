"""TIFF files of every kind, written from the specification: TIFF 6.0 (1992), and BigTIFF."""

import struct
import zlib
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import Any, Literal

import numpy as np


class Photometric(IntEnum):
    """What the samples mean (TIFF 6.0, p. 37)."""

    WHITE_IS_ZERO = 0
    BLACK_IS_ZERO = 1
    RGB = 2
    PALETTE = 3
    CMYK = 5
    YCBCR = 6
    CIELAB = 8


UNCOMPRESSED, LZW, DEFLATE, PACKBITS = 1, 5, 8, 32773
_SAMPLE_FORMATS = {"u": 1, "i": 2, "f": 3, "c": 6}
_SHORT, _LONG, _LONG8 = 3, 4, 16
_CODES = {_SHORT: "H", _LONG: "I", _LONG8: "Q"}


def tiff(
    samples: np.ndarray,
    photometric: Photometric,
    *,
    order: Literal["<", ">"] = "<",
    compression: int = UNCOMPRESSED,
    planar: bool = False,
    rows_per_strip: int | None = None,
    tiled: bool = False,
    predictor: bool = False,
    big: bool = False,
    bits: int | None = None,
    tags: dict[int, list[int]] | None = None,
) -> bytes:
    """Return a TIFF file with one image.

    Args:
        samples: The samples [H, W] or [H, W, N] as stored; the dtype gives bits per sample and sample format.
        photometric: What the samples mean.
        order: ``<`` for little-endian, ``>`` for big-endian.
        compression: ``UNCOMPRESSED``, ``LZW``, ``DEFLATE`` or ``PACKBITS``.
        planar: Store the planes one after another instead of the samples of each pixel.
        rows_per_strip: The height of a strip; None for one strip.
        tiled: Store tiles of 16 x 16 pixels instead of strips; height and width must be multiples of 16.
        predictor: Store the differences of neighboring samples (TIFF 6.0, section 14).
        big: Write a BigTIFF file, with offsets of 64 bits.
        bits: Bits per sample, if fewer than the dtype has; the samples are packed.
        tags: Further tags of the type SHORT, or other values for the tags above.
    """
    height, width = samples.shape[:2]
    samples = samples.reshape(height, width, -1)
    count = samples.shape[2]
    planes = np.split(samples, count, axis=2) if planar else [samples]
    block = (16, 16) if tiled else (rows_per_strip or height, width)
    data = [
        _compress(_packed(_differences(part) if predictor else part, order, bits), compression)
        for plane in planes
        for part in _blocks(plane, *block)
    ]
    offsets, sizes = (324, 325) if tiled else (273, 279)
    directory = {
        256: [width],
        257: [height],
        258: [bits or samples.dtype.itemsize * 8] * count,
        259: [compression],
        262: [photometric],
        277: [count],
        284: [2 if planar else 1],
        317: [2 if predictor else 1],
        339: [_SAMPLE_FORMATS[samples.dtype.kind]] * count,
        **({322: [16], 323: [16]} if tiled else {278: [block[0]]}),
        **(tags or {}),
        offsets: [0] * len(data),
        sizes: [len(part) for part in data],
    }
    start = len(_header_and_directory(directory, order, big, (offsets, sizes)))
    directory[offsets] = [start + sum(map(len, data[:index])) for index in range(len(data))]
    return _header_and_directory(directory, order, big, (offsets, sizes)) + b"".join(data)


def _header_and_directory(
    directory: dict[int, list[int]], order: Literal["<", ">"], big: bool, wide: tuple[int, ...]
) -> bytes:
    """Return the file without its pixels; the tags in ``wide`` have values of 32 or 64 bits."""
    number, pointer, inline, long = ("Q", "Q", 8, _LONG8) if big else ("H", "I", 4, _LONG)
    header = {"<": b"II", ">": b"MM"}[order]
    header += struct.pack(order + "HHHQ", 43, 8, 0, 16) if big else struct.pack(order + "HI", 42, 8)
    entry_size = 12 + inline if big else 8 + inline
    values_start = len(header) + struct.calcsize(order + number + pointer) + entry_size * len(directory)
    entries, values = b"", b""
    for tag, numbers in sorted(directory.items()):
        kind = long if tag in wide else _SHORT
        packed = struct.pack(f"{order}{len(numbers)}{_CODES[kind]}", *numbers)
        entries += struct.pack(order + "HH" + pointer, tag, kind, len(numbers))
        if len(packed) <= inline:
            entries += packed.ljust(inline, b"\0")
        else:
            entries += struct.pack(order + pointer, values_start + len(values))
            values += packed
    return header + struct.pack(order + number, len(directory)) + entries + struct.pack(order + pointer, 0) + values


def _blocks(plane: np.ndarray, height: int, width: int) -> Iterator[np.ndarray]:
    for top in range(0, plane.shape[0], height):
        for left in range(0, plane.shape[1], width):
            yield plane[top : top + height, left : left + width]


def _differences(block: np.ndarray) -> np.ndarray:
    return np.diff(block, axis=1, prepend=np.zeros_like(block[:, :1]))


def _packed(block: np.ndarray, order: Literal["<", ">"], bits: int | None) -> bytes:
    """Return the bytes of a block; each row begins at a byte."""
    if bits is None:
        return block.astype(block.dtype.newbyteorder(order)).tobytes()
    rows = block.reshape(len(block), -1, 1).astype(np.uint16)
    digits: Any = rows >> np.arange(bits - 1, -1, -1, dtype=np.uint16) & 1
    return np.packbits(digits.reshape(len(block), -1).astype(np.uint8), axis=1).tobytes()


def _compress(data: bytes, compression: int) -> bytes:
    encoders: dict[int, Callable[[bytes], bytes]] = {LZW: _lzw, DEFLATE: zlib.compress, PACKBITS: _packbits}
    return encoders[compression](data) if compression in encoders else data


def _lzw(data: bytes) -> bytes:
    """Return the data as LZW codes of 9 bits (TIFF 6.0, section 13), with a clear code before the table is full."""
    clear, end = 256, 257
    codes = [code for start in range(0, len(data), 200) for code in (clear, *data[start : start + 200])] + [end]
    bits = "".join(f"{code:09b}" for code in codes)
    return bytes(int(bits[start : start + 8].ljust(8, "0"), 2) for start in range(0, len(bits), 8))


def _packbits(data: bytes) -> bytes:
    """Return the data as literal runs (TIFF 6.0, section 9)."""
    parts = (data[start : start + 128] for start in range(0, len(data), 128))
    return b"".join(bytes([len(part) - 1]) + part for part in parts)
