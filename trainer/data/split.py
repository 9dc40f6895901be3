"""Splits labeled images into train, val and test, so that no split holds a near copy of another's image."""

import os
import random
import shutil
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from trainer.data.fingerprint import MANIFEST, Manifest, fingerprints, read_parts
from trainer.data.images import load_named
from trainer.data.labeled import LabeledImages
from trainer.data.near_duplicates import ALIKE_BITS, fingerprint, group_alike
from trainer.data.parallel import in_order
from trainer.data.samples import NO_LABEL, SPLITS, Format, check_training_split, find_splits, relative
from trainer.data.staging import staged_folder
from trainer.data.tables import write_rows
from trainer.errors import UserError
from trainer.paths import program
from trainer.progress import progress
from trainer.resources import cpu_cores


def split(
    root: Path,
    out: Path,
    fractions: tuple[float, float, float] = (0.7, 0.15, 0.15),
    seed: int = 0,
    separator: str = "-",
    negatives: str = NO_LABEL,
    nested: bool = False,
    follow_links: bool = False,
    images: str = "",
    mode: Literal["auto", "copy", "link", "table"] = "auto",
    near_duplicate_bits: int = ALIKE_BITS,
    drop_unreadable: bool = False,
) -> None:
    """Split `root/<label>-<label>/*` into `out/{train,val,test}/<label>-<label>/*`, stratified by label set.

    Images that look alike (defined in `trainer/data/near_duplicates.py`) stay in one split, so that the test set is
    honest. If `root` holds train and test (or val) but not all three, the missing ones are taken from train.

    Args:
        root: the labeled images, a table that lists them, or an incomplete set of splits.
        out: the folder to make; one that holds anything is refused.
        fractions: of train, val and test; they add up to 1.
        seed: the same seed splits the same images the same way.
        separator: between labels in a folder's name.
        negatives: the folder of images without any label.
        nested: every folder between `root` and an image adds labels.
        follow_links: also links that leave `root`.
        images: the folder that the paths in a table are relative to; by default found by itself.
        mode: copy the files; make hard links, which take no space; or leave them where they are, and write the tables
            train.jsonl, val.jsonl and test.jsonl. By default tables for a table, and copies for a folder.
        near_duplicate_bits: how many of 256 hash bits may differ between near duplicates; -1 ignores them.
        drop_unreadable: leave out images that cannot be decoded.
    """
    if not (min(fractions) > 0 and abs(sum(fractions) - 1) < 1e-6):  # so that nan is refused as well
        raise UserError(f"--fractions {[*fractions]} must be above 0 and add up to 1, as [0.7,0.15,0.15] do")
    if not separator:
        raise UserError("the separator is empty; without one a folder's name is one label: give one that no label has")
    # Unlike Path.resolve, realpath lets a link to itself pass; it is refused below.
    if Path(os.path.realpath(out)).is_relative_to(os.path.realpath(root)):
        raise UserError(f"'{out}' is inside '{root}', which would become part of itself; name a folder beside it")
    is_table = root.is_file()
    if mode == "auto":
        mode = "table" if is_table else "copy"
    if is_table and mode != "table":
        raise UserError(f"the images of a table stay where they are; leave out --mode {mode}")
    given = find_splits(root)
    check_training_split(root, given)
    if len(given) == len(SPLITS):
        names = ", ".join(folder.name for folder in given.values())
        raise UserError(f"'{root}' is split already: it has {names}; use it as it is")
    # What is given stays as it is; the rest is taken from the training images, or from all of them.
    source = given.pop("train", root)
    names = [name for name in SPLITS if name not in given]
    fractions = tuple(share for name, share in zip(SPLITS, fractions, strict=True) if name in names)
    fractions = tuple(share / sum(fractions) for share in fractions)
    with staged_folder(out) as staging:
        form = Format(separator, negatives, nested, follow_links, images)
        dataset = LabeledImages(source, form, drop_unreadable=drop_unreadable)
        label_sets = [image.labels for image in dataset.images]
        kept = {
            name: LabeledImages(folder, form, dataset.classes, drop_unreadable=drop_unreadable)
            for name, folder in given.items()
        }
        if near_duplicate_bits >= 0:
            groups = near_duplicates([image.path for image in dataset.images], near_duplicate_bits)
        else:
            groups = np.arange(len(dataset))
        parts = assign(label_sets, groups.tolist(), fractions, seed)
        placed = [(source, image, names[part]) for image, part in zip(dataset.images, parts, strict=True)]
        placed += [(other.root, image, name) for name, other in kept.items() for image in other.images]
        if mode == "table":
            for name in SPLITS:
                rows = write_rows((image for _, image, part in placed if part == name), out)
                (staging / f"{name}.jsonl").write_text(rows, encoding="utf-8")
        for top, image, name in progress([] if mode == "table" else placed, "splitting", unit="image"):
            target = staging / name / image.path.relative_to(top)
            target.parent.mkdir(parents=True, exist_ok=True)
            _place(image.path, target, mode)
        freely = assign(label_sets, range(len(dataset)), fractions, seed)
        made = Format() if mode == "table" else form._replace(images="")
        found = fingerprints(read_parts(staging, made))["all"]
        (staging / MANIFEST).write_bytes(Manifest(found, made).written())
        _check_every_class(dataset, names, parts, freely)
    if dropped := sum(len(part.dropped) for part in (dataset, *kept.values())):
        print(f"left out {dropped} unreadable images")
    for note in dict.fromkeys(note for part in (dataset, *kept.values()) for note in part.notes):
        print(note)
    together = len(dataset) - len(set(groups.tolist()))
    sizes = Counter(name for *_, name in placed)
    counts = ", ".join(f"{name} {sizes[name]}" + " (as given)" * (name in kept) for name in SPLITS)
    print(f"{counts} images; {together} near duplicates kept together")
    if note := _what_groups_did(dataset, groups.tolist(), parts, freely):
        print(f"{note}; `{program()} data describe --check` lists look-alikes, --near_duplicate_bits -1 ignores them")
    print(f"fingerprint: {found}\nresults: {out}")


