"""The pictures on the drawn cards: scenes of random things in random colors, and none hints at a label."""

import colorsys
import math
from random import Random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from cards.drawn.texture import patch

RGB = tuple[int, int, int]


def palette(rnd: Random) -> list[RGB]:
    """Five colors that belong together: few hues, their own range of saturation and value."""
    hue, spread = rnd.random(), rnd.choice((0.03, 0.08, 0.2, 0.5, 1.0))
    vivid, dark = rnd.betavariate(1.5, 1.6), rnd.choice((0.0, 0.05, 0.2))
    light = rnd.uniform(max(0.5, dark + 0.3), 1.0)
    values = [dark + (light - dark) * v for v in (0.02, 0.25, 0.5, 0.75, 1.0)]
    colors = []
    for value in values:
        h = (hue + rnd.uniform(-spread, spread) / 2) % 1
        s = min(1.0, vivid * rnd.uniform(0.5, 1.3))
        colors.append(
            tuple(round(255 * c) for c in colorsys.hsv_to_rgb(h, s, min(1.0, value * rnd.uniform(0.85, 1.15))))
        )
    return colors


def _background(rnd: Random, colors: list[RGB], w: int, h: int) -> Image.Image:
    top, bottom, third = (np.array(rnd.choice(colors), np.float32) for _ in range(3))
    ramp = np.linspace(0, 1, h, dtype=np.float32)[:, None] + 0.25 * patch(rnd, "cloud", w, h, rnd.uniform(0.6, 2.5))
    ramp = np.clip(ramp, 0, 1)[..., None]
    veil = np.clip(
        0.4 * patch(rnd, rnd.choice(("cloud", "cloud", "marble")), w, h, rnd.uniform(0.5, 3)) + rnd.uniform(-0.2, 0.5),
        0,
        1,
    )
    image = top * (1 - ramp) + bottom * ramp
    image += (third - image) * veil[..., None]
    return Image.fromarray(np.clip(image, 0, 255).astype(np.uint8))


def _ridges(rnd: Random, draw: ImageDraw.ImageDraw, colors: list[RGB], w: int, h: int) -> None:
    for layer in range(rnd.randint(1, 4)):
        base = h * rnd.uniform(0.35 + 0.12 * layer, 0.75 + 0.08 * layer)
        steps = rnd.choice((6, 12, 30))
        rough = h * rnd.uniform(0.02, 0.2)
        points = [(i * w / steps, base + rnd.gauss(0, rough)) for i in range(steps + 1)]
        draw.polygon([(0, h), *points, (w, h)], fill=rnd.choice(colors))


def _trunks(rnd: Random, draw: ImageDraw.ImageDraw, colors: list[RGB], w: int, h: int) -> None:
    fill = rnd.choice(colors)
    for _ in range(rnd.randint(3, 12)):
        x, lean, thick = rnd.uniform(0, w), rnd.gauss(0, w * 0.05), w * rnd.uniform(0.01, 0.06)
        draw.polygon([(x - thick, h), (x + lean - thick / 2, 0), (x + lean + thick / 2, 0), (x + thick, h)], fill=fill)


def _walls(rnd: Random, draw: ImageDraw.ImageDraw, colors: list[RGB], w: int, h: int) -> None:
    for _ in range(rnd.randint(4, 14)):
        x, y, across, tall = (
            rnd.uniform(0, w),
            h * rnd.uniform(0.1, 0.8),
            w * rnd.uniform(0.04, 0.25),
            h * rnd.uniform(0.2, 0.9),
        )
        draw.rectangle((x, y, x + across, y + tall), fill=rnd.choice(colors))
        if rnd.random() < 0.5:
            draw.polygon([(x, y), (x + across / 2, y - across), (x + across, y)], fill=rnd.choice(colors))


