"""`manasight data scryfall`: fetches card images from Scryfall and sorts them into label folders."""

from collections import Counter
from dataclasses import astuple
from hashlib import sha256
from pathlib import Path
from typing import Literal

from cards.labels import load_rules
from cards.scryfall.client import RIGHTS, bulk_cards, is_text, open_scryfall, search, well_formed
from cards.scryfall.manifest import (
    MANIFEST,
    PLAN,
    Picture,
    earlier_rows,
    place,
    read_manifest,
    unlisted,
    write_manifest,
)
from cards.scryfall.selection import choose, colors_named, keep, labeled_as_before
from trainer.data.download import Wanted, check_failed, download_pictures
from trainer.data.fingerprint import folder_fingerprint
from trainer.data.http import Web
from trainer.errors import UserError


def scryfall(
    out: Path,
    set: list[str] | None = None,  # noqa: A002 - the name of the option
    colors: list[str] | None = None,
    query: str | None = None,
    per_label_set: int | None = None,
    size: Literal["small", "normal", "large", "png"] = "normal",
    multicolor: bool = False,
    labels: Path | None = None,
    lang: str = "en",
    from_manifest: Path | None = None,
) -> None:
    """Fetch card pictures from Scryfall into `<out>/<label>-<label>/`, labeled by what Scryfall knows of the cards.

    What is there already is not fetched again: after a kill, run the same command again. `<out>/cards.csv` lists every
    picture with its source and its SHA-256. Answers are kept for 24 hours below `.manasight/cache`.

    Args:
        out: the folder to fill.
        set: the code of a set, such as m19; give it several times for several sets.
        colors: only cards of these colors, as letters of WUBRG; C keeps colorless ones.
        query: only what this search of Scryfall's finds, such as "year>=2015 rarity:common".
        per_label_set: at most so many pictures of each label set.
        size: of the pictures: small is 146×204 pixels, normal 488×680, large 672×936, png 745×1040.
        multicolor: keep multi-colored cards, colored artifacts and non-basic lands, with all their labels.
        labels: a YAML file of other rules, like cards/labels.yaml.
        lang: the language of the cards, in Scryfall's codes.
        from_manifest: fetch exactly the pictures that this cards.csv lists.
    """
    if per_label_set is not None and per_label_set < 1:
        raise UserError(f"--per-label-set {per_label_set} keeps no picture; give 1 or more")
    if from_manifest and (set or colors or query or per_label_set or labels or multicolor):
        raise UserError("--from-manifest says which pictures; leave out what chooses others")
    if not (from_manifest or set or query or per_label_set):
        raise UserError("say which cards: --set m19, --query 'year>=2015', --per-label-set 100 or --from-manifest FILE")
    if query and not is_text(query):
        raise UserError(f"--query {query!r} cannot be sent to Scryfall; write it in UTF-8")
    if out.exists() and not out.is_dir():
        raise UserError(f"'{out}' is a file; name a folder")
    print(RIGHTS)
    web = open_scryfall()
    if from_manifest:
        pictures = read_manifest(from_manifest)
        if not pictures:
            raise UserError(f"'{from_manifest}' lists no picture; give a {MANIFEST} that an earlier run wrote")
        if others := unlisted(out, {one.file for one in pictures}):
            raise UserError(
                f"'{out}' holds {len(others)} files that '{from_manifest}' does not list, such as '{others[0]}'; "
                f"name another folder"
            )
    else:
        rules, wanted = load_rules(labels), colors_named(colors or [])
        cards = well_formed(search(web, query) if query else bulk_cards(web))
        sets = {code.casefold() for code in set or ()}
        chosen = choose(cards, rules, sets, wanted, multicolor, lang, size)
        pictures = keep(labeled_as_before(chosen, out), per_label_set, out)
    fetch(web, pictures, out)


def fetch(web: Web, pictures: list[Picture], out: Path) -> None:
    """Have the pictures in `out`, and `cards.csv` beside them.

    Raises:
        UserError: if some could not be had; what could is there and listed. Or if another `cards.csv` is there.
    """
    manifest, plan = out / MANIFEST, out / PLAN
    wanted = {(place(one), one.source) for one in pictures}
    places = {place for place, _ in wanted}
    out.mkdir(parents=True, exist_ok=True)
    earlier = []  # of another query
    for one in earlier_rows(out):
        if place(one) in places and (place(one), one.source) not in wanted:
            (out / one.file).unlink(missing_ok=True)  # in another size, or an older scan
        else:
            earlier.append(one)
    write_manifest(plan, {one.file: astuple(one) for one in [*pictures, *earlier]})
    done, failed = download_pictures(web, [Wanted(one.file, one.source, one.sha256) for one in pictures], out)
    rows = {one.file: (*astuple(one)[:-1], done[one.file]) for one in pictures if one.file in done}
    for one in earlier:
        if one.file not in rows and (out / one.file).is_file():
            digest = one.sha256 or sha256((out / one.file).read_bytes()).hexdigest()
            rows[one.file] = (*astuple(one)[:-1], digest)
    write_manifest(manifest, rows)
    plan.unlink(missing_ok=True)  # another run may have been here
    sets = Counter(one.labels for one in pictures if one.file in done)
    print(f"{len(done)} pictures in {len(sets)} label sets: {', '.join(f'{k} {n}' for k, n in sorted(sets.items()))}")
    if strangers := unlisted(out, rows):
        print(f"{len(strangers)} other files in '{out}' are not of this query and not in {MANIFEST}")
    check_failed(failed, len(pictures), f"{manifest} lists the others; ")
    found, _ = folder_fingerprint(out, known={out / file: row[-1] for file, row in rows.items()})
    if found:
        print(f"fingerprint: {found}")
    print(f"results: {out}")
