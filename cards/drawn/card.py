"""What is printed on a drawn card: everything that its labels leave open, decided at random."""

from collections.abc import Collection
from dataclasses import dataclass, field
from random import Random

from cards.drawn import text

COLORS = ("white", "blue", "black", "red", "green")
LAND_TYPES = {"white": "Plains", "blue": "Island", "black": "Swamp", "red": "Mountain", "green": "Forest"}
# How common each frame is. Those of 1993 and 1997 have no bars and no box around power and toughness.
ERAS = {"1993": 5, "1997": 4, "2003": 5, "2015": 11, "borderless": 3, "extended": 1, "showcase": 1}
NEW_ERAS = {"2003": 3, "2015": 10, "borderless": 2, "extended": 1}
LAND_ERAS = {"1993": 2, "1997": 2, "2003": 3, "2015": 3, "borderless": 2}
PLANESWALKER_ERAS = {"2003": 2, "2015": 4, "borderless": 3}
PERMANENTS = ("artifact", "creature", "mana", "planeswalker")


@dataclass
class Card:
    """What is printed on a card; frames decide how."""

    color: str  # whose frame: a color, `artifact`, `gold`, `land` or `colorless`
    kind: str  # whose layout: creature, special, mana, artifact or planeswalker
    era: str
    name: str
    type_line: str
    colors: tuple[str, ...] = ()  # of the card itself, in the order of its cost
    cost: list[str] = field(default_factory=list)  # signs of symbols.pip
    rules: list[tuple[list[str], bool]] = field(default_factory=list)  # paragraphs: words, whether italic
    power: str = ""
    basic: bool = False
    artifact: bool = False  # also of a color: bars and box show the color, the body is an artifact's
    hybrid: bool = False  # of two colors: half of the frame in each, no gold
    starry: bool = False  # the night sky around an enchantment that is something else, too
    vehicle: bool = False
    legendary: bool = False
    token: bool = False
    two_faced: bool = False
    room: bool = False  # two small cards side by side, turned by 90 degrees
    inset: bool = False  # a second, smaller card in its text box
    levels: bool = False  # three strips with a power each, in place of rules text

    @property
    def sign(self) -> str:
        """The sign that stands for the card's color inside its text."""
        return self.colors[0] if self.colors else "2"


def _pick(rnd: Random, eras: dict[str, int]) -> str:
    return rnd.choices(list(eras), list(eras.values()))[0]


def _cost(rnd: Random, colors: tuple[str, ...], hybrid: bool) -> list[str]:
    if not colors:
        return [str(rnd.choice((0, 1, 2, 2, 3, 3, 4, 4, 5, 6, 7, 8)))]
    if hybrid:
        own = ["/".join(colors)] * rnd.choice((1, 2, 2, 3, 4))
    else:
        own = [color for color in colors for _ in range(rnd.choice((1, 1, 2, 3) if len(colors) == 1 else (1, 1, 1, 2)))]
    return ([str(rnd.randint(1, 6))] if rnd.random() < (0.8 if len(colors) < 3 else 0.5) else []) + own


def _rules(rnd: Random) -> list[tuple[list[str], bool]]:
    paragraphs = [(words, False) for words in text.rules(rnd, rnd.choice((0, 1, 1, 1)), 4)]
    if rnd.random() < 0.5 or not paragraphs:
        paragraphs.append((text.flavor(rnd), True))
    return paragraphs


def _power(rnd: Random) -> str:
    return f"{rnd.choice((0, 1, 1, 2, 2, 3, 4, 5, 6, 7, 10, '*'))}/{rnd.choice((1, 1, 2, 2, 3, 4, 5, 6, 7, 10, '*'))}"