def _figure(rnd: Random, draw: ImageDraw.ImageDraw, colors: list[RGB], w: int, h: int) -> None:
    """Somebody or something: a trunk, a head, limbs, perhaps wings or a cloak."""
    size, x, y = h * rnd.uniform(0.25, 0.55), w * rnd.uniform(0.3, 0.7), h * rnd.uniform(0.45, 0.7)
    skin, cloth, shade = (rnd.choice(colors) for _ in range(3))
    if rnd.random() < 0.4:
        for side in (-1, 1):
            tip = (x + side * size * rnd.uniform(0.8, 1.6), y - size * rnd.uniform(0.2, 1.1))
            draw.polygon(
                [(x, y - size * 0.4), tip, (x + side * size * 0.8, y + size * 0.1), (x, y + size * 0.2)], fill=shade
            )
    if rnd.random() < 0.4:
        draw.polygon(
            [
                (x, y - size * 0.6),
                (x + size * rnd.uniform(0.3, 0.9), y + size),
                (x - size * rnd.uniform(0.3, 0.9), y + size),
            ],
            fill=shade,
        )
    limb = max(2, int(size * rnd.uniform(0.08, 0.18)))
    for _ in range(rnd.randint(2, 6)):
        a, b = rnd.uniform(0, math.tau), rnd.uniform(0, math.tau)
        elbow = (x + size * 0.5 * math.cos(a), y + size * 0.5 * math.sin(a))
        hand = (elbow[0] + size * 0.45 * math.cos(b), elbow[1] + size * 0.45 * math.sin(b))
        draw.line([(x, y), elbow, hand], fill=rnd.choice((skin, cloth)), width=limb, joint="curve")
    across = size * rnd.uniform(0.18, 0.4)
    draw.ellipse((x - across, y - size * 0.5, x + across, y + size * 0.5), fill=cloth)
    draw.ellipse((x - across * 0.3, y - size * 0.45, x + across * 0.8, y + size * 0.2), fill=rnd.choice(colors))
    head, hx = size * rnd.uniform(0.12, 0.25), x + rnd.gauss(0, size * 0.1)
    draw.ellipse((hx - head, y - size * 0.5 - head * 1.6, hx + head, y - size * 0.5 + head * 0.4), fill=skin)


def _shards(rnd: Random, draw: ImageDraw.ImageDraw, colors: list[RGB], w: int, h: int) -> None:
    for _ in range(rnd.randint(3, 25)):
        x, y, r = rnd.uniform(0, w), rnd.uniform(0, h), h * rnd.uniform(0.02, 0.25)
        corners = sorted(rnd.uniform(0, math.tau) for _ in range(rnd.randint(3, 5)))
        draw.polygon([(x + r * math.cos(a), y + r * math.sin(a)) for a in corners], fill=rnd.choice(colors))


