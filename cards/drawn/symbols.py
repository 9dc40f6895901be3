"""The small signs of the drawn cards, from plain geometry: sun, drop, skull, flame, tree, cost circles, set signs."""

import math
from functools import lru_cache
from random import Random

from PIL import Image, ImageDraw, ImageFilter

from cards.drawn.text import font

SIDE = 256  # masks are drawn once at this size and scaled down
INK = {
    "white": (250, 248, 236),
    "blue": (14, 104, 171),
    "black": (22, 18, 16),
    "red": (211, 32, 42),
    "green": (0, 115, 62),
}
DISC = {
    "white": (248, 244, 214),
    "blue": (170, 215, 238),
    "black": (190, 182, 178),
    "red": (243, 165, 138),
    "green": (150, 205, 165),
    "gray": (202, 196, 192),
}


def _sun(d: ImageDraw.ImageDraw) -> None:
    for i in range(8):
        a, reach = math.tau * i / 8, 124 if i % 2 == 0 else 104
        points = [(-0.34, 62), (-0.10, 84), (0.06, reach), (0.12, 84), (0.34, 62)]
        d.polygon([(128 + r * math.cos(a + t), 128 + r * math.sin(a + t)) for t, r in points], fill=255)
    d.ellipse((68, 68, 188, 188), fill=0)
    d.ellipse((78, 78, 178, 178), fill=255)


def _drop(d: ImageDraw.ImageDraw) -> None:
    left = [(128 - 78 * math.sin(t) ** 1.5 - 4, 172 - 74 * math.cos(t)) for t in (i * math.pi / 24 for i in range(25))]
    d.ellipse((56, 96, 200, 246), fill=255)
    d.polygon([(148, 8), (190, 120), (199, 168), (57, 168), (72, 118), (118, 62)], fill=255)
    d.polygon(left, fill=255)
    d.arc((78, 118, 178, 222), 100, 190, fill=0, width=12)


def _skull(d: ImageDraw.ImageDraw) -> None:
    d.ellipse((34, 10, 222, 186), fill=255)
    d.polygon(
        [(66, 150), (190, 150), (182, 240), (158, 222), (144, 246), (128, 226), (112, 246), (98, 222), (74, 240)],
        fill=255,
    )
    d.ellipse((58, 88, 114, 150), fill=0)
    d.ellipse((142, 88, 198, 150), fill=0)
    d.polygon([(128, 150), (114, 184), (142, 184)], fill=0)


def _flame(d: ImageDraw.ImageDraw) -> None:
    d.polygon(
        [
            (30, 170),
            (20, 100),
            (60, 40),
            (130, 8),
            (100, 48),
            (150, 36),
            (236, 20),
            (190, 60),
            (232, 84),
            (246, 150),
            (212, 132),
        ],
        fill=255,
    )
    d.ellipse((24, 76, 224, 250), fill=255)
    d.ellipse((84, 100, 236, 226), fill=0)
    d.ellipse((104, 112, 214, 212), fill=255)
    d.ellipse((134, 96, 244, 186), fill=0)
    d.polygon([(150, 60), (226, 92), (238, 160), (196, 120)], fill=255)


def _tree(d: ImageDraw.ImageDraw) -> None:
    for x, y, r in (
        (128, 60, 54),
        (68, 96, 50),
        (188, 96, 50),
        (108, 118, 50),
        (156, 118, 50),
        (44, 130, 32),
        (212, 130, 32),
    ):
        d.ellipse((x - r, y - r, x + r, y + r), fill=255)
    d.polygon(
        [(108, 130), (148, 130), (152, 206), (206, 246), (150, 236), (128, 250), (104, 236), (50, 246), (106, 206)],
        fill=255,
    )
    for x, y in ((84, 110), (168, 108), (126, 70)):
        d.arc((x - 26, y - 22, x + 26, y + 26), 20, 150, fill=0, width=8)


SHAPES = {"white": _sun, "blue": _drop, "black": _skull, "red": _flame, "green": _tree}


