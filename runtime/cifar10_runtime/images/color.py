"""Convert pixels to sRGB as the color profile in their file says, by LittleCMS.

Browsers and image viewers do the same. The networks are trained on images without a profile, whose pixels are sRGB.
"""

import io
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    from PIL.ImageCms import ImageCmsTransform

_CACHED_PROFILES = 32
"""Conversions to keep; the key of each has its profile, of 500 bytes to some megabytes."""
_TOLERANCE = 1
"""A profile that changes no color by more than this, of 255, is sRGB: its tables are rounded differently."""


def to_srgb(pixels: NDArray[np.uint8], profile: bytes | None) -> NDArray[np.uint8]:
    """Return RGB pixels [H, W, 3] uint8 converted from the colors of ``profile`` to sRGB, like ``image_to_srgb``."""
    return np.asarray(image_to_srgb(Image.fromarray(pixels), profile)) if needs_conversion(profile) else pixels


def image_to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Return an image of mode RGB or CMYK as RGB, with its colors converted from those of ``profile`` to sRGB.

    The profile is ignored if it is absent or that of sRGB, if it is damaged (browsers ignore it, too), or if it
    describes other colors than the mode's. A profile of gray is applied to an RGB image if all pixels are gray.
    Without a profile, CMYK is converted by Pillow's formula: (1 - C) (1 - K).

    Args:
        image: An image of mode RGB or CMYK.
        profile: The bytes of an ICC profile.
    """
    if profile and (transform := _transform(profile, image.mode)):
        return transform.apply(image)
    if image.mode == "CMYK":
        return image.convert("RGB")
    if profile and (transform := _transform(profile, "L")) and _is_gray(image):
        return transform.apply(image.getchannel(0))
    return image


@lru_cache(maxsize=_CACHED_PROFILES)
def needs_conversion(profile: bytes | None, is_cmyk: bool = False) -> bool:
    """Return whether ``image_to_srgb`` changes colors of RGB (or CMYK) images because of this profile."""
    modes = ("CMYK",) if is_cmyk else ("RGB", "L")
    return bool(profile) and any(_transform(profile, mode) for mode in modes)


def _is_gray(image: Image.Image) -> bool:
    pixels = np.asarray(image)
    return bool((pixels == pixels[..., :1]).all())


@lru_cache(maxsize=_CACHED_PROFILES)
def _transform(profile: bytes, mode: str) -> "ImageCmsTransform | None":
    """Return the conversion from ``mode`` (RGB, L or CMYK) to sRGB; any number of threads may share it.

    None means that the conversion changes nothing, or that the profile is damaged or is not one for ``mode``.
    """
    from PIL import ImageCms  # imported late, because most images have no profile

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        srgb = ImageCms.createProfile("sRGB")
        transform = ImageCms.ImageCmsTransform(
            source, ImageCms.ImageCmsProfile(srgb), mode, "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC
        )
    except (OSError, ValueError):  # LittleCMS cannot read the profile
        return None
    return None if _keeps_colors(transform) else transform


def _keeps_colors(transform: "ImageCmsTransform") -> bool:
    levels = np.arange(0, 256, 15, dtype=np.uint8)
    colors = {
        "L": levels[None],
        "RGB": np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(len(levels), -1, 3),
    }
    if transform.input_mode not in colors:
        return False
    image = Image.fromarray(colors[transform.input_mode])
    before, after = np.asarray(image.convert("RGB")), np.asarray(transform.apply(image))
    return bool((np.maximum(before, after) - np.minimum(before, after) <= _TOLERANCE).all())
