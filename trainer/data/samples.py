"""Reads labeled datasets on disk: which images there are, their labels and their splits. No other file knows how."""

import glob
import shlex
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from contract.litter import is_litter
from trainer.data.walk import IMG_EXTENSIONS, Skipped, check_link, skipped_note, sort_out, walk
from trainer.errors import UserError
from trainer.files import readable

NO_LABEL = "_none"  # the folder of images without any label, unless --negatives names another
MAX_LISTED = 20  # names in one sentence

SPLITS = ("train", "val", "test")
# The first name is the one that Manasight writes. Upper and lower case are the same.
SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}


class Format(NamedTuple):
    """How a dataset writes its labels.

    Attributes:
        separator: between labels in a folder's name; empty if a name is one label.
        negatives: the folder of images without any label; empty if there is none.
        nested: the folders between the root and an image all add their labels; else only the first one does.
        follow_links: also links that leave the root.
    """

    separator: str = "-"
    negatives: str = NO_LABEL
    nested: bool = False
    follow_links: bool = False


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
        root: where they are.
        images: in the order of their files.
        empty: label folders without an image.
        skipped: files that are left out.
        hints: what may not be meant, each as one line.
    """

    root: Path
    images: list[Sample]
    empty: list[Path]
    skipped: list[Skipped]
    hints: list[str]

    @property
    def labels(self) -> list[str]:
        """All labels of the images, sorted."""
        return sorted({label for sample in self.images for label in sample.labels})

    def notes(self, verbose: bool = False) -> list[str]:
        """What the user should know about these images, as lines."""
        return [*filter(None, [skipped_note(self.skipped, verbose)]), *self.hints]


def read_samples(root: Path, form: Format = Format()) -> Samples:  # noqa: B008 (immutable)
    """Read `<root>/<label>-<label>/**`: every folder's name is a set of labels.

    Raises:
        UserError: if there is no such folder, a name is not a label set or not UTF-8, a link cannot be followed, or two
            labels differ only in case.
    """
    folders = _label_folders(root, form)
    images: list[Sample] = []
    empty: list[Path] = []
    loose, skipped = sort_out(entry for entry in _entries(root) if entry.is_file())
    skipped += [Skipped(path, "image outside of a label folder") for path in loose]
    deeper = 0
    splits = {*find_splits(root).values(), *(folder for folder in folders if find_splits(folder))}
    for folder, labels in folders.items():
        check_link(folder, root if not form.follow_links else Path("/"))
        files, left_out = sort_out(walk(folder, root, form.follow_links)) if folder not in splits else ([], [])
        skipped += left_out
        _check_names(files)
        if not files:
            empty.append(folder)
        for path in files:
            parents = path.relative_to(root).parts[:-1]
            deeper += len(parents) > 1
            if form.nested and len(parents) > 1:
                found = sorted({label for name in parents for label in label_set(name, form)})
                images.append(Sample(path, tuple(found), "/".join(parents)))
            else:
                images.append(Sample(path, labels, folder.name))
    _check_spellings(root, (sample.labels for sample in images))
    hints = _separator_hint([folder.name for folder in folders], form)
    if deeper and not form.nested:
        hints.append(f"{deeper} images in folders below a label folder have its labels; --nested adds those folders'")
    return Samples(root, images, empty, skipped, hints)


def read_labels(root: Path, form: Format = Format()) -> set[str]:  # noqa: B008 (immutable)
    """The labels of a dataset or of its training split; no file is looked at.

    Raises:
        UserError: as `read_samples`.
    """
    folders = _label_folders(find_splits(root).get("train", root), form)
    return {label for labels in folders.values() for label in labels}


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


def find_splits(root: Path) -> dict[str, Path]:
    """The splits in a folder: `train`, `val`, `test` → folder, in this order; empty if it has none.

    A folder with images directly in it is a label folder, whatever its name: `train` may be a label beside `bus`.

    Raises:
        UserError: if two folders could be the same split.
    """
    folders = [entry for entry in _entries(root) if entry.is_dir()] if root.is_dir() else []
    found: dict[str, Path] = {}
    for split, names in SPLIT_NAMES.items():
        candidates = [folder for folder in folders if folder.name.casefold() in names and not _has_images(folder)]
        if len(candidates) > 1:
            raise UserError(
                f"'{root}' has '{candidates[0].name}' and '{candidates[1].name}', and both could be the {split} split; "
                "remove or rename one of them"
            )
        if candidates:
            found[split] = candidates[0]
    return found


def beside_splits(root: Path, found: dict[str, Path]) -> list[Path]:
    """Files and folders that are in a folder of splits and belong to none; empty without splits."""
    return [entry for entry in _entries(root) if entry not in found.values()] if found else []


def check_training_split(root: Path, found: dict[str, Path]) -> None:
    """Refuse a folder that has splits, but no training split.

    Raises:
        UserError: if that is so.
    """
    if found and "train" not in found:
        names = " and ".join(f"'{folder.name}'" for folder in found.values())
        raise UserError(f"'{root}' has {names} but no training images; put those into '{root / 'train'}'")


def missing_split(root: Path, found: dict[str, Path], split: str, form: Format) -> UserError:
    """What to do about a dataset that lacks a split; `data split` works for it."""
    command = ["manasight", "data", "split", str(root), str(_beside(root))]
    for option, value, default in zip(Format._fields, form, Format(), strict=True):
        if value != default:
            command += [f"--{option}", *([] if value is True else [value])]
    what = f"'{root}' has no {split} split" if found else f"'{root}' is not split into {', '.join(SPLITS)}"
    return UserError(f"{what}; make it with `{shlex.join(command)}`, and name '{_beside(root)}' instead")


def find_images(images: str | Path, shown: str | None = None) -> tuple[list[Path], list[Skipped]]:
    """Image files whose labels do not matter: below a folder, without hidden ones; matching a pattern; or one file.

    Args:
        images: the folder, the pattern or the file.
        shown: what messages call it, if that is something else.

    Raises:
        UserError: if there are none.

    Returns:
        sorted; and the files that are left out.
    """
    shown = shown or str(images)
    path = Path(images)
    if path.is_file():
        return [path], []
    if path.is_dir():
        candidates = walk(path, follow_links=True)
    elif glob.has_magic(str(images)):
        # A pattern may ask for hidden files, and begin with a slash.
        matching = map(Path, glob.glob(str(images), recursive=True))  # noqa: PTH207
        named = (entry for entry in matching if not is_litter(part.lstrip(".") for part in entry.parts))
        candidates = (entry for entry in named if entry.is_file() or not entry.exists())
    else:
        raise UserError(f"there is no '{shown}'; name an image, a folder of them, a pattern or s3://bucket/prefix")
    found, skipped = sort_out(candidates)
    if not found:
        also = f" ({skipped_note(skipped, True).splitlines()[0]})" if skipped else ""
        raise UserError(f"there are no images at '{shown}'{also}; name a folder of {', '.join(IMG_EXTENSIONS)} files")
    return sorted(found), skipped


def listed(names: Iterable[object]) -> str:
    """`'a', 'b' and 3 more`, for a sentence."""
    names = list(names)
    shown = ", ".join(f"'{name}'" for name in names[:MAX_LISTED])
    return f"{shown} and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else shown


def _entries(root: Path) -> list[Path]:
    return sorted(entry for entry in root.iterdir() if not is_litter([entry.name]))


def _label_folders(root: Path, form: Format) -> dict[Path, tuple[str, ...]]:
    """The label folders directly below `root`, sorted by name, with their label sets."""
    if not root.is_dir():
        raise UserError(f"there is no folder '{root}'; give a folder that holds one folder of images per label set")
    entries = _entries(root)
    for entry in entries:
        if entry.is_symlink() and not entry.exists():
            raise UserError(f"'{readable(entry)}' is a broken link; repair or remove it")
    folders = [entry for entry in entries if entry.is_dir()]
    _check_names(folders)
    if not folders:
        example = f"<label>{form.separator}<label>"
        raise UserError(f"'{root}' has no label folders; put the images into folders named {example}")
    label_sets = {folder: label_set(folder.name, form) for folder in folders}
    _check_spellings(root, label_sets.values())
    return label_sets


def _check_spellings(root: Path, label_sets: Iterable[Iterable[str]]) -> None:
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


def _separator_hint(names: Sequence[str], form: Format) -> list[str]:
    """A better separator, if folder names lack the given one and fall into fewer labels with another."""
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
        f"{len(names)} folders, {len(names)} labels: did you mean --separator {shlex.quote(separator)} "
        f"({len(found[separator])} labels: {labels})?"
    ]


def _check_names(paths: Sequence[Path]) -> None:
    """MLflow, tables and pages contain text: a name has to be text."""
    for path in paths:
        if readable(path) != str(path):
            raise UserError(f"the name of '{readable(path)}' is not UTF-8; rename it")


def _beside(root: Path) -> Path:
    """A name for the split dataset: `data split` refuses one within the folder itself."""
    if root.name in ("", ".."):
        root = root.resolve()
    return root.with_name(f"{root.name}-split")


def _has_images(folder: Path) -> bool:
    return any(entry.suffix.lower() in IMG_EXTENSIONS and not entry.is_dir() for entry in folder.iterdir())
