"""Images without a card, for an empty label set: scenes, things, clothes, people, other games' cards, card backs."""

import math
from collections.abc import Callable
from random import Random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from cards.drawn import text
from cards.drawn.art import paint, palette
from cards.drawn.camera import develop, lit, place
from cards.drawn.canvas import RGB
from cards.drawn.scene import skin, surface
from cards.drawn.texture import patch

Points = list[tuple[float, float]]
FONTS = ("DejaVuSans-Bold", "DejaVuSerif-Bold", "STIXGeneralBol", "DejaVuSans", "STIXGeneral", "cmr10")
# Outlines on a square from -1 to 1, mirrored where they say so: half of each is drawn, from top to bottom.
CLOTHES: dict[str, Points] = {
    "shirt": [(0.18, -0.9), (0.55, -0.82), (0.98, -0.3), (0.74, -0.08), (0.55, -0.36), (0.56, 0.9)],
    "long sleeves": [(0.18, -0.9), (0.5, -0.82), (0.72, -0.5), (0.95, 0.62), (0.74, 0.68), (0.52, -0.2), (0.54, 0.9)],
    "dress": [(0.2, -0.95), (0.3, -0.9), (0.36, -0.5), (0.26, -0.15), (0.62, 0.95)],
    "trousers": [(0.42, -0.95), (0.48, -0.4), (0.5, 0.95), (0.16, 0.95), (0.05, -0.35)],
    "skirt": [(0.36, -0.7), (0.66, 0.7)],
    "bag": [(0.3, -0.45), (0.7, -0.4), (0.8, 0.7)],
    "hat": [(0.4, -0.5), (0.45, 0.1), (0.95, 0.25), (0.6, 0.4)],
}
SHOE: Points = [(-0.7, -0.35), (-0.2, -0.4), (0.2, 0.0), (0.8, 0.15), (0.9, 0.4), (-0.75, 0.4)]


def _color(rnd: Random) -> RGB:
    return tuple(rnd.randint(8, 248) for _ in range(3))


def _ground(rnd: Random, w: int, h: int) -> Image.Image:
    """A plain backdrop or any surface."""
    if rnd.random() < 0.5:
        return surface(rnd, w, h)
    value = rnd.choice((255, 250, rnd.randint(200, 255), rnd.randint(0, 255)))
    return Image.new("RGB", (w, h), tuple(max(0, min(255, value + rnd.randint(-8, 8))) for _ in range(3)))


