"""What surrounds a photographed card: surfaces, hands, things that lie about, and light."""

import math
from random import Random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from cards.drawn.art import paint
from cards.drawn.canvas import RGB
from cards.drawn.texture import patch

BILINEAR, BICUBIC = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC


def field(rnd: Random, size: tuple[int, int], low: float, high: float) -> Image.Image:
    """A soft field of light as an `L` image of `size`: a ramp or a lamp, from `low` to `high` (0 to 255)."""
    y, x = np.mgrid[-1:1:24j, -1:1:20j]
    turn = rnd.uniform(0, math.tau)
    if rnd.random() < 0.5:
        values = 0.5 + 0.5 * (x * math.cos(turn) + y * math.sin(turn)) / 1.4
    else:
        values = np.exp(-(((x - rnd.uniform(-1, 1)) ** 2 + (y - rnd.uniform(-1, 1)) ** 2) / rnd.uniform(0.3, 3)))
    small = np.clip(low + (high - low) * values, 0, 255).astype(np.uint8)
    return Image.fromarray(small).resize(size, BICUBIC)


def shine(rnd: Random, image: Image.Image) -> None:
    """A lamp or a window mirrored in the surface, brightening it in place."""
    y, x = np.mgrid[-1:1:40j, -1:1:32j]
    turn, across, along = rnd.uniform(0, math.tau), rnd.uniform(0.05, 0.5), rnd.uniform(0.2, 3)
    u, v = x - rnd.uniform(-0.9, 0.9), y - rnd.uniform(-0.9, 0.9)
    u, v = u * math.cos(turn) + v * math.sin(turn), v * math.cos(turn) - u * math.sin(turn)
    spot = np.exp(-(np.abs(u / across) ** rnd.choice((2, 2, 6)) + np.abs(v / along) ** 2)) * rnd.uniform(40, 230)
    image.paste((255, 255, 250), (0, 0), Image.fromarray(spot.astype(np.uint8)).resize(image.size, BICUBIC))


WOODS = ((150, 105, 65), (190, 150, 105), (95, 62, 40), (215, 190, 155))


