"""The frames of the drawn cards since 2003: bars, boxes, and what is laid out differently."""

from random import Random

from PIL import Image

from cards.drawn import lands, old, symbols, text
from cards.drawn.art import subject
from cards.drawn.canvas import RGB, Box, Canvas
from cards.drawn.card import Card
from cards.drawn.inks import BLACK, Inks, dark, ink_on, inks_of, mix
from cards.drawn.parts import (
    bar,
    body,
    border,
    collector,
    picture,
    power,
    rules,
    stars,
    title,
    type_line,
)
from cards.drawn.planeswalkers import draw_planeswalker

WINDOW: Box = (37, 74, 451, 379)  # of the picture
WHOLE: Box = (0, 0, 488, 680)


def draw(rnd: Random, card: Card) -> Image.Image:
    """Draw a flat RGB card, 270 to 350 pixels wide, with square corners."""
    canvas = Canvas(rnd, rnd.choice((270, 310, 350)))
    border(canvas, card)
    is_old = card.era in ("1993", "1997")
    if card.kind == "planeswalker":
        draw_planeswalker(canvas, card)
    elif card.basic:
        (lands.draw_old if is_old else lands.draw_full_art if card.era == "borderless" else lands.draw)(canvas, card)
    elif is_old:
        old.draw(canvas, card)
    elif card.room:
        _room(canvas, card)
    elif card.type_line.endswith(("Saga", "Class", "Case")):
        _saga(canvas, card)
    else:
        _modern(canvas, card)
    return canvas.image


def _modern(canvas: Canvas, card: Card) -> None:
    """2003 has a border all around, 2015 a black foot; borderless cards lay their bars on the picture."""
    rnd, inks = canvas.rnd, inks_of(canvas.rnd, card)
    edge, end = mix(inks.line, dark(inks.body, 0.4), rnd.random() * 0.6), inks.line_end
    bars, bars_end, box_ink, box_end, alpha = inks.bar, inks.bar_end, inks.box, inks.box_end, 1.0
    on_picture = card.era in ("borderless", "extended") or card.color == "colorless"
    if card.era == "showcase":  # bars and box in odd inks; what stays is the color of the frame and of the cost
        bars = inks.body if rnd.random() < 0.5 else dark(inks.body, rnd.uniform(0.3, 0.9))
        box_ink = rnd.choice((inks.box, inks.bar, dark(inks.body, rnd.uniform(0.25, 0.6)), (225, 205, 165)))
        edge = rnd.choice((edge, inks.bar, (205, 180, 90)))
        bars_end, box_end, end = bars, box_ink, edge
    if on_picture and rnd.random() < 0.5:  # dark bars and a dark box with light letters, edged in the color
        shade = rnd.uniform(0.2, 0.6)
        bars, bars_end = dark(inks.line, shade), dark(inks.line_end, shade)
        box_ink, box_end = (rnd.randint(14, 40),) * 3, None
        edge, end = (mix(line, inks.bar, rnd.uniform(0, 0.4)) for line in (inks.line, inks.line_end))
    window, middle = WINDOW, 401.0
    if card.token and not on_picture:  # a short text, a tall picture
        middle = rnd.choice((401, 480, 560))
        window = (37, 74, 451, middle - 22)
    if on_picture:
        _picture_behind(canvas, card, inks)
        alpha = rnd.uniform(0.55, 1)
    else:
        _frame(canvas, card, inks)
        picture(canvas, window)
        canvas.outline(window, edge, 3, end=end)
    box: Box = (37, middle + 23, 451, 616 if card.era == "2003" else 630)
    ground, box_end = canvas.tint(box_ink), canvas.tint(box_end) if box_end else None
    canvas.panel(box, ground, rnd.choice(("cloud", "marble", "fibre")), rnd.uniform(0, 0.04), alpha=alpha, end=box_end)
    canvas.outline(box, edge, rnd.uniform(2, 4), end=end)
    for y in (54.0, middle):
        bar(canvas, (27, y - 19, 461, y + 19), bars, edge, 9 if rnd.random() < 0.85 else 0, end=bars_end)
    if on_picture and rnd.random() < 0.3:  # somebody's head or wing before the bars
        _overlap(canvas, (60, 20, 428, 380))
    title(canvas, card, 54, ink_on(bars))
    type_line(canvas, card, middle, ink_on(bars))
    fill = ink_on(mix(ground, (128, 128, 128), 1 - alpha))
    if card.levels:
        _levels(canvas, card, box, ground, edge)
    elif not card.token or rnd.random() < 0.6:
        rules(canvas, card, (45, box[1] + 8, 445, 602 if card.power else box[3] - 8), fill)
    power(canvas, card, mix(bars, inks.bar, 0.5) if rnd.random() < 0.5 else bars, edge)
    collector(canvas, card)