def _cloth(rnd: Random, w: int, h: int) -> Image.Image:
    """Plain, striped, checked, dotted or printed cloth, with folds."""
    base, other = rnd.sample(palette(rnd), 2) if rnd.random() < 0.7 else (_color(rnd), _color(rnd))
    image, kind = Image.new("RGB", (w, h), base), rnd.choice(("plain", "plain", "stripes", "checks", "dots", "print"))
    draw, step = ImageDraw.Draw(image), max(3, round(w * rnd.uniform(0.03, 0.15)))
    if kind in ("stripes", "checks"):
        for y in range(0, h, 2 * step):
            draw.rectangle((0, y, w, y + step // rnd.choice((1, 1, 2))), fill=other)
    if kind == "checks":
        for x in range(0, w, 2 * step):
            draw.rectangle((x, 0, x + step // 2, h), fill=other)
    if kind == "dots":
        for y in range(0, h, 2 * step):
            for x in range(0, w, 2 * step):
                draw.ellipse((x, y, x + step * 0.8, y + step * 0.8), fill=other)
    if kind == "print":
        paste = paint(rnd, max(16, w // 2), max(16, h // 3))
        image.paste(paste, (w // 4, h // 4))
    folds = 1 + rnd.uniform(0.04, 0.22) * patch(rnd, rnd.choice(("cloud", "fibre")), w, h, rnd.uniform(0.5, 2))
    return Image.fromarray(np.clip(np.asarray(image) * folds[..., None], 0, 255).astype(np.uint8))


def _shape(rnd: Random, image: Image.Image, points: Points, middle: tuple[float, float], size: float) -> None:
    """Paste cloth in the shape of an outline."""
    turn = rnd.gauss(0, 0.15)
    cos, sin = math.cos(turn) * size, math.sin(turn) * size
    corners = [(middle[0] + x * cos - y * sin, middle[1] + x * sin + y * cos) for x, y in points]
    mask = Image.new("L", image.size, 0)
    ImageDraw.Draw(mask).polygon(corners, fill=255)
    image.paste(_cloth(rnd, *image.size), (0, 0), mask.filter(ImageFilter.BoxBlur(1)))


def _clothes(rnd: Random, w: int, h: int) -> Image.Image:
    """One or more garments, flat on a backdrop or on somebody."""
    image, size = _ground(rnd, w, h), min(w, h) * rnd.uniform(0.35, 0.55)
    if rnd.random() < 0.3:  # worn: head, arms and legs
        draw, tone = ImageDraw.Draw(image), skin(rnd)
        x, r = w / 2, size * 0.2
        draw.rectangle((x - r * 0.5, h * 0.1, x + r * 0.5, h), fill=tone)
        draw.ellipse((x - r, h * 0.02, x + r, h * 0.02 + 2.5 * r), fill=tone)
    for _ in range(rnd.choice((1, 1, 1, 2, 3))):
        half = rnd.choice(list(CLOTHES.values()))
        outline = SHOE if rnd.random() < 0.2 else half + [(-x, y) for x, y in reversed(half)]
        spot = (w / 2 + rnd.gauss(0, 0.06) * w, h / 2 + rnd.gauss(0, 0.06) * h)
        _shape(rnd, image, outline, spot, size)
    return image


def _landscape(rnd: Random, w: int, h: int) -> Image.Image:
    """Sky, hills or houses, a road, trees."""
    top, low = (np.array(c, np.float32) for c in rnd.choice((((90, 150, 220), (210, 225, 240)), palette(rnd)[:2])))
    ramp = np.linspace(0, 1, h, dtype=np.float32)[:, None, None]
    sky = top * (1 - ramp) + low * ramp + 25 * patch(rnd, "cloud", w, h, 1)[..., None]
    image = Image.fromarray(np.clip(sky, 0, 255).astype(np.uint8))
    draw, inks = ImageDraw.Draw(image), palette(rnd)
    for layer in range(rnd.randint(1, 4)):
        base, steps = h * (0.4 + 0.13 * layer), rnd.choice((5, 12, 40))
        ridge = [(i * w / steps, base + rnd.gauss(0, h * 0.06)) for i in range(steps + 1)]
        draw.polygon([(0, h), *ridge, (w, h)], fill=rnd.choice((*inks, (70, 110, 55), (110, 100, 80))))
    if rnd.random() < 0.5:
        for _ in range(rnd.randint(2, 9)):
            x, wide, y = rnd.uniform(0, w), w * rnd.uniform(0.06, 0.25), h * rnd.uniform(0.2, 0.6)
            draw.rectangle((x, y, x + wide, h), fill=rnd.choice(inks))
            for row in range(int(y) + 4, h, 9):
                for column in range(int(x) + 3, int(x + wide) - 4, 8):
                    draw.rectangle((column, row, column + 3, row + 4), fill=rnd.choice(inks))
    shade = 1 + rnd.uniform(0.03, 0.2) * patch(rnd, rnd.choice(("grain", "stone", "noise")), w, h)
    return Image.fromarray(np.clip(np.asarray(image) * shade[..., None], 0, 255).astype(np.uint8))


def _portrait(rnd: Random, w: int, h: int) -> Image.Image:
    """Head and shoulders of a person or an animal."""
    image = paint(rnd, w, h).filter(ImageFilter.BoxBlur(4)) if rnd.random() < 0.5 else _ground(rnd, w, h)
    draw, tone, hair = ImageDraw.Draw(image), skin(rnd), _color(rnd)
    x, y, r = w * rnd.uniform(0.35, 0.65), h * rnd.uniform(0.3, 0.5), min(w, h) * rnd.uniform(0.15, 0.3)
    if rnd.random() < 0.4:  # fur and ears
        tone = rnd.choice(((180, 140, 90), (90, 85, 80), (235, 230, 220), (60, 45, 35)))
        for side in (-1, 1):
            ear = [(x + side * r * 0.9, y - r * 0.3), (x + side * r * 0.8, y - r * 1.5), (x + side * r * 0.2, y - r)]
            draw.polygon(ear, fill=tone)
    else:
        draw.ellipse((x - r * 1.15, y - r * 1.45, x + r * 1.15, y + r), fill=hair)
    draw.polygon(
        [(x - 2.2 * r, h), (x - 1.5 * r, y + 1.6 * r), (x + 1.5 * r, y + 1.6 * r), (x + 2.2 * r, h)], _color(rnd)
    )
    draw.rectangle((x - r * 0.4, y, x + r * 0.4, y + 1.8 * r), fill=tone)
    draw.ellipse((x - r, y - r * 1.25, x + r, y + r * 1.25), fill=tone)
    for side in (-0.4, 0.4):
        draw.ellipse((x + side * r - r * 0.14, y - r * 0.3, x + side * r + r * 0.14, y), fill=(30, 25, 22))
    draw.arc((x - r * 0.45, y + r * 0.2, x + r * 0.45, y + r * 0.7), 20, 160, fill=(130, 50, 50), width=2)
    shade = 1 + rnd.uniform(0.05, 0.15) * patch(rnd, "cloud", w, h)
    return Image.fromarray(np.clip(np.asarray(image) * shade[..., None], 0, 255).astype(np.uint8))


def _things(rnd: Random, w: int, h: int) -> Image.Image:
    """Plates, bottles, phones, fruit, boxes and cables on a table."""
    image = surface(rnd, w, h)
    draw = ImageDraw.Draw(image)
    for _ in range(rnd.randint(1, 8)):
        x, y, r, ink = rnd.uniform(0, w), rnd.uniform(0, h), min(w, h) * rnd.uniform(0.05, 0.3), _color(rnd)
        edge, light = tuple(int(c * 0.6) for c in ink), tuple(min(255, int(c * 1.3)) for c in ink)
        kind = rnd.randrange(6)
        if kind == 0:  # round: plate, cup, fruit
            draw.ellipse((x - r, y - r, x + r, y + r), fill=ink, outline=edge, width=2)
            draw.ellipse((x - r * 0.6, y - r * 0.7, x + r * 0.4, y + r * 0.3), fill=light)
        elif kind == 1:  # phone or tablet
            draw.rounded_rectangle((x - r * 0.6, y - r * 1.2, x + r * 0.6, y + r * 1.2), r * 0.12, (20, 20, 24))
            draw.rectangle((x - r * 0.54, y - r * 1.05, x + r * 0.54, y + r * 1.05), fill=ink)
        elif kind == 2:  # bottle
            draw.rounded_rectangle((x - r * 0.35, y - r * 0.5, x + r * 0.35, y + r * 1.4), r * 0.1, ink, edge)
            draw.rectangle((x - r * 0.13, y - r * 1.2, x + r * 0.13, y - r * 0.4), fill=edge)
        elif kind == 3:  # box
            draw.polygon([(x - r, y), (x, y - r * 0.5), (x + r, y), (x, y + r * 0.5)], fill=light)
            draw.polygon([(x - r, y), (x, y + r * 0.5), (x, y + r * 1.3), (x - r, y + r * 0.8)], fill=ink)
            draw.polygon([(x + r, y), (x, y + r * 0.5), (x, y + r * 1.3), (x + r, y + r * 0.8)], fill=edge)
        elif kind == 4:  # cable
            line = [(x + rnd.gauss(0, r * 2), y + rnd.gauss(0, r * 2)) for _ in range(6)]
            draw.line(line, fill=ink, width=rnd.randint(2, 6), joint="curve")
        else:  # book or sheet
            draw.rectangle((x - r, y - r * 1.3, x + r, y + r * 1.3), fill=ink, outline=edge, width=2)
            _lines(rnd, image, (x - r * 0.8, y - r, x + r * 0.8, y + r), rnd.choice(((20, 20, 20), light)))
    return image


def _lines(rnd: Random, image: Image.Image, box: tuple[float, float, float, float], ink: RGB) -> None:
    """Lines of words in a box."""
    draw, size = ImageDraw.Draw(image), max(6, round((box[3] - box[1]) * rnd.uniform(0.03, 0.15)))
    face, y = text.font(rnd.choice(FONTS), size), box[1]
    while y < box[3] - size:
        words = " ".join(rnd.choice(text.SENTENCES))[: max(1, int((box[2] - box[0]) / size * 1.8))]
        draw.text((box[0], y), words, ink, face)
        y += size * rnd.choice((1.2, 1.2, 1.2, 2.2))


def _page(rnd: Random, w: int, h: int) -> Image.Image:
    """A page, a screen, a sign: blocks of text and images."""
    ground = rnd.choice(((250, 250, 248), (240, 235, 220), (28, 30, 36), _color(rnd)))
    ink = (20, 20, 20) if sum(ground) > 380 else (235, 235, 235)
    image = Image.new("RGB", (w, h), ground)
    y = h * rnd.uniform(0.02, 0.1)
    while y < h * 0.95:
        tall = h * rnd.uniform(0.06, 0.35)
        if rnd.random() < 0.3:
            image.paste(paint(rnd, max(16, int(w * 0.8)), max(16, int(tall))), (int(w * 0.1), int(y)))
        else:
            _lines(rnd, image, (w * 0.08, y, w * 0.92, y + tall), ink)
        y += tall * 1.1
    return image


def _other_game(rnd: Random) -> Image.Image:
    """The face of another game's card: playing cards, monsters with hit points, square pictures, tarot, sports."""
    w, h = 244, rnd.choice((340, 340, 356, 380))
    ground = rnd.choice(((250, 250, 246), _color(rnd), _color(rnd), (225, 195, 60), (190, 110, 60), (60, 130, 110)))
    image = Image.new("RGB", (w, h), ground)
    draw, ink, kind = ImageDraw.Draw(image), _color(rnd), rnd.randrange(5)
    if kind == 0:  # hearts, spades: a rank in two corners, pips or a figure between
        color, sign = rnd.choice(((200, 20, 30), (15, 15, 15))), rnd.choice("♠♥♦♣")
        draw.rectangle((0, 0, w, h), fill=(250, 250, 246))
        rank = rnd.choice(("A", "K", "Q", "J", *map(str, range(2, 11))))
        for turn in (0, 180):
            face = text.font("DejaVuSans-Bold", 34)
            draw.text((8, 4), rank, color, face)
            draw.text((8, 40), sign, color, face)
            image.paste(image.rotate(turn), (0, 0))
            draw = ImageDraw.Draw(image)
        if rank in "KQJ":
            image.paste(paint(rnd, 150, h - 90), (47, 45))
        else:
            for i in range(rnd.randint(1, 10)):
                spot = (80 + 84 * (i % 2), 60 + (i // 2) * (h - 120) / 5)
                draw.text(spot, sign, color, text.font("DejaVuSans-Bold", 40), anchor="mm")
    elif kind in (1, 2):  # a border, a name, a picture, text below; or a square picture and a frame for stars
        edge = rnd.choice(((240, 205, 60), (200, 200, 205), (150, 90, 50), ink))
        draw.rounded_rectangle((0, 0, w - 1, h - 1), 10, outline=edge, width=11)
        draw.text((20, 16), text.name(rnd), ink_or(ground), text.font("DejaVuSans-Bold", 17))
        draw.text(
            (w - 20, 16), f"{rnd.randint(3, 30) * 10} HP", (200, 30, 30), text.font("DejaVuSans", 13), anchor="ra"
        )
        bottom = 42 + (rnd.randint(105, 140) if kind == 1 else w - 50)
        image.paste(paint(rnd, w - 50, bottom - 42), (25, 42))
        draw.rectangle((25, 42, w - 25, bottom), outline=edge, width=3)
        if kind == 2:
            draw.rectangle((20, bottom + 6, w - 20, h - 18), fill=(235, 220, 190), outline=(60, 40, 20), width=2)
        for i in range(rnd.randint(1, 7)):
            draw.ellipse((w - 40 - 18 * i, bottom - 8, w - 26 - 18 * i, bottom + 6), fill=(230, 160, 30))
        _lines(rnd, image, (28, bottom + 12, w - 26, h - 24), ink_or(ground) if kind == 1 else (30, 22, 16))
    elif kind == 3:  # a picture in a wide frame with a word below
        image.paste(paint(rnd, w - 40, h - 80), (20, 22))
        draw.text((w / 2, h - 32), text.name(rnd).upper(), ink_or(ground), text.font("STIXGeneralBol", 22), anchor="mm")
    else:  # a picture to the edge with a band
        image.paste(paint(rnd, w, h), (0, 0))
        y = rnd.choice((10, h - 70))
        draw.rectangle((0, y, w, y + 55), fill=ink)
        draw.text((w / 2, y + 27), text.name(rnd), ink_or(ink), text.font("DejaVuSans-Bold", 20), anchor="mm")
    return image


def ink_or(ground: RGB) -> RGB:
    """Black on light ground, white on dark."""
    return (15, 15, 15) if sum(ground) > 380 else (245, 245, 245)


def _card_back(rnd: Random) -> Image.Image:
    """The back of a card: an oval on brown leather, or a mirrored pattern."""
    w, h = 244, 340
    if rnd.random() < 0.5:
        brown = (rnd.randint(70, 130), rnd.randint(40, 80), rnd.randint(20, 50))
        tint = 1 + 0.15 * patch(rnd, "stone", w, h)
        image = Image.fromarray(np.clip(tint[..., None] * np.array(brown, np.float32), 0, 255).astype(np.uint8))
        draw = ImageDraw.Draw(image)
        draw.rounded_rectangle((0, 0, w - 1, h - 1), 12, outline=(14, 12, 12), width=11)
        oval = rnd.choice(((200, 150, 80), (170, 120, 70), (60, 90, 150)))
        draw.ellipse((28, 62, w - 28, h - 62), fill=oval, outline=(60, 35, 20), width=5)
        draw.ellipse((70, 120, w - 70, h - 120), fill=tuple(int(c * 0.7) for c in brown))
        for i, dot in enumerate(((240, 235, 210), (60, 130, 200), (40, 35, 40), (200, 60, 40), (60, 140, 70))):
            a = math.tau * i / 5 - math.pi / 2
            x, y = w / 2 + 34 * math.cos(a), h / 2 + 34 * math.sin(a)
            draw.ellipse((x - 10, y - 10, x + 10, y + 10), fill=dot)
        draw.text((w / 2, 42), text.name(rnd).upper(), (110, 140, 200), text.font("STIXGeneralBol", 30), anchor="mm")
        return image
    half = _cloth(rnd, w // 2, h)
    image = Image.new("RGB", (w, h))
    image.paste(half, (0, 0))
    image.paste(half.transpose(Image.Transpose.FLIP_LEFT_RIGHT), (w // 2, 0))
    ImageDraw.Draw(image).rectangle((0, 0, w - 1, h - 1), outline=rnd.choice(((250, 250, 250), (15, 15, 15))), width=12)
    return image


SCENES: dict[Callable[[Random, int, int], Image.Image], int] = {
    surface: 2, paint: 2, _clothes: 5, _landscape: 2, _portrait: 2, _things: 3, _page: 2,
}  # fmt: skip


def draw_negative(rnd: Random) -> tuple[Image.Image, int]:
    """An RGB image that shows no card, and the JPEG quality to save it at."""
    if rnd.random() < 0.3:
        card = _other_game(rnd) if rnd.random() < 0.65 else _card_back(rnd)
        image = card if rnd.random() < 0.3 else place(rnd, card)
        return develop(rnd, image, photo=rnd.random() < 0.5)
    side = rnd.randint(150, 320)
    portrait = rnd.choice((1, 1, 0.717, 3 / 4, 3 / 4, 9 / 16, 4 / 3, 16 / 9))
    size = (max(140, round(side * min(1, portrait))), max(140, round(side / max(1, portrait))))
    image = rnd.choices(list(SCENES), list(SCENES.values()))[0](rnd, *size)
    if rnd.random() < 0.3:
        image = image.filter(ImageFilter.BoxBlur(rnd.uniform(0, 2)))
    return develop(rnd, lit(rnd, image) if rnd.random() < 0.5 else image, photo=rnd.random() < 0.6)
