"""The inks of the frames, as measured on printed cards: bodies, bars and boxes by era and color, and how they mix."""

from random import Random
from typing import NamedTuple

from cards.drawn.canvas import RGB, luminance
from cards.drawn.card import COLORS, Card


class Inks(NamedTuple):
    """The inks of a frame from left to right: of most cards both ends are the same."""

    body: RGB
    bar: RGB
    box: RGB
    line: RGB  # the thin edge of window and box
    body_end: RGB
    bar_end: RGB
    box_end: RGB
    line_end: RGB


# Body, bar, box, line: medians over printed frames. Every card prints them a little differently, see Canvas.tint.
OF_2015 = {
    "white": ((216, 206, 176), (241, 241, 235), (239, 238, 232), (197, 195, 186)),
    "blue": ((63, 161, 208), (182, 212, 228), (217, 231, 240), (30, 91, 129)),
    "black": ((37, 38, 34), (175, 168, 168), (229, 227, 226), (38, 45, 44)),
    "red": ((174, 71, 57), (234, 198, 179), (236, 220, 209), (165, 72, 60)),
    "green": ((100, 130, 99), (187, 204, 195), (210, 224, 214), (25, 86, 51)),
    "artifact": ((146, 171, 183), (208, 217, 221), (217, 224, 228), (90, 112, 124)),
    "gold": ((200, 178, 107), (202, 181, 124), (241, 234, 216), (187, 173, 113)),
    "land": ((154, 128, 106), (205, 198, 195), (225, 206, 176), (60, 52, 48)),
    "colorless": ((160, 148, 140), (204, 194, 188), (184, 174, 168), (90, 78, 72)),
}
OF_2003 = {
    "white": ((212, 198, 182), (227, 222, 214), (227, 222, 216), (190, 184, 176)),
    "blue": ((100, 150, 205), (190, 202, 222), (216, 220, 234), (60, 92, 140)),
    "black": ((44, 45, 41), (170, 158, 152), (212, 206, 203), (40, 40, 38)),
    "red": ((167, 68, 52), (231, 192, 167), (234, 206, 193), (140, 60, 46)),
    "green": ((104, 122, 83), (189, 196, 179), (204, 211, 201), (50, 82, 48)),
    "artifact": ((155, 163, 176), (189, 194, 198), (209, 210, 210), (96, 104, 114)),
    "gold": ((196, 174, 100), (212, 196, 146), (230, 220, 196), (170, 150, 96)),
    "land": ((152, 130, 112), (192, 178, 172), (210, 196, 178), (70, 58, 52)),
    "colorless": ((160, 148, 140), (204, 194, 188), (184, 174, 168), (90, 78, 72)),
}
# Before 2003: the frame (no bars), and the text box.
OLD = {
    "white": ((198, 188, 171), (214, 210, 203)),
    "blue": ((58, 152, 170), (172, 202, 212)),
    "black": ((34, 36, 31), (186, 146, 108)),
    "red": ((156, 66, 48), (188, 118, 102)),
    "green": ((68, 98, 80), (172, 146, 120)),
    "artifact": ((106, 84, 62), (204, 190, 176)),
    "gold": ((188, 160, 92), (222, 208, 176)),
    "land": ((98, 84, 72), (186, 166, 140)),
}
LAND_BOX = {
    "white": (229, 219, 176),
    "blue": (172, 198, 228),
    "black": (162, 151, 148),
    "red": (219, 142, 112),
    "green": (172, 194, 168),
}
NYX = {  # the night sky at the edge of enchantment creatures
    "white": (140, 138, 126),
    "blue": (28, 100, 138),
    "black": (54, 48, 82),
    "red": (172, 82, 60),
    "green": (68, 110, 73),
    "gold": (160, 138, 86),
}
STONE, OLD_STONE = (154, 132, 114), (100, 88, 76)
BLACK, WHITE = (12, 10, 9), (245, 244, 240)


def dark(color: RGB, by: float = 0.4) -> RGB:
    """The same color, darker."""
    return tuple(min(255, int(c * by)) for c in color)


def mix(one: RGB, other: RGB, share: float) -> RGB:
    """A color between two: `share` of the other, from 0 to 1."""
    return tuple(round(a + (b - a) * share) for a, b in zip(one, other, strict=True))


def ink_on(ground: RGB) -> RGB:
    """Black or white, whichever reads better."""
    return BLACK if luminance(ground) > 95 else WHITE


def inks_of(rnd: Random, card: Card) -> Inks:
    """The inks of a card with bars.

    Two colors share text box and lines from left to right on a body of gold, or all of the frame if the cost is
    hybrid; cards of three and more are golden all over. Colored artifacts have an artifact's body.
    """
    table = OF_2003 if card.era == "2003" else OF_2015
    body, bar, box, line = table[card.color]
    inks = Inks(body, bar, box, line, body, bar, box, line)
    if len(card.colors) == 2:
        one, other = (table[color] for color in card.colors)
        boxes = {"box": one[2], "box_end": other[2]} if card.era != "2003" or rnd.random() < 0.3 else {}
        inks = inks._replace(**boxes, line=one[3], line_end=other[3])
        if card.hybrid:
            pale = mix(table["colorless"][1], (225, 220, 215), rnd.random())
            bars = (one[1], other[1]) if rnd.random() < 0.5 else (pale, pale)
            inks = inks._replace(body=one[0], body_end=other[0], bar=bars[0], bar_end=bars[1])
    if card.kind == "mana":
        inks = _land_inks(rnd, inks, table)
    elif card.artifact and card.colors:
        metal = table["artifact"][0]
        if rnd.random() < 0.2:
            metal = mix(metal, (126, 94, 64), rnd.random())
        inks = inks._replace(body=metal, body_end=metal)
    if card.starry and card.kind != "mana" and not card.artifact:
        sky = NYX.get(card.color, NYX["gold"])
        inks = inks._replace(body=sky, body_end=mix(sky, inks.body_end, rnd.uniform(0, 0.5)))
    return inks


def _land_inks(rnd: Random, inks: Inks, table: dict[str, tuple[RGB, RGB, RGB, RGB]]) -> Inks:
    """A land's own: gray or brown, tinted by what it can be tapped for, without a sign of its own."""
    tints = rnd.sample(COLORS, 2)
    style = rnd.random()
    if style < 0.3:  # one color
        bar, box = table[tints[0]][1], mix(LAND_BOX[tints[0]], table[tints[0]][2], rnd.random())
        return inks._replace(bar=bar, bar_end=bar, box=box, box_end=box, line=table[tints[0]][3])
    if style < 0.65:  # two colors
        ends = [mix(LAND_BOX[tint], table[tint][2], rnd.random()) for tint in tints]
        return inks._replace(box=ends[0], box_end=ends[1], line=table[tints[0]][3], line_end=table[tints[1]][3])
    if style < 0.8:  # any color: gold
        bar = table["gold"][1]
        return inks._replace(bar=bar, bar_end=bar, box=table["gold"][2], box_end=table["gold"][2])
    return inks
