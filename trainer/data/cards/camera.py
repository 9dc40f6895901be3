"""The camera before which the drawn cards lie: scanners of all kinds and, when asked, a phone."""

from random import Random

import numpy as np
from PIL import Image, ImageFilter

from trainer.data.cards.texture import patch


def _tone(rnd: Random, pixels: np.ndarray, strength: float) -> np.ndarray:
    """Exposure, contrast, saturation, white balance and gamma of one device; pixels are 0 to 1."""
    balance = np.array([rnd.gauss(1, 0.03 * strength) for _ in range(3)], np.float32)
    pixels = pixels * balance * rnd.gauss(1, 0.06 * strength)
    grey = pixels.mean(axis=2, keepdims=True)
    pixels = grey + (pixels - grey) * rnd.gauss(1, 0.12 * strength)
    pixels = 0.5 + (pixels - 0.5) * rnd.gauss(1, 0.08 * strength) + rnd.gauss(0, 0.02 * strength)
    return np.clip(pixels, 0, 1) ** float(np.exp(rnd.gauss(0, 0.12 * strength)))


def _scan(rnd: Random, card: Image.Image) -> Image.Image:
    """Lay the card on a scanner: margins or a cropped edge, a slight turn."""
    w, h = card.size
    margin = rnd.choice((0, 0, rnd.gauss(0, 0.012), rnd.gauss(0.01, 0.02)))
    turn = rnd.choice((0, 0, 0, rnd.gauss(0, 0.012)))
    left, top, right, bottom = (
        -w * margin + rnd.gauss(0, 1),
        -h * margin + rnd.gauss(0, 1),
        w * (1 + margin),
        h * (1 + margin),
    )
    shift = turn * h
    corners = (left, top, left - shift, bottom, right - shift, bottom + turn * w, right, top + turn * w)
    ground = tuple(rnd.choice((rnd.randint(225, 255), rnd.randint(0, 40))) for _ in range(1)) * 3
    return card.transform((w, h), Image.Transform.QUAD, corners, Image.Resampling.BILINEAR, fillcolor=ground)


def shoot(rnd: Random, card: Image.Image, *, photo: bool) -> tuple[Image.Image, int]:
    """Take a picture of a flat card. Returns it with a JPEG quality; its size says nothing about the card."""
    image = _scan(rnd, card)
    width = round(140 * (488 / 140) ** rnd.random())
    size = (width, round(width * rnd.uniform(1.37, 1.42)))
    if rnd.random() < 0.3:
        image = image.filter(ImageFilter.GaussianBlur(rnd.uniform(0.2, 1.2)))
    image = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    pixels = _tone(rnd, np.asarray(image, np.float32) / 255, 2.0 if photo else 1.0)
    noise = abs(rnd.gauss(0, 0.02))
    pixels = pixels + noise * patch(rnd, "noise", *size)[..., None]
    return Image.fromarray((np.clip(pixels, 0, 1) * 255).astype(np.uint8)), rnd.randint(40, 95)
