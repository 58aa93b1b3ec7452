"""JPEG files: whole ones of many kinds, ones with harmless faults, and damaged ones (ITU-T T.81)."""

import io
import struct
from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

SECTOR = 512
END = b"\xff\xd9"


def scene(seed: int, width: int = 800, height: int = 600) -> Image.Image:
    """Return a picture with smooth parts, texture and noise."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = 128 + 100 * np.sin(x / 60 + random.uniform(0, 6)) * np.cos(y / 45)
    colors = np.stack([x / width * 255, y / height * 255, waves], axis=2)
    noisy = colors + random.normal(0, 12, (height, width, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(1))


def encode(image: Image.Image, **options: object) -> bytes:
    image.save(file := io.BytesIO(), "JPEG", **options)
    return file.getvalue()


def encodings() -> Iterator[tuple[str, dict[str, object]]]:
    """Yield the name and Pillow's options of each kind of JPEG file."""
    for progressive, subsampling, quality in product((False, True), (0, 1, 2), (30, 85, 98)):
        name = f"{'progressive' if progressive else 'baseline'}, subsampling {subsampling}, quality {quality}"
        options: dict[str, object] = {"progressive": progressive, "subsampling": subsampling, "quality": quality}
        yield name, options
        yield name + ", restart markers", options | {"restart_marker_rows": 2}
        if not progressive:
            yield name + ", optimized", options | {"optimize": True}


def scan_starts(content: bytes) -> list[int]:
    """Return where the SOS marker of each scan is; for files in which only compressed data contain 0xFF."""
    return [at for at in range(len(content)) if content[at : at + 2] == b"\xff\xda"]


def segment(marker: int, payload: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(payload) + 2) + payload


def damaged_files(content: bytes, random: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """Yield files with lost data, as disks, networks and repair programs leave them; ``content`` is the whole file."""
    first = scan_starts(content)[0] // SECTOR + 1
    at = SECTOR * int(random.integers(first, max(first + 1, len(content) // SECTOR - 8)))
    for size in (SECTOR, 8 * SECTOR):
        yield f"zeros in place of {size} bytes at {at}", content[:at] + bytes(size) + content[at + size :]
        yield f"{size} bytes removed at {at}", content[:at] + content[at + size :]
    yield "no end marker", content[:-2]
    yield f"cut at {at}", content[:at]
    yield f"cut at {at}, with an end marker", content[:at] + END
    yield f"zeros from {at}", content[:at] + bytes(len(content) - at)
    yield f"zeros from {at}, with an end marker", content[:at] + bytes(len(content) - at - 2) + END


def harmless_faults(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield files that break the standard but have all data, made of a whole file with JFIF marker."""
    scan = scan_starts(content)[0]
    data = scan + 2 + int.from_bytes(content[scan + 2 : scan + 4], "big")
    yield "bytes after the end", content + bytes(300)
    yield "another image after the end", content + content
    yield "a byte too many before the end", content[:-2] + b"\x13" + END
    yield "12 bytes too many before the end", content[:-2] + bytes(range(1, 13)) + END
    yield "padding before the end", content[:-2] + b"\xff\xff\xff" + END
    yield "bytes too many in the header", content[:scan] + b"\x13\x14\x15" + content[scan:]
    yield "padding in the header", content[:scan] + b"\xff\xff" + content[scan:]
    yield "an unknown version of JFIF", content.replace(b"JFIF\0\1", b"JFIF\0\2", 1)
    yield "a damaged color profile", content[:2] + segment(0xE2, b"ICC_PROFILE\0\2\1?") + content[2:]
    if b"\xff\xc0" in content[:scan]:  # sequential
        yield "zeros as parameters of the scan", content[: data - 3] + bytes(3) + content[data:]


def flat_blocks(
    gray: np.ndarray,
    factors: Sequence[tuple[int, int]],
    chroma: int = 90,
    scans: Sequence[Sequence[int]] = ((0, 1, 2),),
) -> tuple[bytes, NDArray[np.float64]]:
    """Return a sequential JPEG file of blocks of one color each, and its RGB values [H, W, 3].

    Args:
        gray: The Y of each block [rows, columns].
        factors: The sampling factors (H, V) of Y, Cb and Cr; those of Y divide columns and rows.
        chroma: Cb of all blocks; Cr is 255 - Cb.
        scans: The components in each scan.
    """
    (wide, high), (rows, columns) = factors[0], gray.shape
    planes = [gray] + [
        np.full((rows // high * v, columns // wide * h), value)
        for value, (h, v) in zip((chroma, 255 - chroma), factors[1:], strict=True)
    ]
    frame = struct.pack(">BHHB", 8, rows * 8, columns * 8, 3)
    frame += b"".join(bytes((number, h << 4 | v, 0)) for number, (h, v) in enumerate(factors))
    dc = bytes((0x00, 0, 0, 0, 12, *[0] * 12, *range(12)))  # the sizes 0 to 11 have codes of 4 bits
    ac = bytes((0x10, 1, *[0] * 15, 0))  # the end of block has the code 0 of one bit
    content = b"\xff\xd8" + segment(0xDB, b"\0" + bytes([8]) * 64) + segment(0xC0, frame) + segment(0xC4, dc + ac)
    for components in scans:
        tables = b"".join(bytes((number, 0)) for number in components)
        content += segment(0xDA, bytes([len(components)]) + tables + bytes((0, 63, 0)))
        content += _coded(_blocks(planes, factors, components))
    y, cb, cr = np.kron(gray, np.ones((8, 8))), chroma - 128, 127 - chroma
    return content + END, np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], axis=2)


def _blocks(
    planes: Sequence[np.ndarray], factors: Sequence[tuple[int, int]], components: Sequence[int]
) -> Iterator[tuple[int, int]]:
    """Yield (component, value) of each block in the order of the standard (A.2)."""
    if len(components) == 1:
        yield from ((components[0], value) for value in planes[components[0]].ravel().tolist())
        return
    (wide, high), (rows, columns) = factors[0], planes[0].shape
    for row, column in product(range(rows // high), range(columns // wide)):
        for component in components:
            h, v = factors[component]
            unit = planes[component][row * v : (row + 1) * v, column * h : (column + 1) * h]
            yield from ((component, value) for value in unit.ravel().tolist())


def _coded(blocks: Iterator[tuple[int, int]]) -> bytes:
    """Return the data of a scan: for each block the difference of DC (F.1.2.1), then the end of block.

    With 8 as quantizer, the DC coefficient of a block of one value is this value minus 128.
    """
    bits: list[str] = []
    before: dict[int, int] = {}
    for component, value in blocks:
        difference = value - before.get(component, 128)
        before[component] = value
        size = abs(difference).bit_length()
        extra = difference if difference > 0 else difference + (1 << size) - 1
        bits.append(f"{size:04b}" + (f"{extra:0{size}b}" if size else "") + "0")
    joined = "".join(bits)
    joined += "1" * (-len(joined) % 8)
    return int(joined, 2).to_bytes(len(joined) // 8, "big").replace(b"\xff", b"\xff\0")
