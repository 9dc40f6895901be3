"""A card from its labels: what it says on it, which era printed it, and the frame of that era around it."""

from dataclasses import dataclass, field
from random import Random

from PIL import Image

from trainer.data.cards import frames, text
from trainer.data.cards.canvas import Canvas

COLOURS = ("white", "blue", "black", "red", "green")
LAND_TYPES = {"white": "Plains", "blue": "Island", "black": "Swamp", "red": "Mountain", "green": "Forest"}


@dataclass
class Card:
    """What is printed on a card; frames decide how."""

    colour: str  # a colour, `artifact` or `gold`
    kind: str  # creature, special, mana, artifact, planeswalker
    era: str
    name: str
    type_line: str
    cost: list[str]
    rules: list[tuple[list[str], bool]] = field(default_factory=list)  # (words, whether italic)
    power: str = ""
    vehicle: bool = False
    legendary: bool = False

    @property
    def sign(self) -> str:
        """The sign that stands for the card's colour inside its text."""
        return self.colour if self.colour in COLOURS else "2"


def _cost(rnd: Random, colour: str) -> list[str]:
    if colour == "artifact":
        return [str(rnd.choice((0, 1, 2, 2, 3, 3, 4, 4, 5, 6, 7, 8)))]
    own = [colour] * rnd.choice((1, 1, 1, 2, 2, 3)) if colour in COLOURS else rnd.sample(COLOURS, 2)
    return ([str(rnd.randint(1, 6))] if rnd.random() < 0.8 else []) + own


def _rules(rnd: Random, most: int) -> list[tuple[list[str], bool]]:
    paragraphs = [(words, False) for words in text.rules(rnd, 1, most)]
    if rnd.random() < 0.5:
        paragraphs.append((text.flavour(rnd), True))
    return paragraphs


def design(rnd: Random, labels: frozenset[str]) -> Card:
    """Decide everything that the labels leave open."""
    colours = [c for c in COLOURS if c in labels]
    legendary = rnd.random() < 0.15
    old = ("1993", "1997", "1997", "2003", "2003", "2003")
    new = ("2015", "2015", "2015", "2015", "borderless")
    era = rnd.choice(old + new)
    prefix = "Legendary " if legendary else ""
    if "planeswalker" in labels:
        colour = rnd.choice((*COLOURS, *COLOURS, "gold", "gold", "artifact"))
        era = rnd.choice(("2003", "2015", "2015", "borderless"))
        name = text.name(rnd)
        kind = f"{rnd.choice(('Legendary ', ''))}Planeswalker — {name.split()[0]}"
        return Card(colour, "planeswalker", era, name, kind, _cost(rnd, colour))
    if "mana" in labels:
        colour = colours[0]
        era = rnd.choice(("1993", "1997", "1997", "2003", "2003", "2003", "2015", "2015", "2015", "borderless"))
        kind = LAND_TYPES[colour]
        line = "Land" if era in ("1993", "1997") else f"Basic {rnd.choice(('', '', '', 'Snow '))}Land — {kind}"
        return Card(colour, "mana", era, kind, line, [])
    if "artifact" in labels and "creature" not in labels:
        vehicle = rnd.random() < 0.12
        line = f"{prefix}Artifact" + (
            " — Vehicle" if vehicle else rnd.choice(("", "", " — Equipment", " — Food", " — Clue"))
        )
        power = f"{rnd.randint(0, 8)}/{rnd.randint(1, 8)}" if vehicle else ""
        return Card(
            "artifact",
            "artifact",
            era,
            text.name(rnd),
            line,
            _cost(rnd, "artifact"),
            _rules(rnd, 4),
            power,
            vehicle,
            legendary,
        )
    if "creature" in labels:
        colour = colours[0] if colours else "artifact"
        lead = "Artifact Creature" if not colours else ("Summon" if era == "1993" else "Creature")
        line = f"{prefix}{lead} — {' '.join(rnd.sample(text.KINDS, rnd.choice((1, 1, 2))))}"
        power = f"{rnd.choice((0, 1, 1, 2, 2, 3, 4, 5, 6, 7, 10))}/{rnd.choice((1, 1, 2, 2, 3, 4, 5, 6, 7, 10))}"
        return Card(
            colour,
            "creature",
            era,
            text.name(rnd),
            line,
            _cost(rnd, colour),
            _rules(rnd, 4),
            power,
            legendary=legendary,
        )
    line = rnd.choice(
        ("Instant", "Sorcery", "Instant", "Sorcery", "Enchantment", "Enchantment — Aura", "Enchantment — Saga")
    )
    return Card(colours[0], "special", era, text.name(rnd), line, _cost(rnd, colours[0]), _rules(rnd, 4))


def compose(rnd: Random, labels: frozenset[str]) -> Image.Image:
    """Draw a flat RGB card, 300 to 400 pixels wide, with square corners."""
    card = design(rnd, labels)
    canvas = Canvas(rnd, rnd.choice((300, 340, 380)))
    frames.draw(canvas, card)
    return canvas.image
