"""Finds the train, validation and test folders of a dataset, under any of the names in common use."""

import shlex
from pathlib import Path

from torchvision.datasets.folder import IMG_EXTENSIONS

from trainer.errors import UserError

SPLITS = ("train", "val", "test")
# The first name is the one that Manasight writes. Upper and lower case are the same.
SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}


def find_splits(root: Path) -> dict[str, Path]:
    """The splits that a folder holds: `train`, `val`, `test` → folder, in this order; empty if it holds none.

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
                f"'{root}' holds '{candidates[0].name}' and '{candidates[1].name}', and both could be the {split} "
                "split; remove or rename one of them"
            )
        if candidates:
            found[split] = candidates[0]
    return found


def check_training_split(root: Path, found: dict[str, Path]) -> None:
    """Refuse a folder that holds splits, but no training split.

    Raises:
        UserError: if that is so.
    """
    if found and "train" not in found:
        names = " and ".join(f"'{folder.name}'" for folder in found.values())
        raise UserError(f"'{root}' holds {names} but no training images; put those into '{root / 'train'}'")


def missing_split(root: Path, found: dict[str, Path], split: str, separator: str) -> UserError:
    """What to do about a dataset that lacks a split; `data split` works for it."""
    command = ["manasight", "data", "split", str(root), str(_beside(root))]
    if separator != "-":
        command += ["--separator", separator]
    what = f"'{root}' has no {split} split" if found else f"'{root}' is not split into {', '.join(SPLITS)}"
    return UserError(f"{what}; make it with `{shlex.join(command)}`, and name '{_beside(root)}' instead")


def _beside(root: Path) -> Path:
    """A name for the split dataset: `data split` refuses one within the folder itself."""
    if root.name in ("", ".."):
        root = root.resolve()
    return root.with_name(f"{root.name}-split")


def _has_images(folder: Path) -> bool:
    return any(entry.suffix.lower() in IMG_EXTENSIONS and not entry.is_dir() for entry in folder.iterdir())
