"""The parts that frames of all eras share: border, body, bars, title, type line, rules, power, collector line."""

from cards.drawn import symbols, text
from cards.drawn.art import paint
from cards.drawn.canvas import RGB, UNITS, Box, Canvas
from cards.drawn.card import Card
from cards.drawn.inks import BLACK, OF_2015, WHITE, dark, ink_on

LEFT, RIGHT = 40, 452  # where the lines of title and type begin and end
GRAINS = {
    "white": "marble",
    "blue": "cloud",
    "black": "stone",
    "red": "stone",
    "green": "cloud",
    "artifact": "fibre",
    "gold": "marble",
    "land": "fibre",
    "colorless": "cloud",
}


def border(canvas: Canvas, card: Card) -> None:
    """The card's rim: black, or white on many old ones, now and then silver, gold or colored."""
    rnd = canvas.rnd
    white = rnd.random() < (0.35 if card.era in ("1993", "1997", "2003") else 0.02)
    base = rnd.randint(212, 250) if white else rnd.randint(0, 30)
    color = tuple(max(0, min(255, base + rnd.randint(-6, 6))) for _ in range(3))
    if rnd.random() < 0.03:
        color = rnd.choice(((150, 154, 158), (176, 146, 78), tuple(rnd.randint(0, 90) for _ in range(3))))
    canvas.panel((0, 0, *UNITS), color, "grain", 0.02)


def body(
    canvas: Canvas, box: Box, color: RGB, key: str, radius: float, amount: float = 0.14, end: RGB | None = None
) -> None:
    """The frame itself, in the grain of its color, often lighter at one end."""
    rnd = canvas.rnd
    kind = GRAINS[key] if rnd.random() < 0.7 else rnd.choice(("cloud", "marble", "stone", "fibre", "grain"))
    slope = rnd.gauss(0, 0.08) if rnd.random() < 0.6 else 0.0
    ink, end = canvas.tint(color, 1.6), None if end in (None, color) else canvas.tint(end, 1.6)
    grain = rnd.uniform(0.3, 1.3) * amount
    canvas.panel(box, ink, kind, grain, zoom=rnd.uniform(0.2, 0.8), radius=radius, slope=slope, end=end)


def picture(canvas: Canvas, box: Box, radius: float = 0) -> None:
    """The painting in its window."""
    x0, y0, x1, y1 = canvas.box(box)
    canvas.paste(paint(canvas.rnd, x1 - x0, y1 - y0), box, radius)


def bar(canvas: Canvas, box: Box, color: RGB, edge: RGB, radius: float = 9, end: RGB | None = None) -> None:
    """A bar behind a line of text."""
    ink, end = canvas.tint(color), None if end in (None, color) else canvas.tint(end)
    canvas.panel(box, ink, "cloud", 0.03, radius=radius, slope=canvas.rnd.uniform(0, 0.08), end=end)
    canvas.outline(box, edge, canvas.rnd.uniform(1.5, 3), radius)


def title(canvas: Canvas, card: Card, y: float, fill: RGB) -> None:
    """Name and cost; a sign in a circle in front of the name if the card has two faces."""
    begin, left = canvas.pips(RIGHT, y, card.cost, canvas.rnd.uniform(22, 25)), LEFT
    if card.two_faced:
        canvas.draw.ellipse(canvas.box((LEFT - 16, y - 19, LEFT + 22, y + 19)), fill=BLACK, outline=fill)
        canvas.draw.polygon(
            [(canvas.px(LEFT + dx), canvas.px(y + dy)) for dx, dy in ((-6, 8), (3, -10), (12, 8))], fill=WHITE
        )
        left += 28
    canvas.write(left, y, card.name, canvas.rnd.choice(text.BOLD_TITLES), 25, fill, room=begin - left - 6)


def stars(canvas: Canvas, box: Box) -> None:
    """Points of light on what was drawn so far."""
    rnd, (x0, y0, x1, y1) = canvas.rnd, canvas.box(box)
    for _ in range(rnd.randint(40, 130)):
        x, y, r = rnd.randint(x0, x1), rnd.randint(y0, y1), rnd.choice((0, 0, 1, 1, 2)) * canvas.scale
        canvas.draw.ellipse((x - r, y - r, x + r, y + r), fill=rnd.choice((WHITE, (215, 220, 250), (250, 235, 200))))


def type_line(canvas: Canvas, card: Card, y: float, fill: RGB) -> None:
    """What the card is, and the sign of its set."""
    edge = canvas.px(27)
    sign, color = symbols.set_sign(canvas.rnd, edge)
    canvas.image.paste(color, (canvas.px(RIGHT) - edge, canvas.px(y) - edge // 2), sign)
    canvas.write(LEFT, y, card.type_line, canvas.rnd.choice(text.BOLD_TITLES), 21, fill, room=RIGHT - LEFT - 36)


def rules(canvas: Canvas, card: Card, box: Box, fill: RGB = BLACK) -> None:
    """The rules text, over a faint watermark on some cards, with an inset of its own on a few."""
    rnd, size = canvas.rnd, 23
    x0, y0, x1, y1 = box
    if rnd.random() < 0.1:
        edge = canvas.px(rnd.uniform(110, 150))
        sign, _ = symbols.set_sign(rnd, edge)
        at = (canvas.px((x0 + x1) / 2) - edge // 2, canvas.px((y0 + y1) / 2) - edge // 2)
        canvas.image.paste(dark(OF_2015[card.color][0], 0.8), at, sign.point([v // 6 for v in range(256)]))
    if card.inset and rnd.random() < 0.5:  # a second, smaller card on the left of the box
        _inset(canvas, card, (x0 - 4, y0 - 2, (x0 + x1) / 2 - 6, y1))
        x0, size = (x0 + x1) / 2 + 2, size - 3
    elif card.inset:  # another way to cast it, above the rules
        _inset(canvas, card, (x0 - 4, y0 - 2, x1 + 4, y0 + 62))
        y0 += 66
    canvas.paragraphs((x0, y0, x1, y1), card.rules, rnd.choice(text.RULES), fill, card.sign, size=size)


def _inset(canvas: Canvas, card: Card, box: Box) -> None:
    rnd = canvas.rnd
    ink = canvas.tint(rnd.choice([inks[1] for inks in OF_2015.values()]))
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
    canvas.write(420 + x, 626 + y, card.power, "STIXGeneralBol", canvas.rnd.uniform(28, 33), ink_on(ink), anchor="mm")


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
