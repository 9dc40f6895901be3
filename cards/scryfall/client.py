"""Asks Scryfall for card data: its rate limits, its list of all cards, its search, and a check of what it answers."""

import gzip
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import ijson
from tqdm import tqdm

from trainer.data.http import FetchError, Web, fetch_failed
from trainer.errors import UnavailableError, UserError
from trainer.paths import home

# Seconds, a little longer than https://scryfall.com/docs/api/rate-limits asks for: 10 requests a second, 2 on some
# paths. Pictures have no limit there; they get the same.
INTERVAL = 0.11
SLOW_PATHS = {f"/cards/{path}": 0.6 for path in ("search", "named", "random", "collection")}
TEXTS = ("name", "set", "lang", "collector_number", "id")
ADDRESS = re.compile(r"https?://[\w.:-]+/\S*", re.ASCII)
RIGHTS = """\
Card images are © Wizards of the Coast. Use them as its Fan Content Policy allows: do not sell them, do not put them
into a repository, an image or a release, and do not hide the artist's name or the copyright line where you show them.
Neither Wizards of the Coast nor Scryfall endorses Manasight."""


def open_scryfall() -> Web:
    """A client that keeps Scryfall's rules."""
    return Web(home() / "cache" / "scryfall", INTERVAL, SLOW_PATHS)


def bulk_cards(web: Web) -> Iterator[Any]:
    """Every card that Scryfall has, one after the other, from a file that is fetched at most once a day.

    Raises:
        UserError: if it cannot be had or is damaged.
    """
    index = f"{api()}/bulk-data"
    entries = _json(web, index).get("data")
    entries = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    entry = next((entry for entry in entries if entry.get("type") == "default_cards"), {})
    url = entry.get("jsonl_download_uri") or entry.get("download_uri")  # the second is what older servers had
    if not is_text(url, ADDRESS):
        web.forget(index)
        raise UserError(f"{index} lists no file of default_cards; is it Scryfall's?")
    file = web.cache / f"bulk-{Path(urlsplit(url).path).name}"
    if not file.exists():
        try:
            web.download(url, file, "card data")
        except FetchError as error:
            raise fetch_failed(f"cannot fetch {url}: {error}; run the same command again to go on", error) from error
        for old in web.cache.glob("bulk-*"):
            if old != file:
                old.unlink()
    try:
        yield from read_cards(file)
    except (OSError, EOFError, zlib.error, ijson.JSONError) as error:
        if isinstance(error, OSError) and error.errno:  # the disk's, not the file's
            raise
        file.unlink()
        problem = str(error).partition("\n")[0]  # the parser draws a picture below
        raise UnavailableError(
            f"the card data was damaged ({problem}) and is removed; run the same command again"
        ) from error


def read_cards(file: Path) -> Iterator[Any]:
    """The cards in a file of Scryfall's, one in memory at a time: lines of JSON or one list, compressed or not."""
    with file.open("rb") as raw:
        unpack = gzip.open if raw.read(2) == b"\x1f\x8b" else lambda stream: stream
        raw.seek(0)
        is_list = unpack(raw).read(1) == b"["
        raw.seek(0)
        with tqdm.wrapattr(raw, "read", file.stat().st_size, desc="reading cards", disable=None) as counted:
            yield from ijson.items(
                unpack(counted), "item" if is_list else "", multiple_values=not is_list, use_float=True
            )


def search(web: Web, query: str) -> Iterator[Any]:
    """Every printing that a search of Scryfall's finds.

    Raises:
        UserError: if an answer is not a page of cards, or its next page is one that was there before.
    """
    parameters = urlencode({"q": query, "unique": "prints", "order": "set", "include_multilingual": "true"})
    url = f"{api()}/cards/search?{parameters}"
    seen = set()
    while url:
        seen.add(url)
        page = _json(web, url)
        cards, warnings, after = page.get("data"), page.get("warnings") or [], page.get("next_page")
        is_last = not page.get("has_more")
        if not (isinstance(cards, list) and isinstance(warnings, list) and (is_last or is_text(after, ADDRESS))):
            web.forget(url)
            raise UserError(f"what Scryfall gives for {url} is not a page of a search; is it Scryfall's?")
        for warning in warnings:
            tqdm.write(f"Scryfall: {warning}")
        yield from cards
        if not is_last and after in seen:
            for one in seen:
                web.forget(one)
            raise UserError(f"Scryfall's pages go round in a circle: {after} comes twice; try another --query")
        url = None if is_last else after


def well_formed(cards: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """The cards that are what https://scryfall.com/docs/api/cards says; a line at the end counts the others."""
    odd = 0
    for card in cards:
        if is_card(card):
            yield card
        else:
            odd += 1
    if odd:
        print(f"left out {odd} cards that are not as Scryfall describes its cards")


def is_card(found: Any) -> bool:
    """Whether all that is read of a card or a face has the type that it should have; it may lack.

    Other fields may be anything: rules only compare them.
    """
    if not isinstance(found, dict):
        return False
    colors = [found.get(name) or [] for name in ("colors", "color_identity")]
    pictures, faces = found.get("image_uris") or {}, found.get("card_faces") or []
    return (
        all(is_text(found[name]) for name in TEXTS if name in found)
        and is_text(found.get("type_line") or "")
        and all(isinstance(letters, list) and all(map(is_text, letters)) for letters in colors)
        and isinstance(pictures, dict)
        and all(is_text(address, ADDRESS) for address in pictures.values())
        and isinstance(faces, list)
        and all(map(is_card, faces))
    )


def is_text(value: Any, form: re.Pattern[str] | None = None) -> bool:
    """Whether it is a text, of that form, that a file can hold: JSON may also say half a character."""
    return (
        isinstance(value, str)
        and (form is None or form.fullmatch(value) is not None)
        and (value.isascii() or value.encode(errors="replace").decode() == value)
    )


def api() -> str:
    return (os.environ.get("MANASIGHT_SCRYFALL_URL") or "https://api.scryfall.com").rstrip("/")


def _json(web: Web, url: str) -> dict[str, Any]:
    try:
        found = web.fetch_json(url)
        if not isinstance(found, dict):
            web.forget(url)
            raise FetchError("the answer is not a JSON object")
        return found
    except FetchError as error:
        raise fetch_failed(f"Scryfall gives nothing for {url}: {error}", error) from error
