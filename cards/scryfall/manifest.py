"""Reads and writes `cards.csv`: each fetched image with its card, source and SHA-256."""

import csv
import io
import re
from collections.abc import Container
from dataclasses import dataclass, fields
from pathlib import Path

from trainer.data.download import Wanted, check_place
from trainer.errors import UserError
from trainer.files import write_whole

MANIFEST = "cards.csv"
PLAN = f".{MANIFEST}"  # what the run under way, or one that was ended, fetches


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
        raise UserError(f"'{path}' is not a manifest: {error}") from error
    if header != sorted(names):
        raise UserError(f"'{path}' is not a manifest; its first line names {', '.join(names)}")
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


def write_manifest(path: Path, rows: dict[str, tuple[str, ...]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in fields(Picture))
    writer.writerows(rows[file] for file in sorted(rows))
    write_whole(path, text.getvalue().encode())


def earlier_rows(out: Path) -> list[Picture]:
    """What earlier runs into `out` fetched, or meant to when they were ended."""
    found = {one.file: one for name in (MANIFEST, PLAN) if (out / name).exists() for one in read_manifest(out / name)}
    return [*found.values()]


def place(picture: Picture) -> tuple[str, str]:
    """Its label folder and its name, which are the same in every size: without the ending."""
    return picture.labels, picture.file.removeprefix(f"{picture.labels}/").rpartition(".")[0]


def unlisted(out: Path, known: Container[str]) -> list[str]:
    """Files in the label folders below `out` that are none of the known ones."""
    return sorted(name for file in out.glob("*/[!.]*") if (name := file.relative_to(out).as_posix()) not in known)
