"""Reads a folder of images in which every sub-folder's name is a set of labels: `<root>/<label>-<label>/*.jpg`."""

import os
import shlex
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torchvision.datasets import VisionDataset
from torchvision.datasets.folder import IMG_EXTENSIONS

from trainer.data.image import UNREADABLE, load_rgb, unreadable_images
from trainer.data.splits import find_splits
from trainer.errors import UserError
from trainer.files import readable

NAMED = 20  # images or labels in one sentence


def label_set(name: str, separator: str = "-") -> tuple[str, ...]:
    """The labels in a folder's name, sorted: `round-red` and `red-round` are the same set.

    Raises:
        UserError: if a label is empty, stands twice, or has a space at an end.
    """
    labels = name.split(separator) if separator else [name]
    if not all(label.strip() for label in labels):
        raise UserError(f"folder '{name}' has an empty label; name it <label>{separator}<label> with one '{separator}'")
    padded = [label for label in labels if label != label.strip()]
    if padded:
        raise UserError(f"folder '{name}' has the label '{padded[0]}' with a space at its end; take it away")
    repeated = [label for label, times in Counter(labels).items() if times > 1]
    if repeated:
        raise UserError(f"folder '{name}' names the label '{repeated[0]}' twice; name each label once")
    return tuple(sorted(labels))


def label_folders(root: Path, separator: str = "-") -> dict[Path, tuple[str, ...]]:
    """The label folders directly below `root`, sorted by name, with their label sets. Hidden folders are left out.

    Raises:
        UserError: if there is no such folder, a name is no label set or not UTF-8, a link leads nowhere, or two labels
            differ only in case.
    """
    if not root.is_dir():
        raise UserError(f"there is no folder '{root}'; give a folder that holds one folder of images per label set")
    entries = [entry for entry in root.iterdir() if not entry.name.startswith(".")]
    for entry in entries:
        if entry.is_symlink() and not entry.exists():
            raise UserError(f"'{readable(entry)}' is a link to nothing; mend or remove it")
    folders = sorted(entry for entry in entries if entry.is_dir())
    _check_names(folders)
    if not folders:
        raise UserError(f"'{root}' has no label folders; put the images into folders named <label>{separator}<label>")
    label_sets = {folder: label_set(folder.name, separator) for folder in folders}
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


def list_images(folder: Path, root: Path, extensions: Sequence[str] = IMG_EXTENSIONS) -> list[Path]:
    """The image files directly in `folder`, sorted by name. Hidden files and other file types are left out.

    Raises:
        UserError: if a link leads out of `root`, or a name is not UTF-8.
    """
    files = sorted(
        path for path in folder.iterdir() if is_image_file(path, extensions) and not path.name.startswith(".")
    )
    _check_names(files)
    top = root.resolve()
    for path in (folder, *files):
        # Unlike Path.resolve, realpath lets a link to itself pass; it is unreadable then.
        if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(top):
            raise UserError(f"'{path}' is a link that leaves '{root}'; copy the file there instead")
    return files


def is_image_file(path: Path, extensions: Sequence[str] = IMG_EXTENSIONS) -> bool:
    """Whether it is called as an image is, and is a file or a link to nothing: that one is unreadable, and told.

    What else may have such a name has no end, as a pipe, or is a folder.
    """
    return path.suffix.lower() in extensions and (path.is_file() or not path.exists())


def _check_names(paths: Sequence[Path]) -> None:
    """MLflow, tables and pages hold text: a name has to be some."""
    for path in paths:
        if readable(path) != str(path):
            raise UserError(f"the name of '{readable(path)}' is not UTF-8; rename it")


