"""Makes labeled images of a table: finds the columns, the separator between labels, and the files."""

import ast
import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from trainer.data.labels import Format, Sample, Samples, check_names, check_spellings, listed
from trainer.data.table_files import TABLES, Table, local_name
from trainer.errors import UserError
from trainer.files import reachable

# In the order in which they are looked for; upper and lower case, and _ and space, are the same.
FILE_COLUMNS = (
    *("file", "file name", "filename", "path", "file path", "filepath", "image", "image path", "image name", "img"),
    *("image id", "imageid", "image file", "picture", "photo", "name", "id"),
)
LABEL_COLUMNS = (
    *("labels", "label", "tags", "tag", "classes", "class", "categories", "category", "choices", "choice"),
    *("attributes", "targets", "target"),
)
SPLIT_COLUMNS = ("split", "subset", "partition", "set")
PROBLEM_COLUMN = "problem"  # of the app's table: why an image could not be read
# The first name is the one that Manasight writes. Upper and lower case are the same.
SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_YES, _NO = {"1", "1.0", "true", "yes", "x"}, {"0", "0.0", "-1", "-1.0", "false", "no", "", "none", "nan"}
# In labels without one of the first three, another one counts only if there are fewer labels than label sets with it.
_SURE, _MAYBE = ("|", ";", ","), (" ", "-", "+")
TRIED = 200  # rows by which the folder of the images is found


def read_table(path: Path, form: Format, split: str = "") -> Samples:
    """Read a table of images and labels; of one split if it has a column of them.

    Raises:
        UserError: naming the row, if the table or the labels cannot be understood, or if no image is found.
    """
    table = _parsed(path)
    file_column = _file_column(path, table)
    split_column = _named(table, SPLIT_COLUMNS)
    rows = table.rows
    if split:
        rows = [(number, row) for number, row in rows if _is_split(row[split_column], split)]
    problem_column = _named(table, (PROBLEM_COLUMN,))
    every, rows = rows, [row for row in rows if problem_column is None or not _text(row[1][problem_column])]
    label_sets, hints = _label_sets(path, Table(table.columns, rows), {file_column, split_column, problem_column}, form)
    if unread := len(every) - len(rows):
        hints.append(f"'{path.name}': rows left out because they name a problem: {unread}")
    names = _file_names(path, rows, file_column)
    base, found = _find(path, form, names)
    images: dict[Path, Sample] = {}
    numbers: dict[Path, int] = {}
    lacking: list[tuple[Path, str]] = []
    repeated = 0
    for (number, _), name, file, labels in zip(rows, names, found, label_sets, strict=True):
        image = file or base / name
        if image in images:
            repeated += 1
            if images[image].labels != labels:
                raise UserError(
                    f"rows {numbers[image]} and {number} of '{path}' give '{image}' different labels; keep one of them"
                )
            continue
        if file is None:
            lacking.append((image, f"row {number} of '{path.name}': there is no such file"))
        numbers[image] = number
        images[image] = Sample(image, labels, ", ".join(labels) or "(no label)")
    if len(lacking) == len(images):
        where = f"below '{base}'" if form.images else f"beside '{path}' or in '{Path.cwd()}'"
        raise UserError(
            f"no image that '{path}' lists, such as '{names[0]}', is {where}; name their folder with --images"
        )
    if repeated:
        hints.append(f"{repeated} rows of '{path.name}' repeat an image")
    check_names(list(images))
    check_spellings(path, (sample.labels for sample in images.values()))
    return Samples(path, list(images.values()), [], [], hints, lacking)


def splits_of(path: Path) -> list[str]:
    """The splits that a column of a table names, in our words; empty if there is no such column."""
    table = _parsed(path)
    column = _named(table, SPLIT_COLUMNS)
    if column is None:
        return []
    values = {str(row[column]).strip().casefold() for _, row in table.rows}
    found = [split for split, names in SPLIT_NAMES.items() if values & {*names}]
    return found if values <= {name for names in SPLIT_NAMES.values() for name in names} else []


def write_rows(images: Iterable[Sample], folder: Path) -> str:
    """A table of images as text, a JSON object a line, with paths relative to the folder it will be in."""
    folder = Path(os.path.realpath(folder))
    lines = [
        json.dumps({"file_name": _relative(image.path, folder), "labels": image.labels}, ensure_ascii=False)
        for image in images
    ]
    return "".join(f"{line}\n" for line in lines)


def _relative(path: Path, folder: Path) -> str:
    # The image itself may be a link, but its folder's links are resolved: `..` would lead elsewhere.
    return os.path.relpath(Path(os.path.realpath(path.parent), path.name), folder)


def _parsed(path: Path) -> Table:
    status = path.stat()
    return _parsed_once(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=1)
def _parsed_once(path: Path, *_: int) -> Table:
    """A file is parsed once for all of its splits."""
    table = TABLES[path.suffix.lower()](path)
    if not table.rows:
        raise UserError(f"'{path}' has no rows")
    return table


def _key(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name.strip().casefold())


def _named(table: Table, names: Sequence[str]) -> int | None:
    """The column with the first of these names that there is."""
    keys = [_key(name) for name in table.columns]
    return next((keys.index(name) for name in names if name in keys), None)


def _file_column(path: Path, table: Table) -> int:
    column = _named(table, FILE_COLUMNS)
    if column is None:
        raise UserError(f"'{path}' has no column of files among {listed(table.columns)}; call it 'file'")
    return column


