"""The frames of the drawn cards: 1993, 1997, 2003, 2015, borderless, lands, planeswalkers, sagas."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from trainer.data.cards import symbols, text
from trainer.data.cards.art import paint
from trainer.data.cards.canvas import RGB, Box, Canvas, luminance

if TYPE_CHECKING:
    from trainer.data.cards.card import Card


class Inks(NamedTuple):
    """The colours of a frame: its body, the bars of title and type, the text box."""

    body: RGB
    bar: RGB
    box: RGB


MODERN = {
    "white": Inks((222, 212, 185), (244, 243, 239), (245, 243, 237)),
    "blue": Inks((50, 146, 198), (180, 212, 228), (217, 231, 241)),
    "black": Inks((50, 55, 50), (178, 171, 170), (228, 226, 225)),
    "red": Inks((190, 86, 66), (236, 200, 182), (239, 223, 213)),
    "green": Inks((94, 134, 100), (184, 203, 193), (211, 225, 215)),
    "artifact": Inks((146, 170, 184), (208, 218, 224), (214, 224, 229)),
    "gold": Inks((200, 172, 96), (226, 208, 150), (238, 228, 202)),
}
OLD = {
    "white": Inks((208, 203, 190), (208, 203, 190), (226, 220, 206)),
    "blue": Inks((62, 132, 165), (62, 132, 165), (116, 164, 188)),
    "black": Inks((38, 40, 36), (38, 40, 36), (190, 160, 128)),
    "red": Inks((150, 62, 44), (150, 62, 44), (184, 98, 72)),
    "green": Inks((66, 92, 70), (66, 92, 70), (176, 158, 124)),
    "artifact": Inks((92, 70, 52), (92, 70, 52), (200, 194, 186)),
    "gold": Inks((190, 160, 90), (190, 160, 90), (216, 202, 166)),
}
LAND_BOX = {
    "white": (236, 219, 186),
    "blue": (166, 194, 226),
    "black": (156, 146, 142),
    "red": (218, 142, 112),
    "green": (158, 182, 150),
}
STONE = (188, 168, 148)
OLD_STONE = (98, 86, 74)
BLACK, WHITE = (12, 10, 9), (245, 244, 240)
TEXTURE = {
    "white": "marble", "blue": "cloud", "black": "stone", "red": "stone", "green": "cloud", "artifact": "fibre",
    "gold": "marble",
}  # fmt: skip


def draw(canvas: Canvas, card: Card) -> None:
    """Draw the whole card."""
    _border(canvas, card)
    if card.kind == "planeswalker":
        _planeswalker(canvas, card)
    elif card.kind == "mana":
        {"1993": _old_land, "1997": _old_land, "borderless": _full_art_land}.get(card.era, _land)(canvas, card)
    elif card.era in ("1993", "1997"):
        _old(canvas, card)
    elif card.type_line.endswith("Saga"):
        _saga(canvas, card)
    else:
        _modern(canvas, card)


def _border(canvas: Canvas, card: Card) -> None:
    rnd = canvas.rnd
    white = card.era in ("1993", "1997", "2003") and rnd.random() < 0.35
    base = rnd.randint(212, 250) if white else rnd.randint(0, 30)
    colour = tuple(max(0, min(255, base + rnd.randint(-6, 6))) for _ in range(3))
    canvas.panel((0, 0, 488, 680), colour, "grain", 0.02)


def _body(canvas: Canvas, box: Box, colour: RGB, key: str, radius: float, amount: float = 0.14) -> None:
    kind = (
        TEXTURE[key] if canvas.rnd.random() < 0.7 else canvas.rnd.choice(("cloud", "marble", "stone", "fibre", "grain"))
    )
    zoom = canvas.rnd.uniform(0.2, 0.8)
    canvas.panel(box, canvas.tint(colour), kind, canvas.rnd.uniform(0.3, 1.3) * amount, zoom=zoom, radius=radius)


def _bar(canvas: Canvas, box: Box, colour: RGB, edge: RGB) -> None:
    canvas.panel(box, canvas.tint(colour), "cloud", 0.03, radius=9, slope=canvas.rnd.uniform(0, 0.08))
    canvas.outline(box, edge, canvas.rnd.uniform(1.5, 3), 9)


def _dark(colour: RGB, by: float = 0.4) -> RGB:
    return tuple(int(c * by) for c in colour)


def _ink_on(colour: RGB) -> RGB:
    return BLACK if luminance(colour) > 95 else WHITE


def _title(
    canvas: Canvas, card: Card, y: float, fill: RGB, left: float = 40, right: float = 452, size: float = 25
) -> None:
    begin = canvas.pips(right, y, card.cost, 23)
    family = canvas.rnd.choice(text.BOLD_TITLES)
    canvas.write(left, y, card.name, family, size, fill, room=begin - left - 6)


def _type(
    canvas: Canvas, card: Card, y: float, fill: RGB, left: float = 40, right: float = 452, size: float = 21
) -> None:
    edge = canvas.px(27)
    sign, colour = symbols.set_sign(canvas.rnd, edge)
    canvas.image.paste(colour, (canvas.px(right) - edge, canvas.px(y) - edge // 2), sign)
    canvas.write(left, y, card.type_line, canvas.rnd.choice(text.BOLD_TITLES), size, fill, room=right - left - 36)


def _collector(canvas: Canvas, card: Card, y: float = 655, fill: RGB | None = None) -> None:
    rnd = canvas.rnd
    fill = fill or _ink_on(canvas.image.getpixel((canvas.px(60), canvas.px(y))))
    artist = f"{text.name(rnd).split()[0]} {text.name(rnd).split()[0]}"
    if card.era == "2003":
        canvas.write(44, y - 14, f"~ {artist}", "STIXGeneralBol", 15, fill)
        canvas.write(
            48, y, f"© {rnd.randint(2003, 2014)} {rnd.randint(1, 300)}/{rnd.randint(100, 350)}", "STIXGeneral", 10, fill
        )
        return
    canvas.write(30, y - 12, f"{rnd.choice('CURM')} {rnd.randint(1, 400):04d}", "DejaVuSans", 11, fill)
    canvas.write(30, y + 2, f"XYZ • EN  {artist}", "DejaVuSans", 11, fill)
    canvas.write(458, y + 2, f"© {rnd.randint(2015, 2026)} drawn by code", "STIXGeneral", 12, fill, anchor="rm")


def _power(canvas: Canvas, card: Card, ink: RGB, edge: RGB) -> None:
    if not card.power:
        return
    box = (378, 606, 462, 646)
    if card.vehicle and canvas.rnd.random() < 0.8:
        ink = canvas.rnd.choice(((120, 72, 34), (60, 66, 76)))
    _bar(canvas, box, ink, edge)
    canvas.bevel(box, 2, sunken=False)
    canvas.write(420, 626, card.power, "STIXGeneralBol", 30, _ink_on(ink), anchor="mm")


def _modern(canvas: Canvas, card: Card) -> None:
    """2003 has a border all around, 2015 a black foot; borderless ones lay their bars on the picture."""
    rnd, inks = canvas.rnd, MODERN[card.colour]
    edge = _dark(inks.body, rnd.uniform(0.15, 0.6))
    alpha = 1.0
    if card.era == "borderless":
        canvas.paste(paint(rnd, canvas.image.width, canvas.image.height), (0, 0, 488, 680))
        alpha = rnd.uniform(0.75, 1)
    else:
        foot = 655 if card.era == "2003" else 628
        _body(canvas, (18, 18, 470, foot), inks.body, card.colour, 12)
        picture: Box = (37, 74, 451, 379)
        x0, y0, x1, y1 = canvas.box(picture)
        canvas.paste(paint(rnd, x1 - x0, y1 - y0), picture)
        canvas.outline(picture, edge, 3)
    box: Box = (37, 424, 451, 616 if card.era == "2003" else 630)
    canvas.panel(
        box, canvas.tint(inks.box), rnd.choice(("cloud", "marble", "fibre")), rnd.uniform(0, 0.04), alpha=alpha
    )
    canvas.outline(box, edge, 2)
    for y in ((35, 73), (381, 421)):
        _bar(canvas, (27, y[0], 461, y[1]), inks.bar, edge)
    _title(canvas, card, 54, BLACK)
    _type(canvas, card, 401, BLACK)
    foot = 600 if card.power else box[3] - 8
    canvas.paragraphs((45, 432, 445, foot), card.rules, rnd.choice(text.RULES), BLACK, card.sign)
    _power(canvas, card, inks.bar, edge)
    _collector(canvas, card)


def _old(canvas: Canvas, card: Card) -> None:
    rnd, inks = canvas.rnd, OLD[card.colour]
    _body(canvas, (22, 22, 466, 658), inks.body, card.colour, 3, 0.2)
    picture: Box = (52, 64, 438, 372)
    x0, y0, x1, y1 = canvas.box(picture)
    canvas.paste(paint(rnd, x1 - x0, y1 - y0), picture)
    canvas.bevel(picture)
    box: Box = (50, 410, 440, 608)
    ink = canvas.tint(inks.box if rnd.random() < 0.7 else inks.body)
    canvas.panel(box, ink, rnd.choice(("fibre", "marble", "grain", "cloud")), rnd.uniform(0.02, 0.12), zoom=0.5)
    canvas.bevel(box, rnd.uniform(1, 4))
    fill = WHITE if luminance(inks.body) < 150 or rnd.random() < 0.5 else BLACK
    shadow = BLACK if fill == WHITE else None
    family = rnd.choice(text.PLAIN_TITLES)
    begin = canvas.pips(440, 44, card.cost, 23, flat=True)
    canvas.write(52, 44, card.name, family, 27, fill, shadow=shadow, room=begin - 60)
    line = card.type_line.replace("—", rnd.choice(("-", ""))).replace("  ", " ")
    canvas.write(52, 391, line.replace("—", "-"), "STIXGeneral", 23, fill, shadow=shadow, room=350)
    if card.era == "1997":
        sign, colour = symbols.set_sign(rnd, canvas.px(26))
        canvas.image.paste(colour, (canvas.px(412), canvas.px(378)), sign)
    canvas.paragraphs(
        (62, 420, 428, 600), card.rules, "STIXGeneral", _ink_on(ink), card.sign, size=25, centred=rnd.random() < 0.3
    )
    left = rnd.random() < 0.5
    canvas.write(
        52 if left else 244,
        622,
        f"Illus. {text.name(rnd)}",
        "STIXGeneral",
        19,
        fill,
        anchor="lm" if left else "mm",
        shadow=shadow,
        room=300,
    )
    canvas.write(52 if left else 244, 640, "© drawn by code", "STIXGeneral", 11, fill, anchor="lm" if left else "mm")
    if card.power:
        canvas.write(444, 628, card.power, "STIXGeneralBol", 33, fill, anchor="rm", shadow=shadow)


def _sign(canvas: Canvas, card: Card, x: float, y: float, size: float, ink: RGB, rim: RGB | None) -> None:
    image, mask = symbols.embossed(card.colour, canvas.px(size), ink, rim)
    canvas.image.paste(image, (canvas.px(x - size / 2), canvas.px(y - size / 2)), mask)


def _sign_ink(canvas: Canvas, card: Card, faint: float) -> RGB:
    ink, ground = symbols.INK[card.colour], LAND_BOX[card.colour]
    return canvas.tint(tuple(round(i + (g - i) * faint) for i, g in zip(ink, ground, strict=True)))


def _land(canvas: Canvas, card: Card) -> None:
    rnd, bar = canvas.rnd, MODERN[card.colour].bar
    stone = STONE if rnd.random() < 0.7 else MODERN[card.colour].body
    foot = 655 if card.era == "2003" else 628
    _body(canvas, (18, 18, 470, foot), stone, "artifact", 12, 0.2)
    edge = _dark(MODERN[card.colour].body, rnd.uniform(0.15, 0.5))
    picture: Box = (37, 74, 451, 379)
    x0, y0, x1, y1 = canvas.box(picture)
    canvas.paste(paint(rnd, x1 - x0, y1 - y0), picture)
    canvas.outline(picture, edge, 3)
    box: Box = (37, 424, 451, 628 if card.era == "2015" else 618)
    canvas.panel(
        box,
        canvas.tint(LAND_BOX[card.colour]),
        rnd.choice(("cloud", "marble")),
        rnd.uniform(0, 0.06),
        slope=rnd.uniform(-0.1, 0.1),
    )
    canvas.outline(box, edge, 2)
    for y in ((35, 73), (381, 421)):
        _bar(canvas, (27, y[0], 461, y[1]), bar, edge)
    _title(canvas, card, 54, BLACK)
    _type(canvas, card, 401, BLACK)
    rim = rnd.choice((None, BLACK)) if card.colour != "white" else (40, 30, 20)
    _sign(canvas, card, 244, 522, rnd.uniform(120, 165), _sign_ink(canvas, card, rnd.uniform(0, 0.3)), rim)
    _collector(canvas, card)


def _old_land(canvas: Canvas, card: Card) -> None:
    rnd = canvas.rnd
    _body(canvas, (22, 22, 466, 658), OLD_STONE, "artifact", 3, 0.15)
    picture: Box = (52, 64, 438, 372)
    x0, y0, x1, y1 = canvas.box(picture)
    canvas.paste(paint(rnd, x1 - x0, y1 - y0), picture)
    canvas.bevel(picture)
    box: Box = (50, 410, 440, 608)
    ground = canvas.tint(tuple(int(c * rnd.uniform(0.65, 0.95)) for c in LAND_BOX[card.colour]))
    canvas.panel(box, ground, rnd.choice(("fibre", "marble", "cloud")), rnd.uniform(0.02, 0.12))
    canvas.bevel(box, rnd.uniform(2, 7))
    canvas.write(52, 44, card.name, rnd.choice(text.PLAIN_TITLES), 27, WHITE, shadow=BLACK)
    canvas.write(52, 391, card.type_line, "STIXGeneral", 23, WHITE, shadow=BLACK)
    if rnd.random() < 0.6:
        _sign(canvas, card, 244, 509, rnd.uniform(110, 165), _sign_ink(canvas, card, rnd.uniform(0, 0.6)), None)
    else:
        words = ["{T}:", "Add", "{C}", "to", "your", "mana", "pool."]
        canvas.paragraphs(
            (80, 440, 410, 580), [(words, False)], "STIXGeneral", BLACK, card.colour, size=25, centred=True
        )
    canvas.write(244, 628, f"Illus. {text.name(rnd)}", "STIXGeneral", 19, WHITE, anchor="mm", shadow=BLACK)


def _full_art_land(canvas: Canvas, card: Card) -> None:
    rnd, inks = canvas.rnd, MODERN[card.colour]
    inset = rnd.choice((0, 18, 24))
    picture: Box = (inset, inset, 488 - inset, 680 - rnd.choice((inset, 54)))
    x0, y0, x1, y1 = canvas.box(picture)
    canvas.paste(paint(rnd, x1 - x0, y1 - y0), picture, 12)
    if inset:
        canvas.outline(picture, canvas.tint(inks.body), rnd.uniform(3, 14), 12)
    style = rnd.randrange(3)
    low = rnd.uniform(575, 605)
    if style != 1:
        _bar(canvas, (27, 30, 461, 66), inks.bar, _dark(inks.body))
        canvas.write(40, 48, card.name, "STIXGeneralBol", 25, BLACK)
    if style != 2:
        _bar(canvas, (27, low - 20, 461, low + 20), inks.bar, _dark(inks.body))
        canvas.write(90, low, card.type_line, "STIXGeneralBol", 21, BLACK, room=300)
    x, size = rnd.choice(((52, 46), (244, 80), (244, 110), (244, 60)))
    if style == 0 and rnd.random() < 0.3:
        x, size = 52, 46
    pip = symbols.pip(card.colour, canvas.px(size), flat=rnd.random() < 0.5)
    canvas.image.paste(pip, (canvas.px(x - size / 2), canvas.px(low - size / 2)), pip)
    _collector(canvas, card, 656)


def _planeswalker(canvas: Canvas, card: Card) -> None:
    """The picture reaches behind the abilities; loyalty costs stand on the left, loyalty in the lower right corner."""
    rnd, inks = canvas.rnd, MODERN[card.colour]
    edge = _dark(inks.body, 0.3)
    if card.era == "borderless":
        picture: Box = (0, 0, 488, 680)
    else:
        _body(canvas, (18, 18, 470, 640), inks.body, card.colour, 22)
        picture = (32, 60, 456, 632)
    x0, y0, x1, y1 = canvas.box(picture)
    canvas.paste(paint(rnd, x1 - x0, y1 - y0), picture, 20)
    for y in ((31, 69), (383, 421)):
        _bar(canvas, (24, y[0], 464, y[1]), inks.bar, edge)
    _title(canvas, card, 50, BLACK)
    _type(canvas, card, 402, BLACK)
    count = rnd.choice((2, 3, 3, 3, 4))
    top, bottom = 428, 630
    tall = (bottom - top) / count
    ground = canvas.tint(inks.box)
    alpha = rnd.uniform(0.45, 0.9)
    for i in range(count):
        strip: Box = (38, top + i * tall, 450, top + (i + 1) * tall)
        shade = ground if i % 2 else _dark(ground, 0.85)
        canvas.panel(strip, shade, "cloud", 0.02, alpha=alpha)
        canvas.paragraphs(
            (84, strip[1] + 4, 444, strip[3] - 4),
            [(words, False) for words in text.rules(rnd, 1, 1)],
            "STIXGeneral",
            BLACK,
            card.sign,
            size=20,
        )
        middle = (strip[1] + strip[3]) / 2
        shield = [
            (26, middle - 14),
            (70, middle - 14),
            (78, middle),
            (70, middle + 14),
            (48, middle + 20),
            (26, middle + 14),
            (18, middle),
        ]
        canvas.draw.polygon([(canvas.px(x), canvas.px(y)) for x, y in shield], fill=BLACK, outline=(170, 170, 170))
        canvas.write(
            48, middle, rnd.choice(("+1", "+2", "-2", "-3", "0", "-7", "-8")), "STIXGeneralBol", 20, WHITE, anchor="mm"
        )
    shield = [(398, 622), (428, 628), (458, 622), (464, 648), (428, 664), (392, 648)]
    canvas.draw.polygon([(canvas.px(x), canvas.px(y)) for x, y in shield], fill=BLACK, outline=(200, 200, 200))
    canvas.write(428, 643, str(rnd.randint(2, 7)), "STIXGeneralBol", 27, WHITE, anchor="mm")
    _collector(canvas, card)


def _saga(canvas: Canvas, card: Card) -> None:
    """An enchantment whose chapters stand beside a tall picture."""
    rnd, inks = canvas.rnd, MODERN[card.colour]
    edge = _dark(inks.body)
    _body(canvas, (18, 18, 470, 630), inks.body, card.colour, 12)
    mirrored = rnd.random() < 0.15
    words: Box = (250, 74, 451, 572) if mirrored else (37, 74, 238, 572)
    picture: Box = (37, 74, 238, 572) if mirrored else (240, 74, 451, 572)
    x0, y0, x1, y1 = canvas.box(picture)
    canvas.paste(paint(rnd, x1 - x0, y1 - y0), picture)
    canvas.panel(words, canvas.tint(inks.box), "cloud", 0.03)
    for y in ((35, 73), (572, 612)):
        _bar(canvas, (27, y[0], 461, y[1]), inks.bar, edge)
    _title(canvas, card, 54, BLACK)
    _type(canvas, card, 592, BLACK)
    left = words[0]
    canvas.paragraphs(
        (left + 28, 84, words[2] - 6, 564),
        [*card.rules, *[(w, False) for w in text.rules(rnd, 2, 3)]],
        "STIXGeneral",
        BLACK,
        card.sign,
        size=21,
    )
    for i in range(3):
        y = 190 + i * 130
        canvas.draw.regular_polygon(
            (canvas.px(left + 8), canvas.px(y), canvas.px(16)), 6, fill=(235, 225, 190), outline=BLACK
        )
        canvas.write(left + 8, y, "I" * (i + 1), "STIXGeneralBol", 16, BLACK, anchor="mm")
    _collector(canvas, card)
