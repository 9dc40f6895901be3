"""What a labeled dataset is: images with their labels, whatever they were read from; and how labels are written."""

import shlex
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from contract.labels import NO_LABEL
from trainer.data.walk import Skipped, skipped_note
from trainer.errors import UserError
from trainer.files import readable

MAX_LISTED = 20  # names in one sentence


class Format(NamedTuple):
    """How a dataset writes its labels.

    Attributes:
        separator: between labels in a folder's name; empty if a name is one label.
        negatives: the folder of images without any label; empty if there is none.
        nested: the folders between the root and an image all add their labels; else only the first one does.
        follow_links: also links that leave the root.
        images: the folder that the paths in a table are relative to; found by itself if empty.
    """

    separator: str = "-"
    negatives: str = NO_LABEL
    nested: bool = False
    follow_links: bool = False
    images: str = ""


class Sample(NamedTuple):
    """One labeled image.

    Attributes:
        path: the image file.
        labels: its labels, sorted; empty for an image without any.
        name: the label set as the dataset writes it, which `data split` uses as the folder's name.
    """

    path: Path
    labels: tuple[str, ...]
    name: str


class Samples(NamedTuple):
    """The images of one split, or of a dataset without splits.

    Attributes:
        root: where they are, or the table that lists them.
        images: in the order of their files.
        empty: label folders without an image.
        skipped: files that are left out.
        hints: what may not be meant, each as one line.
        lacking: of `images`, those that a table names and that are not there, and the reason with the row's number.
    """

    root: Path
    images: list[Sample]
    empty: list[Path]
    skipped: list[Skipped]
    hints: list[str]
    lacking: Sequence[tuple[Path, str]] = ()

    @property
    def labels(self) -> list[str]:
        """All labels of the images, sorted."""
        return sorted({label for sample in self.images for label in sample.labels})

    @property
    def there(self) -> list[Sample]:
        """The images without those that are lacking."""
        lacking = {path for path, _ in self.lacking}
        return [sample for sample in self.images if sample.path not in lacking]

    def notes(self, verbose: bool = False) -> list[str]:
        """What the user should know about these images, as lines."""
        return [*filter(None, [skipped_note(self.skipped, verbose)]), *self.hints]


def label_set(name: str, form: Format = Format()) -> tuple[str, ...]:  # noqa: B008 (immutable)
    """The labels in a folder's name, sorted: `round-red` and `red-round` are the same set.

    Raises:
        UserError: if a label is empty, repeated, or has a space at an end.
    """
    if name == form.negatives:
        return ()
    separator = form.separator
    labels = name.split(separator) if separator else [name]
    if not all(label.strip() for label in labels):
        raise UserError(f"folder '{name}' has an empty label; name it <label>{separator}<label> with one '{separator}'")
    padded = [label for label in labels if label != label.strip()]
    if padded:
        raise UserError(f"folder '{name}' has the label '{padded[0]}' with a space at its end; remove the space")
    repeated = [label for label, times in Counter(labels).items() if times > 1]
    if repeated:
        raise UserError(f"folder '{name}' names the label '{repeated[0]}' twice; name each label once")
    return tuple(sorted(labels))


def listed(names: Iterable[object]) -> str:
    """`'a', 'b' and 3 more`, for a sentence."""
    names = list(names)
    shown = ", ".join(f"'{name}'" for name in names[:MAX_LISTED])
    return f"{shown} and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else shown


def check_spellings(root: Path, label_sets: Iterable[Iterable[str]]) -> None:
    """Refuse labels that differ only in how they are written."""
    spellings: dict[str, set[str]] = defaultdict(set)
    for label in {label for labels in label_sets for label in labels}:
        spellings[unicodedata.normalize("NFC", label).casefold()].add(label)
    for variants in spellings.values():
        if len(variants) > 1:
            raise UserError(
                f"labels in '{root}' differ only in case, or in how an accent is stored: "
                f"{', '.join(sorted(variants))}; use one spelling"
            )


def check_names(paths: Sequence[Path]) -> None:
    """MLflow, tables and pages contain text: a name has to be text."""
    for path in paths:
        if readable(path) != str(path):
            raise UserError(f"the name of '{readable(path)}' is not UTF-8; rename it")


def separator_hint(names: Sequence[str], form: Format, called: str = "folders") -> list[str]:
    """A better separator, if names lack the given one and fall into fewer labels with another."""
    names = [name for name in names if name != form.negatives]
    if not form.separator or any(form.separator in name for name in names):
        return []
    found: dict[str, list[str]] = {}
    for separator in (" + ", " & ", ", ", "_", "+", "&", ",", " "):
        parts = [name.split(separator) for name in names]
        labels = {label for labels in parts for label in labels}
        joined = sum(len(labels) > 1 for labels in parts)
        if (
            2 * joined > len(names)
            and len(labels) < len(names)
            and all(label.strip() == label != "" for label in labels)
        ):
            found[separator] = sorted(labels)
    if not found:
        return []
    separator = min(found, key=lambda one: len(found[one]))
    labels = ", ".join(found[separator][:5]) + ", …" * (len(found[separator]) > 5)
    return [
        f"{len(names)} {called}, {len(names)} labels: did you mean --separator {shlex.quote(separator)} "
        f"({len(found[separator])} labels: {labels})?"
    ]