def _file_names(path: Path, rows: Sequence[tuple[int, list[Any]]], column: int) -> list[str]:
    names = []
    for number, row in rows:
        value = row[column]
        if isinstance(value, dict):  # Hugging Face's image: its bytes and the name it had
            raise UserError(f"'{path}' contains the images themselves; write them into files, and their names here")
        if not (name := str(value if value is not None else "").strip()):
            raise UserError(f"row {number} of '{path}' names no file")
        try:
            names.append(local_name(name))
        except ValueError:
            raise UserError(
                f"row {number} of '{path}' has the address '{name}'; download the images, and name the files"
            ) from None
    return names


def _is_split(value: Any, split: str) -> bool:
    return str(value).strip().casefold() in SPLIT_NAMES[split]


def _label_sets(
    path: Path, table: Table, taken: set[int | None], form: Format
) -> tuple[list[tuple[str, ...]], list[str]]:
    """The label set of every row, and how the labels were found."""
    column = _named(table, LABEL_COLUMNS)
    others = [place for place in range(len(table.columns)) if place not in taken]
    if column is None:
        matrix = [place for place in others if _is_yes_or_no(row[place] for _, row in table.rows)]
        if matrix:
            label_sets = [
                tuple(sorted(table.columns[place] for place in matrix if _text(row[place]) in _YES))
                for _, row in table.rows
            ]
            return label_sets, [
                f"'{path.name}' has a column per label: {listed(table.columns[place] for place in matrix)}"
            ]
        if len(others) != 1:
            raise UserError(
                f"'{path}' has the columns {listed(table.columns)}; call that of the labels 'labels', or give every "
                "label a column of 0 and 1"
            )
        column = others[0]
    cells = [_unpacked(row[column]) for _, row in table.rows]
    together = {cell for cell in cells if isinstance(cell, str)} - {"", form.negatives}
    separator = form.separator if form.separator != "-" else _separator(together, {*table.columns})
    label_sets = []
    for (number, _), cell in zip(table.rows, cells, strict=True):
        parts = (cell.split(separator) if separator else [cell]) if isinstance(cell, str) else cell
        labels = {part.strip() for part in parts} - {"", form.negatives}
        if bad := next((label for label in labels if len(label) > 200 or "\n" in label), None):
            raise UserError(f"row {number} of '{path}' has the label '{bad[:50]}…', which is too long for a label")
        label_sets.append(tuple(sorted(labels)))
    if not any(label_sets):
        raise UserError(f"the column '{table.columns[column]}' of '{path}' has no labels")
    joined = f", separated by '{separator}'" if any(separator in cell for cell in together) and separator else ""
    return label_sets, [f"'{path.name}': labels are in the column '{table.columns[column]}'{joined}"]


def _separator(cells: set[str], columns: set[str]) -> str:
    """What separates the labels in cells; empty if every cell is one label."""
    for sign in _SURE:
        if any(sign in cell for cell in cells):
            return sign
    for sign in _MAYBE:
        labels = {label for cell in cells for label in cell.split(sign)}
        if any(sign in cell for cell in cells) and "" not in labels and (len(labels) < len(cells) or labels <= columns):
            return sign
    return ""


def _unpacked(value: Any) -> str | list[str]:
    """A cell: its text, or the labels of a list, of JSON, or of a Python list that pandas wrote."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return []
    if isinstance(value, dict):
        value = value.get("choices", [])
    if isinstance(value, list | tuple):
        return [str(part) for part in value if part is not None]
    text = str(value).strip()
    if text[:1] + text[-1:] in ("[]", "{}"):
        for read in (json.loads, ast.literal_eval):
            try:
                return _unpacked(read(text))
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
    return text


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip().casefold()


def _is_yes_or_no(values: Iterable[Any]) -> bool:
    found = {_text(value) for value in values}
    return found <= _YES | _NO and bool(found & _YES)


def _find(path: Path, form: Format, names: Sequence[str]) -> tuple[Path, list[Path | None]]:
    """The folder that the names are relative to, and every file; None for one that is not there."""
    if form.images:
        bases = [Path(form.images)]
        if not reachable(bases[0]).is_dir():
            raise UserError(f"there is no folder '{form.images}'; name that of the images with --images")
    else:
        bases = [path.parent, Path(), *sorted(entry for entry in path.parent.iterdir() if entry.is_dir())]
    known: dict[Path, dict[str, Path]] = {}
    tried = names[:: max(1, len(names) // TRIED)]
    counts = Counter({base: sum(_file(base, name, known) is not None for name in tried) for base in bases})
    base = max(bases, key=lambda one: counts[one])
    return base, [_file(base, name, known) for name in names]


def _file(base: Path, name: str, known: dict[Path, dict[str, Path]]) -> Path | None:
    """An existing file: as named, without its folders, or with the extension that the table leaves out."""
    path = base / name
    if path.is_file():
        return path
    short = re.split(r"[/\\]", name)[-1]
    # Label Studio puts eight digits before the name of an uploaded file.
    upload = [short[9:]] if re.match(r"[0-9a-f]{8}-.", short) else []
    for candidate in (base / other for other in (name.replace("\\", "/"), short, *upload)):
        if candidate.is_file():
            return candidate
    folder = path.parent
    if folder not in known:
        known[folder] = {entry.stem: entry for entry in folder.iterdir()} if folder.is_dir() else {}
    return known[folder].get(short)
