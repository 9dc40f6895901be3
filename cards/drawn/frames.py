"""The frames of the drawn cards: 1993, 1997, 2003, 2015, borderless, showcase, sagas, planeswalkers, basic lands."""

from random import Random

from PIL import Image

from cards.drawn import symbols, text
from cards.drawn.canvas import RGB, Box, Canvas, luminance
from cards.drawn.card import Card
from cards.drawn.parts import (
    BLACK,
    LAND_BOX,
    OLD,
    OLD_STONE,
    STONE,
    WHITE,
    bar,
    body,
    border,
    collector,
    dark,
    ink_on,
    inks_of,
    picture,
    power,
    rules,
    title,
    type_line,
)

WINDOW: Box = (37, 74, 451, 379)  # of the picture, 2003 and 2015
OLD_WINDOW: Box = (52, 64, 438, 372)
OLD_TEXT: Box = (50, 410, 440, 608)


def draw(rnd: Random, card: Card) -> Image.Image:
    """Draw a flat RGB card, 270 to 350 pixels wide, with square corners."""
    canvas = Canvas(rnd, rnd.choice((270, 310, 350)))
    border(canvas, card)
    old = card.era in ("1993", "1997")
    if card.kind == "planeswalker":
        _planeswalker(canvas, card)
    elif card.kind == "mana":
        (_old_land if old else _full_art_land if card.era == "borderless" else _land)(canvas, card)
    elif old:
        _old(canvas, card)
    elif card.type_line.endswith(("Saga", "Class")):
        _saga(canvas, card)
    else:
        _modern(canvas, card)
    return canvas.image


