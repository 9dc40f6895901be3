"""The words of the drawn cards: free fonts, invented names, rules text of plausible length and its wrapping."""

from functools import cache, lru_cache
from pathlib import Path
from random import Random

import matplotlib
from PIL import ImageFont


def _words(line: str) -> tuple[str, ...]:
    return tuple(line.split())


RULES = ("STIXGeneral", "STIXGeneral", "STIXGeneral", "DejaVuSerif")
ITALIC = {"STIXGeneral": "STIXGeneralItalic", "DejaVuSerif": "DejaVuSerif-Italic"}
BOLD_TITLES = ("STIXGeneralBol", "STIXGeneralBol", "DejaVuSerif-Bold", "DejaVuSans-Bold", "cmb10")
PLAIN_TITLES = ("STIXGeneral", "STIXGeneralBol", "cmr10", "DejaVuSerif")

SYLLABLES = _words(
    "ar bel cor dar el fen gal hor il jor kan lor mir nal or pal quen ros sel tor ul ven wyn yar zan ash brim "
    "crag dusk ember frost grim hollow iron moss night storm thorn"
)
NOUNS = _words(
    "Warden Seeker Beast Oracle Keeper Hound Titan Charm Blade Gate Tide Ritual Echo Garden Engine Compass Vow "
    "Strike Veil Rider Sentinel Scholar Serpent Drake Colossus Bloom Gale Pact Mirror Lantern"
)
KINDS = _words(
    "Human Elf Goblin Wizard Knight Spirit Drake Wolf Giant Merfolk Zombie Angel Soldier Druid Rogue Bird Cat Golem"
)
SENTENCES = tuple(
    tuple(sentence.split())
    for sentence in (
        "When this enters the field, look at the top three cards of your pile.",
        "Whenever another friend attacks, it gets +1/+1 until end of turn.",
        "Destroy the chosen thing.",
        "Draw a card.",
        "Draw two cards, then put one card from your hand on the bottom of your pile.",
        "Flying",
        "Quick, steadfast",
        "Its keeper gains three life.",
        "Choose one or both of the following.",
        "At the beginning of your turn, you may turn this over. If you do, each rival loses 2 life.",
        "{C}, {T}: Add one spark of any color.",
        "{1}{C}: This gets +2/+0 until end of turn. Use this only once each turn.",
        "{2}, {T}, give up this: It deals 3 damage to any one target.",
        "Put a charge counter on this. Then, if there are four or more of them, take them all off.",
        "Return the chosen card from the heap to its owner's hand.",
        "You may play this any time you could answer a spell.",
        "If it would die this turn, remove it from the game instead.",
        "Make two small tokens that can fly and cannot block.",
        "Counter the chosen spell unless its caster pays {2}.",
        "It costs {1} less for each other card of its kind that you hold.",
    )
)
FLAVOR = tuple(
    tuple(sentence.split())
    for sentence in (
        "The road remembers every foot that crossed it.",
        "No map shows the place, and yet every child can point to it.",
        "It waits below the ice, counting the winters.",
        "“We built the walls for them. They never asked for doors.”",
        "Some fires are lit to be seen, others to be followed home.",
        "The harvest came early that year, and nobody dared to ask why.",
        "“Speak softly here. The stones are good listeners.”",
        "Between two tides the old city can be heard to breathe.",
    )
)


@cache
def _folder() -> Path:
    return Path(matplotlib.get_data_path(), "fonts", "ttf")


@lru_cache(maxsize=512)
def font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """A font that matplotlib ships, by file name; size in pixels, at least 5."""
    return ImageFont.truetype(_folder() / f"{name}.ttf", max(5, size))


@lru_cache(maxsize=20_000)
def width(word: str, name: str, size: int) -> float:
    """Pixels that a word takes."""
    return font(name, size).getlength(word)


def name(rnd: Random) -> str:
    """An invented name of one to four words."""
    first = "".join(rnd.sample(SYLLABLES, rnd.choice((1, 2, 2, 3)))).capitalize()
    parts = [first]
    if rnd.random() < 0.75:
        parts.append(rnd.choice(NOUNS))
    if rnd.random() < 0.2:
        parts += ["of", rnd.choice(NOUNS)]
    return " ".join(parts)


def rules(rnd: Random, least: int = 1, most: int = 4) -> list[list[str]]:
    """Paragraphs of rules text, each a list of words; `{1}`, `{C}` and `{T}` inside them stand for symbols."""
    return [list(s) for s in rnd.sample(SENTENCES, rnd.randint(least, most))]


def flavor(rnd: Random) -> list[str]:
    """One sentence of flavor text as words."""
    return list(rnd.choice(FLAVOR))


def wrap(words: list[str], family: str, size: int, room: float) -> list[list[str]]:
    """Break words into lines no wider than `room` pixels."""
    lines: list[list[str]] = [[]]
    used, space = 0.0, size * 0.25
    for word in words:
        need = width(word, family, size)
        if lines[-1] and used + need > room:
            lines.append([])
            used = 0.0
        lines[-1].append(word)
        used += need + space
    return lines
