"""Makes labeled images of a table: finds the columns, the labels and the files."""

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from trainer.data.labels import Format, Sample, Samples, check_names, check_spellings, listed
from trainer.data.table_files import TABLES, Table, local_name
from trainer.data.table_labels import key_of, label_sets_of, named, text_of
from trainer.errors import UserError
from trainer.files import reachable

# In the order in which they are looked for; upper and lower case, and _ and space, are the same.
FILE_COLUMNS = (
    *("file", "file name", "filename", "path", "file path", "filepath", "image", "image path", "image name", "img"),
    *("image id", "imageid", "image file", "picture", "photo", "name", "id"),
)
SPLIT_COLUMNS = ("split", "subset", "partition", "set")  # the last one may be something else
PROBLEM_COLUMN = "problem"  # of the app's table: why an image could not be read
# The first name is the one that Manasight writes. Upper and lower case are the same.
SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
TRIED = 200  # rows by which the folder of the images is found


def read_table(path: Path, form: Format, split: str = "") -> Samples:
    """Read a table of images and labels; of one split if it has a column of them.

    Raises:
        UserError: naming the row, if the table or the labels cannot be understood, or if no image is found.
    """
    table = _parsed(path)
    file_column = _file_column(path, table)
    split_column = named(table, SPLIT_COLUMNS)
    rows = table.rows
    if split:
        rows = [(number, row) for number, row in rows if _is_split(row[split_column], split)]
    problem_column = named(table, (PROBLEM_COLUMN,))
    every, rows = rows, [row for row in rows if problem_column is None or not text_of(row[1][problem_column])]
    label_sets, hints = label_sets_of(
        path, Table(table.columns, rows), {file_column, split_column, problem_column}, form
    )
    hints = [*table.notes, *hints]
    if unread := len(every) - len(rows):
        hints.append(f"'{path.name}': rows left out because they name a problem: {unread}")
    names = _file_names(path, rows, file_column)
    base, found = _find(path, form, names)
    images: dict[Path, Sample] = {}
    numbers: dict[Path, int] = {}
    lacking: list[tuple[Path, str]] = []
    repeated = 0
    written: dict[Path, str] = {}
    for (number, _), name, file, labels in zip(rows, names, found, label_sets, strict=True):
        image = _plain(file or base / name)
        if image in images:
            repeated += 1
            both = f"rows {numbers[image]} and {number} of '{path}'"
            if os.path.normpath(written[image]) != os.path.normpath(name):
                raise UserError(
                    f"{both} name '{written[image]}' and '{name}', and only '{image}' is there for both; name the "
                    "folder of the images with --images"
                )
            if images[image].labels != labels:
                raise UserError(f"{both} give '{image}' different labels; write all labels of an image into one row")
            continue
        written[image] = name
        if file is None:
            lacking.append((image, f"row {number} of '{path.name}': there is no such file"))
        numbers[image] = number
        images[image] = Sample(image, labels, ", ".join(labels) or "(no label)")
    if len(lacking) == len(images):
        where = f"below '{base}'" if form.images else f"beside '{path}' or in '{Path.cwd()}'"
        raise UserError(
            f"no image that '{path}' lists, such as '{names[0]}', is {where}; name their folder with --images"
        )
    if base not in (path.parent, Path()) and not form.images:
        hints.append(f"'{path.name}': images are taken from '{base}'")
    if repeated:
        hints.append(f"'{path.name}': rows that repeat an image: {repeated}")
    check_names(list(images))
    check_spellings(path, (sample.labels for sample in images.values()))
    return Samples(path, list(images.values()), [], [], hints, lacking)


def splits_of(path: Path) -> list[str]:
    """The splits that a column of a table names, in our words; empty if there is no such column."""
    table = _parsed(path)
    column = named(table, SPLIT_COLUMNS)
    if column is None:
        return []
    values = {text_of(row[column]): (number, row[column]) for number, row in table.rows}
    found = [split for split, names in SPLIT_NAMES.items() if values.keys() & {*names}]
    unknown = [values[name] for name in values.keys() - {name for names in SPLIT_NAMES.values() for name in names}]
    if unknown and (found or key_of(table.columns[column]) != SPLIT_COLUMNS[-1]):
        number, value = min(unknown, key=lambda one: one[0])
        raise UserError(
            f"row {number} of '{path}' has the split '{value or ''}'; call splits train, val and test, or rename the "
            f"column '{table.columns[column]}' if it is something else"
        )
    return found


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
    if twice := next((name for name in table.columns if name and table.columns.count(name) > 1), None):
        raise UserError(f"'{path}' has the column '{twice}' twice; rename or remove one of them")
    return table


def _file_column(path: Path, table: Table) -> int:
    column = named(table, FILE_COLUMNS)
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


def _plain(path: Path) -> Path:
    """A path without `..` where that leads to the same file, so that an image has one name."""
    plain = Path(os.path.normpath(path))
    return plain if ".." in path.parts and plain.exists() and plain.samefile(path) else path


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
    alike = [one for one in bases[2:] if one != base and counts[one] == counts[base] > 0] if base in bases[2:] else []
    if alike:
        raise UserError(
            f"the images of '{path}', such as '{tried[0]}', could be those in '{base}' or in '{alike[0]}'; name their "
            "folder with --images"
        )
    return base, [_file(base, name, known) for name in names]


def _file(base: Path, name: str, known: dict[Path, dict[str, Path]]) -> Path | None:
    """An existing file: as named, by the longest end of its path, or with the extension that the table leaves out."""
    path = base / name
    if path.is_file():
        return path
    parts = re.split(r"[/\\]", name)
    short = parts[-1]
    ends = ["/".join(parts[place:]) for place in range(len(parts))]
    # Label Studio puts eight digits before the name of an uploaded file.
    upload = [short[9:]] if re.match(r"[0-9a-f]{8}-.", short) else []
    for candidate in (base / other for other in (*ends, *upload) if other):
        if candidate.is_file():
            return candidate
    folder = path.parent
    if folder not in known:
        known[folder] = {entry.stem: entry for entry in folder.iterdir()} if folder.is_dir() else {}
    return known[folder].get(short)