def _modern(canvas: Canvas, card: Card) -> None:
    """2003 has a border all around, 2015 a black foot; borderless cards lay their bars on the picture."""
    rnd, inks = canvas.rnd, inks_of(card)
    edge = dark(inks.body, rnd.uniform(0.15, 0.6))
    bars, box_ink, fill, alpha = inks.bar, inks.box, BLACK, 1.0
    if card.era == "showcase":  # bars and box in odd inks; what stays is the colour of the frame and of the cost
        bars = inks.body if rnd.random() < 0.5 else dark(inks.body, rnd.uniform(0.3, 0.9))
        box_ink = rnd.choice((inks.box, inks.bar, dark(inks.body, rnd.uniform(0.25, 0.6)), (225, 205, 165)))
        edge = rnd.choice((edge, inks.bar, (205, 180, 90)))
    if card.era == "borderless":
        picture(canvas, (0, 0, 488, 680))
        alpha = rnd.uniform(0.7, 1)
    else:
        foot = 655 if card.era == "2003" else rnd.choice((628, 634, 655))
        body(canvas, (18, 18, 470, foot), inks.body, card.colour, 12)
        if card.era != "2003" and rnd.random() < 0.7:  # paler beside the text box
            pale = tuple((3 * a + 2 * b) // 5 for a, b in zip(inks.body, inks.box, strict=True))
            body(canvas, (18, 405, 470, foot), inks.body if card.colour == "black" else pale, card.colour, 12)
        if card.legendary and card.era == "2015":
            canvas.draw.ellipse(canvas.box((60, 8, 428, 60)), fill=canvas.tint(inks.body))
        picture(canvas, WINDOW)
        canvas.outline(WINDOW, edge, 3)
    box: Box = (37, 424, 451, 616 if card.era == "2003" else 630)
    ground = canvas.tint(box_ink)
    canvas.panel(box, ground, rnd.choice(("cloud", "marble", "fibre")), rnd.uniform(0, 0.04), alpha=alpha)
    canvas.outline(box, edge, 2)
    for y in ((35, 73), (381, 421)):
        bar(canvas, (27, y[0], 461, y[1]), bars, edge, 9 if rnd.random() < 0.85 else 0)
    title(canvas, card, 54, ink_on(bars))
    type_line(canvas, card, 401, ink_on(bars))
    fill = ink_on(ground)
    if card.levels:
        _levels(canvas, card, box, ground, edge)
    else:
        rules(canvas, card, (45, 432, 445, 602 if card.power else box[3] - 8), fill)
        power(canvas, card, bars, edge)
    collector(canvas, card)


def _levels(canvas: Canvas, card: Card, box: Box, ground: RGB, edge: RGB) -> None:
    x0, top, x1, bottom = box
    tall = (bottom - top) / 3
    for i in range(3):
        y0, y1 = top + i * tall, top + (i + 1) * tall
        ink = dark(ground, 1 - 0.12 * i)
        canvas.panel((x0, y0, x1, y1), ink, "cloud", 0.02)
        canvas.outline((x0, y0, x1, y1), edge, 1)
        strong = (x1 - 74, y1 - 42, x1 - 4, y1 - 6)
        bar(canvas, strong, ink, edge, 6)
        canvas.write(x1 - 39, y1 - 24, f"{i + 1}/{2 * i + 1}", "STIXGeneralBol", 25, ink_on(ink), anchor="mm")
        words = [(text.rules(canvas.rnd, 1, 1)[0], False)]
        canvas.paragraphs(
            (x0 + 60 * (i > 0) + 8, y0, x1 - 80, y1), words, "STIXGeneral", ink_on(ink), card.sign, size=21
        )


def _old(canvas: Canvas, card: Card) -> None:
    """1993 and 1997: no bars, names in light letters on the frame, a sunken picture, a bevelled text box."""
    rnd, inks = canvas.rnd, OLD[card.colour]
    _old_body(canvas, inks.body, card.colour, 0.2)
    picture(canvas, OLD_WINDOW)
    canvas.bevel(OLD_WINDOW)
    ink = canvas.tint(inks.box if rnd.random() < 0.7 else inks.body)
    canvas.panel(OLD_TEXT, ink, rnd.choice(("fibre", "marble", "grain", "cloud")), rnd.uniform(0.02, 0.12), zoom=0.5)
    canvas.bevel(OLD_TEXT, rnd.uniform(1, 4))
    fill = WHITE if luminance(inks.body) < 150 or rnd.random() < 0.5 else BLACK
    shadow = BLACK if fill == WHITE else None
    begin = canvas.pips(440, 44, card.cost, 23, flat=True)
    canvas.write(52, 44, card.name, rnd.choice(text.PLAIN_TITLES), 27, fill, shadow=shadow, room=begin - 60)
    line = card.type_line.replace(" — ", " " if card.era == "1993" else " - ")
    canvas.write(52, 391, line, "STIXGeneral", 23, fill, shadow=shadow, room=350)
    if card.era == "1997":
        sign, colour = symbols.set_sign(rnd, canvas.px(26))
        canvas.image.paste(colour, (canvas.px(412), canvas.px(378)), sign)
    centred = rnd.random() < 0.3
    canvas.paragraphs((62, 420, 428, 600), card.rules, "STIXGeneral", ink_on(ink), card.sign, size=25, centred=centred)
    _illustrator(canvas, fill, shadow)
    if card.power:
        canvas.write(444, 628, card.power, "STIXGeneralBol", 33, fill, anchor="rm", shadow=shadow)


def _old_body(canvas: Canvas, colour: RGB, key: str, amount: float) -> None:
    """The frame of those years, most often with a darker rim."""
    rnd, rim = canvas.rnd, canvas.rnd.choice((0, 6, 10, 14))
    if rim:
        body(canvas, (22, 22, 466, 658), dark(colour, rnd.uniform(0.45, 0.8)), key, 3, amount)
    body(canvas, (22 + rim, 22 + rim, 466 - rim, 658 - rim), colour, key, 3, amount)


def _illustrator(canvas: Canvas, fill: RGB, shadow: RGB | None) -> None:
    x, anchor = canvas.rnd.choice(((52, "lm"), (244, "mm")))
    line = f"Illus. {text.name(canvas.rnd)}"
    canvas.write(x, 622, line, "STIXGeneral", 19, fill, anchor=anchor, shadow=shadow, room=300)
    canvas.write(x, 640, "© drawn by code", "STIXGeneral", 11, fill, anchor=anchor)


def _saga(canvas: Canvas, card: Card) -> None:
    """An enchantment whose chapters, or levels, stand beside a tall picture."""
    rnd, inks = canvas.rnd, inks_of(card)
    edge = dark(inks.body)
    body(canvas, (18, 18, 470, 630), inks.body, card.colour, 12)
    saga = card.type_line.endswith("Saga")
    left, right = (37, 244) if saga else (244, 451)
    picture(canvas, (244, 74, 451, 572) if saga else (37, 74, 244, 572))
    canvas.panel((left, 74, right, 572), canvas.tint(inks.box), "cloud", 0.03)
    for y in ((35, 73), (572, 612)):
        bar(canvas, (27, y[0], 461, y[1]), inks.bar, edge)
    title(canvas, card, 54, BLACK)
    type_line(canvas, card, 592, BLACK)
    chapters = [*card.rules, *[(words, False) for words in text.rules(rnd, 2, 3)]]
    margin = 28 if saga else 8
    canvas.paragraphs((left + margin, 84, right - 6, 564), chapters, "STIXGeneral", BLACK, card.sign, size=21)
    for i in range(3):
        y = 180 + i * 130 + rnd.gauss(0, 12)
        if saga:
            at = (canvas.px(left + 8), canvas.px(y), canvas.px(16))
            canvas.draw.regular_polygon(at, 6, fill=(235, 225, 190), outline=BLACK)
            canvas.write(left + 8, y, "I" * (i + 1), "STIXGeneralBol", 16, BLACK, anchor="mm")
        else:
            canvas.panel((left, y - 14, right, y + 14), canvas.tint(inks.body), "cloud", 0.05)
            canvas.write(left + 10, y, f"Level {i + 1}", "STIXGeneralBol", 18, ink_on(inks.body))
    collector(canvas, card)


def _planeswalker(canvas: Canvas, card: Card) -> None:
    """The picture reaches behind the abilities; their costs stand on the left, the loyalty at the lower right."""
    rnd, inks = canvas.rnd, inks_of(card)
    edge = dark(inks.body, rnd.uniform(0.1, 0.5))
    window: Box = (
        (0, 0, 488, 680) if card.era == "borderless" else (rnd.uniform(26, 40), 60, rnd.uniform(448, 462), 640)
    )
    if card.era != "borderless":
        body(canvas, (18, 18, 470, 646), inks.body, card.colour, 22)
    picture(canvas, window, 22)
    middle = rnd.choice((402, 402, 412, 375))
    if card.era != "borderless" and rnd.random() < 0.6:  # the window narrows towards its foot
        ink, narrow = canvas.tint(inks.body), rnd.uniform(38, 56)
        for side in ((16, 30, narrow), (472, 458, 488 - narrow)):
            corners = [(side[0], 70), (side[1], 90), (side[2], middle - 20), (side[0], middle - 20)]
            canvas.draw.polygon([(x * canvas.scale, y * canvas.scale) for x, y in corners], ink, edge)
    elif rnd.random() < 0.5:
        canvas.outline(window, rnd.choice((edge, inks.bar)), 3, 22)
    for y in ((31, 69), (middle - 19, middle + 19)):
        bar(canvas, (24, y[0], 464, y[1]), inks.bar, edge)
    title(canvas, card, 50, BLACK)
    type_line(canvas, card, middle, BLACK)
    count = rnd.choice((2, 3, 3, 3, 4))
    top, bottom = middle + 24, rnd.uniform(615, 632)
    ground = canvas.tint(rnd.choice((inks.box, inks.box, inks.bar, (205, 205, 205), (160, 158, 156))))
    light, other = rnd.uniform(0.55, 1.0), rnd.choice((1.0, 0.92, 0.85, 0.75))
    starts = sorted(rnd.uniform(-0.25, 0.25) + i for i in range(1, count))
    lines = [top, *(top + s * (bottom - top) / count for s in starts), bottom]
    static = rnd.random() < 0.3  # the first ability of some costs nothing
    for i in range(count):
        strip: Box = (36, lines[i], 452, lines[i + 1])
        canvas.panel(strip, ground if i % 2 else dark(ground, other), "cloud", 0.02, alpha=light)
        words = [(words, False) for words in text.rules(rnd, 1, 2)]
        free = static and i == 0
        inner = (50 if free else 84, strip[1] + 4, 444 if i < count - 1 else 400, strip[3] - 4)
        canvas.paragraphs(inner, words, "STIXGeneral", BLACK, card.sign, size=21)
        if not free:
            _loyalty_cost(canvas, (strip[1] + strip[3]) / 2)
    x, y = rnd.gauss(428, 4), rnd.gauss(643, 4)
    shield = [(-32, -20), (-14, -14), (0, -21), (14, -14), (32, -20), (36, 4), (0, 22), (-36, 4)]
    _shield(canvas, x, y, rnd.uniform(0.9, 1.15), shield)
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


def _sign(canvas: Canvas, card: Card, x: float, y: float, size: float, ink: RGB, rim: RGB | None) -> None:
    image, mask = symbols.embossed(card.colour, canvas.px(size), ink, rim)
    canvas.image.paste(image, (canvas.px(x - size / 2), canvas.px(y - size / 2)), mask)


def _sign_ink(canvas: Canvas, card: Card, faint: float) -> RGB:
    ink, ground = symbols.INK[card.colour], LAND_BOX[card.colour]
    return canvas.tint(tuple(round(i + (g - i) * faint) for i, g in zip(ink, ground, strict=True)))


def _land(canvas: Canvas, card: Card) -> None:
    """2003 and 2015: a frame of stone, bars and box in the land's colour, its sign large in the box."""
    rnd, inks = canvas.rnd, inks_of(card)
    foot = 655 if card.era == "2003" else 628
    body(canvas, (18, 18, 470, foot), STONE if rnd.random() < 0.7 else inks.body, "artifact", 12, 0.2)
    edge = dark(inks.body, rnd.uniform(0.15, 0.5))
    picture(canvas, WINDOW)
    canvas.outline(WINDOW, edge, 3)
    box: Box = (37, 424, 451, 628 if card.era == "2015" else 618)
    ground = canvas.tint(LAND_BOX[card.colour] if rnd.random() < 0.85 else inks.box)
    canvas.panel(
        box, ground, rnd.choice(("cloud", "marble")), rnd.choice((0.02, 0.06, 0.2)), slope=rnd.uniform(-0.1, 0.1)
    )
    canvas.outline(box, edge, 2)
    for y in ((35, 73), (381, 421)):
        bar(canvas, (27, y[0], 461, y[1]), inks.bar, edge)
    title(canvas, card, 54, BLACK)
    type_line(canvas, card, 401, BLACK)
    rim = rnd.choice((None, BLACK)) if card.colour != "white" else (40, 30, 20)
    _sign(canvas, card, 244, 522, rnd.uniform(115, 165), _sign_ink(canvas, card, rnd.uniform(0, 0.3)), rim)
    collector(canvas, card)


def _old_land(canvas: Canvas, card: Card) -> None:
    """1993 and 1997: a dull frame, a tinted box with the sign, or words with a small one."""
    rnd = canvas.rnd
    stone = OLD_STONE if rnd.random() < 0.75 else tuple(int(c * 0.6) for c in LAND_BOX[card.colour])
    _old_body(canvas, stone, "artifact", 0.15)
    picture(canvas, OLD_WINDOW)
    canvas.bevel(OLD_WINDOW)
    box = {
        "white": ((205, 175, 115), (196, 170, 128)),
        "black": ((98, 116, 118), (104, 98, 92)),  # a pool, or mud
        "green": ((150, 152, 90), (128, 140, 100)),
    }.get(card.colour, (LAND_BOX[card.colour],))
    ground = canvas.tint(dark(rnd.choice((LAND_BOX[card.colour], *box)), rnd.uniform(0.65, 1)), 1.6)
    canvas.panel(OLD_TEXT, ground, rnd.choice(("fibre", "marble", "cloud")), rnd.uniform(0.02, 0.12))
    canvas.bevel(OLD_TEXT, rnd.uniform(2, 7))
    canvas.write(52, 44, card.name, rnd.choice(text.PLAIN_TITLES), 27, WHITE, shadow=BLACK)
    canvas.write(52, 391, card.type_line, "STIXGeneral", 23, WHITE, shadow=BLACK)
    if rnd.random() < 0.65:
        _sign(canvas, card, 244, 509, rnd.uniform(110, 165), _sign_ink(canvas, card, rnd.uniform(0, 0.6)), None)
    else:
        say = rnd.choice((("{T}:", "Add", "{C}"), ("{T}:", "Add", "{C}"), ("Tap", "to", "add", "{C}")))
        words, size = [*say, "to", "your", "mana", "pool."], rnd.choice((25, 25, 36))
        place = (100, 420, 390, 600)
        canvas.paragraphs(place, [(words, False)], "STIXGeneral", BLACK, card.colour, size=size, centred=True)
    _illustrator(canvas, WHITE, BLACK)


def _full_art_land(canvas: Canvas, card: Card) -> None:
    """The picture fills the card; a bar or two and the sign in a circle say which land it is."""
    rnd, inks = canvas.rnd, inks_of(card)
    inset = rnd.choice((0, 18, 24))
    window: Box = (inset, inset, 488 - inset, 680 - rnd.choice((inset, 54)))
    picture(canvas, window, 12)
    if inset:
        canvas.outline(window, canvas.tint(rnd.choice((inks.body, STONE))), rnd.uniform(3, 14), 12)
    style, low = rnd.choice(("both", "foot", "head", "foot", "split")), rnd.uniform(575, 605)
    if style in ("both", "head"):
        bar(canvas, (27, 30, 461, 66), inks.bar, dark(inks.body))
        canvas.write(40, 48, card.name, "STIXGeneralBol", 25, BLACK)
    if style != "head":
        bar(canvas, (27, low - 20, 461, low + 20), inks.bar, dark(inks.body))
    if style == "split":  # the kind to the left of the sign, the name to its right
        canvas.write(44, low, "Basic Land", "STIXGeneralBol", 21, BLACK)
        canvas.write(446, low, card.name, "STIXGeneralBol", 21, BLACK, anchor="rm")
    elif style != "head":
        canvas.write(90, low, card.type_line, "STIXGeneralBol", 21, BLACK, room=300)
    places = ((244, 60), (244, 80), (244, 110))
    x, size = rnd.choice(places if style == "split" else (*places, (52, 46), (52, 46), (52, 46)))
    pip = symbols.pip(card.colour, canvas.px(size), flat=rnd.random() < 0.5)
    canvas.image.paste(pip, (canvas.px(x - size / 2), canvas.px(low - size / 2)), pip)
    collector(canvas, card)
