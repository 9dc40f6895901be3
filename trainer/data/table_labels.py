"""Finds the labels in a table: the column or columns of them, and what separates them in a cell."""

import ast
import json
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from unicodedata import category

from trainer.data.labels import Format, listed, separator_hint
from trainer.data.table_files import Table
from trainer.errors import UserError

# In the order in which they are looked for; upper and lower case, and _ and space, are the same.
LABEL_COLUMNS = (
    *("labels", "label", "tags", "tag", "classes", "class", "categories", "category", "choices", "choice"),
    *("attributes", "targets", "target", "label name", "labelname", "class name", "category name"),
)
GUESSED = "suggested"  # what `data suspects --unlabeled` writes
_YES, _NO = {"1", "1.0", "true", "yes", "x"}, {"0", "0.0", "-1", "-1.0", "false", "no", "", "none", "nan"}
_PLACEHOLDERS = {"nan", "na", "n/a", "none", "null", "-", "?"}
# In labels without one of the first three, another one counts only if there are fewer labels than label sets with it.
_SURE, _MAYBE = ("|", ";", ","), (" ", "-", "+")


def key_of(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name.strip().casefold())


def named(table: Table, names: Sequence[str]) -> int | None:
    """The column with the first of these names that there is."""
    keys = [key_of(name) for name in table.columns]
    return next((keys.index(name) for name in names if name in keys), None)


def text_of(value: Any) -> str:
    return "" if value is None else str(value).strip().casefold()


def label_sets_of(
    path: Path, table: Table, taken: set[int | None], form: Format
) -> tuple[list[tuple[str, ...]], list[str]]:
    """The label set of every row, and how the labels were found."""
    column = named(table, LABEL_COLUMNS)
    others = [place for place in range(len(table.columns)) if place not in taken]
    if column is None:
        matrix = [place for place in others if _is_yes_or_no(row[place] for _, row in table.rows)]
        if matrix:
            _check_matrix(path, table, others, matrix)
            empty = sum(text_of(row[place]) in ("", "nan", "none") for _, row in table.rows for place in matrix)
            found = [
                tuple(sorted(table.columns[place] for place in matrix if text_of(row[place]) in _YES))
                for _, row in table.rows
            ]
            return found, [
                f"'{path.name}' has a column per label: {listed(table.columns[place] for place in matrix)}",
                *([f"'{path.name}': empty cells that count as 0: {empty}"] if empty else []),
            ]
        if len(others) != 1:
            raise UserError(
                f"'{path}' has the columns {listed(table.columns)}; call that of the labels 'labels', or give every "
                "label a column of 0 and 1"
            )
        column = others[0]
        if key_of(table.columns[column]) == GUESSED:
            raise UserError(
                f"the column '{table.columns[column]}' of '{path}' has guesses of a model; correct them, and call it "
                "'labels'"
            )
    cells = [_unpacked(row[column]) for _, row in table.rows]
    if (
        any(isinstance(cell, list) and len(cell) > 1 for cell in cells)
        and {text_of(part) for cell in cells for part in (cell if isinstance(cell, list) else [cell])} <= _YES | _NO
    ):
        raise UserError(
            f"the column '{table.columns[column]}' of '{path}' has lists of 0 and 1; write the names of the labels, or "
            "give every label a column"
        )
    together = {cell for cell in cells if isinstance(cell, str)} - {"", form.negatives}
    separator = form.separator if form.separator != "-" else _separator(together, {*table.columns})
    if form.separator == "-" and separator and (other := _mixed(together, separator)):
        number, cell = next((n, c) for (n, _), c in zip(table.rows, cells, strict=True) if c in other[1])
        raise UserError(
            f"labels in the column '{table.columns[column]}' of '{path}' are separated by '{separator}' in some rows "
            f"and by '{other[0]}' in others (row {number}: '{cell}'); use one of them in all rows, or give --separator"
        )
    found = []
    for (number, _), cell in zip(table.rows, cells, strict=True):
        parts = (cell.split(separator) if separator else [cell]) if isinstance(cell, str) else cell
        labels = {part.strip() for part in parts} - {"", form.negatives}
        if bad := next((label for label in labels if len(label) > 200 or "\n" in label), None):
            raise UserError(f"row {number} of '{path}' has the label '{bad[:50]}…', which is too long for a label")
        if bad := next((label for label in labels if any(category(sign) in ("Cc", "Cs") for sign in label)), None):
            raise UserError(f"row {number} of '{path}' has the label {bad!a}, with characters that cannot be shown")
        found.append(tuple(sorted(labels)))
    if not any(found):
        raise UserError(f"the column '{table.columns[column]}' of '{path}' has no labels")
    hints = [] if separator else separator_hint(sorted(together), form, "label sets")
    if ignored := [name for name in table.columns if key_of(name) in LABEL_COLUMNS and name != table.columns[column]]:
        hints.append(f"'{path.name}': columns that are not read: {listed(ignored)}")
    if odd := sorted({label for labels in found for label in labels if label.casefold() in _PLACEHOLDERS}):
        hints.append(f"'{path.name}': {listed(odd)} counts as a label; leave the cell empty if an image has none")
    joined = f", separated by '{separator}'" if any(separator in cell for cell in together) and separator else ""
    return found, [f"'{path.name}': labels are in the column '{table.columns[column]}'{joined}", *hints]


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


def _mixed(cells: set[str], separator: str) -> tuple[str, set[str]] | None:
    """Another sign that separates labels in cells without the first one, and these cells; None if there is none.

    There is one if fewer labels are left when it separates too, or if it separates known ones: `red;box` beside
    `red-box`, but not beside `t-shirt`. Spaces have to separate known ones: many labels have two words.
    """
    known = {label.strip() for cell in cells if separator in cell for label in cell.split(separator)}
    by_one = {label.strip() for cell in cells for label in cell.split(separator)}
    for sign in (*_SURE, *_MAYBE):
        without = {cell for cell in cells if separator not in cell and sign in cell}
        if sign == separator or not without or all(separator not in cell for cell in cells):
            continue
        by_both = {label.strip() for part in by_one for label in part.split(sign)}
        fewer = sign != " " and len(by_both) < len(by_one)
        if fewer or any(len(known & {*cell.split(sign)}) > 1 for cell in without):
            return sign, without
    return None


def _check_matrix(path: Path, table: Table, others: Sequence[int], matrix: Sequence[int]) -> None:
    """Refuse a cell that is neither 0 nor 1 in a column of them, and columns in which -1 may mean "uncertain"."""
    for place in others:
        values = {number: text_of(row[place]) for number, row in table.rows}
        odd = {number: value for number, value in values.items() if value not in _YES | _NO}
        if place not in matrix and odd and len(odd) <= len(values) // 5 and {*values.values()} & _YES:
            number = min(odd)
            raise UserError(
                f"row {number} of '{path}' has '{odd[number]}' in the column '{table.columns[place]}', whose other "
                "cells are 0 and 1; write one of them, or remove the column if it is not a label"
            )
        if place in matrix and {"-1", "-1.0"} & {*values.values()} and {"0", "0.0"} & {*values.values()}:
            raise UserError(
                f"the column '{table.columns[place]}' of '{path}' has -1, 0 and 1; write 1 for the images that have "
                "the label and 0 for all others, or remove the rows that are uncertain"
            )


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


def _is_yes_or_no(values: Iterable[Any]) -> bool:
    found = {text_of(value) for value in values}
    return found <= _YES | _NO and bool(found & _YES)