@lru_cache(maxsize=256)
def mask(color: str, size: int) -> Image.Image:
    """The sign of a color as an `L` mask of size × size."""
    big = Image.new("L", (SIDE, SIDE), 0)
    SHAPES[color](ImageDraw.Draw(big))
    return big.resize((size, size), Image.Resampling.BOX if size < SIDE else Image.Resampling.BICUBIC)


@lru_cache(maxsize=1024)
def pip(sign: str, size: int, flat: bool = False) -> Image.Image:
    """A cost circle as RGBA: a color's sign, two colors' (`red/green`), a number or `T`; flat ones throw no shadow."""
    if "/" in sign:
        one, other = (pip(half, size, flat) for half in sign.split("/"))
        half = Image.new("L", one.size, 0)
        ImageDraw.Draw(half).polygon([(one.width, 0), (one.width, one.height), (0, one.height)], fill=255)
        return Image.composite(other, one, half)
    edge, scale = size + 2, 3
    image = Image.new("RGBA", (edge * scale, edge * scale), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    disc = DISC.get(sign, DISC["gray"])
    if not flat:
        draw.ellipse((0, 2 * scale, size * scale, (size + 2) * scale - 1), fill=(10, 10, 10, 255))
    draw.ellipse((scale, 0, (size + 1) * scale, size * scale), fill=(*disc, 255))
    if sign in SHAPES:
        inner = int(size * scale * 0.78)
        at = (scale + (size * scale - inner) // 2, (size * scale - inner) // 2)
        image.paste((20, 17, 15, 255) if sign != "white" else (60, 52, 30, 255), at, mask(sign, inner))
    else:
        center = (scale + size * scale / 2, size * scale / 2)
        draw.text(center, sign, (15, 12, 10, 255), font("DejaVuSerif-Bold", int(size * scale * 0.72)), anchor="mm")
    return image.resize((edge, edge), Image.Resampling.BOX)


def set_sign(rnd: Random, size: int) -> tuple[Image.Image, tuple[int, int, int]]:
    """A random set sign: its mask and its rarity color."""
    big = Image.new("L", (64, 64), 0)
    draw = ImageDraw.Draw(big)
    kind, turn = rnd.randrange(5), rnd.uniform(0, math.tau)
    if kind == 0:
        draw.regular_polygon((32, 32, 30), rnd.randint(3, 8), math.degrees(turn), fill=255)
    elif kind == 1:
        n = rnd.randint(4, 7)
        tips = [
            (32 + r * math.cos(turn + i * math.pi / n), 32 + r * math.sin(turn + i * math.pi / n))
            for i, r in enumerate((30, 13) * n)
        ]
        draw.polygon(tips, fill=255)
    elif kind == 2:
        draw.ellipse((3, 10, 61, 54), fill=255)
        draw.ellipse((18, 20, 46, 44), fill=0)
    elif kind == 3:
        draw.polygon([(2, 20), (62, 8), (44, 36), (54, 58), (28, 44), (8, 52)], fill=255)
    else:
        draw.rectangle((10, 4, 54, 40), fill=255)
        draw.polygon([(10, 40), (54, 40), (32, 62)], fill=255)
    color = rnd.choice(((15, 13, 12), (15, 13, 12), (150, 165, 175), (190, 160, 90), (215, 95, 35)))
    return big.resize((size, size), Image.Resampling.BOX), color


def embossed(
    color: str, size: int, ink: tuple[int, int, int], rim: tuple[int, int, int] | None
) -> tuple[Image.Image, Image.Image]:
    """The big sign of a basic land as RGB and mask, with a rim around it when one is asked for."""
    shape = mask(color, size)
    image = Image.new("RGB", (size, size), ink)
    if rim is None:
        return image, shape
    grown = shape.filter(ImageFilter.MaxFilter(5 if size > 60 else 3))
    image = Image.composite(image, Image.new("RGB", (size, size), rim), shape)
    return image, grown
