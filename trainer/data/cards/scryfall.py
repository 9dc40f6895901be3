"""Fetches card pictures from Scryfall and sorts them into label folders: nobody labels by hand."""

import csv
import gzip
import io
import os
import re
import sys
import unicodedata
import zlib
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator
from dataclasses import astuple, dataclass, fields
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlencode, urlsplit

import ijson
from tqdm import tqdm

from trainer.data.cards.labels import COLOURS, Row, colours_of, labels_of, load_rules
from trainer.data.download import Wanted, check_failed, check_place, download_pictures, file_name
from trainer.data.web import FetchError, Web
from trainer.errors import UserError
from trainer.files import write_whole
from trainer.home import home

# Seconds, a little longer than https://scryfall.com/docs/api/rate-limits asks for: 10 requests a second, 2 on some
# paths. Pictures have no limit there; they get the same.
INTERVAL = 0.11
SLOW_PATHS = {f"/cards/{path}": 0.6 for path in ("search", "named", "random", "collection")}
MANIFEST = "cards.csv"
PLAN = f".{MANIFEST}"  # what the run under way, or one that was ended, fetches
TEXTS = ("name", "set", "lang", "collector_number", "id")
ADDRESS = re.compile(r"https?://[\w.:-]+/\S*", re.ASCII)
RIGHTS = """\
Card images are © Wizards of the Coast. Use them as its Fan Content Policy allows: do not sell them, do not put them
into a repository, an image or a release, and do not hide the artist's name or the copyright line where you show them.
Neither Wizards of the Coast nor Scryfall endorses Manasight."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One row of the manifest: a picture, its card, and where it comes from."""

    file: str
    card: str
    set: str
    number: str
    labels: str
    source: str
    sha256: str = ""


def scryfall(
    out: Path,
    set: list[str] | None = None,  # noqa: A002 - the name of the option
    colors: list[str] | None = None,
    query: str | None = None,
    per_label_set: int | None = None,
    size: Literal["small", "normal", "large", "png"] = "normal",
    multicolour: bool = False,
    labels: Path | None = None,
    lang: str = "en",
    from_manifest: Path | None = None,
) -> None:
    """Fetch card pictures from Scryfall into `<out>/<label>-<label>/`, labelled by what Scryfall knows of the cards.

    What is there already is not fetched again: after a kill, run the same command again. `<out>/cards.csv` lists every
    picture with its source and its SHA-256. Answers are kept for 24 hours below `.manasight/cache`.

    Args:
        out: the folder to fill.
        set: the code of a set, such as m19; give it several times for several sets.
        colors: only cards of these colours, as letters of WUBRG; C keeps colourless ones.
        query: only what this search of Scryfall's finds, such as "year>=2015 rarity:common".
        per_label_set: at most so many pictures of each label set.
        size: of the pictures: small is 146×204 pixels, normal 488×680, large 672×936, png 745×1040.
        multicolour: keep multi-coloured cards, coloured artifacts and non-basic lands, with all their labels.
        labels: a YAML file of other rules, like trainer/data/cards/labels.yaml.
        lang: the language of the cards, in Scryfall's codes.
        from_manifest: fetch exactly the pictures that this cards.csv lists.
    """
    if per_label_set is not None and per_label_set < 1:
        raise UserError(f"--per-label-set {per_label_set} keeps no picture; give 1 or more")
    if from_manifest and (set or colors or query or per_label_set or labels or multicolour):
        raise UserError("--from-manifest says which pictures; leave out what chooses others")
    if not (from_manifest or set or query or per_label_set):
        raise UserError("say which cards: --set m19, --query 'year>=2015', --per-label-set 100 or --from-manifest FILE")
    if query and not _is(query):
        raise UserError(f"--query {query!r} is no text that Scryfall can be sent; write it in UTF-8")
    if out.exists() and not out.is_dir():
        raise UserError(f"'{out}' is a file; name a folder")
    print(RIGHTS)
    web = open_scryfall()
    if from_manifest:
        pictures = read_manifest(from_manifest)
        if not pictures:
            raise UserError(f"'{from_manifest}' lists no picture; give a {MANIFEST} that an earlier run wrote")
        if others := _strangers(out, {one.file for one in pictures}):
            raise UserError(
                f"'{out}' holds {len(others)} files that '{from_manifest}' does not list, such as '{others[0]}'; "
                f"name another folder"
            )
    else:
        rules, wanted = load_rules(labels), _colours(colors or [])
        cards = well_formed(search(web, query) if query else bulk_cards(web))
        sets = {code.casefold() for code in set or ()}
        chosen = choose(cards, rules, sets, wanted, multicolour, lang, size)
        pictures = keep(labelled_as_before(chosen, out), per_label_set, out)
    fetch(web, pictures, out)


def open_scryfall() -> Web:
    """A client that keeps Scryfall's rules."""
    return Web(home() / "cache" / "scryfall", INTERVAL, SLOW_PATHS)