def _strokes(rnd: Random, draw: ImageDraw.ImageDraw, colors: list[RGB], w: int, h: int) -> None:
    for _ in range(rnd.randint(3, 20)):
        x, y, turn = rnd.uniform(0, w), rnd.uniform(0, h), rnd.uniform(0, math.tau)
        points = [(x, y)]
        for _ in range(rnd.randint(2, 6)):
            turn += rnd.gauss(0, 0.6)
            x, y = x + w * 0.09 * math.cos(turn), y + w * 0.09 * math.sin(turn)
            points.append((x, y))
        draw.line(points, fill=rnd.choice(colors), width=rnd.randint(1, max(2, w // 25)), joint="curve")


def _orbs(rnd: Random, draw: ImageDraw.ImageDraw, colors: list[RGB], w: int, h: int) -> None:
    for _ in range(rnd.randint(1, 6)):
        x, y, r = rnd.uniform(0, w), rnd.uniform(0, h), h * rnd.uniform(0.03, 0.3)
        draw.ellipse((x - r, y - r, x + r, y + r), fill=rnd.choice(colors))
        draw.ellipse((x - r * 0.7, y - r * 0.8, x + r * 0.3, y + r * 0.2), fill=rnd.choice(colors))


def _mirrored(rnd: Random, draw: ImageDraw.ImageDraw, colors: list[RGB], w: int, h: int) -> None:
    """Symmetric architecture, as on many full-art cards."""
    for _ in range(rnd.randint(15, 50)):
        x, y, a, b = rnd.uniform(0, w / 2), rnd.uniform(0, h), w * rnd.uniform(0.01, 0.12), h * rnd.uniform(0.01, 0.2)
        fill = rnd.choice(colors)
        draw.rectangle((x, y, x + a, y + b), fill=fill)
        draw.rectangle((w - x - a, y, w - x, y + b), fill=fill)


THINGS = (_ridges, _trunks, _walls, _figure, _figure, _figure, _shards, _strokes, _orbs, _mirrored)


def _paintwork(rnd: Random, w: int, h: int) -> Image.Image:
    """Clouds of paint: fractal light and dark, each tone in its own color."""
    tones = [
        patch(rnd, rnd.choice(("cloud", "cloud", "stone", "marble")), w, h, rnd.uniform(0.3, 1.6)) for _ in range(2)
    ]
    mixed = tones[0] + rnd.uniform(0, 0.8) * tones[1]
    tone = Image.fromarray(np.clip(127 + rnd.uniform(30, 70) * mixed, 0, 255).astype(np.uint8))
    stops = np.linspace(0, 255, 5)
    colors = np.array(sorted(palette(rnd), key=sum))
    return Image.merge(
        "RGB", [tone.point(np.interp(range(256), stops, colors[:, i]).astype(int).tolist()) for i in range(3)]
    )


def _brush(rnd: Random, image: Image.Image) -> None:
    """Hundreds of short strokes, each in the color that it covers, a little lighter or darker."""
    draw, (w, h) = ImageDraw.Draw(image), image.size
    seen, turn, curl = image.load(), rnd.uniform(0, math.tau), rnd.uniform(0, 6)
    reach, spread, random = rnd.uniform(3, 9), rnd.uniform(15, 45), rnd.random
    thick = rnd.choice((1, 1, 2, 3))
    for _ in range(rnd.randint(60, 260)):
        x, y, lift = random() * w, random() * h, (random() - 0.5) * 2 * spread
        angle = turn + curl * (x / w + y / h) + random()
        r, g, b = seen[int(x), int(y)]
        dx, dy = reach * math.cos(angle), reach * math.sin(angle)
        draw.line((x - dx, y - dy, x + dx, y + dy), (int(r + lift), int(g + lift), int(b + lift)), thick)


def _light(rnd: Random, image: Image.Image, w: int, h: int) -> Image.Image:
    """Brush the scene: bend its edges, shade its surfaces, light it from one side, set its tone."""
    pixels = np.asarray(image)
    reach = rnd.uniform(1, 7)
    dy = (patch(rnd, "cloud", w, h, rnd.uniform(0.3, 1.5)) * reach).astype(np.intp)
    dx = (patch(rnd, "cloud", w, h, rnd.uniform(0.3, 1.5)) * reach).astype(np.intp)
    rows = np.clip(np.arange(h)[:, None] + dy, 0, h - 1)
    cols = np.clip(np.arange(w)[None, :] + dx, 0, w - 1)
    scene = pixels[rows, cols].astype(np.float32)
    relief = rnd.uniform(0.08, 0.35) * patch(
        rnd, rnd.choice(("cloud", "stone", "fibre", "marble")), w, h, rnd.uniform(0.4, 1.5)
    )
    relief += rnd.uniform(0.0, 0.16) * patch(rnd, "grain", w, h)
    y, x = np.ogrid[:h, :w]
    lamp = np.exp(
        -(((x / w - rnd.random()) / rnd.uniform(0.2, 0.6)) ** 2 + ((y / h - rnd.random()) / rnd.uniform(0.2, 0.6)) ** 2)
    )
    scene *= (1 + relief + rnd.uniform(-0.4, 0.9) * (lamp - 0.3))[..., None]
    if rnd.random() < 0.4:
        scene += (lamp**2)[..., None] * np.array([rnd.uniform(0, 160) for _ in range(3)], np.float32)
    scene = np.clip(scene / 255, 0, 1) ** rnd.uniform(0.6, 1.35)
    return Image.fromarray((scene * 255).astype(np.uint8))


def paint(rnd: Random, width: int, height: int) -> Image.Image:
    """An RGB picture of width × height that has nothing to do with any label."""
    scale = min(1.0, 220 / width)
    w, h = max(16, round(width * scale)), max(16, round(height * scale))
    colors = palette(rnd)
    if rnd.random() < 0.35:
        colors += palette(rnd)
    image = _paintwork(rnd, w, h) if rnd.random() < 0.5 else _background(rnd, colors, w, h)
    draw = ImageDraw.Draw(image)
    for thing in rnd.choices(THINGS, k=rnd.randint(1, 5)):
        thing(rnd, draw, colors, w, h)
    if rnd.random() < 0.4:
        image = Image.blend(image, _paintwork(rnd, w, h), rnd.uniform(0.1, 0.6))
    if rnd.random() < 0.7:
        _brush(rnd, image)
    image = _light(rnd, image, w, h)
    if rnd.random() < 0.5:  # crisp edges, as painters and printers like them
        image = image.filter(ImageFilter.UnsharpMask(2, rnd.randint(40, 200), 0))
    return image.resize((width, height), Image.Resampling.BILINEAR)


def subject(rnd: Random, width: int, height: int) -> tuple[Image.Image, Image.Image]:
    """Somebody cut out of a picture: an RGB image of width × height and its `L` mask."""
    w = max(24, min(160, width))
    h = max(24, round(height * w / width))
    colors = palette(rnd)
    state = rnd.getstate()
    mask = Image.new("L", (w, h), 0)
    draw = ImageDraw.Draw(mask)
    _figure(rnd, draw, [(255,)] * 5, w, h)
    rnd.setstate(state)
    image = Image.new("RGB", (w, h), colors[0])
    _figure(rnd, ImageDraw.Draw(image), colors, w, h)
    if rnd.random() < 0.7:
        _brush(rnd, image)
    image = _light(rnd, image, w, h)
    size = (width, height)
    return image.resize(size, Image.Resampling.BILINEAR), mask.resize(size, Image.Resampling.BILINEAR)
