"""Planeswalkers: a picture that reaches behind the abilities and breaks the frame, loyalty costs, a shield."""

from cards.drawn import text
from cards.drawn.art import subject
from cards.drawn.canvas import Box, Canvas
from cards.drawn.card import Card
from cards.drawn.inks import BLACK, WHITE, dark, ink_on, inks_of, mix
from cards.drawn.parts import bar, body, collector, picture, title, type_line


def draw_planeswalker(canvas: Canvas, card: Card) -> None:
    """The picture reaches behind the abilities; their costs are on the left, the loyalty at the lower right."""
    rnd, inks = canvas.rnd, inks_of(canvas.rnd, card)
    edge = mix(inks.line, dark(inks.body, rnd.uniform(0.1, 0.5)), rnd.random())
    whole = card.era == "borderless"
    window: Box = (0, 0, 488, 680) if whole else (rnd.uniform(20, 40), rnd.uniform(24, 60), rnd.uniform(448, 468), 640)
    if not whole:
        body(canvas, (18, 18, 470, 646), mix(inks.body, (95, 92, 80), rnd.uniform(0, 0.5)), card.color, 22)
    picture(canvas, window, 22)
    middle = rnd.choice((402, 402, 412, 375, 360))
    if not whole and rnd.random() < 0.6:  # the window narrows towards its foot
        narrow = rnd.uniform(38, 56)
        for side, ink in (((16, 30, narrow), inks.body), ((472, 458, 488 - narrow), inks.body_end)):
            corners = [(side[0], 70), (side[1], 90), (side[2], middle - 20), (side[0], middle - 20)]
            canvas.draw.polygon([(x * canvas.scale, y * canvas.scale) for x, y in corners], canvas.tint(ink), edge)
    elif rnd.random() < 0.5:
        canvas.outline(window, rnd.choice((edge, inks.bar)), 3, 22, end=inks.line_end)
    for y in ((31, 69), (middle - 19, middle + 19)):
        bar(canvas, (24, y[0], 464, y[1]), inks.bar, edge, end=inks.bar_end)
    if rnd.random() < 0.55:  # head and shoulders before the title and the sides of the frame
        x0, y0, x1, y1 = canvas.box((rnd.uniform(0, 120), rnd.uniform(0, 30), rnd.uniform(368, 488), middle - 19))
        image, mask = subject(rnd, x1 - x0, y1 - y0)
        canvas.image.paste(image, (x0, y0), mask)
    fill = ink_on(inks.bar)
    title(canvas, card, 50, fill)
    type_line(canvas, card, middle, fill)
    count = rnd.choice((1, 2, 2, 3, 3, 3, 3, 4))
    top, bottom = middle + 24, rnd.uniform(615, 632)
    shades = (inks.box, inks.box, inks.bar, (205, 205, 205), (160, 158, 156), dark(inks.line, 0.5), (40, 40, 44))
    ground = canvas.tint(rnd.choice(shades))
    light, other = rnd.uniform(0.5, 1.0), rnd.choice((1.0, 0.92, 0.85, 0.75))
    ink = ink_on(mix(ground, (110, 110, 110), 1 - light))
    starts = sorted(rnd.uniform(-0.25, 0.25) + i for i in range(1, count))
    lines = [top, *(top + s * (bottom - top) / count for s in starts), bottom]
    static = rnd.random() < 0.3  # the first ability of some costs nothing
    for i in range(count):
        strip: Box = (36, lines[i], 452, lines[i + 1])
        canvas.panel(strip, ground if i % 2 else dark(ground, other), "cloud", 0.02, alpha=light)
        words = [(words, False) for words in text.rules(rnd, 1, 2)]
        free = static and i == 0 and count > 1
        inner = (50 if free else 84, strip[1] + 4, 444 if i < count - 1 else 400, strip[3] - 4)
        canvas.paragraphs(inner, words, "STIXGeneral", ink, card.sign, size=21)
        if not free:
            _loyalty_cost(canvas, (strip[1] + strip[3]) / 2)
    x, y = rnd.gauss(428, 4), rnd.gauss(640, 5)
    shield = [(-32, -20), (-14, -14), (0, -21), (14, -14), (32, -20), (36, 4), (0, 22), (-36, 4)]
    _shield(canvas, x, y, rnd.uniform(0.9, 1.2), shield)
    canvas.write(x, y, str(rnd.randint(2, 7)), "STIXGeneralBol", 27, WHITE, anchor="mm")
    collector(canvas, card)


def _shield(canvas: Canvas, x: float, y: float, size: float, points: list[tuple[float, float]]) -> None:
    corners = [((x + dx * size) * canvas.scale, (y + dy * size) * canvas.scale) for dx, dy in points]
    canvas.draw.polygon(corners, fill=BLACK, outline=canvas.rnd.choice(((185, 185, 185), (90, 90, 90), BLACK)))


def _loyalty_cost(canvas: Canvas, y: float) -> None:
    sign, number = canvas.rnd.choice(("+", "+", "−", "−", "")), canvas.rnd.randint(1, 12)
    tip = {"+": (0, -23), "−": (0, 23), "": (0, 0)}[sign]
    upper = [(-26, -14), tip, (26, -14)] if sign == "+" else [(-26, -14), (26, -14)]
    lower = [(26, 14), tip, (-26, 14)] if sign == "−" else [(26, 14), (-26, 14)]
    _shield(canvas, 48, y, canvas.rnd.uniform(0.95, 1.1), [*upper, *lower])
    canvas.write(48, y, f"{sign}{number}" if sign else "0", "STIXGeneralBol", 21, WHITE, anchor="mm")
