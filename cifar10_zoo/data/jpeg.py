"""JPEG compression and decompression as tensor operations on whole batches, for training.

Sources: ITU-T T.81 for the transform (A.3.3) and the tables (annex K), JFIF for the colors, libjpeg for the rest: the
tables of a quality, the rounding, and the filters that halve and double the color planes.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

QUALITIES = (50, 100)
"""The lowest and the highest random quality, as libjpeg counts it."""

# fmt: off
_LUMINANCE = (
    16, 11, 10, 16,  24,  40,  51,  61,
    12, 12, 14, 19,  26,  58,  60,  55,
    14, 13, 16, 24,  40,  57,  69,  56,
    14, 17, 22, 29,  51,  87,  80,  62,
    18, 22, 37, 56,  68, 109, 103,  77,
    24, 35, 55, 64,  81, 104, 113,  92,
    49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103,  99,
)
_CHROMINANCE = (
    17, 18, 24, 47, *4 * [99],
    18, 21, 26, 66, *4 * [99],
    24, 26, 56, 99, *4 * [99],
    47, 66, 99, 99, *4 * [99],
    *32 * [99],
)
_TO_YCBCR = (
    ( 0.299000,  0.587000,  0.114000),
    (-0.168736, -0.331264,  0.500000),
    ( 0.500000, -0.418688, -0.081312),
)
_TO_RGB = (
    (1.0,  0.000000,  1.402000),
    (1.0, -0.344136, -0.714136),
    (1.0,  1.772000,  0.000000),
)
# fmt: on


@dataclass(frozen=True)
class _Constants:
    """The constants of ``compress`` on one device: nothing is copied to a GPU while it captures a CUDA graph."""

    luminance: Tensor
    chrominance: Tensor
    to_ycbcr: Tensor
    to_rgb: Tensor
    dct: Tensor
    """[64, 64], from the 64 pixels of a block to its coefficients; its transpose is its inverse."""


def compress(images: Tensor, quality: Tensor, subsampling: Tensor) -> Tensor:
    """Return the images that libjpeg, up to rounding, decodes after it compressed ``images``.

    Args:
        images: [N, 3, S, S] uint8, S a multiple of 16.
        quality: [N] int64, 1 to 100; 0 for an image that is not compressed.
        subsampling: Whether the color planes have half the width and height (4:2:0), [N] bool.

    Returns:
        [N, 3, S, S] uint8.
    """
    constants = _constants(images.device)
    scale = _scale(quality.clamp(min=1))[:, None]  # any scale will do for an image that is not compressed
    luminance, chrominance = (
        torch.clamp((table * scale + 50) // 100, 1, 255) for table in (constants.luminance, constants.chrominance)
    )
    planes = torch.einsum("dc,nchw->ndhw", constants.to_ycbcr, images.float()).round()
    color = torch.where(
        subsampling[:, None, None, None],
        _double(_code(_halve(planes[:, 1:]), chrominance)),
        _code(planes[:, 1:], chrominance),
    )
    planes = torch.cat([_code(planes[:, :1] - 128, luminance) + 128, color], dim=1)
    decoded = torch.einsum("dc,nchw->ndhw", constants.to_rgb, planes).round().clamp(0, 255).to(torch.uint8)
    return torch.where(quality[:, None, None, None] > 0, decoded, images)


def _scale(quality: Tensor) -> Tensor:
    """Return libjpeg's factor of the tables in percent: 100 for quality 50, 0 for quality 100."""
    return torch.where(quality < 50, 5000 // quality, 200 - 2 * quality)


def _code(planes: Tensor, table: Tensor) -> Tensor:
    """Return ``planes`` [N, C, H, W], values from -128 to 127, after quantization with ``table`` [N, 64]."""
    shape, steps = planes.shape, table[:, None]
    rows, columns = shape[2] // 8, shape[3] // 8
    blocks = planes.reshape(*shape[:2], rows, 8, columns, 8).transpose(3, 4).reshape(shape[0], -1, 64)
    dct = _constants(planes.device).dct
    coefficients = (blocks @ dct.T * 8).round() / 8  # libjpeg's integer transform keeps three bits after the point
    quantized = coefficients.sign() * torch.floor(coefficients.abs() / steps + 0.5)
    decoded = (quantized * steps @ dct).round().clamp(-128, 127)
    return decoded.reshape(*shape[:2], rows, columns, 8, 8).transpose(3, 4).reshape(shape)


def _halve(planes: Tensor) -> Tensor:
    """Return the means of 2x2 pixels; a mean of two and a half rounds down in even columns and up in odd ones."""
    odd = torch.arange(planes.shape[3] // 2, device=planes.device) % 2
    return torch.floor(F.avg_pool2d(planes, 2) + 0.25 * (1 + odd))


def _double(planes: Tensor) -> Tensor:
    return F.interpolate(planes, scale_factor=2.0, mode="bilinear").round()


@lru_cache
def _constants(device: torch.device) -> _Constants:
    frequency = torch.arange(8.0)
    cosines = torch.cos(math.pi / 16 * frequency[:, None] * (2 * frequency + 1)) / 2
    cosines[0] /= math.sqrt(2)
    return _Constants(
        luminance=torch.tensor(_LUMINANCE, device=device),
        chrominance=torch.tensor(_CHROMINANCE, device=device),
        to_ycbcr=torch.tensor(_TO_YCBCR, device=device),
        to_rgb=torch.tensor(_TO_RGB, device=device),
        dct=torch.kron(cosines, cosines).to(device),
    )
