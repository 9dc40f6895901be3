"""The camera in front of the drawn cards: scanners of all kinds, and phones over tables, hands and sleeves."""

import math
from functools import cache
from random import Random

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from cards.drawn.scene import BICUBIC, BILINEAR, clutter, field, hand, shine, surface
from cards.drawn.texture import patch

CORNER = 0.045  # radius of a card's corners over its width
TURNS = (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)


def _foil(rnd: Random, card: Image.Image) -> Image.Image:
    """Rainbow bands over a card."""
    y, x = np.mgrid[0:1:40j, 0:1:28j]
    wave = rnd.uniform(3, 14) * (x * rnd.uniform(-1, 1) + y * rnd.uniform(-1, 1)) + rnd.uniform(0, 6)
    bands = np.stack([np.sin(wave + shift) for shift in (0, 2.1, 4.2)], -1) * rnd.uniform(15, 60)
    film = Image.fromarray(np.clip(bands, 0, 255).astype(np.uint8)).resize(card.size, BICUBIC)
    return ImageChops.screen(card, film)


def _tone(rnd: Random, image: Image.Image, strength: float) -> Image.Image:
    """White balance, saturation, contrast and brightness of one device as one color matrix, then its gamma."""
    balance = [rnd.gauss(1, 0.03 * strength) for _ in range(3)]
    warmth = rnd.gauss(0, 0.025 * strength)
    balance = [balance[0] + warmth, balance[1], balance[2] - warmth]
    saturation = max(0.2, rnd.gauss(1, 0.12 * strength))
    contrast = max(0.5, rnd.gauss(1, 0.08 * strength))
    gain = max(0.5, rnd.gauss(1, 0.05 * strength)) * contrast
    lift = 127 * (1 - contrast) + rnd.gauss(0, 5 * strength)
    gray = (0.299 * (1 - saturation), 0.587 * (1 - saturation), 0.114 * (1 - saturation))
    matrix: list[float] = []
    for channel in range(3):
        row = [(g + (saturation if i == channel else 0)) * gain * balance[channel] for i, g in enumerate(gray)]
        matrix += [*row, lift]
    gamma = math.exp(rnd.gauss(0, 0.12 * strength))
    curve = [round(255 * (v / 255) ** gamma) for v in range(256)]
    return image.convert("RGB", tuple(matrix)).point(curve * 3)


def _sensor(rnd: Random, image: Image.Image, strength: float) -> Image.Image:
    """Blur of lens or hand, then noise, gray and colored, then a sharpening filter, as devices do it."""
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
    roll = rnd.gauss(0, 0.05) if rnd.random() < 0.6 else rnd.gauss(0, 0.3)
    pitch, yaw = rnd.gauss(0, 0.22), rnd.gauss(0, 0.16)
    points = []
    for x, y in ((-1, -aspect), (1, -aspect), (1, aspect), (-1, aspect)):
        x, y = x * math.cos(roll) - y * math.sin(roll), x * math.sin(roll) + y * math.cos(roll)
        depth = 1 + (y * math.sin(pitch) + x * math.sin(yaw)) / 6
        points.append((x * math.cos(yaw) / depth, y * math.cos(pitch) / depth))
    wide = max(abs(x) for x, _ in points)
    tall = max(abs(y) for _, y in points)
    fill = rnd.uniform(0.48, 1.1)
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


