"""What the app knows of images: the files it offers to open, and heat maps. Nothing that was sent is decoded here."""

import numpy as np
from PIL import Image

from app.serving.model import Model
from contract.images import MAX_BYTES, ImageError, letterboxed

__all__ = ["EXTENSIONS", "MAX_BYTES", "ImageError", "overlay"]

EXTENSIONS = ("jpg", "jpeg", "png", "jfif", "webp", "avif", "heic", "heif", "gif", "bmp", "tif", "tiff", "ppm", "pgm")

# From violet over orange to yellow: lightness rises with the value, so that it reads without color too.
_STOPS = [0.0, 0.35, 0.7, 1.0]
_RAMP = np.array([[60, 20, 110], [190, 50, 90], [250, 140, 30], [255, 240, 120]], dtype=np.float32)
_LEVELS = np.arange(256) / 255
_COLORS = np.stack([np.interp(_LEVELS, _STOPS, channel) for channel in _RAMP.T], axis=-1).round().astype(np.uint8)
_WEIGHTS = (255 * 0.85 * np.sqrt(_LEVELS)).round().astype(int).tolist()
_DIMMED = (0.7 * np.arange(256)).astype(int).tolist()


def overlay(image: Image.Image, model: Model, maps: np.ndarray, label: str) -> Image.Image:
    """Lay a label's class activation map over an image: bright where the model found it, dimmed gray elsewhere.

    Args:
        image: RGB, any size; the result has the same size.
        model: what was asked about the image.
        maps: its answer, float32 `[C, h, w]`; the largest value of all gets the full color, negative ones none.
        label: one of the model's classes.
    """
    found, top = maps[model.classes.index(label)], float(maps.max())
    strength = np.clip(found / top, 0, 1) if top > 0 else np.zeros_like(found)
    across, down = found.shape[1] / model.input_size[1], found.shape[0] / model.input_size[0]
    box = letterboxed(image.size, model.input_size) if model.letterbox else (0, 0, *model.input_size[::-1])
    seen = box[0] * across, box[1] * down, box[2] * across, box[3] * down  # the part of the map that is not bars
    level = Image.fromarray((strength * 255).astype(np.uint8)).resize(image.size, Image.Resampling.BICUBIC, seen)
    # By tables of 256 values and within Pillow: arrays of floating point would take half a gigabyte.
    weight = level.point(_WEIGHTS)
    level.putpalette(_COLORS.tobytes())
    dimmed = image.convert("L").point(_DIMMED).convert("RGB")
    return Image.composite(level.convert("RGB"), dimmed, weight)
