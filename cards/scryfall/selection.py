"""Chooses which of Scryfall's cards become images of a dataset, with which labels and file names."""

import re
import sys
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cards.labels import COLORS, Row, colors_of, labels_of
from cards.scryfall.manifest import Picture, earlier_rows, place
from trainer.data.download import file_name
from trainer.errors import UserError


def pictures_of(card: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The card as each of its pictures shows it, with that face's name, type line and colors.

    A card that turns over has a picture of each side. Split, flip and adventure cards have both faces in one picture;
    the first one, whose frame it is, counts.
    """
    faces = card.get("card_faces") or [{}]
    if card.get("image_uris"):
        shown = [faces[0] | card | {"type_line": card.get("type_line") or faces[0].get("type_line") or ""}]
    else:
        shown = [card | face for face in faces if face.get("image_uris")]
    for number, picture in enumerate(shown):
        type_line = (picture.get("type_line") or "").partition("//")[0]
        yield picture | {"type_line": type_line, "side": number}


def choose(
    cards: Iterable[dict[str, Any]],
    rules: list[Row],
    sets: set[str],
    colors: set[str] | None,
    multicolor: bool,
    lang: str,
    size: str,
) -> Iterator[Picture]:
    """The pictures of printed cards that the rules label.

    Raises:
        UserError: at the end, if a set has no cards.
    """
    seen = set()
    for card in cards:
        code = card.get("set", "")
        seen.add(code)
        if (sets and code not in sets) or card.get("digital") or card.get("lang", lang) != lang:
            continue
        if card.get("image_status") in ("missing", "placeholder"):
            continue
        for picture in pictures_of(card):
            shown = {*colors_of(picture)} or {"colorless"}
            names = labels_of(picture, rules, multicolor)
            source = picture.get("image_uris", {}).get(size)
            if names and source and (colors is None or shown <= colors):
                folder, number = sys.intern("-".join(names)), picture.get("collector_number", "")
                ending = ".png" if urlsplit(source).path.endswith(".png") else ".jpg"
                file = f"{folder}/{file_name(_stem(picture), ending)}"
                yield Picture(file, picture.get("name", ""), code, number, folder, source)
    unknown = sorted(sets - seen)
    if unknown:
        raise UserError(f"there is no card of set '{unknown[0]}'; https://scryfall.com/sets lists the codes")


def labeled_as_before(pictures: Iterable[Picture], out: Path) -> Iterator[Picture]:
    """The pictures as they come.

    Raises:
        UserError: at the end, if an earlier run into `out` gave some of them other labels.
    """
    labels = {place(one)[1]: one.labels for one in earlier_rows(out)}
    moved = []
    for picture in pictures:
        if labels.get(place(picture)[1], picture.labels) != picture.labels:
            moved.append(picture.file)
        yield picture
    if moved:
        raise UserError(
            f"'{out}' holds {len(moved)} of these pictures under other labels, such as that of '{moved[0]}'; name "
            f"another folder"
        )


def keep(pictures: Iterable[Picture], most: int | None, out: Path) -> list[Picture]:
    """The pictures in the order of their files; of each label set at most so many: those that are there first, then by
    chance, but always the same.

    Raises:
        UserError: if there are none.
    """
    groups: dict[str, dict[str, Picture]] = defaultdict(dict)

    def thin_out(group: dict[str, Picture]) -> None:
        for file in sorted(group, key=rank)[most:]:
            del group[file]

    def rank(file: str) -> tuple[bool, str]:
        return not (out / file).exists(), sha256(file.encode()).hexdigest()

    for picture in pictures:
        group = groups[picture.labels]
        group[picture.file] = picture
        if most and len(group) > 2 * most + 1000:  # memory: Scryfall has a hundred thousand
            thin_out(group)
    if most:
        for group in groups.values():
            thin_out(group)
    if not groups:
        raise UserError("no card fits; choose other sets or colors, or look at the rules that --labels names")
    return sorted((one for group in groups.values() for one in group.values()), key=lambda one: one.file)


def colors_named(given: list[str]) -> set[str] | None:
    """The names behind letters or names of colors."""
    if not given:
        return None
    names = COLORS | {"C": "colorless"}
    found: set[str] = set()
    for word in given:
        if word.casefold() in names.values():
            found.add(word.casefold())
        elif word and all(letter in names for letter in word.upper()):
            found |= {names[letter] for letter in word.upper()}
        else:
            raise UserError(f"there is no color '{word}'; give letters of WUBRG, and C for colorless")
    return found


def _stem(picture: dict[str, Any]) -> str:
    """`<set>_<number>_<name>`, unlike any other picture's and safe on every file system."""
    number, lang = picture.get("collector_number", ""), picture.get("lang", "en")
    parts = [_plain(picture.get("set", "")), _plain(number), _plain(picture.get("name", ""))]
    if _plain(number) != number:  # 12★ is not 12
        parts.append(picture.get("id", "")[:8])
    parts += ["back"] * bool(picture["side"]) + [lang] * (lang != "en")
    return "_".join(part for part in parts if part)


def _plain(text: str) -> str:
    ascii_only = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9]+", "_", ascii_only).strip("_")
