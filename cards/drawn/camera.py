"""The camera before which the drawn cards lie: scanners of all kinds, and a phone over tables, hands and sleeves."""

import math
from functools import cache
from random import Random

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from cards.drawn.art import paint
from cards.drawn.texture import patch

RGB = tuple[int, int, int]
BILINEAR, BICUBIC = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC
CORNER = 0.045  # radius of a card's corners over its width


# --- light and glass: small fields, enlarged -----------------------------------------------------------------------


def _field(rnd: Random, size: tuple[int, int], low: float, high: float) -> Image.Image:
    """A soft field of light as an `L` image of `size`: a ramp or a lamp, from `low` to `high` (0 to 255)."""
    y, x = np.mgrid[-1:1:24j, -1:1:20j]
    turn = rnd.uniform(0, math.tau)
    if rnd.random() < 0.5:
        values = 0.5 + 0.5 * (x * math.cos(turn) + y * math.sin(turn)) / 1.4
    else:
        values = np.exp(-(((x - rnd.uniform(-1, 1)) ** 2 + (y - rnd.uniform(-1, 1)) ** 2) / rnd.uniform(0.3, 3)))
    small = np.clip(low + (high - low) * values, 0, 255).astype(np.uint8)
    return Image.fromarray(small).resize(size, BICUBIC)


def _shine(rnd: Random, image: Image.Image) -> None:
    """A lamp or a window mirrored in the surface, brightening it in place."""
    y, x = np.mgrid[-1:1:40j, -1:1:32j]
    turn, across, along = rnd.uniform(0, math.tau), rnd.uniform(0.05, 0.5), rnd.uniform(0.2, 3)
    u, v = x - rnd.uniform(-0.9, 0.9), y - rnd.uniform(-0.9, 0.9)
    u, v = u * math.cos(turn) + v * math.sin(turn), v * math.cos(turn) - u * math.sin(turn)
    spot = np.exp(-(np.abs(u / across) ** rnd.choice((2, 2, 6)) + np.abs(v / along) ** 2)) * rnd.uniform(40, 230)
    image.paste((255, 255, 250), (0, 0), Image.fromarray(spot.astype(np.uint8)).resize(image.size, BICUBIC))


def _foil(rnd: Random, card: Image.Image) -> Image.Image:
    """Rainbow bands over a card."""
    y, x = np.mgrid[0:1:40j, 0:1:28j]
    wave = rnd.uniform(3, 14) * (x * rnd.uniform(-1, 1) + y * rnd.uniform(-1, 1)) + rnd.uniform(0, 6)
    bands = np.stack([np.sin(wave + shift) for shift in (0, 2.1, 4.2)], -1) * rnd.uniform(15, 60)
    film = Image.fromarray(np.clip(bands, 0, 255).astype(np.uint8)).resize(card.size, BICUBIC)
    return ImageChops.screen(card, film)


# --- the device: lens, sensor, JPEG --------------------------------------------------------------------------------


def _tone(rnd: Random, image: Image.Image, strength: float) -> Image.Image:
    """White balance, saturation, contrast and brightness of one device as one colour matrix, then its gamma."""
    balance = [rnd.gauss(1, 0.03 * strength) for _ in range(3)]
    warmth = rnd.gauss(0, 0.025 * strength)
    balance = [balance[0] + warmth, balance[1], balance[2] - warmth]
    saturation = max(0.2, rnd.gauss(1, 0.12 * strength))
    contrast = max(0.5, rnd.gauss(1, 0.08 * strength))
    gain = max(0.5, rnd.gauss(1, 0.05 * strength)) * contrast
    lift = 127 * (1 - contrast) + rnd.gauss(0, 5 * strength)
    grey = (0.299 * (1 - saturation), 0.587 * (1 - saturation), 0.114 * (1 - saturation))
    matrix: list[float] = []
    for channel in range(3):
        row = [(g + (saturation if i == channel else 0)) * gain * balance[channel] for i, g in enumerate(grey)]
        matrix += [*row, lift]
    gamma = math.exp(rnd.gauss(0, 0.12 * strength))
    curve = [round(255 * (v / 255) ** gamma) for v in range(256)]
    return image.convert("RGB", tuple(matrix)).point(curve * 3)


