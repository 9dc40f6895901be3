"""Reads labeled datasets on disk: which images there are, their labels and their splits. No other file knows how."""

import glob
import os
import shlex
from pathlib import Path

from contract.litter import is_litter
from trainer.data.folders import label_folders, read_folders
from trainer.data.labels import NO_LABEL, Format, Sample, Samples, label_set, listed
from trainer.data.table_files import TABLES
from trainer.data.tables import SPLIT_NAMES, read_table, splits_of
from trainer.data.walk import IMG_EXTENSIONS, Skipped, paths_in, skipped_note, sort_out, walk
from trainer.errors import UserError
from trainer.files import reachable

__all__ = ["NO_LABEL", "Format", "Sample", "Samples", "label_set", "listed"]

SPLITS = ("train", "val", "test")
_SPLIT_TABLES = (".csv", ".tsv", ".jsonl", ".parquet")


def read_samples(root: Path, form: Format = Format()) -> Samples:  # noqa: B008 (immutable)
    """Read a folder of label folders, or a table.

    Args:
        root: the folder; the table; or `<table>/<split>` for a split that a column of the table names.
        form: how labels are written.

    Raises:
        UserError: if there is no such dataset, or something in it is not as it should be: labels that are empty or
            differ only in case, names that are not UTF-8, links that cannot be followed, rows that are not understood.
    """
    if table := _table(root):
        return read_table(table, form, root.name if root.parent == table else "")
    folders = [entry for entry in paths_in(root) if entry.is_dir()] if root.is_dir() else []
    splits = {*find_splits(root).values(), *(folder for folder in folders if find_splits(folder))}
    return read_folders(root, form, splits)


def read_splits(root: Path, form: Format = Format()) -> dict[str, Samples]:  # noqa: B008 (immutable)
    """Every split of a dataset, or all of it as `all` if it has none; raises as `read_samples`."""
    return {split: read_samples(part, form) for split, part in (find_splits(root) or {"all": root}).items()}


def read_labels(root: Path, form: Format = Format()) -> set[str]:  # noqa: B008 (immutable)
    """The labels of a dataset or of its training split; no image is looked at.

    Raises:
        UserError: as `read_samples`.
    """
    train = find_splits(root).get("train", root)
    if _table(train):
        return {*read_samples(train, form).labels}
    return {label for labels in label_folders(train, form).values() for label in labels}


def relative(path: Path, root: Path) -> str:
    """A file's name within a dataset; the images of a table may be anywhere."""
    within = "" if root == Path() else f"{root.as_posix()}/"
    name = path.as_posix()
    inside = name.startswith(within) if within else not path.is_absolute()
    if inside and ".." not in name[len(within) :]:
        return name[len(within) :]
    return Path(os.path.relpath(path, folder_of(root))).as_posix()


def folder_of(root: Path) -> Path:
    """The folder that names within a dataset begin at: that of a table, or the dataset's own."""
    return next(folder for folder in (root, *root.parents) if folder.is_dir())


def find_splits(root: Path) -> dict[str, Path]:
    """The splits of a dataset: `train`, `val`, `test` → what `read_samples` takes, in this order; empty if it has none.

    In a folder, a split is a folder or a table of its name. A folder with images directly in it is a label folder,
    whatever its name: `train` may be a label beside `bus`.

    Raises:
        UserError: if two folders or tables could be the same split.
    """
    if (table := _table(root)) and root != table.parent:
        return {split: table / split for split in splits_of(table)} if root == table else {}
    entries = paths_in(root) if root.is_dir() else []
    found: dict[str, Path] = {}
    for split, names in SPLIT_NAMES.items():
        candidates = [
            entry
            for entry in entries
            if (entry.is_dir() and entry.name.casefold() in names and (_table(entry) or not _has_images(entry)))
            or (entry.suffix.lower() in _SPLIT_TABLES and entry.stem.casefold() in names and entry.is_file())
        ]
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
    return [entry for entry in paths_in(root) if entry not in found.values()] if found and root.is_dir() else []


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
    if reachable(path).is_file():
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


def _beside(root: Path) -> Path:
    """A name for the split dataset: `data split` refuses one within the folder itself."""
    if root.name in ("", ".."):
        root = root.resolve()
    return root.with_name(f"{root.stem if root.is_file() else root.name}-split")


def _table(root: Path) -> Path | None:
    """The table behind a dataset: the file itself, that of which it is a split, or Hugging Face's one beside images."""
    if reachable(root).is_dir():
        tables = (root / f"metadata{suffix}" for suffix in _SPLIT_TABLES)
        return next((table for table in tables if _has_images(root) and table.is_file()), None)
    if root.parent.is_file() and root.name in SPLITS:
        root = root.parent
    if not root.is_file():
        return None
    if root.suffix.lower() not in TABLES:
        raise UserError(f"'{root}' is neither a folder nor a table; tables are {', '.join(TABLES)} files")
    return root


def _has_images(folder: Path) -> bool:
    return any(entry.suffix.lower() in IMG_EXTENSIONS and not entry.is_dir() for entry in paths_in(folder))
