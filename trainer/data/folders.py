"""Reads datasets in which a folder's name is the label set of its images."""

from collections.abc import Collection
from pathlib import Path

from trainer.data.labels import Format, Sample, Samples, check_names, check_spellings, label_set, separator_hint
from trainer.data.walk import Skipped, check_link, paths_in, sort_out, walk
from trainer.errors import UserError
from trainer.files import readable


def read_folders(root: Path, form: Format, splits: Collection[Path]) -> Samples:
    """Read `<root>/<label>-<label>/**`: every folder's name is a set of labels.

    Args:
        root: the folder.
        form: how labels are written.
        splits: folders below it that are no label folders, and count as empty.

    Raises:
        UserError: if there is no such folder, a name is not a label set or not UTF-8, a link cannot be followed, or two
            labels differ only in case.
    """
    folders = label_folders(root, form)
    images: list[Sample] = []
    empty: list[Path] = []
    loose, skipped = sort_out(entry for entry in paths_in(root) if entry.is_file())
    skipped += [Skipped(path, "image outside of a label folder") for path in loose]
    deeper = 0
    for folder, labels in folders.items():
        check_link(folder, root if not form.follow_links else Path("/"))
        files, left_out = sort_out(walk(folder, root, form.follow_links)) if folder not in splits else ([], [])
        skipped += left_out
        check_names(files)
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
    check_spellings(root, (sample.labels for sample in images))
    hints = separator_hint([folder.name for folder in folders], form)
    if deeper and not form.nested:
        hints.append(f"{deeper} images in folders below a label folder have its labels; --nested adds those folders'")
    return Samples(root, images, empty, skipped, hints)


def label_folders(root: Path, form: Format) -> dict[Path, tuple[str, ...]]:
    """The label folders directly below `root`, sorted by name, with their label sets."""
    if not root.is_dir():
        raise UserError(f"there is no folder '{root}'; give a folder that holds one folder of images per label set")
    entries = paths_in(root)
    for entry in entries:
        if entry.is_symlink() and not entry.exists():
            raise UserError(f"'{readable(entry)}' is a broken link; repair or remove it")
    folders = [entry for entry in entries if entry.is_dir()]
    check_names(folders)
    if not folders:
        example = f"<label>{form.separator}<label>"
        raise UserError(f"'{root}' has no label folders; put the images into folders named {example}")
    label_sets = {folder: label_set(folder.name, form) for folder in folders}
    check_spellings(root, label_sets.values())
    return label_sets