def surface(rnd: Random, w: int, h: int) -> Image.Image:
    """What a card is photographed on: a playmat, wood, a wall, cloth, printed paper, a heap of things."""
    kind = rnd.choice(("playmat", "wood", "plain", "plain", "wall", "wall", "dark", "cloth", "prints", "heap"))
    if kind == "playmat":
        return paint(rnd, w, h)
    value = {"wall": rnd.randint(150, 250), "dark": rnd.randint(8, 60)}.get(kind, rnd.randint(15, 245))
    plain = tuple(value + rnd.randint(-12, 12) for _ in range(3))
    colored = tuple(rnd.randint(15, 235) for _ in range(3))
    base, grain, amount = {
        "wood": (rnd.choice(WOODS), "fibre", 0.14),
        "plain": (plain, "cloud", 0.03),
        "wall": (plain, rnd.choice(("cloud", "noise")), 0.012),
        "dark": (plain, rnd.choice(("grain", "noise", "cloud")), 0.12),
    }.get(kind, (rnd.choice((plain, colored)), rnd.choice(("grain", "stone", "marble", "noise")), 0.1))
    shade = 1 + rnd.uniform(0.4, 1.4) * amount * patch(rnd, grain, w, h, rnd.uniform(0.3, 1.5))
    image = Image.fromarray(np.clip(shade[..., None] * np.array(base, np.float32), 0, 255).astype(np.uint8))
    if kind == "heap":
        draw = ImageDraw.Draw(image)
        for _ in range(rnd.randint(1, 6)):
            x, y, turn, a = rnd.uniform(0, w), rnd.uniform(0, h), rnd.uniform(0, math.tau), w * rnd.uniform(0.1, 0.4)
            cos, sin, b = a * math.cos(turn), a * math.sin(turn), rnd.uniform(0.3, 1.4)
            signs = ((-1, -b), (1, -b), (1, b), (-1, b))
            box = [(x + u * cos - v * sin, y + u * sin + v * cos) for u, v in signs]
            draw.polygon(box, fill=tuple(rnd.randint(10, 245) for _ in range(3)), outline=(15, 14, 12))
    if kind == "prints":  # a patterned sheet: one small thing again and again
        draw, step = ImageDraw.Draw(image), max(8, round(w * rnd.uniform(0.08, 0.25)))
        inks = [tuple(rnd.randint(20, 250) for _ in range(3)) for _ in range(3)]
        for row, y in enumerate(range(0, h + step, step)):
            for x in range(-step, w + step, step):
                left, r = x + (row % 2) * step // 2, step * 0.3
                draw.ellipse((left - r, y - r, left + r, y + r), fill=inks[(row + x // step) % 3])
                draw.rectangle((left - r / 2, y - r / 3, left + r / 2, y + r / 3), fill=inks[(row + x // step + 1) % 3])
    return image


def skin(rnd: Random) -> RGB:
    pale, deep, t = (238, 195, 165), (88, 54, 38), rnd.random() ** 1.3
    return tuple(round(p + (d - p) * t + rnd.gauss(0, 6)) for p, d in zip(pale, deep, strict=True))


def _finger(
    rnd: Random, layer: Image.Image, mask: Image.Image, tip: tuple[float, float], root: tuple[float, float],
    thick: float, tone: RGB,
) -> None:  # fmt: skip
    """One finger from `root` to `tip`, thinner at its end and lit from one side; now and then its nail is seen."""
    angle, r = math.atan2(tip[1] - root[1], tip[0] - root[0]), thick / 2
    ahead, side = (math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))
    lit = rnd.choice((-1, 1)) * rnd.uniform(0.05, 0.2)

    def capsule(target: Image.Image, width: float, shift: float, fill: RGB | int) -> None:
        x, y = tip[0] + side[0] * shift, tip[1] + side[1] * shift
        foot = (root[0] + side[0] * shift, root[1] + side[1] * shift)
        corners = [(x + side[0] * width, y + side[1] * width), (x - side[0] * width, y - side[1] * width)]
        corners += [(foot[0] + k * side[0] * width * 1.35, foot[1] + k * side[1] * width * 1.35) for k in (-1, 1)]
        draw = ImageDraw.Draw(target)
        draw.polygon(corners, fill=fill)
        draw.ellipse((x - width, y - width, x + width, y + width), fill=fill)

    capsule(mask, r, 0, 255)
    for width, shade in ((1.0, 0.68), (0.85, 0.84), (0.62, 1.0), (0.3, 1.08)):
        tint = tuple(min(255, int(c * shade)) for c in tone)
        capsule(layer, r * width, lit * thick * (1 - width), tint)
    if rnd.random() < 0.6:
        x, y, a = tip[0] + ahead[0] * r * 0.15, tip[1] + ahead[1] * r * 0.15, r * 0.55
        nail = tuple(min(255, int(c * 1.06 + 14)) for c in tone)
        ImageDraw.Draw(layer).ellipse((x - a, y - a, x + a, y + a), fill=nail)


def hand(rnd: Random, image: Image.Image, corners: list[tuple[float, float]], *, behind: bool) -> None:
    """Fingers at an edge of the card: those behind it are drawn before it, the thumb after it."""
    small = 160 / image.width  # a hand is soft: drawn small and enlarged
    size = (160, round(image.height * small))
    corners = [(x * small, y * small) for x, y in corners]
    layer, mask = Image.new("RGB", size), Image.new("L", size, 0)
    upper_left, upper_right, lower_right, lower_left = corners
    wide, tone = math.dist(upper_left, upper_right), skin(rnd)
    start, end = rnd.choice(((lower_left, lower_right), (upper_left, lower_left), (upper_right, lower_right)))
    middle, along = (sum(x for x, _ in corners) / 4, sum(y for _, y in corners) / 4), rnd.uniform(0.2, 0.8)
    thick = wide * rnd.uniform(0.17, 0.28)
    for i in range(rnd.randint(2, 4) if behind else 1):
        x, y = (
            a + (b - a) * (along + i * 1.05 * thick / math.dist(start, end)) for a, b in zip(start, end, strict=True)
        )
        out = math.atan2(y - middle[1], x - middle[0]) + rnd.gauss(0, 0.25)
        into = -thick * rnd.uniform(0.1, 0.6) if behind else thick * rnd.uniform(-0.1, 0.9)
        tip = (x - into * math.cos(out), y - into * math.sin(out))
        root = (x + 400 * math.cos(out), y + 400 * math.sin(out))
        _finger(rnd, layer, mask, tip, root, thick, tone)
    layer = layer.filter(ImageFilter.BoxBlur(thick * 0.08))
    image.paste(layer.resize(image.size, BILINEAR), (0, 0), mask.resize(image.size, BILINEAR))


def clutter(rnd: Random, image: Image.Image, corners: list[tuple[float, float]]) -> None:
    """A die, a coin or a bead on the card or beside it, in place."""
    draw, wide = ImageDraw.Draw(image), math.dist(corners[0], corners[1])
    (ax, ay), (bx, by) = corners[0], corners[2]
    for _ in range(rnd.choice((1, 1, 2))):
        x, y = ax + (bx - ax) * rnd.uniform(0.1, 0.9), ay + (by - ay) * rnd.uniform(0.45, 1.1)
        r, ink = wide * rnd.uniform(0.05, 0.13), tuple(rnd.randint(10, 240) for _ in range(3))
        shade = tuple(int(c * 0.6) for c in ink)
        draw.ellipse((x - r * 0.9, y - r * 0.8, x + r * 1.2, y + r * 1.2), fill=(20, 18, 16))
        if rnd.random() < 0.5:
            draw.ellipse((x - r, y - r, x + r, y + r), fill=ink, outline=shade)
        else:
            draw.regular_polygon((x, y, r * 1.15), rnd.choice((4, 5, 6)), rnd.uniform(0, 90), fill=ink, outline=shade)
        draw.text((x, y), str(rnd.randint(1, 20)), fill=(245, 245, 240), anchor="mm", font_size=max(6, r))