def _frame(canvas: Canvas, card: Card, inks: Inks) -> None:
    """The body between border and bars, with the crown of a legend and the sky of an enchantment."""
    rnd, edge = canvas.rnd, inks.body_end
    foot = 655 if card.era == "2003" else rnd.choice((628, 634, 640, 655))
    area: Box = (18, 18, 470, foot)
    body(canvas, area, inks.body, card.color, 12, end=edge)
    if card.starry:
        stars(canvas, (20, 20, 468, 300))
    if card.era != "2003" and rnd.random() < 0.5 and card.color != "black":  # paler, or darker, beside the text box
        shades = [
            mix(ink, box, rnd.uniform(0.1, 0.45)) if rnd.random() < 0.5 else dark(ink, 0.7)
            for ink, box in ((inks.body, inks.box),)
        ]
        body(canvas, (18, 405, 470, foot), shades[0], card.color, 12, end=None if edge == inks.body else edge)
    if card.legendary and card.era == "2015":
        color = canvas.tint(inks.line if len(card.colors) == 2 else inks.body)
        canvas.draw.ellipse(canvas.box((60, 6, 428, 60)), fill=color)
        canvas.draw.rectangle(canvas.box((14, 14, 60, 46)), fill=color)
        canvas.draw.rectangle(canvas.box((428, 14, 474, 46)), fill=canvas.tint(inks.line_end) if inks else color)


def _picture_behind(canvas: Canvas, card: Card, inks: Inks) -> None:
    """The picture behind all: to the card's edge, to its sides only, or seen through a pale frame."""
    rnd = canvas.rnd
    if card.era == "borderless":
        picture(canvas, WHOLE)
    elif card.era == "extended":
        _frame(canvas, card, inks)
        picture(canvas, (rnd.choice((0, 18)), 60, rnd.choice((470, 488)), 500))
    else:
        picture(canvas, (18, 18, 470, 640), 12)
    if card.color == "colorless":
        canvas.panel((18, 18, 470, 640), canvas.tint(inks.body), "cloud", 0.08, radius=12, alpha=rnd.uniform(0.2, 0.7))
        picture(canvas, (37, 74, 451, 379)) if rnd.random() < 0.5 else None


def _overlap(canvas: Canvas, box: Box) -> None:
    """Paste somebody over what is drawn so far, as pictures do that break out of their window."""
    x0, y0, x1, y1 = canvas.box(box)
    image, mask = subject(canvas.rnd, x1 - x0, y1 - y0)
    canvas.image.paste(image, (x0, y0), mask)


def _room(canvas: Canvas, card: Card) -> None:
    """Two small cards side by side, to be read with the card turned."""
    rnd, inks = canvas.rnd, inks_of(canvas.rnd, card)
    width, height = canvas.image.size
    wide = Canvas(rnd, width)
    wide.image = Image.new("RGB", (height, width), canvas.image.getpixel((2, 2)))
    wide.draw = symbols.ImageDraw.Draw(wide.image)
    second = inks if rnd.random() < 0.7 else inks._replace(box=inks.bar)
    body(wide, (18, 18, 662, 470), inks.body, card.color, 12, end=inks.body_end)
    for left, own in ((24, inks), (344, second)):
        right = left + 312
        picture(wide, (left + 8, 62, right - 8, 236))
        wide.panel((left + 8, 274, right - 8, 452), wide.tint(own.box), "cloud", 0.03)
        for y in (44, 254):
            bar(wide, (left, y - 16, right, y + 16), own.bar, dark(own.line, 0.8), 7)
        begin = wide.pips(right - 8, 44, card.cost[-3:], 19)
        wide.write(left + 10, 44, text.name(rnd), "STIXGeneralBol", 20, BLACK, room=begin - left - 16)
        wide.write(left + 10, 254, f"{card.type_line.split(' — ')[0]} — Room", "STIXGeneralBol", 17, BLACK, room=270)
        words = [(words, False) for words in text.rules(rnd, 1, 3)]
        wide.paragraphs((left + 14, 280, right - 14, 448), words, "STIXGeneral", BLACK, card.sign, size=19)
    canvas.image.paste(wide.image.transpose(Image.Transpose.ROTATE_90), (0, 0))


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


def _saga(canvas: Canvas, card: Card) -> None:
    """An enchantment whose chapters, or levels, stand beside a tall picture."""
    rnd, inks = canvas.rnd, inks_of(canvas.rnd, card)
    edge = mix(inks.line, dark(inks.body), rnd.random())
    body(canvas, (18, 18, 470, 630), inks.body, card.color, 12, end=inks.body_end)
    saga = card.type_line.endswith("Saga")
    left, right = (37, 244) if saga else (244, 451)
    picture(canvas, (244, 74, 451, 572) if saga else (37, 74, 244, 572))
    canvas.panel((left, 74, right, 572), canvas.tint(inks.box), "cloud", 0.03, end=canvas.tint(inks.box_end))
    for y in ((35, 73), (572, 612)):
        bar(canvas, (27, y[0], 461, y[1]), inks.bar, edge, end=inks.bar_end)
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
