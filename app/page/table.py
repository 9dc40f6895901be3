"""The table of a visit's images: written for people, and read again so that what they reviewed is not lost."""

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from app.page.results import Result
from app.serving.model import Model
from app.serving.serving import Served
from app.text import csv_cell

# Of a table that is read; that of a thousand images and two hundred classes has two megabytes.
MAX_BYTES = 4 * 1024**2
NOT_OURS = "This table has no columns “file” and “labels”; give one that was downloaded here."


class Row(NamedTuple):
    """An image's labels as they are in the table, and whether a person corrected them, or accepted them in a review."""

    labels: str
    corrected: bool
    reviewed: bool


# By the file's name; several images may have the same.
Rows = dict[str, list[Row]]


def to_csv(served: Served, results: Sequence[Result], shift: float) -> bytes:
    """One row per image: file, labels, whether they were corrected and reviewed, probabilities, the model, a problem.

    UTF-8 with the mark that spreadsheet programs look for.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    classes = served.model.classes
    writer.writerow(["file", "labels", "corrected", "reviewed", *map(csv_cell, classes), "model", "problem"])
    for result in results:
        values = [""] * len(classes)
        if result.prediction is not None:
            values = [f"{value:.6f}" for value in result.prediction.probabilities]
        labels = ";".join(result.labels(served.model, shift))
        decided = ("yes" if value else "no" for value in (result.changed(served.model, shift), result.reviewed))
        writer.writerow(
            [
                *map(csv_cell, (result.name, labels, *decided)),
                *values,
                csv_cell(served.title),
                csv_cell(result.problem),
            ]
        )
    return buffer.getvalue().encode("utf-8-sig")


def read_table(data: bytes) -> Rows:
    """What `to_csv` wrote, also when a spreadsheet program saved it: the rows by their file.

    Raises:
        ValueError: if it is something else; the message is a sentence for the person who sent it.
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"A table may have {MAX_BYTES // 1024**2} MB.")
    found: Rows = defaultdict(list)
    try:
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
        head = text.partition("\n")[0]
        rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=head.count))
        if not {"file", "labels"} <= set(rows.fieldnames or ()):
            raise ValueError(NOT_OURS)
        for row in rows:
            decided = ((row.get(name) or "").strip().casefold() == "yes" for name in ("corrected", "reviewed"))
            found[row["file"] or ""].append(Row(row["labels"] or "", *decided))
    except (UnicodeError, csv.Error) as error:
        raise ValueError(NOT_OURS) from error
    return dict(found)


def restore(rows: Rows, results: Iterable[Result], model: Model) -> None:
    """Take rows over into the images that they are about, each once; of images of one name in their order."""
    names = {csv_cell(name): name for name in model.classes}
    for result in results:
        waiting = rows.get(csv_cell(result.name))
        if waiting and result.prediction is not None:
            row = waiting.pop(0)
            if row.corrected or row.reviewed:
                result.corrected = [names[label] for label in row.labels.split(";") if label in names]
                result.reviewed = row.reviewed


def waiting(rows: Rows) -> int:
    """Rows that a person decided about images that are not here."""
    return sum(row.corrected or row.reviewed for found in rows.values() for row in found)
