"""Writes reports as one HTML page that needs no other file: text, tables, pictures."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from jinja2 import Environment, FileSystemLoader

from trainer.files import write_whole

TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
)


class Section(NamedTuple):
    """A part of a page.

    Attributes:
        title: its heading.
        note: what a reader needs to know, as plain text.
        table: rows with names, figures rounded by the page.
        pictures: PNG files.
    """

    title: str
    note: str = ""
    table: pd.DataFrame | None = None
    pictures: Sequence[Path] = ()


def save_page(title: str, subtitle: str, sections: Sequence[Section], path: Path) -> None:
    """Write a page as a whole or not at all."""
    shown = [
        {
            "title": section.title,
            "note": section.note,
            "columns": [] if section.table is None else list(section.table.columns),
            "rows": []
            if section.table is None
            else [(name, *map(_cell, row)) for name, *row in section.table.itertuples()],
            "pictures": [base64.b64encode(picture.read_bytes()).decode() for picture in section.pictures],
        }
        for section in sections
    ]
    template = TEMPLATES.get_template("page.html")
    write_whole(path, template.render(title=title, subtitle=subtitle, sections=shown).encode())


def _cell(value: object) -> str:
    """A table's value as text; nothing for one that is not there."""
    if value is None or (isinstance(value, float) and value != value):  # NaN is not itself
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)
