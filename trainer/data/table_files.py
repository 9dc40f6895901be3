"""Reads files that list images and labels into columns and numbered rows: one function for each kind of file.

A new kind of file needs a function here and its entry in `TABLES`.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

from trainer.data.walk import IMG_EXTENSIONS
from trainer.errors import UserError


class Table(NamedTuple):
    """A file's rows.

    Attributes:
        columns: their names.
        rows: per image the number that a user would give the row, and a value per column.
        notes: what may not be meant, each as one line.
    """

    columns: list[str]
    rows: list[tuple[int, list[Any]]]
    notes: Sequence[str] = ()


def _read_text(path: Path) -> str:
    data = path.read_bytes()
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        kind = "utf-16"
    elif b"\0" in data[:200]:
        kind = "utf-16-le" if data[1:2] == b"\0" else "utf-16-be"
    else:
        kind = "utf-8-sig"
    try:
        return data.decode(kind)
    except UnicodeDecodeError as error:
        row = data[: error.start].count(b"\n") + 1
        raise UserError(f"row {row} of '{path}' is not UTF-8; save the table as “CSV UTF-8”") from error


def _delimiter(path: Path, first: str) -> str:
    """What separates the columns of a CSV file: whichever gives its first row the most."""
    if path.suffix.lower() in (".tsv", ".tab"):
        return "\t"
    return max(",;\t|", key=lambda sign: len(next(csv.reader([first], delimiter=sign), [])))


def _read_csv(path: Path) -> Table:
    text = _read_text(path)
    if "\n" not in text:  # lines as old Macs end them
        text = text.replace("\r", "\n")
    offset = 1
    if match := re.match(r"sep=(.)\r?\n", text):  # Excel's own first line
        text, offset = text[match.end() :], 2
    rows: list[tuple[int, list[Any]]] = []
    number = offset - 1
    try:
        delimiter = match[1] if match else _delimiter(path, text.partition("\n")[0].rstrip("\r"))
        for number, row in enumerate(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), offset):
            if any(cell.strip() for cell in row):
                rows.append((number, [cell.strip() for cell in row]))
    except csv.Error as error:
        raise UserError(f"row {number + 1} of '{path}' cannot be read: {error}") from error
    if rows and _names_image(rows[0][1][0]):  # there is no header
        wide = any(len(row) > 2 for _, row in rows)  # else one cell has all labels of an image
        return Table(
            ["file", "labels"], [(number, [row[0], row[1:] if wide else "".join(row[1:])]) for number, row in rows]
        )
    if not rows:
        return Table([], [])
    (_, columns), *rows = rows
    columns = list(columns)
    while columns and not columns[-1]:
        columns.pop()
    for number, row in rows:
        if len(row) > len(columns) and any(row[len(columns) :]):
            raise UserError(
                f"row {number} of '{path}' has {len(row)} cells, and the first row {len(columns)}; put quotes around a "
                "cell with commas"
            )
        row += [""] * (len(columns) - len(row))
    return Table(columns, rows)


def _names_image(cell: str) -> bool:
    return PurePosixPath(cell.replace("\\", "/")).suffix.lower() in IMG_EXTENSIONS


def _table_of(entries: Iterable[tuple[int, dict[str, Any]]]) -> Table:
    """Rows of which each has its own columns."""
    entries = list(entries)
    columns = list(dict.fromkeys(name for _, entry in entries for name in entry))
    return Table(columns, [(number, [entry.get(name) for name in columns]) for number, entry in entries])


def _read_jsonl(path: Path) -> Table:
    entries = []
    for number, line in enumerate(_read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"row {number} of '{path}' is not JSON: {_json_reason(error)}") from error
        if not isinstance(entry, dict):
            raise UserError(f'row {number} of \'{path}\' is not an object like {{"file_name": …, "labels": […]}}')
        entries.append((number, entry))
    return _table_of(entries)


def _json_reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return str(error)
    return "it is nested too deeply, or a number in it is too long"


def _read_parquet(path: Path) -> Table:
    from pyarrow import ArrowException, parquet

    try:
        columns = parquet.read_table(path).to_pydict()
    except (ArrowException, OSError) as error:
        raise UserError(f"'{path}' cannot be read as Parquet: {error}") from error
    return Table(
        list(columns), [(number, list(row)) for number, row in enumerate(zip(*columns.values(), strict=True), 1)]
    )


def _read_json(path: Path) -> Table:
    """A Label Studio export (JSON or JSON-MIN), a list of objects, or one object of labels by file."""
    try:
        found = json.loads(_read_text(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"'{path}' is not JSON: {_json_reason(error)}") from error
    if isinstance(found, dict):
        found = [{"file": name, "labels": labels} for name, labels in found.items()]
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise UserError(f"'{path}' is not a list of images with labels; Label Studio exports one as JSON or JSON-MIN")
    rows, undone, several = [], 0, 0
    for number, entry in enumerate(found, 1):
        try:
            done = [one for one in entry.get("annotations", ()) if not one.get("was_cancelled")]
            if "annotations" not in entry:
                rows.append((number, entry))
            elif done:
                rows.append((number, _task(entry, done[0])))
                several += len(done) > 1
            else:
                undone += 1
        except (AttributeError, TypeError, LookupError) as error:
            raise UserError(f"row {number} of '{path}' is not a task as Label Studio exports it") from error
    notes = [f"'{path.name}': tasks left out because nobody has labeled them: {undone}"] if undone else []
    if several:
        notes.append(f"'{path.name}': tasks with several annotations, of which the first one counts: {several}")
    return _table_of(rows)._replace(notes=notes)


def _task(entry: dict[str, Any], annotation: dict[str, Any]) -> dict[str, Any]:
    """One task of Label Studio with the labels of an annotation."""
    results = annotation.get("result", ())
    labels = [choice for result in results for choice in result.get("value", {}).get("choices", ())]
    image = next((value for value in entry.get("data", {}).values() if isinstance(value, str)), None)
    return {"file": image, "labels": labels}


def _read_cvat(path: Path) -> Table:
    """CVAT's “CVAT for images”: the tags of an image, and the labels of shapes in it."""
    try:
        root = ElementTree.fromstring(_read_text(path).encode())  # noqa: S314 (expat limits entities itself)
    except ElementTree.ParseError as error:
        raise UserError(f"'{path}' is not XML: {error}") from error
    images = root.findall("image")
    if not images:
        raise UserError(f"'{path}' lists no images; export the task as “CVAT for images 1.1”")
    rows = [[image.get("name"), [one.get("label") for one in image if one.get("label")]] for image in images]
    return Table(["file", "labels"], list(enumerate(rows, 1)))


# Suffix → reader.
TABLES: dict[str, Callable[[Path], Table]] = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".tab": _read_csv,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".parquet": _read_parquet,
    ".json": _read_json,
    ".xml": _read_cvat,
}


def local_name(value: str) -> str:
    """A file's name as a table gives it, without what labeling tools put before it.

    Raises:
        ValueError: if it is an address elsewhere.
    """
    if "://" in value and not value.startswith("file://"):
        raise ValueError("is an address")
    if value.startswith("/data/local-files/"):  # Label Studio
        return parse_qs(urlsplit(value).query).get("d", [value])[0]
    return value.removeprefix("file://").removeprefix("/data/upload/")
