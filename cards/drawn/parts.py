"""The parts that frames of all eras share: inks, border, body, bars, title, type line, rules, power, collector line."""

from typing import NamedTuple

from cards.drawn import symbols, text
from cards.drawn.art import paint
from cards.drawn.canvas import RGB, UNITS, Box, Canvas, luminance
from cards.drawn.card import Card


class Inks(NamedTuple):
    """The colours of a frame: its body, the bars of title and type, the text box."""

    body: RGB
    bar: RGB
    box: RGB


# Medians of what printed frames show at these places, measured; every card prints them with inks of its own.
MODERN = {
    "white": Inks((222, 212, 185), (244, 243, 239), (245, 243, 237)),
    "blue": Inks((50, 146, 198), (180, 212, 228), (217, 231, 241)),
    "black": Inks((50, 55, 50), (178, 171, 170), (228, 226, 225)),
    "red": Inks((190, 86, 66), (236, 200, 182), (239, 223, 213)),
    "green": Inks((94, 134, 100), (184, 203, 193), (211, 225, 215)),
    "artifact": Inks((146, 170, 184), (208, 218, 224), (214, 224, 229)),
    "gold": Inks((200, 172, 96), (226, 208, 150), (238, 228, 202)),
}
OF_2003 = {
    "white": Inks((212, 198, 182), (227, 222, 214), (227, 222, 216)),
    "blue": Inks((100, 136, 192), (190, 200, 213), (216, 218, 232)),
    "black": Inks((44, 45, 41), (183, 164, 156), (212, 206, 203)),
    "red": Inks((167, 68, 52), (231, 192, 167), (234, 206, 193)),
    "green": Inks((104, 118, 83), (189, 196, 179), (204, 211, 201)),
    "artifact": Inks((155, 163, 176), (189, 194, 198), (209, 210, 210)),
    "gold": Inks((190, 165, 95), (215, 200, 150), (228, 218, 195)),
}
OLD = {
    "white": Inks((205, 190, 174), (205, 190, 174), (214, 210, 205)),
    "blue": Inks((64, 158, 172), (64, 158, 172), (178, 205, 216)),
    "black": Inks((42, 45, 42), (42, 45, 42), (191, 143, 100)),
    "red": Inks((160, 65, 48), (160, 65, 48), (185, 115, 100)),
    "green": Inks((78, 100, 84), (78, 100, 84), (173, 143, 119)),
    "artifact": Inks((104, 80, 57), (104, 80, 57), (204, 192, 182)),
}
LAND_BOX = {
    "white": (236, 219, 186),
    "blue": (166, 194, 226),
    "black": (156, 146, 142),
    "red": (218, 142, 112),
    "green": (158, 182, 150),
}
STONE, OLD_STONE = (188, 168, 148), (98, 86, 74)
BLACK, WHITE = (12, 10, 9), (245, 244, 240)
LEFT, RIGHT = 40, 452  # where the lines of title and type begin and end
GRAINS = {
    "white": "marble",
    "blue": "cloud",
    "black": "stone",
    "red": "stone",
    "green": "cloud",
    "artifact": "fibre",
    "gold": "marble",
}


def inks_of(card: Card) -> Inks:
    """The inks of a card with bars."""
    return (OF_2003 if card.era == "2003" else MODERN)[card.colour]


def dark(colour: RGB, by: float = 0.4) -> RGB:
    """The same colour, darker."""
    return tuple(int(c * by) for c in colour)


def ink_on(ground: RGB) -> RGB:
    """Black or white, whichever is read better."""
    return BLACK if luminance(ground) > 95 else WHITE


def border(canvas: Canvas, card: Card) -> None:
    """The card's rim: black, or white on many old ones, now and then silver, gold or coloured."""
    rnd = canvas.rnd
    white = card.era in ("1993", "1997", "2003") and rnd.random() < 0.35
    base = rnd.randint(212, 250) if white else rnd.randint(0, 30)
    colour = tuple(max(0, min(255, base + rnd.randint(-6, 6))) for _ in range(3))
    if rnd.random() < 0.03:
        colour = rnd.choice(((150, 154, 158), (176, 146, 78), tuple(rnd.randint(0, 90) for _ in range(3))))
    canvas.panel((0, 0, *UNITS), colour, "grain", 0.02)


def body(canvas: Canvas, box: Box, colour: RGB, key: str, radius: float, amount: float = 0.14) -> None:
    """The frame itself, in the grain of its colour, often lighter at one end."""
    rnd = canvas.rnd
    kind = GRAINS[key] if rnd.random() < 0.7 else rnd.choice(("cloud", "marble", "stone", "fibre", "grain"))
    slope = rnd.gauss(0, 0.08) if rnd.random() < 0.6 else 0.0
    ink = canvas.tint(colour, 1.6)
    canvas.panel(box, ink, kind, rnd.uniform(0.3, 1.3) * amount, zoom=rnd.uniform(0.2, 0.8), radius=radius, slope=slope)


def picture(canvas: Canvas, box: Box, radius: float = 0) -> None:
    """The painting in its window."""
    x0, y0, x1, y1 = canvas.box(box)
    canvas.paste(paint(canvas.rnd, x1 - x0, y1 - y0), box, radius)


def bar(canvas: Canvas, box: Box, colour: RGB, edge: RGB, radius: float = 9) -> None:
    """A bar behind a line of text."""
    canvas.panel(box, canvas.tint(colour), "cloud", 0.03, radius=radius, slope=canvas.rnd.uniform(0, 0.08))
    canvas.outline(box, edge, canvas.rnd.uniform(1.5, 3), radius)


