"""Gives cards their labels by the rules of a table: `labels.yaml`, or the user's own."""

import re
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from trainer.errors import UserError

COLORS = {"W": "white", "U": "blue", "B": "black", "R": "red", "G": "green"}
COUNTS = {"none": range(1), "one": range(1, 2), "some": range(1, 6), "any": range(6)}
RULES = Path(__file__).with_name("labels.yaml")
FIELDS = (
    *("types", "subtypes", "rarity", "set", "set_type", "layout", "keywords", "frame", "frame_effects"),
    *("border_color", "artist", "lang", "watermark", "full_art", "promo"),
)
FIELD = re.compile(r"{(.*?)}")  # in a label

Row = dict[str, Any]


def load_rules(path: Path | None = None) -> list[Row]:
    """The rows of a table of rules.

    Raises:
        UserError: if there is no such file, or it says something that no row can say.
    """
    path = path or RULES
    try:
        rows = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        problem = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise UserError(f"cannot read the rules in '{path}': {problem}") from error
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"'{path}' is not a list of rows such as `- {{types: Creature, labels: creature}}`")
    for number, row in enumerate(rows, 1):
        where = f"row {number} of '{path}'"
        unknown = [key for key in row if key not in (*FIELDS, "labels", "colors", "multicolor")]
        if unknown:
            raise UserError(f"{where} names '{unknown[0]}'; there are {', '.join(FIELDS)}, colors and labels")
        if str(row.get("colors", "any")) not in COUNTS:
            raise UserError(f"{where} has colors '{row['colors']}'; say {', '.join(COUNTS)}")
        if not isinstance(row.get("multicolor", False), bool):
            raise UserError(f"{where} has multicolor '{row['multicolor']}'; say true or false")
        for name in FIELDS:
            if name in row and not _is_wanted(row[name]):
                raise UserError(f"{where} has {name} {row[name]!r}, which no card has; say a value, or [one, another]")
        if not isinstance(row.get("labels", ""), str):
            raise UserError(f'{where} needs its labels as words: `labels: "{{colors}} creature"`')
        unknown = [name for name in FIELD.findall(row.get("labels", "")) if name not in (*FIELDS, "colors")]
        if unknown:
            raise UserError(f"{where} has a label '{{{unknown[0]}}}'; there are {', '.join(FIELDS)} and colors")
        if set(FIELD.sub("", row.get("labels", ""))) & {*"{}"}:
            raise UserError(f"{where} has labels '{row['labels']}' with a brace too many; write fields as {{rarity}}")
    return rows


def colors_of(picture: dict[str, Any]) -> tuple[str, ...]:
    """The colors' names in their usual order; a land's are those of its color identity."""
    is_land = "Land" in _words(picture)[0]
    colors = picture.get("color_identity" if is_land else "colors") or ()
    return tuple(name for letter, name in COLORS.items() if letter in colors)


def labels_of(picture: dict[str, Any], rules: Sequence[Row], multicolor: bool = False) -> tuple[str, ...]:
    """The labels of one picture of a card, or none if the rules leave it out.

    Args:
        picture: a card as Scryfall describes it, with one `type_line`: that of the face in the picture.
        rules: what `load_rules` returns.
        multicolor: whether rows for one color also take cards of several.
    """
    types, subtypes = _words(picture)
    colors = colors_of(picture)
    values = picture | {"types": types, "subtypes": subtypes, "colors": colors}
    for row in rules:
        count = row.get("colors", "any")
        wanted = COUNTS["some" if multicolor and count == "one" else count]
        fits = all(_fits(values.get(name), row[name]) for name in row if name in FIELDS)
        if fits and len(colors) in wanted and (multicolor or not row.get("multicolor")):
            found = [label for word in row.get("labels", "").split() for label in _filled(word, values)]
            return tuple(dict.fromkeys(found))
    return ()


def _words(picture: dict[str, Any]) -> tuple[list[str], list[str]]:
    before, _, after = picture.get("type_line", "").partition("—")
    return before.split(), after.split()


def _fits(value: Any, wanted: Any) -> bool:
    """Whether one of the wanted values is there; several words must all be."""
    have = {str(one).casefold() for one in (value if isinstance(value, list | tuple) else [value])}
    options = wanted if isinstance(wanted, list) else [wanted]
    return any(
        str(option).casefold() in have or set(str(option).casefold().split()) <= have for option in options if have
    )


def _is_wanted(options: Any) -> bool:
    """Whether a row's value for a field is one, or several, that a card can have."""
    options = options if isinstance(options, list) else [options]
    return bool(options) and not any(isinstance(one, dict | list) or not str(one).strip() for one in options)


def _filled(word: str, values: dict[str, Any]) -> Iterator[str]:
    """The word with every value of its field; of several fields every value with every other's."""
    names = list(dict.fromkeys(FIELD.findall(word)))
    found = [one if isinstance(one, list | tuple) else [one] for one in map(values.get, names)]
    for chosen in product(*found):
        filled = dict(zip(names, chosen, strict=True))
        if None not in chosen:
            # What a folder's name can carry: no separator, no case, nothing that a file system minds.
            label = FIELD.sub(lambda field, filled=filled: str(filled[field[1]]), word).casefold()
            if label := re.sub(r"[\W_]+", "_", label).strip("_"):
                yield label