def _sleeved(rnd: Random, card: Image.Image) -> Image.Image:
    """The card in a sleeve, a hard case, or the pocket of a binder, as RGBA: a rim around it, its blacks milky."""
    w, h = card.size
    rim = round(w * rnd.choice((0.02, 0.03, 0.03, 0.07, 0.12)))
    head = round(h * rnd.uniform(0.05, 0.25)) if rim > 0.1 * w else 0  # a graded card's label
    clear = rnd.random() < 0.6
    tone = tuple(rnd.randint(180, 245) for _ in range(3)) if clear else tuple(rnd.randint(0, 220) for _ in range(3))
    whole = Image.new("RGBA", (w + 2 * rim, h + 2 * rim + head), (*tone, rnd.randint(60, 140) if clear else 255))
    whole.paste(card, (rim, rim + head), _cut(w, h))
    if head:
        label = tuple(rnd.randint(120, 250) for _ in range(3))
        ImageDraw.Draw(whole).rectangle((rim, rim // 2, rim + w, head), fill=(*label, 255))
    haze = Image.new("RGB", whole.size, (235, 238, 242))
    milky = Image.blend(whole.convert("RGB"), haze, rnd.uniform(0.0, 0.14))
    milky.putalpha(whole.getchannel("A"))
    return milky


def _printed(rnd: Random, card: Image.Image) -> Image.Image:
    """The inks of a printed card under a lamp: darker, duller and yellower than a scan, its blacks lifted.

    Phones expose for the bright table around a card. Measured on photos, against scans of the same frames: white bars
    (242, 241, 236) become (205, 190, 160), green bodies (100, 130, 99) become (75, 75, 53), and black ones (37, 38, 34)
    become (46, 43, 32).
    """
    dull, warm = rnd.uniform(0.4, 1.05), rnd.triangular(-0.15, 0.4, 0.12)
    gain, lift = rnd.uniform(0.65, 1.05), rnd.uniform(0, 24)
    tint = (gain, gain * (1 - 0.5 * warm), gain * (1 - warm))
    gray = (0.299 * (1 - dull), 0.587 * (1 - dull), 0.114 * (1 - dull))
    matrix: list[float] = []
    for channel in range(3):
        matrix += [(g + (dull if i == channel else 0)) for i, g in enumerate(gray)] + [0]
    gamma = rnd.uniform(0.85, 1.6)
    curves = [[lift + (255 * tint[c] - lift) * (v / 255) ** gamma for v in range(256)] for c in range(3)]
    return card.convert("RGB", tuple(matrix)).point([round(min(255, max(0, v))) for curve in curves for v in curve])


def place(rnd: Random, card: Image.Image) -> Image.Image:
    """A phone's picture of the card: on some surface or in a hand, at an angle, under some lamp."""
    portrait = rnd.choice((3 / 4, 3 / 4, 9 / 16, 1, 4 / 3, 16 / 9, 0.717))
    long = round(220 * 2.2 ** rnd.random())
    frame = (max(150, round(long * min(1, portrait))), max(150, round(long / max(1, portrait))))
    if rnd.random() < 0.75:
        card = _printed(rnd, card)
    if rnd.random() < 0.35:
        body = _sleeved(rnd, card)
    else:
        body = card.convert("RGBA")
        body.putalpha(_cut(*card.size))
    corners = _tilted(rnd, frame, body.height / body.width)
    seen = math.dist(corners[0], corners[1])
    if seen < 0.7 * body.width:
        body = body.resize((round(seen * 1.1), round(seen * 1.1 * body.height / body.width)), Image.Resampling.BOX)
    image = surface(rnd, *frame)
    if rnd.random() < 0.5:
        image = image.filter(ImageFilter.BoxBlur(frame[0] * rnd.uniform(0, 0.02)))
    held = rnd.random() < 0.3
    if held and rnd.random() < 0.6:
        hand(rnd, image, corners, behind=True)
    body = body.transform(frame, Image.Transform.PERSPECTIVE, _homography(corners, *body.size), BILINEAR)
    alpha = body.getchannel("A")
    if rnd.random() < 0.8:
        drop = frame[0] * rnd.uniform(0, 0.02)
        shadow = ImageChops.offset(alpha, round(rnd.gauss(0, drop)), round(abs(rnd.gauss(0, drop))))
        shadow = shadow.filter(ImageFilter.BoxBlur(1 + drop)).point([int(v * 0.5) for v in range(256)])
        image.paste((0, 0, 0), (0, 0), shadow)
    front = body.convert("RGB")
    if rnd.random() < 0.35:
        shine(rnd, front)
    image.paste(front, (0, 0), alpha)
    if held:
        hand(rnd, image, corners, behind=False)
    elif rnd.random() < 0.07:
        clutter(rnd, image, corners)
    return lit(rnd, image)


def lit(rnd: Random, image: Image.Image) -> Image.Image:
    """A photo under its lamp: shaded by a soft field, now and then in colored light."""
    if rnd.random() < 0.7:
        low = rnd.uniform(140, 250)
        lamp = [field(rnd, image.size, low, rnd.uniform(low, 300))] * 3
        if rnd.random() < 0.12:  # a screen or a colored bulb
            lamp = [field(rnd, image.size, rnd.uniform(150, 250), 255) for _ in range(3)]
        image = ImageChops.multiply(image, Image.merge("RGB", lamp))
    return image


def _on_ground(rnd: Random, card: Image.Image) -> Image.Image:
    """A card in the middle of a plain ground, a little askew."""
    w, h = card.size
    tall = round(h / rnd.uniform(0.45, 0.95))
    ground = Image.new("RGB", (round(tall * rnd.choice((0.7, 0.75, 0.75, 1))), tall), (rnd.randint(0, 255),) * 3)
    whole = card.convert("RGBA")
    whole.putalpha(_cut(w, h))
    whole = whole.rotate(rnd.gauss(0, 4), BICUBIC, expand=True)
    slack = [max(0, ground.size[i] - whole.size[i]) for i in (0, 1)]
    ground.paste(whole, tuple(round(room * rnd.uniform(0.2, 0.8)) for room in slack), whole)
    small = min(1, 488 / ground.width)
    return ground.resize((round(ground.width * small), round(tall * small)), BILINEAR, reducing_gap=2.0)


def _scan(rnd: Random, card: Image.Image) -> Image.Image:
    """A scan or a shop's picture: the whole card, margins or a trimmed edge, its corners cut or square."""
    width = round(140 * (488 / 140) ** rnd.random())
    size = (width, round(width * rnd.uniform(1.37, 1.42)))
    card = card.resize(size, BILINEAR, reducing_gap=2.0)
    if rnd.random() < 0.12:
        return _on_ground(rnd, card)
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
    return develop(rnd, place(rnd, card) if photo else _scan(rnd, card), photo=photo)


def develop(rnd: Random, image: Image.Image, *, photo: bool) -> tuple[Image.Image, int]:
    """What a device makes of what it sees: tone, blur, noise. Returns it with the JPEG quality to save it at."""
    strength = 1.6 if photo else 1.0
    return _sensor(rnd, _tone(rnd, image, strength), strength), rnd.randint(35, 95)
