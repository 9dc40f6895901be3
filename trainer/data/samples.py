"""Reads labeled datasets on disk: which images there are, their labels and their splits. No other file knows how."""

import glob
import os
import shlex
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from trainer.errors import UserError
from trainer.files import readable

IMG_EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
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
    """

    separator: str = "-"
    negatives: str = NO_LABEL


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
    """

    root: Path
    images: list[Sample]
    empty: list[Path]

    @property
    def labels(self) -> list[str]:
        """All labels of the images, sorted."""
        return sorted({label for sample in self.images for label in sample.labels})


def read_samples(root: Path, form: Format = Format()) -> Samples:  # noqa: B008 (immutable)
    """Read `<root>/<label>-<label>/*`: every folder's name is a set of labels. Hidden files and folders are skipped.

    Raises:
        UserError: if there is no such folder, a name is not a label set or not UTF-8, a link cannot be followed, or two
            labels differ only in case.
    """
    folders = _label_folders(root, form)
    images: list[Sample] = []
    empty: list[Path] = []
    for folder, labels in folders.items():
        files = _list_images(folder, root)
        images += [Sample(path, labels, folder.name) for path in files]
        if not files:
            empty.append(folder)
    return Samples(root, images, empty)


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
    folders = sorted(entry for entry in root.iterdir() if entry.is_dir()) if root.is_dir() else []
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
        command += [] if value == default else [f"--{option}", value]
    what = f"'{root}' has no {split} split" if found else f"'{root}' is not split into {', '.join(SPLITS)}"
    return UserError(f"{what}; make it with `{shlex.join(command)}`, and name '{_beside(root)}' instead")


def find_images(images: str | Path, shown: str | None = None) -> list[Path]:
    """Image files whose labels do not matter: below a folder, without hidden ones; matching a pattern; or one file.

    Args:
        images: the folder, the pattern or the file.
        shown: what messages call it, if that is something else.

    Raises:
        UserError: if there are none.

    Returns:
        sorted.
    """
    shown = shown or str(images)
    path = Path(images)
    if path.is_file():
        return [path]
    if path.is_dir():
        below = path.rglob("*")
        candidates = (entry for entry in below if not any(p.startswith(".") for p in entry.relative_to(path).parts))
    elif glob.has_magic(str(images)):
        candidates = map(Path, glob.glob(str(images), recursive=True))  # noqa: PTH207 (a pattern may begin with a slash)
    else:
        raise UserError(f"there is no '{shown}'; name an image, a folder of them, a pattern or s3://bucket/prefix")
    found = sorted(filter(_is_image_file, candidates))
    if not found:
        raise UserError(f"there are no images at '{shown}'; name a folder of {', '.join(IMG_EXTENSIONS)} files")
    return found


def listed(names: Iterable[object]) -> str:
    """`'a', 'b' and 3 more`, for a sentence."""
    names = list(names)
    shown = ", ".join(f"'{name}'" for name in names[:MAX_LISTED])
    return f"{shown} and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else shown


def _label_folders(root: Path, form: Format) -> dict[Path, tuple[str, ...]]:
    """The label folders directly below `root`, sorted by name, with their label sets."""
    if not root.is_dir():
        raise UserError(f"there is no folder '{root}'; give a folder that holds one folder of images per label set")
    entries = [entry for entry in root.iterdir() if not entry.name.startswith(".")]
    for entry in entries:
        if entry.is_symlink() and not entry.exists():
            raise UserError(f"'{readable(entry)}' is a broken link; repair or remove it")
    folders = sorted(entry for entry in entries if entry.is_dir())
    _check_names(folders)
    if not folders:
        example = f"<label>{form.separator}<label>"
        raise UserError(f"'{root}' has no label folders; put the images into folders named {example}")
    label_sets = {folder: label_set(folder.name, form) for folder in folders}
    spellings: dict[str, set[str]] = defaultdict(set)
    for labels in label_sets.values():
        for label in labels:
            spellings[unicodedata.normalize("NFC", label).casefold()].add(label)
    for variants in spellings.values():
        if len(variants) > 1:
            raise UserError(
                f"labels in '{root}' differ only in case, or in how an accent is stored: "
                f"{', '.join(sorted(variants))}; use one spelling"
            )
    return label_sets


def _list_images(folder: Path, root: Path) -> list[Path]:
    """The image files directly in `folder`, sorted by name. Hidden files and other file types are skipped."""
    files = sorted(path for path in folder.iterdir() if _is_image_file(path) and not path.name.startswith("."))
    _check_names(files)
    top = root.resolve()
    for path in (folder, *files):
        # Unlike Path.resolve, realpath accepts a link to itself; it is unreadable then.
        if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(top):
            raise UserError(f"'{path}' is a link that leaves '{root}'; copy the file there instead")
    return files


def _is_image_file(path: Path) -> bool:
    """Whether it has an image's extension, and is a file or a broken link, which is reported as unreadable.

    Anything else with such a name is a folder, or never ends, as a pipe.
    """
    return path.suffix.lower() in IMG_EXTENSIONS and (path.is_file() or not path.exists())


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
