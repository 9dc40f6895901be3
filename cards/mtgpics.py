"""Fetches the card pictures that a page of mtgpics.com links: the original project's scraper, made to last."""

import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

from bs4 import BeautifulSoup

from cards.labels import labels_of, load_rules
from cards.scryfall.client import RIGHTS, bulk_cards, open_scryfall, well_formed
from cards.scryfall.selection import pictures_of
from trainer.data.download import Wanted, check_failed, download_pictures, file_name, is_address
from trainer.data.fingerprint import MANIFEST, Manifest, folder_fingerprint
from trainer.data.http import FetchError, Web, fetch_failed
from trainer.data.staging import check_room
from trainer.errors import UserError
from trainer.files import write_whole
from trainer.paths import home

# What it says of pages that are empty or badly encoded does not concern the user.
logging.getLogger("bs4.dammit").setLevel(logging.ERROR)
INTERVAL = 0.5  # seconds from an answer to the next request: a small site, run by volunteers
PLACE = re.compile(r"/pics/reg/(?P<set>[^/]+)/(?P<number>[^/]+)\.(?P<kind>jpe?g|png)$", re.IGNORECASE)


def mtgpics(
    deck_url: str = "",
    save_dir: Path = Path(),
    label_with_scryfall: bool = False,
    multicolor: bool = False,
    labels: Path | None = None,
) -> None:
    """Fetch the card pictures of a set's page at mtgpics.com, in their large size, as <set>_<number>_<name>.jpg.

    Pictures that are there already are not fetched again: after a kill, run the same command again.

    Args:
        deck_url: the page, such as https://www.mtgpics.com/set?set=318.
        save_dir: the folder to fill.
        label_with_scryfall: sort the pictures into label folders, by the cards' names and what Scryfall knows of them.
        multicolor: keep multi-colored cards, colored artifacts and non-basic lands, with all their labels.
        labels: a YAML file of other rules, like cards/labels.yaml.
    """
    if not is_address(deck_url):
        raise UserError(f"'{deck_url}' is not a page; name one: --deck-url https://www.mtgpics.com/set?set=318")
    if save_dir.exists() and not save_dir.is_dir():
        raise UserError(f"'{save_dir}' is a file; name a folder")
    rules = load_rules(labels)
    print(RIGHTS)
    web = Web(home() / "cache" / "mtgpics", INTERVAL)
    try:
        page = web.fetch(deck_url)
    except FetchError as error:
        raise fetch_failed(f"cannot fetch {deck_url}: {error}", error) from error
    pictures = links(page.body, deck_url, _charset(page.content_type))
    if not pictures:
        raise UserError(f"{deck_url} links no card pictures (../pics/reg/…); is it the page of a set?")
    places = {name: name for name in pictures}
    if label_with_scryfall:
        known = known_labels(well_formed(bulk_cards(open_scryfall())), rules, multicolor)
        places = {name: f"{'-'.join(known.get(_key(card), ()))}/{name}" for name, (card, _) in pictures.items()}
        places = {name: place.lstrip("/") for name, place in places.items()}
    lying = [path.relative_to(save_dir).as_posix() for path in sorted(save_dir.glob("[!.]*/*"))]
    found = {PurePath(place).name: place for place in lying}
    # Without a label a picture stays where a run with labels, or its user, put it.
    places = {name: found.get(name, name) if place == name else place for name, place in places.items()}
    moved = [place for place in lying if places.get(PurePath(place).name, place) != place]
    if moved:
        raise UserError(
            f"'{save_dir}' holds {len(moved)} of these pictures under other labels, such as '{moved[0]}'; name another "
            f"folder"
        )
    check_room(save_dir, places.values())
    save_dir.mkdir(parents=True, exist_ok=True)
    for name, place in places.items():  # of a run without labels
        if place != name and (save_dir / name).is_file():
            (save_dir / place).parent.mkdir(exist_ok=True)
            (save_dir / name).replace(save_dir / place)
    wanted = [Wanted(places[name], source) for name, (_, source) in pictures.items()]
    done, failed = download_pictures(web, wanted, save_dir)
    print(f"{len(done)} pictures")
    if label_with_scryfall:
        sets = Counter(Path(place).parent.name for place in places.values())
        if bare := sets.pop("", 0):
            print(
                f"{bare} have no label, by the rules or because Scryfall knows no such name; they lie in '{save_dir}'"
            )
        print(", ".join(f"{labels} {count}" for labels, count in sorted(sets.items())))
    check_failed(failed, len(wanted))
    found, _ = folder_fingerprint(save_dir)
    if found:  # there are labels
        write_whole(save_dir / MANIFEST, Manifest(found).written())
        print(f"fingerprint: {found}")
    print(f"results: {save_dir}")


def links(page: bytes, address: str, charset: str | None = None) -> dict[str, tuple[str, str]]:
    """The card pictures on a page: file name → name of the card and address of its large picture.

    Args:
        page: the HTML.
        address: where it is from; relative addresses start there.
        charset: its encoding as the server says; else what the page itself says, else a guess.
    """
    cards: dict[str, str] = {}
    for tag in BeautifulSoup(page, "html.parser", from_encoding=charset).find_all(["img", "a"]):
        try:
            source = urljoin(address, (tag.get("src") or tag.get("href") or "").strip())
            place = PLACE.search(urlsplit(source).path)
        except ValueError:  # no address at all
            continue
        if place and source.startswith("http"):
            # `Serra Angel - Rebecca Guay`: the name, then its artist. A link around a picture has no name.
            card = (tag.get("alt") or "").partition(" -")[0].strip()
            cards[source] = cards.get(source) or card
    found = {}
    for source, card in cards.items():
        place = PLACE.search(urlsplit(source).path)
        parts = [_plain(unquote(place["set"])), _plain(unquote(place["number"])), _plain(card)]
        name = file_name("_".join(parts), f".{place['kind'].lower()}")
        found[name] = (card, re.sub("/pics/reg/", "/pics/big/", source, flags=re.IGNORECASE))
    return found


def known_labels(
    cards: Iterable[dict[str, Any]], rules: list[dict[str, Any]], multicolor: bool
) -> dict[str, tuple[str, ...]]:
    """The labels behind every name of a card or of one of its faces; names that have none are left out."""
    known: dict[str, tuple[str, ...]] = {}
    for card in cards:
        for picture in pictures_of(card):
            names = labels_of(picture, rules, multicolor)
            for name in {picture.get("name", ""), card.get("name", "").partition(" // ")[0]} if names else ():
                known.setdefault(_key(name), names)
    return known


def _charset(content_type: str) -> str | None:
    found = re.search(r"charset=\"?([\w.:-]+)", content_type, re.IGNORECASE)
    return found[1] if found else None


def _key(name: str) -> str:
    """A name as two spellings of it have in common: letters and digits alone."""
    plain = unicodedata.normalize("NFKD", name.replace("Æ", "Ae").replace("æ", "ae"))
    return "".join(letter for letter in plain.casefold() if letter.isalnum())


def _plain(text: str) -> str:
    """What every file system takes, letters of all languages included."""
    return re.sub(r"[^\w'.,()-]+", "_", text).strip("_. ") or "na"