def bulk_cards(web: Web) -> Iterator[Any]:
    """Every card that Scryfall has, one after the other, from a file that is fetched at most once a day.

    Raises:
        UserError: if it cannot be had or is damaged.
    """
    index = f"{_api()}/bulk-data"
    entries = _json(web, index).get("data")
    entries = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    entry = next((entry for entry in entries if entry.get("type") == "default_cards"), {})
    url = entry.get("jsonl_download_uri") or entry.get("download_uri")  # the second is what older servers had
    if not _is(url, ADDRESS):
        web.forget(index)
        raise UserError(f"{index} lists no file of default_cards; is it Scryfall's?")
    file = web.cache / f"bulk-{Path(urlsplit(url).path).name}"
    if not file.exists():
        try:
            web.download(url, file, "card data")
        except FetchError as error:
            raise UserError(f"cannot fetch {url}: {error}; run the same command again to go on") from error
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
        raise UserError(f"the card data was damaged ({problem}) and is removed; run the same command again") from error


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
        UserError: if an answer is no page of cards, or its next page is one that was there before.
    """
    parameters = urlencode({"q": query, "unique": "prints", "order": "set", "include_multilingual": "true"})
    url = f"{_api()}/cards/search?{parameters}"
    seen = set()
    while url:
        seen.add(url)
        page = _json(web, url)
        cards, warnings, after = page.get("data"), page.get("warnings") or [], page.get("next_page")
        is_last = not page.get("has_more")
        if not (isinstance(cards, list) and isinstance(warnings, list) and (is_last or _is(after, ADDRESS))):
            web.forget(url)
            raise UserError(f"what Scryfall gives for {url} is no page of a search; is it Scryfall's?")
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
    colours = [found.get(name) or [] for name in ("colors", "color_identity")]
    pictures, faces = found.get("image_uris") or {}, found.get("card_faces") or []
    return (
        all(_is(found[name]) for name in TEXTS if name in found)
        and _is(found.get("type_line") or "")
        and all(isinstance(letters, list) and all(map(_is, letters)) for letters in colours)
        and isinstance(pictures, dict)
        and all(_is(address, ADDRESS) for address in pictures.values())
        and isinstance(faces, list)
        and all(map(is_card, faces))
    )


def pictures_of(card: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The card as each of its pictures shows it, with that face's name, type line and colours.

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
    colours: set[str] | None,
    multicolour: bool,
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
            shown = {*colours_of(picture)} or {"colourless"}
            names = labels_of(picture, rules, multicolour)
            source = picture.get("image_uris", {}).get(size)
            if names and source and (colours is None or shown <= colours):
                folder, number = sys.intern("-".join(names)), picture.get("collector_number", "")
                ending = ".png" if urlsplit(source).path.endswith(".png") else ".jpg"
                file = f"{folder}/{file_name(_stem(picture), ending)}"
                yield Picture(file, picture.get("name", ""), code, number, folder, source)
    unknown = sorted(sets - seen)
    if unknown:
        raise UserError(f"there is no card of set '{unknown[0]}'; https://scryfall.com/sets lists the codes")


def labelled_as_before(pictures: Iterable[Picture], out: Path) -> Iterator[Picture]:
    """The pictures as they come.

    Raises:
        UserError: at the end, if an earlier run into `out` gave some of them other labels.
    """
    labels = {_place(one)[1]: one.labels for one in _earlier(out)}
    moved = []
    for picture in pictures:
        if labels.get(_place(picture)[1], picture.labels) != picture.labels:
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
        raise UserError("no card fits; choose other sets or colours, or look at the rules that --labels names")
    return sorted((one for group in groups.values() for one in group.values()), key=lambda one: one.file)


def fetch(web: Web, pictures: list[Picture], out: Path) -> None:
    """Have the pictures in `out`, and `cards.csv` beside them.

    Raises:
        UserError: if some could not be had; what could is there and listed. Or if another `cards.csv` is there.
    """
    manifest, plan = out / MANIFEST, out / PLAN
    wanted = {(_place(one), one.source) for one in pictures}
    places = {place for place, _ in wanted}
    out.mkdir(parents=True, exist_ok=True)
    earlier = []  # of another query
    for one in _earlier(out):
        if _place(one) in places and (_place(one), one.source) not in wanted:
            (out / one.file).unlink(missing_ok=True)  # in another size, or an older scan
        else:
            earlier.append(one)
    _write_manifest(plan, {one.file: astuple(one) for one in [*pictures, *earlier]})
    done, failed = download_pictures(web, [Wanted(one.file, one.source, one.sha256) for one in pictures], out)
    rows = {one.file: (*astuple(one)[:-1], done[one.file]) for one in pictures if one.file in done}
    for one in earlier:
        if one.file not in rows and (out / one.file).is_file():
            digest = one.sha256 or sha256((out / one.file).read_bytes()).hexdigest()
            rows[one.file] = (*astuple(one)[:-1], digest)
    _write_manifest(manifest, rows)
    plan.unlink(missing_ok=True)  # another run may have been here
    sets = Counter(one.labels for one in pictures if one.file in done)
    print(f"{len(done)} pictures in {len(sets)} label sets: {', '.join(f'{k} {n}' for k, n in sorted(sets.items()))}")
    if strangers := _strangers(out, rows):
        print(f"{len(strangers)} other files in '{out}' are not of this query and not in {MANIFEST}")
    check_failed(failed, len(pictures), f"{manifest} lists the others; ")
    print(f"results: {out}")


def read_manifest(path: Path) -> list[Picture]:
    """The rows of a `cards.csv`, which may come from others, by way of a spreadsheet.

    Raises:
        UserError: if it is none, or a row of it is for no place in its labels' folder.
    """
    names = [field.name for field in fields(Picture)]
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            header, rows = sorted(reader.fieldnames or ()), list(reader)
    except FileNotFoundError as error:
        raise UserError(f"there is no manifest '{path}'; give a {MANIFEST} that an earlier run wrote") from error
    except (ValueError, csv.Error) as error:
        raise UserError(f"'{path}' is no manifest: {error}") from error
    if header != sorted(names):
        raise UserError(f"'{path}' is no manifest; its first line names {', '.join(names)}")
    found: dict[str, Picture] = {}
    spellings: dict[str, str] = {}
    for number, row in enumerate(rows, 1):
        where = f"row {number} of '{path}'"
        if None in row or None in row.values():
            raise UserError(f"{where} does not have {len(names)} values, as its first line has")
        one = Picture(**row | {"sha256": row["sha256"].lower()})
        check_place(Wanted(one.file, one.source))
        folder, _, name = one.file.partition("/")
        if folder != one.labels or not name or "/" in name:
            raise UserError(f"{where} has the labels '{one.labels}', but its file is '{one.file}', not <labels>/<name>")
        if not all(label.strip() for label in folder.split("-")):
            raise UserError(f"{where} has the labels '{folder}', one of which is empty")
        if not name.lower().endswith((".jpg", ".png")):
            raise UserError(f"{where} has the file '{one.file}', which is called as no picture is; end it with .jpg")
        if (known := spellings.setdefault(folder.casefold(), folder)) != folder:
            raise UserError(f"{where} has the labels '{folder}', and another row '{known}'; use one spelling")
        if one.sha256 and not re.fullmatch("[0-9a-f]{64}", one.sha256):
            raise UserError(f"{where} has the SHA-256 '{one.sha256}', which is none: it has 64 digits from 0 to f")
        if one.file in found:
            raise UserError(f"{where} lists '{one.file}' again; each picture has one row")
        found[one.file] = one
    return [*found.values()]


def _write_manifest(path: Path, rows: dict[str, tuple[str, ...]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in fields(Picture))
    writer.writerows(rows[file] for file in sorted(rows))
    write_whole(path, text.getvalue().encode())


def _earlier(out: Path) -> list[Picture]:
    """What earlier runs into `out` fetched, or meant to when they were ended."""
    found = {one.file: one for name in (MANIFEST, PLAN) if (out / name).exists() for one in read_manifest(out / name)}
    return [*found.values()]


def _place(picture: Picture) -> tuple[str, str]:
    """Its label folder and its name, which are the same in every size: without the ending."""
    return picture.labels, picture.file.removeprefix(f"{picture.labels}/").rpartition(".")[0]


def _strangers(out: Path, known: Container[str]) -> list[str]:
    """Files in the label folders below `out` that are none of the known ones."""
    return sorted(name for file in out.glob("*/[!.]*") if (name := file.relative_to(out).as_posix()) not in known)


def _api() -> str:
    return (os.environ.get("MANASIGHT_SCRYFALL_URL") or "https://api.scryfall.com").rstrip("/")


def _json(web: Web, url: str) -> dict[str, Any]:
    try:
        found = web.fetch_json(url)
        if not isinstance(found, dict):
            web.forget(url)
            raise FetchError("the answer is no JSON object")
        return found
    except FetchError as error:
        raise UserError(f"Scryfall gives nothing for {url}: {error}") from error


def _is(value: Any, form: re.Pattern[str] | None = None) -> bool:
    """Whether it is a text, of that form, that a file can hold: JSON may also say half a character."""
    return (
        isinstance(value, str)
        and (form is None or form.fullmatch(value) is not None)
        and (value.isascii() or value.encode(errors="replace").decode() == value)
    )


def _colours(given: list[str]) -> set[str] | None:
    """The names behind letters or names of colours."""
    if not given:
        return None
    names = COLOURS | {"C": "colourless"}
    found: set[str] = set()
    for word in given:
        if word.casefold() in names.values():
            found.add(word.casefold())
        elif word and all(letter in names for letter in word.upper()):
            found |= {names[letter] for letter in word.upper()}
        else:
            raise UserError(f"there is no colour '{word}'; give letters of WUBRG, and C for colourless")
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
