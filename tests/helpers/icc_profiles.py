"""Color profiles written from their specification (ICC.1:2022), and the sRGB colors that they stand for, by formula."""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Point = tuple[float, float]

D50_XYZ = np.array([0.9642, 1.0, 0.8249])
"""The white of the connection space of all profiles."""
D65: Point = (0.3127, 0.3290)
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def _xyz(x: float, y: float) -> Array:
    return np.array([x / y, 1, (1 - x - y) / y])


def _adaptation(source: Array, target: Array) -> Array:
    """The Bradford transform (ICC.1:2022, annex E) of XYZ [3] from one white to another."""
    matrix: Array = np.linalg.inv(BRADFORD) @ np.diag(BRADFORD @ target / (BRADFORD @ source)) @ BRADFORD
    return matrix


def _srgb_encode(linear: Array) -> Array:
    """IEC 61966-2-1; values 0 to 1 give 0 to 255."""
    clipped = linear.clip(0, 1)
    encoded: Array = np.where(clipped <= 0.0031308, 12.92 * clipped, 1.055 * clipped ** (1 / 2.4) - 0.055) * 255
    return encoded


def _srgb_decode(encoded: Array) -> Array:
    values = encoded / 255
    linear: Array = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return linear


@dataclass(frozen=True)
class RgbSpace:
    """An RGB color space: chromaticities of the primaries and of white, and a gamma or, if None, the curve of sRGB."""

    primaries: tuple[Point, Point, Point]
    white: Point = D65
    gamma: float | None = None
    table: int = 0
    """Number of entries of the curve in the profile, or 0 for a formula."""

    def to_xyz(self) -> Array:
        """The matrix from linear RGB to XYZ relative to ``white``."""
        columns = np.stack([_xyz(*primary) for primary in self.primaries], axis=1)
        matrix: Array = columns * np.linalg.solve(columns, _xyz(*self.white))
        return matrix

    def curve(self) -> bytes:
        """The curve as a ``curveType`` with a table, or as a ``parametricCurveType``."""
        if self.table:
            values = (65535 * _srgb_decode(np.linspace(0, 255, self.table))).round().astype(">u2")
            return b"curv" + bytes(4) + struct.pack(">I", self.table) + values.tobytes()
        if self.gamma is not None:
            return _parametric(0, self.gamma)
        return _parametric(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)

    def profile(self) -> bytes:
        """The ICC profile of the space."""
        colorants = (_adaptation(_xyz(*self.white), D50_XYZ) @ self.to_xyz()).T
        tags = {name: _xyz_tag(values) for name, values in zip((b"rXYZ", b"gXYZ", b"bXYZ"), colorants, strict=True)}
        curves = dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), self.curve())
        return _profile(b"mntr", b"RGB ", b"XYZ ", tags | curves)

    def to_srgb(self, pixels: NDArray[Any]) -> Array:
        """The sRGB colors of pixels [..., 3] in this space; colors that sRGB does not have are clipped."""
        linear = _srgb_decode(pixels) if self.gamma is None else (pixels / 255.0) ** self.gamma
        adapted = _adaptation(_xyz(*self.white), _xyz(*D65)) @ self.to_xyz()
        return _srgb_encode(linear @ (np.linalg.inv(SRGB.to_xyz()) @ adapted).T)


SRGB = RgbSpace(((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)))
ADOBE_RGB = RgbSpace(((0.64, 0.33), (0.21, 0.71), (0.15, 0.06)), gamma=563 / 256)
DISPLAY_P3 = RgbSpace(((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)))
PROPHOTO = RgbSpace(((0.734699, 0.265301), (0.159597, 0.840403), (0.036598, 0.000105)), (0.3457, 0.3585), gamma=1.8)


def gray_profile(gamma: float) -> bytes:
    """Return the ICC profile of gray with a gamma."""
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": _parametric(0, gamma)})


def gray_to_srgb(pixels: NDArray[Any], gamma: float) -> Array:
    """Return the sRGB colors of pixels in a gray space with a gamma."""
    return _srgb_encode((pixels / 255.0) ** gamma)


def cmyk_profile(lab_of: Callable[[tuple[int, ...]], Array]) -> bytes:
    """Return the ICC profile of a printer that prints ``lab_of((c, m, y, k))`` where each ink is at 0 or 1.

    Colors between are interpolated.
    """
    inks = [(c, m, y, k) for c in (0, 1) for m in (0, 1) for y in (0, 1) for k in (0, 1)]
    table = b"".join(_lab8(lab_of(ink)) for ink in inks)
    identity = struct.pack(">9i", *(65536 * (row == column) for row in range(3) for column in range(3)))
    ramp = bytes(range(256))
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + 4 * ramp + table + 3 * ramp
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": lut})


def dull_inks(levels: tuple[int, ...]) -> Array:
    """The CIELAB color of cyan, magenta, yellow and black ink at 0 or 1, with dull inks."""
    c, m, y, k = levels
    light = 100 - 25 * c - 30 * m - 5 * y - 20 * k * (1 - c * m * y / 2)
    return np.array([light, 25 * m - 15 * c, 30 * y - 20 * c])


def lab_to_srgb(lab: Array) -> Array:
    """Return the sRGB color of a CIELAB color [3] relative to D50, as in profiles."""
    f = (lab[0] + 16) / 116 + np.array([lab[1] / 500, 0, -lab[2] / 200])
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * D50_XYZ
    return _srgb_encode(np.linalg.inv(SRGB.to_xyz()) @ _adaptation(D50_XYZ, _xyz(*D65)) @ xyz)


def _lab8(lab: Array) -> bytes:
    return bytes([round(lab[0] * 2.55), round(lab[1]) + 128, round(lab[2]) + 128])


def _xyz_tag(values: Array) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(65536 * value) for value in values))


def _parametric(kind: int, *parameters: float) -> bytes:
    fixed = (round(65536 * parameter) for parameter in parameters)
    return b"para" + bytes(4) + struct.pack(f">HH{len(parameters)}i", kind, 0, *fixed)


def _profile(device: bytes, colors: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    """Return a profile of version 4.3 (ICC.1:2022, section 7)."""
    text = "test".encode("utf-16-be")
    description = b"mluc" + bytes(4) + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(text), 28) + text
    tags = {b"desc": description, b"cprt": description, b"wtpt": _xyz_tag(D50_XYZ)} | tags
    start = 128 + 4 + 12 * len(tags)
    table, data = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += struct.pack(">4sII", name, start + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    date = struct.pack(">6H", 2026, 1, 1, 0, 0, 0)
    header = struct.pack(">I4sI4s4s4s", start + len(data), bytes(4), 0x04300000, device, colors, connection)
    header += date + b"acsp" + bytes(28) + struct.pack(">3i", *(round(65536 * value) for value in D50_XYZ))
    return header.ljust(128, b"\0") + table + data