def _sensor(rnd: Random, image: Image.Image, strength: float) -> Image.Image:
    """Blur of lens or hand, then noise, grey and coloured, then a sharpening filter, as devices do it."""
    chance = rnd.random()
    if chance < 0.35:
        image = image.filter(ImageFilter.BoxBlur(abs(rnd.gauss(0, 0.45 * strength * image.width / 250))))
    elif chance < 0.42 * strength:  # a shaken hand
        shift = rnd.gauss(0, 0.006) * image.width, rnd.gauss(0, 0.006) * image.width
        for _ in range(2):
            image = Image.blend(image, ImageChops.offset(image, round(shift[0]), round(shift[1])), 0.5)
            shift = shift[0] / 2, shift[1] / 2
    level = abs(rnd.gauss(0, 3 * strength))
    if level > 1:
        w, h = image.size
        noise = patch(rnd, "noise", w, h, rnd.choice((1, 1, 1.6)))[..., None] * level
        if rnd.random() < 0.5:
            noise = noise + patch(rnd, "noise", 3 * w, h).reshape(h, w, 3) * (level * 0.6)
        image = Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))
    if rnd.random() < 0.25:
        image = image.filter(ImageFilter.UnsharpMask(rnd.uniform(0.6, 2), rnd.randint(30, 160), 2))
    if rnd.random() < 0.15:  # someone made it smaller once and larger again
        w, h = image.size
        part = rnd.uniform(0.4, 0.8)
        image = image.resize((round(w * part), round(h * part)), BILINEAR).resize((w, h), BILINEAR)
    return image


# --- geometry ------------------------------------------------------------------------------------------------------


def _homography(corners: list[tuple[float, float]], width: int, height: int) -> list[float]:
    """Pillow's eight coefficients from a place in the picture to one on the card, whose corners lie at `corners`."""
    rows, target = [], []
    for (x, y), (u, v) in zip(corners, ((0, 0), (width, 0), (width, height), (0, height)), strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        target += [u, v]
    return np.linalg.solve(np.array(rows), np.array(target)).tolist()


def _tilted(rnd: Random, frame: tuple[int, int], aspect: float) -> list[tuple[float, float]]:
    """Where a card's corners are seen: held or lying at an angle, somewhere near the middle of the frame."""
    roll = rnd.gauss(0, 0.05) if rnd.random() < 0.7 else rnd.gauss(0, 0.2)
    pitch, yaw = rnd.gauss(0, 0.22), rnd.gauss(0, 0.16)
    points = []
    for x, y in ((-1, -aspect), (1, -aspect), (1, aspect), (-1, aspect)):
        x, y = x * math.cos(roll) - y * math.sin(roll), x * math.sin(roll) + y * math.cos(roll)
        depth = 1 + (y * math.sin(pitch) + x * math.sin(yaw)) / 6
        points.append((x * math.cos(yaw) / depth, y * math.cos(pitch) / depth))
    wide = max(abs(x) for x, _ in points)
    tall = max(abs(y) for _, y in points)
    fill = 0.5 + 0.58 * rnd.random() ** 0.5
    zoom = fill * min(frame[0] / 2 / wide, frame[1] / 2 / tall)
    slack = [max(0.0, frame[i] / 2 - zoom * (wide, tall)[i]) for i in (0, 1)]
    cx = frame[0] / 2 + rnd.uniform(-0.6, 0.6) * slack[0] + rnd.gauss(0, 0.01) * frame[0]
    cy = frame[1] / 2 + rnd.uniform(-0.6, 0.6) * slack[1] + rnd.gauss(0, 0.01) * frame[1]
    return [(cx + zoom * x, cy + zoom * y) for x, y in points]


@cache
def _cut(width: int, height: int) -> Image.Image:
    mask = Image.new("L", (width, height), 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, width - 1, height - 1), width * CORNER, fill=255)
    return mask


