"""The sheet a card is drawn on: textured panels, lines of text and signs, in units of a 488 × 680 card."""

from functools import lru_cache
from random import Random

import numpy as np
from PIL import Image, ImageDraw

from cards.drawn import symbols, text
from cards.drawn.texture import patch

RGB = tuple[int, int, int]
Box = tuple[float, float, float, float]
UNITS = (488, 680)


@lru_cache(maxsize=512)
def _rounded(width: int, height: int, radius: int) -> Image.Image:
    mask = Image.new("L", (width, height), 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, width - 1, height - 1), radius, fill=255)
    return mask


@lru_cache(maxsize=256)
def _ramp(width: int, height: int) -> Image.Image:
    """From black on the left to white on the right, steep in the middle, as printed gold frames fade."""
    line = np.clip((np.arange(width) / max(1, width - 1) - 0.3) / 0.4, 0, 1) * 255
    return Image.fromarray(np.tile(line.astype(np.uint8), (height, 1)))


def _colored(gray: Image.Image, color: RGB) -> Image.Image:
    return Image.merge("RGB", [gray.point([min(255, c * (v + 128) // 256) for v in range(256)]) for c in color])


def luminance(color: RGB) -> float:
    """Perceived brightness, 0 to 255."""
    return 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]


class Canvas:
    """A card in the making. Every box and place is in card units; `scale` pixels make one unit."""

    def __init__(self, rnd: Random, width: int) -> None:
        """An empty card, so many pixels wide; its ink is drawn from `rnd`, as is all that follows."""
        self.rnd = rnd
        self.scale = width / UNITS[0]
        self.image = Image.new("RGB", (width, round(UNITS[1] * self.scale)), (18, 14, 12))
        self.draw = ImageDraw.Draw(self.image)
        self.saturation = rnd.uniform(0.75, 1.3)
        self.gain = rnd.uniform(0.85, 1.06)

    def px(self, value: float) -> int:
        """Units to whole pixels."""
        return round(value * self.scale)

    def box(self, box: Box) -> tuple[int, int, int, int]:
        """A box in pixels, at least two wide and high."""
        x0, y0, x1, y1 = (self.px(v) for v in box)
        return x0, y0, max(x1, x0 + 2), max(y1, y0 + 2)

    def tint(self, color: RGB, amount: float = 1.0) -> RGB:
        """This card's own print of a color: its ink is stronger or weaker, each panel a little different."""
        gray = luminance(color)
        saturation, gain = self.saturation, self.gain
        return tuple(
            min(255, max(0, round((gray + (c - gray) * saturation) * gain + self.rnd.gauss(0, 3) * amount)))
            for c in color
        )

    def panel(
        self, box: Box, color: RGB, kind: str = "cloud", amount: float = 0.04, *, zoom: float = 1.0, radius: float = 0,
        slope: float = 0.0, alpha: float = 1.0, end: RGB | None = None,
    ) -> None:  # fmt: skip
        """Fill a box with a textured color, which fades into `end` from left to right if there is one.

        `slope` lights it from above; `alpha` < 1 lets through what is below.
        """
        x0, y0, x1, y1 = self.box(box)
        width, height = x1 - x0, y1 - y0
        shade = amount * patch(self.rnd, kind, width, height, zoom * self.scale / 0.7)
        if slope:
            shade += np.linspace(slope, -slope, height, dtype=np.float32)[:, None]
        # One byte of shade per pixel, colored by a table per channel: a third of the work of coloring in floats.
        gray = Image.fromarray(np.clip(128 + shade * 256, 0, 255).astype(np.uint8))
        panel = _colored(gray, color)
        if end is not None and end != color:
            panel.paste(_colored(gray, end), (0, 0), _ramp(width, height))
        mask = _rounded(width, height, self.px(radius))
        if alpha < 1:
            mask = mask.point([int(v * alpha) for v in range(256)])
        self.image.paste(panel, (x0, y0), mask)

    def outline(self, box: Box, color: RGB, thick: float = 2, radius: float = 0, end: RGB | None = None) -> None:
        """Draw the edge of a box, its right half in the color `end` if there is one."""
        edges, width = self.box(box), max(1, self.px(thick))
        self.draw.rounded_rectangle(edges, self.px(radius), outline=color, width=width)
        if end is not None and end != color:
            x0, y0, x1, y1 = edges
            half = (x0 + x1) // 2
            self.draw.line([(half, y0), (x1, y0), (x1, y1), (half, y1)], fill=end, width=width)

    def bevel(self, box: Box, thick: float = 3, *, sunken: bool = True) -> None:
        """Edges lit from the upper left."""
        x0, y0, x1, y1 = self.box(box)
        t = max(1, self.px(thick))
        dark, light = (20, 18, 16), (225, 220, 205)
        upper, lower = (dark, light) if sunken else (light, dark)
        self.draw.line([(x0, y1), (x0, y0), (x1, y0)], fill=upper, width=t)
        self.draw.line([(x0, y1), (x1, y1), (x1, y0)], fill=lower, width=t)

    def paste(self, image: Image.Image, box: Box, radius: float = 0) -> None:
        """Put a picture into a box."""
        x0, y0, x1, y1 = self.box(box)
        if image.size != (x1 - x0, y1 - y0):
            image = image.resize((x1 - x0, y1 - y0), Image.Resampling.BILINEAR)
        self.image.paste(image, (x0, y0), _rounded(x1 - x0, y1 - y0, self.px(radius)) if radius else None)

    def write(
        self, x: float, y: float, words: str, family: str, size: float, fill: RGB, *, anchor: str = "lm",
        shadow: RGB | None = None, room: float | None = None,
    ) -> None:  # fmt: skip
        """One line of text, made smaller until it fits into `room` units."""
        if family.startswith("cm"):  # Computer Modern keeps its long dash elsewhere
            words = words.replace("—", "-")
        pixels = self.px(size)
        if room is not None:
            while pixels > 5 and text.width(words, family, pixels) > room * self.scale:
                pixels -= 1
        face, at = text.font(family, pixels), (x * self.scale, y * self.scale)
        if shadow is not None:
            self.draw.text((at[0] + self.scale * 2, at[1] + self.scale * 2), words, shadow, face, anchor=anchor)
        self.draw.text(at, words, fill, face, anchor=anchor)

    def pips(self, right: float, y: float, signs: list[str], size: float, *, flat: bool = False) -> float:
        """A cost, set flush right; returns where it begins."""
        edge = max(5, self.px(size))
        x = self.px(right)
        for sign in reversed(signs):
            x -= edge + 1
            image = symbols.pip(sign, edge, flat)
            self.image.paste(image, (x, self.px(y) - edge // 2), image)
        return x / self.scale

    def paragraphs(
        self, box: Box, paragraphs: list[tuple[list[str], bool]], family: str, fill: RGB, color: str, *,
        size: float = 23, centered: bool = False,
    ) -> None:  # fmt: skip
        """Rules text in a box, shrunk until it fits: pairs of (words, whether italic). `{C}` is a pip of `color`."""
        x0, y0, x1, y1 = self.box(box)
        pixels = self.px(size)
        while True:
            slanted = text.ITALIC[family]
            blocks = [(text.wrap(words, slanted if it else family, pixels, x1 - x0), it) for words, it in paragraphs]
            gap = pixels * 0.35
            tall = sum(len(lines) for lines, _ in blocks) * pixels * 1.04 + gap * (len(blocks) - 1)
            if tall <= y1 - y0 or pixels <= 6:
                break
            pixels -= 1
        y = y0 + max(0.0, (y1 - y0 - tall) / 2)
        for lines, it in blocks:
            face_name = slanted if it else family
            face = text.font(face_name, pixels)
            for line in lines:
                if y > y1:
                    return
                x: float = x0
                if centered:
                    x += max(0.0, (x1 - x0 - text.width(" ".join(line), face_name, pixels)) / 2)
                if any(word[0] == "{" for word in line):
                    self._mixed(x, y, line, face_name, pixels, fill, color)
                else:
                    self.draw.text((x, y), " ".join(line), fill, face)
                y += pixels * 1.04
            y += gap

    def _mixed(self, x: float, y: float, line: list[str], family: str, pixels: int, fill: RGB, color: str) -> None:
        """A line of words and signs."""
        for word in line:
            rest = word
            while rest.startswith("{"):
                sign, _, rest = rest[1:].partition("}")
                image = symbols.pip(color if sign == "C" else sign, max(5, int(pixels * 0.8)), flat=True)
                self.image.paste(image, (round(x), round(y + pixels * 0.15)), image)
                x += image.width
            self.draw.text((x, y), rest, fill, text.font(family, pixels))
            x += text.width(rest, family, pixels) + pixels * 0.25