def _land(rnd: Random, colors: tuple[str, ...], other: Collection[str]) -> Card:
    """A basic land of one color, or any other land, which has no color."""
    era = _pick(rnd, LAND_ERAS)
    if colors:
        name = LAND_TYPES[colors[0]]
        line = f"Basic {rnd.choice(('', '', '', 'Snow '))}Land — {name}"
        return Card(colors[0], "mana", era, name, "Land" if era in ("1993", "1997") else line, colors, basic=True)
    lead = {"artifact": "Artifact ", "special": "Enchantment "}.get(next(iter(other), ""), "")
    kind = rnd.choice(("", "", "", " — Gate", " — Cave", " — Sphere"))
    card = Card("land", "mana", era, text.name(rnd), f"{rnd.choice(('', '', 'Legendary '))}{lead}Land{kind}")
    card.rules, card.artifact, card.starry = _rules(rnd), lead == "Artifact ", lead == "Enchantment "
    return card


def design(rnd: Random, labels: Collection[str]) -> Card:
    """Design a card with exactly these labels: any of the five colors, and one or more of the five kinds."""
    colors = tuple(c for c in COLORS if c in labels)
    kinds = [kind for kind in (*PERMANENTS, "special") if kind in labels]
    if "mana" in labels:
        return _land(rnd, colors, [kind for kind in kinds if kind != "mana"])
    if "planeswalker" in labels:  # its label names no color, its frame shows one
        colors = tuple(rnd.sample(COLORS, rnd.choice((0, 1, 1, 1, 1, 1, 2, 2, 2, 3))))
        kinds = ["planeswalker"]
    elif len(colors) > 1 and rnd.random() < 0.5:
        colors = colors[::-1] if rnd.random() < 0.5 else (*colors[1:], colors[0])
    hybrid = len(colors) == 2 and rnd.random() < 0.25
    frame = colors[0] if len(colors) == 1 else "gold" if colors else "artifact" if "artifact" in kinds else "colorless"
    eras = ERAS if len(colors) < 2 and len(kinds) == 1 and frame != "colorless" else NEW_ERAS
    name, legendary = text.name(rnd), rnd.random() < 0.2
    prefix = "Legendary " if legendary else ""
    if kinds == ["planeswalker"]:
        frame = "colorless" if not colors else frame
        line = f"{rnd.choice(('Legendary ', 'Legendary ', ''))}Planeswalker — {name.split()[0]}"
        era = _pick(rnd, PLANESWALKER_ERAS)
        return Card(frame, kinds[0], era, name, line, colors, _cost(rnd, colors, hybrid), hybrid=hybrid)
    card = Card(frame, kinds[0], _pick(rnd, eras), name, "", colors, _cost(rnd, colors, hybrid), _rules(rnd))
    card.legendary, card.hybrid, card.artifact = legendary, hybrid, "artifact" in kinds
    card.inset, card.two_faced = rnd.random() < 0.06, card.era == "2015" and rnd.random() < 0.08
    lead = "Artifact " if card.artifact else ""
    if "special" in kinds and kinds != ["special"]:
        lead, card.starry = f"Enchantment {lead}", rnd.random() < 0.75
    if "creature" in kinds:
        card.kind, card.power, card.levels = "creature", _power(rnd), rnd.random() < 0.03
        card.token = card.era in ("2003", "2015", "borderless") and rnd.random() < 0.04
        lead = "Token " + lead if card.token else lead
        kind = "Summon" if card.era == "1993" and not card.artifact else f"{lead}Creature"
        card.type_line = f"{prefix}{kind} — {' '.join(rnd.sample(text.KINDS, rnd.choice((1, 1, 2))))}"
    elif "artifact" in kinds:
        card.vehicle = rnd.random() < 0.18
        card.power = _power(rnd) if card.vehicle else ""
        kind = " — Vehicle" if card.vehicle else rnd.choice(("", "", " — Equipment", " — Food", " — Clue"))
        card.type_line = f"{prefix}{lead}Artifact{kind}".replace("Artifact Artifact", "Artifact")
    else:
        enchantment = rnd.choice(("", "", " — Aura", " — Saga", " — Class", " — Case"))
        card.type_line = rnd.choice(("Instant", "Sorcery", f"{prefix}Enchantment{enchantment}"))
        if card.era == "1993":
            card.type_line = rnd.choice(("Instant", "Interrupt", "Sorcery", "Enchantment", "Enchant Creature"))
        card.room = card.era == "2015" and len(colors) == 1 and rnd.random() < 0.12
    return card