def near_duplicates(paths: Sequence[Path], bits: int) -> np.ndarray:
    """Group images that look alike.

    Args:
        paths: `N` image files.
        bits: how many of 256 hash bits may differ, as in `group_alike`.

    Returns:
        int32 `[N]`: the group of each image.
    """
    found = in_order(lambda path: fingerprint(load_named(path)), paths, cpu_cores())
    return group_alike(progress(found, "comparing", len(paths), unit="image"), bits)


def assign(
    label_sets: Sequence[tuple[str, ...]], groups: Sequence[int], fractions: Sequence[float], seed: int
) -> list[int]:
    """Give every image a split: per label set as close to `fractions` as whole groups allow.

    Returns:
        per image 0 (train), 1 (val) or 2 (test).
    """
    members: dict[int, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        members[group].append(index)
    # A group that spans label sets (the same picture under two labels) counts for its first one.
    strata: dict[tuple[str, ...], list[list[int]]] = defaultdict(list)
    for indices in members.values():
        strata[label_sets[indices[0]]].append(indices)
    parts = [0] * len(label_sets)
    rng = random.Random(seed)
    for stratum in sorted(strata):
        clusters = strata[stratum]
        rng.shuffle(clusters)
        clusters.sort(key=len, reverse=True)  # stable: large groups first, while every split has room for them
        total = sum(map(len, clusters))
        wanted = [fraction * total for fraction in fractions]
        filled = [0] * len(fractions)
        for number, indices in enumerate(clusters):
            # The last groups go to splits that have nothing yet: every split needs every class.
            bare = [part for part in range(len(fractions)) if filled[part] == 0]
            open_parts = bare if len(bare) >= len(clusters) - number else range(len(fractions))
            part = max(open_parts, key=lambda candidate: (wanted[candidate] - filled[candidate]) / wanted[candidate])
            filled[part] += len(indices)
            for index in indices:
                parts[index] = part
    return parts


def _what_groups_did(dataset: LabeledImages, groups: Sequence[int], parts: Sequence[int], freely: Sequence[int]) -> str:
    """Say where look-alikes have different labels, or move over 5% of the images from what `freely` had assigned."""
    images, notes = dataset.images, []
    first: dict[int, int] = {}
    conflicts: dict[int, int] = {}  # per group its first image, and the next with other labels
    for index, group in enumerate(groups):
        one = first.setdefault(group, index)
        if images[index].labels != images[one].labels:
            conflicts.setdefault(one, index)
    if conflicts:
        names = [relative(images[index].path, dataset.root) for index in next(iter(conflicts.items()))]
        count = f"{len(conflicts)} group{'s' * (len(conflicts) > 1)} of near duplicates"
        notes.append(f"different labels in {count}, as '{names[0]}' and '{names[1]}'")
    sizes, free_sizes = ([found.count(part) for part in range(max(*parts, *freely) + 1)] for found in (parts, freely))
    if max(abs(size - free) for size, free in zip(sizes, free_sizes, strict=True)) > 0.05 * len(parts):
        notes.append(f"without near duplicates it would be {', '.join(map(str, free_sizes))} images")
    return "; ".join(notes)


def _check_every_class(
    dataset: LabeledImages, names: Sequence[str], parts: Sequence[int], freely: Sequence[int]
) -> None:
    """Every split needs every class; with too few different images of one it cannot have it."""
    if not (lacking := _lacking(dataset, parts, len(names))):
        return
    label, part = lacking[0]
    ignoring = "" if _lacking(dataset, freely, len(names)) else ", or ignore near copies with --near_duplicate_bits -1"
    raise UserError(
        f"'{dataset.root}' has too few different images of '{label}' for a {names[part]} split; add images (at least "
        f"{len(names)} of every label folder, no near copies){ignoring}"
    )


def _lacking(dataset: LabeledImages, parts: Sequence[int], count: int) -> list[tuple[str, int]]:
    """Labels and the splits, of `count`, that have no image of them."""
    found = {(label, part) for image, part in zip(dataset.images, parts, strict=True) for label in image.labels}
    return [(label, part) for part in range(count) for label in dataset.classes if (label, part) not in found]


def _place(source: Path, target: Path, mode: str) -> None:
    if mode == "link":
        try:
            os.link(source.resolve(), target)
        except OSError as error:
            raise UserError(f"cannot link '{source}' to '{target}' ({error.strerror}); use --mode copy") from error
    else:
        shutil.copyfile(source, target)
