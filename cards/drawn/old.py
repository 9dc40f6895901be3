"""The frames of 1993 and 1997: no bars, light letters on the frame, no box around power and toughness."""

from cards.drawn import symbols, text
from cards.drawn.canvas import RGB, Box, Canvas, luminance
from cards.drawn.card import COLORS, Card
from cards.drawn.inks import BLACK, LAND_BOX, OLD, WHITE, dark, ink_on, mix
from cards.drawn.parts import body, picture

OLD_WINDOW: Box = (52, 64, 438, 372)
OLD_TEXT: Box = (50, 410, 440, 608)


def draw(canvas: Canvas, card: Card) -> None:
    """A sunken picture, a bevelled text box; the power is written on the frame, on the right below the box."""
    rnd, (frame, box) = canvas.rnd, OLD[card.color if card.color in OLD else "land"]
    if card.kind == "mana" and not card.artifact:
        box = mix(box, LAND_BOX[rnd.choice(COLORS)], rnd.random() * 0.7)
    old_body(canvas, frame, card.color, 0.2)
    picture(canvas, OLD_WINDOW)
    canvas.bevel(OLD_WINDOW)
    ink = canvas.tint(box if rnd.random() < 0.75 else mix(box, frame, rnd.random()))
    canvas.panel(OLD_TEXT, ink, rnd.choice(("fibre", "marble", "grain", "cloud")), rnd.uniform(0.02, 0.12), zoom=0.5)
    canvas.bevel(OLD_TEXT, rnd.uniform(1, 4))
    fill = WHITE if luminance(frame) < 150 or rnd.random() < 0.5 else BLACK
    shadow = BLACK if fill == WHITE else None
    begin = canvas.pips(440, 44, card.cost, 23, flat=True)
    canvas.write(52, 44, card.name, rnd.choice(text.PLAIN_TITLES), 27, fill, shadow=shadow, room=begin - 60)
    line = card.type_line.replace(" — ", " " if card.era == "1993" else " - ")
    canvas.write(52, 391, line, "STIXGeneral", 23, fill, shadow=shadow, room=350)
    if card.era == "1997":
        sign, color = symbols.set_sign(rnd, canvas.px(26))
        canvas.image.paste(color, (canvas.px(412), canvas.px(378)), sign)
    # The first cards had a sentence or two, set in the middle and as large as fits.
    size = rnd.choice((24, 26, 30, 36) if card.era == "1993" else (23, 25, 27))
    rules = card.rules[: rnd.randint(1, 3)] if size > 28 else card.rules
    centered = rnd.random() < (0.5 if size > 28 else 0.2)
    canvas.paragraphs((62, 420, 428, 600), rules, "STIXGeneral", ink_on(ink), card.sign, size=size, centered=centered)
    illustrator(canvas, fill, shadow)
    if card.power:
        strong = rnd.choice(("STIXGeneralBol", "STIXGeneralBol", "STIXGeneral"))
        place, size = (rnd.gauss(444, 4), rnd.gauss(629, 3)), rnd.uniform(30, 37)
        canvas.write(*place, card.power, strong, size, fill, anchor="rm", shadow=shadow)


def old_body(canvas: Canvas, color: RGB, key: str, amount: float) -> None:
    """The frame of those years, most often with a darker rim."""
    rnd, rim = canvas.rnd, canvas.rnd.choice((0, 6, 10, 14))
    if rim:
        body(canvas, (22, 22, 466, 658), dark(color, rnd.uniform(0.45, 0.8)), key, 3, amount)
    body(canvas, (22 + rim, 22 + rim, 466 - rim, 658 - rim), color, key, 3, amount)


def illustrator(canvas: Canvas, fill: RGB, shadow: RGB | None) -> None:
    x, anchor = canvas.rnd.choice(((52, "lm"), (244, "mm")))
    line = f"Illus. {text.name(canvas.rnd)}"
    canvas.write(x, 622, line, "STIXGeneral", 19, fill, anchor=anchor, shadow=shadow, room=300)
    canvas.write(x, 640, "© drawn by code", "STIXGeneral", 11, fill, anchor=anchor)