class MultiLabelImageFolder(VisionDataset):
    """A data set of images whose folder names their labels.

    Items are `(image, target)`: the image as `loader` and `transform` leave it (by default a PIL image in RGB), the
    target a multi-hot float32 tensor of shape `[C]`.

    Attributes:
        classes: the label names, sorted; the order of the columns of every target.
        class_to_idx: label name → column.
        samples: per image its path and its tuple of columns.
        targets: float32 tensor `[N, C]`.
        label_sets: per image its tuple of label names, sorted.
        dropped: per image that `drop_unreadable` left out, its path and why.
    """

    def __init__(
        self,
        root: str | Path,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
        loader: Callable[[Path], Any] = load_rgb,
        separator: str = "-",
        classes: Sequence[str] | None = None,
        drop_unreadable: bool = False,
    ) -> None:
        """Scan `root`.

        Args:
            root: the folder that holds one folder per label set.
            transform: called with each loaded image.
            target_transform: called with each target.
            loader: path → image.
            separator: what stands between the labels in a folder's name.
            classes: the classes of the training split, which this one must have all and no others.
            drop_unreadable: leave out images that cannot be decoded (every one is decoded once) instead of refusing.

        Raises:
            UserError: for anything that would make the labels or the images other than the user thinks.
        """
        super().__init__(str(root), transform=transform, target_transform=target_transform)
        self.loader = loader
        folder = Path(root)
        label_sets = label_folders(folder, separator)
        files = {path: list_images(path, folder) for path in label_sets}
        empty = [path for path, images in files.items() if not images]
        if empty:
            hint = "fill or remove them"
            if any(child.is_dir() for path in empty for child in path.iterdir()):
                hint = "images must lie directly in a label folder"
            if deeper := next((path for path in (empty[0], *empty[0].iterdir()) if find_splits(path)), None):
                hint = f"did you mean '{deeper}', which holds splits?"
            raise UserError(f"no images in {_names(path.name for path in empty)} of '{folder}'; {hint}")
        found = sorted({label for labels in label_sets.values() for label in labels})
        if classes is None and len(found) < 2:
            raise UserError(f"'{folder}' has one label, '{found[0]}'; there is nothing to tell it from: add another")
        self.classes = list(classes) if classes is not None else found
        _check_same_classes(found, self.classes, folder)
        self.class_to_idx = {label: index for index, label in enumerate(self.classes)}

        paths = [path for images in files.values() for path in images]
        # Decoding everything takes time: without `drop_unreadable` only size and header are looked at here.
        bad = dict(unreadable_images(paths, decode=drop_unreadable))
        if bad and not drop_unreadable:
            raise UserError(
                f"{len(bad)} unreadable images in '{folder}': {_names(str(path.relative_to(folder)) for path in bad)}; "
                f"list all with `manasight data describe {shlex.quote(str(folder))} --check`, and repair or remove "
                "them, or leave them out with --drop_unreadable (fit: --data.drop_unreadable true)"
            )
        self.dropped = sorted(bad.items())
        self.samples: list[tuple[str, tuple[int, ...]]] = []
        self.label_sets: list[tuple[str, ...]] = []
        for path, images in files.items():
            columns = tuple(self.class_to_idx[label] for label in label_sets[path])
            kept = [image for image in images if image not in bad]
            self.samples += [(str(image), columns) for image in kept]
            self.label_sets += [label_sets[path]] * len(kept)
        if not self.samples:
            raise UserError(f"every image in '{folder}' is unreadable; check that they are images")
        self.targets = torch.zeros(len(self.samples), len(self.classes))
        for row, (_, columns) in enumerate(self.samples):
            self.targets[row, list(columns)] = 1.0

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """The image and the target at `index`.

        Raises:
            UserError: if the image cannot be decoded.
        """
        path = self.samples[index][0]
        try:
            image = self.loader(Path(path))
        except UNREADABLE as error:
            find = f"`manasight data describe {shlex.quote(str(self.root))} --check`"
            raise UserError(
                f"cannot read image '{path}' ({error}); remove it and all others that {find} lists"
            ) from error
        if self.transform is not None:
            image = self.transform(image)
        target: Any = self.targets[index]
        if self.target_transform is not None:
            target = self.target_transform(target)
        return image, target

    def __len__(self) -> int:
        return len(self.samples)


def _check_same_classes(found: Sequence[str], expected: Sequence[str], folder: Path) -> None:
    lacking = sorted(set(expected) - set(found))
    if lacking:
        raise UserError(
            f"'{folder}' lacks {_names(lacking)}, which training has; every split needs every class: add images of it, "
            "or remove it from the others"
        )
    unknown = sorted(set(found) - set(expected))
    if unknown:
        raise UserError(
            f"'{folder}' has {_names(unknown)}, which training lacks; every split needs the same classes: add training "
            "images of it, or remove it here"
        )


def _names(names: Any) -> str:
    """`'a', 'b' and 3 more`, for a sentence."""
    names = list(names)
    shown = ", ".join(f"'{name}'" for name in names[:NAMED])
    return f"{shown} and {len(names) - NAMED} more" if len(names) > NAMED else shown
