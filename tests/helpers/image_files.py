"""Image files of each format, compression and pixel type, including types that Pillow can read but not write."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image

from tests.helpers import png_cases
from tests.helpers.icc_profiles import ADOBE_RGB, cmyk_profile, dull_inks

STORED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: upright[:, ::-1].swapaxes(0, 1),
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: upright[::-1].swapaxes(0, 1),
}
"""How a camera stores an upright image, by EXIF orientation; for 6, the first row belongs on the right."""


def picture(width: int, height: int, mode: str) -> Image.Image:
    """Return an image of colored waves with a little noise; equal arguments give equal images."""
    y, x, channel = np.ogrid[:height, :width, :3]
    noise = np.random.default_rng(0).integers(-8, 8, (height, width, 3))
    image = Image.fromarray((127 + 110 * np.sin(x / 9 + y / 5 * channel + channel) + noise).astype(np.uint8))
    if mode == "I;16":
        return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    return image.convert(mode)


def with_checksums(png: bytes) -> bytes:
    """Return the PNG file with correct checksums, so that a decoder does not stop at a wrong checksum."""
    chunks, start = [png[:8]], 8
    while len(png) >= start + 12:
        end = start + 8 + int.from_bytes(png[start : start + 4], "big")
        chunks += [png[start:end], struct.pack(">I", zlib.crc32(png[start + 4 : end]))]
        start = end + 4
    return b"".join(chunks) + png[start:]


def interlaced_png(width: int, height: int) -> bytes:
    """Return an interlaced (Adam7) PNG file, which Pillow cannot write."""
    return png_cases.png(np.asarray(picture(width, height, "RGB")), 8, 2, interlaced=True)


def tiled_tiff(width: int, height: int) -> bytes:
    """Return a gray TIFF file with one tile, which Pillow cannot write."""
    side = -(-max(width, height) // 16) * 16
    tags = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 277: 1, 322: side, 323: side, 324: 134, 325: side * side}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return struct.pack("<2sHIH", b"II", 42, 8, 10) + entries + bytes(4) + picture(side, side, "L").tobytes()


def rle_bmp(width: int, height: int) -> bytes:
    """Return a run-length encoded BMP file of 256 colors, which Pillow cannot write."""
    image = picture(width, height, "P")
    image.save(buffer := io.BytesIO(), "BMP")
    rows = np.asarray(image)[::-1].tolist()
    runs = b"".join(b"".join(bytes((1, index)) for index in row) + b"\0\0" for row in rows) + b"\0\1"
    header = bytearray(buffer.getvalue()[: 14 + 40 + 4 * 256])
    header[2:6], header[30:38] = struct.pack("<I", len(header) + len(runs)), struct.pack("<II", 1, len(runs))
    return bytes(header) + runs


def image_seeds() -> Iterator[bytes]:
    """Yield files of each format, compression and pixel type, in several sizes."""
    exif = Image.Exif()
    exif.update({0x0112: 6, 0x010E: "a text"})
    profile, inks = {"icc_profile": ADOBE_RGB.profile()}, {"icc_profile": cmyk_profile(dull_inks)}
    for size in ((32, 32), (57, 41), (9, 200), (300, 280)):
        more: dict[str, Any] = {"save_all": True, "append_images": [picture(*size, "RGB").rotate(90)]}
        # fmt: off
        variants: dict[tuple[str, str], list[dict[str, Any]]] = {
            ("JPEG", "RGB"): [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"exif": exif}],
            ("JPEG", "L"): [{}], ("JPEG", "CMYK"): [{}, inks],
            ("PNG", "RGB"): [{}, {"exif": exif}, more, profile], ("PNG", "P"): [{}, {"transparency": 3}],
            ("PNG", "RGBA"): [{}], ("PNG", "L"): [{"dpi": (72, 72)}], ("PNG", "1"): [{}], ("PNG", "I;16"): [{}],
            ("WEBP", "RGB"): [{}, {"lossless": True}, more], ("WEBP", "RGBA"): [{"exif": exif}],
            ("GIF", "P"): [{}, more | {"transparency": 3}],
            ("TIFF", "RGB"): [{"compression": name} for name in ("raw", "tiff_lzw", "tiff_deflate", "jpeg")],
            ("TIFF", "RGBA"): [{"compression": "tiff_lzw"}], ("TIFF", "1"): [{"compression": "group4"}],
            ("TIFF", "I;16"): [{}, {"compression": "tiff_lzw"}], ("AVIF", "RGB"): [{}, profile],
            ("TIFF", "P"): [more], ("BMP", "RGB"): [{}], ("BMP", "P"): [{}], ("BMP", "RGBA"): [{}],
        }
        # fmt: on
        for (name, mode), choices in variants.items():
            for choice in choices:
                picture(*size, mode).save(buffer := io.BytesIO(), name, **choice)
                yield buffer.getvalue()
        yield from (interlaced_png(*size), tiled_tiff(*size), rle_bmp(*size))
