"""Converts pixels to sRGB by the color profile in a file: phones write Display P3, cameras Adobe RGB, printers CMYK."""

import io
from functools import lru_cache
from typing import Any

from PIL import Image

# Larger ones are device links and spectral data that no camera writes.
MAX_PROFILE = 4 * 1024**2
# Cameras' and phones' own are kept; larger ones, and what is computed of them, would fill the memory of an image.
MAX_KEPT = 64 * 1024
_SPACES = {"RGB": "RGB ", "RGBA": "RGB ", "L": "GRAY", "CMYK": "CMYK"}


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """The same colors in sRGB: RGBA stays RGBA, anything else becomes RGB.

    Args:
        image: RGB, RGBA, L or CMYK; others are returned as they are.
        profile: the file's ICC profile; one that is broken, or for other pixels than these, is ignored.
    """
    if not profile or len(profile) > MAX_PROFILE:
        return image
    transform = (_kept if len(profile) <= MAX_KEPT else _transform)(profile, image.mode)
    return image if transform is None else transform.apply(image)


def _transform(profile: bytes, mode: str) -> Any:
    from PIL import ImageCms

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space != _SPACES.get(mode):
            return None
        # What most files carry changes nothing.
        if mode != "L" and (source.profile.profile_description or "").lower().startswith("srgb"):
            return None
        return ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGBA" if mode == "RGBA" else "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except MemoryError:
        raise
    except Exception:  # the metadata's fault, which must not decide over the pixels
        return None


_kept = lru_cache(maxsize=8)(_transform)
