"""Basic lands of all eras: the sign of their color, large in the box, in a circle, or as words."""

from cards.drawn import symbols, text
from cards.drawn.canvas import RGB, Box, Canvas
from cards.drawn.card import Card
from cards.drawn.inks import BLACK, LAND_BOX, OLD_STONE, STONE, WHITE, dark, inks_of
from cards.drawn.old import OLD_TEXT, OLD_WINDOW, illustrator, old_body
from cards.drawn.parts import bar, body, collector, picture, title, type_line

WINDOW: Box = (37, 74, 451, 379)


def _sign(canvas: Canvas, card: Card, x: float, y: float, size: float, ink: RGB, rim: RGB | None) -> None:
    image, mask = symbols.embossed(card.color, canvas.px(size), ink, rim)
    canvas.image.paste(image, (canvas.px(x - size / 2), canvas.px(y - size / 2)), mask)


def _sign_ink(canvas: Canvas, card: Card, faint: float) -> RGB:
    ink, ground = symbols.INK[card.color], LAND_BOX[card.color]
    return canvas.tint(tuple(round(i + (g - i) * faint) for i, g in zip(ink, ground, strict=True)))


def draw(canvas: Canvas, card: Card) -> None:
    """2003 and 2015: a frame of stone, bars and box in the land's color, its sign large in the box."""
    rnd, inks = canvas.rnd, inks_of(canvas.rnd, card)
    foot = 655 if card.era == "2003" else 628
    body(canvas, (18, 18, 470, foot), STONE if rnd.random() < 0.7 else inks.body, "artifact", 12, 0.2)
    edge = dark(inks.body, rnd.uniform(0.15, 0.5))
    picture(canvas, WINDOW)
    canvas.outline(WINDOW, edge, 3)
    box: Box = (37, 424, 451, 628 if card.era == "2015" else 618)
    ground = canvas.tint(LAND_BOX[card.color] if rnd.random() < 0.85 else inks.box)
    canvas.panel(
        box, ground, rnd.choice(("cloud", "marble")), rnd.choice((0.02, 0.06, 0.2)), slope=rnd.uniform(-0.1, 0.1)
    )
    canvas.outline(box, edge, 2)
    for y in ((35, 73), (381, 421)):
        bar(canvas, (27, y[0], 461, y[1]), inks.bar, edge)
    title(canvas, card, 54, BLACK)
    type_line(canvas, card, 401, BLACK)
    rim = rnd.choice((None, BLACK)) if card.color != "white" else (40, 30, 20)
    _sign(canvas, card, 244, 522, rnd.uniform(115, 165), _sign_ink(canvas, card, rnd.uniform(0, 0.3)), rim)
    collector(canvas, card)


def draw_old(canvas: Canvas, card: Card) -> None:
    """1993 and 1997: a dull frame, a tinted box with the sign, or words with a small one."""
    rnd = canvas.rnd
    stone = OLD_STONE if rnd.random() < 0.75 else tuple(int(c * 0.6) for c in LAND_BOX[card.color])
    old_body(canvas, stone, "artifact", 0.15)
    picture(canvas, OLD_WINDOW)
    canvas.bevel(OLD_WINDOW)
    box = {
        "white": ((205, 175, 115), (196, 170, 128)),
        "black": ((98, 116, 118), (104, 98, 92)),  # a pool, or mud
        "green": ((150, 152, 90), (128, 140, 100)),
    }.get(card.color, (LAND_BOX[card.color],))
    ground = canvas.tint(dark(rnd.choice((LAND_BOX[card.color], *box)), rnd.uniform(0.65, 1)), 1.6)
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
        canvas.paragraphs(place, [(words, False)], "STIXGeneral", BLACK, card.color, size=size, centered=True)
    illustrator(canvas, WHITE, BLACK)


def draw_full_art(canvas: Canvas, card: Card) -> None:
    """The picture fills the card; a bar or two and the sign in a circle say which land it is."""
    rnd, inks = canvas.rnd, inks_of(canvas.rnd, card)
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
    pip = symbols.pip(card.color, canvas.px(size), flat=rnd.random() < 0.5)
    canvas.image.paste(pip, (canvas.px(x - size / 2), canvas.px(low - size / 2)), pip)
    collector(canvas, card)
