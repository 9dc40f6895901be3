"""What is printed on a drawn card: everything that its labels leave open, decided at random."""

from dataclasses import dataclass, field
from random import Random

from cards.drawn import text

COLOURS = ("white", "blue", "black", "red", "green")
LAND_TYPES = {"white": "Plains", "blue": "Island", "black": "Swamp", "red": "Mountain", "green": "Forest"}
ERAS = {"1993": 2, "1997": 4, "2003": 6, "2015": 10, "borderless": 2, "showcase": 1}  # and how common each is
LAND_ERAS = {"1993": 1, "1997": 2, "2003": 3, "2015": 3, "borderless": 2}
PLANESWALKER_ERAS = {"2003": 1, "2015": 2, "borderless": 1}


@dataclass
class Card:
    """What is printed on a card; frames decide how."""

    colour: str  # a colour, `artifact` or `gold`
    kind: str  # creature, special, mana, artifact or planeswalker
    era: str
    name: str
    type_line: str
    cost: list[str] = field(default_factory=list)  # signs of symbols.pip
    rules: list[tuple[list[str], bool]] = field(default_factory=list)  # paragraphs: words, whether italic
    power: str = ""
    vehicle: bool = False
    legendary: bool = False
    inset: bool = False  # a second, smaller card in its text box
    levels: bool = False  # three strips with a power each, in place of rules text

    @property
    def sign(self) -> str:
        """The sign that stands for the card's colour inside its text."""
        return self.colour if self.colour in COLOURS else "2"


def _pick(rnd: Random, eras: dict[str, int]) -> str:
    return rnd.choices(list(eras), list(eras.values()))[0]


def _cost(rnd: Random, colour: str) -> list[str]:
    if colour == "artifact":
        return [str(rnd.choice((0, 1, 2, 2, 3, 3, 4, 4, 5, 6, 7, 8)))]
    own = [colour] * rnd.choice((1, 1, 1, 2, 2, 3)) if colour in COLOURS else rnd.sample(COLOURS, 2)
    return ([str(rnd.randint(1, 6))] if rnd.random() < 0.8 else []) + own


def _rules(rnd: Random) -> list[tuple[list[str], bool]]:
    paragraphs = [(words, False) for words in text.rules(rnd, 1, 4)]
    if rnd.random() < 0.5:
        paragraphs.append((text.flavour(rnd), True))
    return paragraphs


def _power(rnd: Random) -> str:
    return f"{rnd.choice((0, 1, 1, 2, 2, 3, 4, 5, 6, 7, 10))}/{rnd.choice((1, 1, 2, 2, 3, 4, 5, 6, 7, 10))}"


def design(rnd: Random, labels: frozenset[str]) -> Card:
    """Design a card that bears exactly these labels: one of the 18 label sets, as a set of labels."""
    colour = next((c for c in COLOURS if c in labels), "artifact")
    if "mana" in labels:
        era = _pick(rnd, LAND_ERAS)
        line = f"Basic {rnd.choice(('', '', '', 'Snow '))}Land — {LAND_TYPES[colour]}"
        return Card(colour, "mana", era, LAND_TYPES[colour], "Land" if era in ("1993", "1997") else line)
    name, legendary = text.name(rnd), rnd.random() < 0.15
    prefix = "Legendary " if legendary else ""
    if "planeswalker" in labels:
        colour = rnd.choice((*COLOURS, *COLOURS, "gold", "gold", "artifact"))
        line = f"{rnd.choice(('Legendary ', ''))}Planeswalker — {name.split()[0]}"
        return Card(colour, "planeswalker", _pick(rnd, PLANESWALKER_ERAS), name, line, _cost(rnd, colour))
    card = Card(colour, "special", _pick(rnd, ERAS), name, "", _cost(rnd, colour), _rules(rnd), legendary=legendary)
    card.inset = rnd.random() < 0.06
    if "creature" in labels:
        lead = "Artifact Creature" if "artifact" in labels else "Summon" if card.era == "1993" else "Creature"
        card.kind, card.power, card.levels = "creature", _power(rnd), rnd.random() < 0.03
        card.type_line = f"{prefix}{lead} — {' '.join(rnd.sample(text.KINDS, rnd.choice((1, 1, 2))))}"
    elif "artifact" in labels:
        card.kind, card.vehicle = "artifact", rnd.random() < 0.18
        card.power = _power(rnd) if card.vehicle else ""
        kind = " — Vehicle" if card.vehicle else rnd.choice(("", "", " — Equipment", " — Food", " — Clue"))
        card.type_line = f"{prefix}Artifact{kind}"
    else:
        enchantment = rnd.choice(("", "", " — Aura", " — Saga", " — Class"))
        card.type_line = rnd.choice(("Instant", "Sorcery", f"{prefix}Enchantment{enchantment}"))
    return card