# --- what lies around a card ---------------------------------------------------------------------------------------


WOODS = ((150, 105, 65), (190, 150, 105), (95, 62, 40), (215, 190, 155))


def _surface(rnd: Random, w: int, h: int) -> Image.Image:
    """What a card is photographed on: a playmat, wood, something plain, cloth or stone, a heap of things."""
    kind = rnd.choice(("playmat", "wood", "plain", "cloth", "heap"))
    if kind == "playmat":
        return paint(rnd, w, h)
    value = rnd.randint(15, 245)
    plain = tuple(value + rnd.randint(-12, 12) for _ in range(3))
    coloured = tuple(rnd.randint(15, 235) for _ in range(3))
    base, grain, amount = {
        "wood": (rnd.choice(WOODS), "fibre", 0.14),
        "plain": (plain, "cloud", 0.03),
    }.get(kind, (rnd.choice((plain, coloured)), rnd.choice(("grain", "stone", "marble", "noise")), 0.1))
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
    return image


def _skin(rnd: Random) -> RGB:
    pale, deep, t = (238, 195, 165), (88, 54, 38), rnd.random() ** 1.3
    return tuple(round(p + (d - p) * t + rnd.gauss(0, 6)) for p, d in zip(pale, deep, strict=True))


def _finger(
    rnd: Random, layer: Image.Image, mask: Image.Image, tip: tuple[float, float], root: tuple[float, float],
    thick: float, skin: RGB,
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
        tint = tuple(min(255, int(c * shade)) for c in skin)
        capsule(layer, r * width, lit * thick * (1 - width), tint)
    if rnd.random() < 0.6:
        x, y, a = tip[0] + ahead[0] * r * 0.15, tip[1] + ahead[1] * r * 0.15, r * 0.55
        nail = tuple(min(255, int(c * 1.06 + 14)) for c in skin)
        ImageDraw.Draw(layer).ellipse((x - a, y - a, x + a, y + a), fill=nail)


def _hand(rnd: Random, image: Image.Image, corners: list[tuple[float, float]], *, behind: bool) -> None:
    """Fingers at an edge of the card: those behind it are drawn before it, the thumb after it."""
    small = 160 / image.width  # a hand is soft: drawn small and enlarged
    size = (160, round(image.height * small))
    corners = [(x * small, y * small) for x, y in corners]
    layer, mask = Image.new("RGB", size), Image.new("L", size, 0)
    upper_left, upper_right, lower_right, lower_left = corners
    wide, skin = math.dist(upper_left, upper_right), _skin(rnd)
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
        _finger(rnd, layer, mask, tip, root, thick, skin)
    layer = layer.filter(ImageFilter.BoxBlur(thick * 0.08))
    image.paste(layer.resize(image.size, BILINEAR), (0, 0), mask.resize(image.size, BILINEAR))


def _sleeved(rnd: Random, card: Image.Image) -> Image.Image:
    """The card in a sleeve or a hard case, as RGBA: a rim of foil around it, its blacks milky."""
    w, h = card.size
    rim = round(w * rnd.choice((0.02, 0.03, 0.07)))
    clear = rnd.random() < 0.6
    tone = tuple(rnd.randint(180, 245) for _ in range(3)) if clear else tuple(rnd.randint(0, 220) for _ in range(3))
    whole = Image.new("RGBA", (w + 2 * rim, h + 2 * rim), (*tone, rnd.randint(60, 140) if clear else 255))
    whole.paste(card, (rim, rim), _cut(w, h))
    haze = Image.new("RGB", whole.size, (235, 238, 242))
    milky = Image.blend(whole.convert("RGB"), haze, rnd.uniform(0.0, 0.14))
    milky.putalpha(whole.getchannel("A"))
    return milky


def _photo(rnd: Random, card: Image.Image) -> Image.Image:
    """A phone's picture of the card: on some surface or in a hand, at an angle, under some lamp."""
    portrait = rnd.choice((3 / 4, 3 / 4, 9 / 16, 1, 4 / 3, 0.717))
    long = round(190 * 2.7 ** rnd.random())
    frame = (max(140, round(long * min(1, portrait))), max(140, round(long / max(1, portrait))))
    if rnd.random() < 0.35:
        body = _sleeved(rnd, card)
    else:
        body = card.convert("RGBA")
        body.putalpha(_cut(*card.size))
    corners = _tilted(rnd, frame, body.height / body.width)
    seen = math.dist(corners[0], corners[1])
    if seen < 0.7 * body.width:
        body = body.resize((round(seen * 1.1), round(seen * 1.1 * body.height / body.width)), Image.Resampling.BOX)
    image = _surface(rnd, *frame)
    if rnd.random() < 0.5:
        image = image.filter(ImageFilter.BoxBlur(frame[0] * rnd.uniform(0, 0.02)))
    held = rnd.random() < 0.35
    if held and rnd.random() < 0.6:
        _hand(rnd, image, corners, behind=True)
    body = body.transform(frame, Image.Transform.PERSPECTIVE, _homography(corners, *body.size), BILINEAR)
    alpha = body.getchannel("A")
    if rnd.random() < 0.8:
        drop = frame[0] * rnd.uniform(0, 0.02)
        shadow = ImageChops.offset(alpha, round(rnd.gauss(0, drop)), round(abs(rnd.gauss(0, drop))))
        shadow = shadow.filter(ImageFilter.BoxBlur(1 + drop)).point([int(v * 0.5) for v in range(256)])
        image.paste((0, 0, 0), (0, 0), shadow)
    front = body.convert("RGB")
    if rnd.random() < 0.35:
        _shine(rnd, front)
    image.paste(front, (0, 0), alpha)
    if held:
        _hand(rnd, image, corners, behind=False)
    if rnd.random() < 0.8:
        low = rnd.uniform(110, 250)
        image = ImageChops.multiply(image, Image.merge("RGB", [_field(rnd, frame, low, rnd.uniform(low, 300))] * 3))
    return image


def _scan(rnd: Random, card: Image.Image) -> Image.Image:
    """A scan or a shop's picture: the whole card, margins or a trimmed edge, its corners cut or square."""
    width = round(140 * (488 / 140) ** rnd.random())
    size = (width, round(width * rnd.uniform(1.37, 1.42)))
    card = card.resize(size, BILINEAR, reducing_gap=2.0)
    if rnd.random() < 0.6:
        paper = Image.new("RGB", size, (rnd.choice((255, 255, 0, rnd.randint(0, 255))),) * 3)
        paper.paste(card, (0, 0), _cut(*size))
        card = paper
    if rnd.random() < 0.5:
        return card
    w, h = size
    margin, turn = rnd.choice((0.0, rnd.gauss(0, 0.015), rnd.gauss(0.015, 0.02))), rnd.gauss(0, 0.008)
    left, top, right, bottom = -w * margin, -h * margin, w * (1 + margin), h * (1 + margin)
    sway, rise = turn * h, turn * w
    corners = (left, top, left - sway, bottom, right - sway, bottom + rise, right, top + rise)
    ground = (rnd.choice((rnd.randint(225, 255), rnd.randint(0, 40))),) * 3
    return card.transform(size, Image.Transform.QUAD, corners, BILINEAR, fillcolor=ground)


def shoot(rnd: Random, card: Image.Image, *, photo: bool) -> tuple[Image.Image, int]:
    """Take a picture of a flat RGB card: a phone's or a scanner's.

    Its size, its tone and its faults say nothing about the card. Returns it with the JPEG quality to save it at.
    """
    if rnd.random() < 0.06:
        card = _foil(rnd, card)
    strength = 2.0 if photo else 1.0
    image = _photo(rnd, card) if photo else _scan(rnd, card)
    return _sensor(rnd, _tone(rnd, image, strength), strength), rnd.randint(35, 95)