def title(canvas: Canvas, card: Card, y: float, fill: RGB) -> None:
    """Name and cost."""
    begin = canvas.pips(RIGHT, y, card.cost, 23)
    canvas.write(LEFT, y, card.name, canvas.rnd.choice(text.BOLD_TITLES), 25, fill, room=begin - LEFT - 6)


def type_line(canvas: Canvas, card: Card, y: float, fill: RGB) -> None:
    """What the card is, and the sign of its set."""
    edge = canvas.px(27)
    sign, colour = symbols.set_sign(canvas.rnd, edge)
    canvas.image.paste(colour, (canvas.px(RIGHT) - edge, canvas.px(y) - edge // 2), sign)
    canvas.write(LEFT, y, card.type_line, canvas.rnd.choice(text.BOLD_TITLES), 21, fill, room=RIGHT - LEFT - 36)


def rules(canvas: Canvas, card: Card, box: Box, fill: RGB = BLACK) -> None:
    """The rules text, over a faint watermark on some cards, with an inset of its own on a few."""
    rnd, size = canvas.rnd, 23
    x0, y0, x1, y1 = box
    if rnd.random() < 0.1:
        edge = canvas.px(rnd.uniform(110, 150))
        sign, _ = symbols.set_sign(rnd, edge)
        at = (canvas.px((x0 + x1) / 2) - edge // 2, canvas.px((y0 + y1) / 2) - edge // 2)
        canvas.image.paste(dark(MODERN[card.colour].body, 0.8), at, sign.point([v // 6 for v in range(256)]))
    if card.inset and rnd.random() < 0.5:  # a second, smaller card on the left of the box
        _inset(canvas, card, (x0 - 4, y0 - 2, (x0 + x1) / 2 - 6, y1))
        x0, size = (x0 + x1) / 2 + 2, size - 3
    elif card.inset:  # another way to cast it, above the rules
        _inset(canvas, card, (x0 - 4, y0 - 2, x1 + 4, y0 + 62))
        y0 += 66
    canvas.paragraphs((x0, y0, x1, y1), card.rules, rnd.choice(text.RULES), fill, card.sign, size=size)


def _inset(canvas: Canvas, card: Card, box: Box) -> None:
    rnd = canvas.rnd
    ink = canvas.tint(rnd.choice([inks.bar for inks in MODERN.values()]))
    x0, y0, x1, y1 = box
    canvas.panel(box, ink, "cloud", 0.03, slope=rnd.uniform(-0.1, 0.1))
    low = y0
    if y1 - y0 > 100:
        bar(canvas, (x0, y0, x1, y0 + 30), dark(ink, rnd.uniform(0.4, 0.9)), dark(ink, 0.3), 4)
        canvas.write(x0 + 6, y0 + 15, card.name, "STIXGeneralBol", 17, WHITE, room=x1 - x0 - 44)
        low = y0 + 32
    words, _ = card.rules[0]
    canvas.paragraphs((x0 + 6, low, x1 - 50, y1), [(words, False)], "STIXGeneral", BLACK, card.sign, size=18)
    canvas.pips(x1 - 4, y0 + 15, card.cost[-2:], 20)


def power(canvas: Canvas, card: Card, ink: RGB, edge: RGB) -> None:
    """The box of power and toughness in the lower right corner; vehicles have a dark one."""
    if not card.power:
        return
    x, y = canvas.rnd.gauss(0, 2), canvas.rnd.gauss(0, 2)
    box = (378 + x, 606 + y, 462 + x, 646 + y)
    if card.vehicle and canvas.rnd.random() < 0.8:
        ink = canvas.rnd.choice(((120, 72, 34), (150, 90, 40), (60, 66, 76)))
    bar(canvas, box, ink, edge)
    canvas.bevel(box, 2, sunken=False)
    canvas.write(420 + x, 626 + y, card.power, "STIXGeneralBol", 30, ink_on(ink), anchor="mm")


def collector(canvas: Canvas, card: Card) -> None:
    """The small print at the foot, and the oval seal of dear cards."""
    rnd = canvas.rnd
    ground = canvas.image.getpixel((canvas.px(60), min(canvas.px(655), canvas.image.height - 1)))
    fill = ink_on(ground)
    artist = f"{text.name(rnd).split()[0]} {text.name(rnd).split()[0]}"
    if card.era == "2003":
        canvas.write(44, 641, f"~ {artist}", "STIXGeneralBol", 15, fill)
        small = f"© {rnd.randint(2003, 2014)} {rnd.randint(1, 300)}/{rnd.randint(100, 350)}"
        canvas.write(48, 655, small, "STIXGeneral", 10, fill)
        return
    canvas.write(30, 643, f"{rnd.choice('CURM')} {rnd.randint(1, 400):04d}", "DejaVuSans", 11, fill)
    canvas.write(30, 657, f"XYZ • EN  {artist}", "DejaVuSans", 11, fill)
    canvas.write(458, 657, f"© {rnd.randint(2015, 2026)} drawn by code", "STIXGeneral", 12, fill, anchor="rm")
    if rnd.random() < 0.35:
        seal = canvas.box((223, 620, 265, 642))
        canvas.draw.ellipse(seal, fill=tuple(rnd.randint(120, 220) for _ in range(3)), outline=BLACK)
