"""What the app knows of images: the files it offers to open, and heat maps. Nothing that was sent is decoded here."""

import numpy as np
from PIL import Image

from contract.images import MAX_BYTES, ImageError

__all__ = ["EXTENSIONS", "MAX_BYTES", "ImageError", "overlay"]

EXTENSIONS = ("jpg", "jpeg", "png", "jfif", "webp", "avif", "heic", "heif", "gif", "bmp", "tif", "tiff", "ppm", "pgm")

# From violet over orange to yellow: lightness rises with the value, so that it reads without color too.
_STOPS = [0.0, 0.35, 0.7, 1.0]
_RAMP = np.array([[60, 20, 110], [190, 50, 90], [250, 140, 30], [255, 240, 120]], dtype=np.float32)
_LEVELS = np.arange(256) / 255
_COLORS = np.stack([np.interp(_LEVELS, _STOPS, channel) for channel in _RAMP.T], axis=-1).round().astype(np.uint8)
_WEIGHTS = (255 * 0.85 * np.sqrt(_LEVELS)).round().astype(int).tolist()
_DIMMED = (0.7 * np.arange(256)).astype(int).tolist()


def overlay(image: Image.Image, activation_map: np.ndarray, top: float) -> Image.Image:
    """Lay a class activation map over an image: bright where the model found the class, dimmed gray elsewhere.

    Args:
        image: RGB, any size; the result has the same size.
        activation_map: float32 `[h, w]`; only what is positive is shown.
        top: the value that gets the full color, e.g. the largest over all classes of this image.
    """
    strength = np.clip(activation_map / top, 0, 1) if top > 0 else np.zeros_like(activation_map)
    level = Image.fromarray((strength * 255).astype(np.uint8)).resize(image.size, Image.Resampling.BICUBIC)
    # By tables of 256 values and within Pillow: arrays of floating point would take half a gigabyte.
    weight = level.point(_WEIGHTS)
    level.putpalette(_COLORS.tobytes())
    dimmed = image.convert("L").point(_DIMMED).convert("RGB")
    return Image.composite(level.convert("RGB"), dimmed, weight)
