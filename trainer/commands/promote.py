"""`manasight promote`: moves the alias `champion` to a registered model if it beats the present champion."""

from pathlib import Path

import numpy as np

from contract.images import resize
from contract.registry import model_name
from trainer.data.dataset import MultiLabelImageFolder
from trainer.data.images import load_named
from trainer.data.parallel import in_order
from trainer.data.samples import NO_LABEL, Format, find_splits, read_labels
from trainer.errors import UserError
from trainer.model.metrics import Comparison, compare
from trainer.model.onnx_file import OnnxClassifier, batched, decided
from trainer.paths import run_folder
from trainer.progress import progress
from trainer.resources import cpu_cores
from trainer.tracking import registry
from trainer.tracking.mlflow import connect
from trainer.tracking.registry import fetch, other_labels
from trainer.tracking.runs import load_run

FORCE = "--force 'new labels' (`make train` and jobs of the cluster: PROMOTE='new labels')"


def promote(
    version: int | None = None,
    data: Path | None = None,
    force: str | None = None,
    separator: str = "-",
    negatives: str = NO_LABEL,
    nested: bool = False,
    follow_links: bool = False,
    images: str = "",
    check: bool = False,
) -> bool:
    """Make a registered model the champion if its macro F1 on the test split is higher than the present champion's.

    Both are measured on the same images, each with its own thresholds; a bootstrap over those images says whether the
    difference is more than noise. Within noise the higher figure still wins. Who was champion before, when and why it
    changed is kept in the registered model's tags.

    Args:
        version: the candidate's version; by default the newest.
        data: the folder of splits to compare on; by default that of the candidate's run.
        force: promote it even if it is not the better one, for the reason given here. Its file must still be valid.
        separator: between labels in the names of the folders of --data.
        negatives: the folder of images without any label in --data.
        nested: every folder between a split of --data and an image adds labels.
        follow_links: also links that leave a split.
        images: the folder that the paths in a table are relative to; by default found by itself.
        check: promote nothing; before a training, only compare the labels of --data (label folders, or splits of them)
            with the champion's. The exit status is 2 if they differ and there is no --force.

    Returns:
        whether the version is the champion now.
    """
    form = Format(separator, negatives, nested, follow_links, images)
    if check:
        if data is None:
            raise UserError("--check compares the labels of a dataset: name its folder with --data")
        print(check_labels(data, form, force))
        return False
    check_reason(force)
    client = connect()
    name = model_name()
    candidate = registry.find_version(client, version)
    champion = registry.find_champion(client)
    if champion is not None and int(champion.version) == int(candidate.version):
        print(f"{name} version {candidate.version} is the champion already")
        return True
    new = fetch(candidate)
    if champion is None:
        reason = "there was no champion"
    elif force is not None:
        reason = f"forced: {force.strip()}"
    else:
        old = fetch(champion)
        if new.metadata.classes != old.metadata.classes:
            who = f"version {candidate.version}"
            raise UserError(
                f"{other_labels(who, new.metadata.classes, champion.version, old.metadata.classes)}; if the labels "
                f"changed on purpose, give a reason: {FORCE}"
            )
        images = test_images(new, candidate.version, data, form)
        found = compare(answers(new, images), answers(old, images), images.targets.numpy() > 0.5)
        reason = f"{describe(found, candidate.version, champion.version)} on {len(images)} images"
        if not found.difference > 0:
            print(f"{reason}: version {champion.version} stays champion")
            return False
    registry.promote(client, candidate, champion, reason)
    print(f"{name} version {candidate.version} is the champion: {reason}")
    return True


def test_images(model: OnnxClassifier, version: str, data: Path | None, form: Format) -> MultiLabelImageFolder:
    """The images to compare on: the test split of `data`, or of the dataset that the candidate was trained on.

    Raises:
        UserError: if there is none.
    """
    if data is not None:
        test = find_splits(data).get("test")
        if test is None:
            raise UserError(f"'{data}' has no test split to compare on; name a folder of splits with --data")
        return MultiLabelImageFolder(test, form=form, classes=model.metadata.classes)
    if not run_folder(model.metadata.run_id).is_dir():
        raise UserError(
            f"version {version} was trained on another machine, so its images are not known here; name a folder of "
            "splits with --data"
        )
    return load_run(model.metadata.run_id).data.dataset("test")


def check_reason(force: str | None) -> None:
    """Refuse an empty reason.

    Raises:
        UserError: if it is empty.
    """
    if force is not None and not force.strip():
        raise UserError("--force needs a reason, which is kept in the registry: --force 'the labels changed'")


def check_labels(data: Path, form: Format, force: str | None = None) -> str:
    """Whether a model trained on a dataset could be compared with the champion: they need the same labels.

    Args:
        data: the dataset, with splits or without.
        form: how labels are written in it.
        force: the reason to replace the champion anyway.

    Returns:
        the answer as one sentence.

    Raises:
        UserError: if the labels differ and no reason is given, or if the dataset or the registry cannot be read.
    """
    check_reason(force)
    labels = read_labels(data, form)
    champion = registry.present_champion()
    if champion is None:
        return "there is no champion yet, so any labels will do"
    known = registry.labels_tag(champion) or fetch(champion).metadata.classes
    if labels == set(known):
        return f"'{data}' has the labels of champion version {champion.version}"
    difference = other_labels(f"'{data}'", labels, champion.version, known)
    if force is None:
        raise UserError(f"{difference}; to replace the champion, give a reason: {FORCE}")
    return f"{difference}; `promote` needs the reason again: --force '{force.strip()}'"


def describe(found: Comparison, candidate: str, champion: str) -> str:
    """A comparison of two versions as the beginning of a sentence."""
    low, high = found.interval
    word = "better than" if found.difference > 0 else "worse than" if found.difference < 0 else "as good as"
    return (
        f"version {candidate} (macro F1 {found.new:.3f}) is {word} champion version {champion} ({found.old:.3f}) "
        f"{'within' if low <= 0 <= high else 'beyond'} noise (difference from {low:+.3f} to {high:+.3f} at 95 %)"
    )


def answers(model: OnnxClassifier, images: MultiLabelImageFolder) -> np.ndarray:
    """bool `[N, C]`: the labels that a model gives to images, with its own thresholds."""
    size, letterbox = model.metadata.input_size, model.metadata.letterbox
    paths = [image.path for image in images.images]
    pixels = in_order(lambda path: np.asarray(resize(load_named(path), size, letterbox)), paths, cpu_cores())
    probabilities = model.predict(batched(progress(pixels, "comparing", len(paths), unit="image")))
    return decided(probabilities, model.metadata.thresholds)
