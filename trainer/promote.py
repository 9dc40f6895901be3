"""`manasight promote`: moves the alias `champion` to a registered model if it beats the present champion."""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
import numpy as np
from mlflow.artifacts import download_artifacts
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from tqdm import tqdm

from trainer import tracking
from trainer.champion import ALIAS, find_champion, labels_tag, other_labels
from trainer.data.folder import MultiLabelImageFolder, label_folders
from trainer.data.image import load_named, resize
from trainer.data.parallel import in_order
from trainer.data.splits import find_splits
from trainer.errors import UserError
from trainer.evaluate import load_run
from trainer.metrics import Comparison, compare
from trainer.onnx_file import OnnxClassifier, batched, decided
from trainer.resources import cpu_cores

# Tags of the registered model that hold its history, numbered in order.
HISTORY = "manasight.promotion."


def promote(
    version: int | None = None,
    data: Path | None = None,
    force: str | None = None,
    separator: str = "-",
    check: bool = False,
) -> None:
    """Make a registered model the champion if its macro F1 on the test split is higher than the present champion's.

    Both are measured on the same images, each with its own thresholds; a bootstrap over those images says whether the
    difference is more than noise. Within noise the higher figure still wins. Who was champion before, when and why it
    changed is kept in the registered model's tags.

    Args:
        version: the candidate's version; by default the newest.
        data: the folder of splits to compare on; by default that of the candidate's run.
        separator: what stands between labels in the names of the folders of --data.
        force: promote it even if it is not the better one, for the reason given here. Its file must still be in order.
        check: promote nothing; before a training, only compare the labels of --data (label folders, or splits of them)
            with the champion's. The exit status is 1 if they differ and there is no --force.
    """
    if check:
        if data is None:
            raise UserError("--check compares the labels of a dataset: name its folder with --data")
        print(check_labels(data, separator, force))
        return
    check_reason(force)
    client = tracking.connect()
    name = tracking.MODEL_NAME
    candidate = find_version(client, version)
    champion = find_champion(client)
    if champion is not None and int(champion.version) == int(candidate.version):
        print(f"{name} version {candidate.version} is the champion already")
        return
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
                "changed on purpose, give a reason: --force 'new labels'"
            )
        if data is None and not tracking.run_folder(new.metadata.run_id).is_dir():
            raise UserError(
                f"version {candidate.version} was trained on another machine, so its images are not known here; name a "
                "folder of splits with --data"
            )
        if data is None:
            split = load_run(new.metadata.run_id).data.folder("test")
        else:
            test = find_splits(data).get("test")
            if test is None:
                raise UserError(f"'{data}' holds no test split to compare on; name a folder of splits with --data")
            split = MultiLabelImageFolder(test, separator=separator, classes=new.metadata.classes)
        found = compare(answers(new, split), answers(old, split), split.targets.numpy() > 0.5)
        reason = f"{describe(found, candidate.version, champion.version)} on {len(split)} images"
        if not found.difference > 0:
            print(f"{reason}: version {champion.version} stays champion")
            return
    record(client, candidate, champion, reason)
    client.set_registered_model_alias(name, ALIAS, candidate.version)
    print(f"{name} version {candidate.version} is the champion: {reason}")


def check_reason(force: str | None) -> None:
    """Refuse an empty reason.

    Raises:
        UserError: if it is empty.
    """
    if force is not None and not force.strip():
        raise UserError("--force needs a reason, which is kept in the registry: --force 'the labels changed'")


def check_labels(data: Path, separator: str = "-", force: str | None = None) -> str:
    """Whether a model trained on a dataset could be compared with the champion: they need the same labels.

    Args:
        data: a folder of label folders, or of splits that hold them.
        separator: what stands between labels in a folder's name.
        force: the reason to replace the champion anyway.

    Returns:
        the answer as one sentence.

    Raises:
        UserError: if the labels differ and no reason is given, or if the dataset or the registry cannot be read.
    """
    check_reason(force)
    folders = label_folders(find_splits(data).get("train", data), separator)
    labels = {label for labels in folders.values() for label in labels}
    # Where nothing was trained a question makes no database either.
    champion = find_champion(tracking.connect()) if tracking.exists() else None
    if champion is None:
        return "there is no champion yet, so any labels will do"
    known = labels_tag(champion) or fetch(champion).metadata.classes
    if labels == set(known):
        return f"'{data}' has the labels of champion version {champion.version}"
    difference = other_labels(f"'{data}'", labels, champion.version, known)
    if force is None:
        raise UserError(f"{difference}; to replace the champion, give a reason: --force 'new labels'")
    return f"{difference}; `promote` needs the reason again: --force '{force.strip()}'"


def describe(found: Comparison, candidate: str, champion: str) -> str:
    """A comparison of two versions as the beginning of a sentence."""
    low, high = found.interval
    word = "better than" if found.difference > 0 else "worse than" if found.difference < 0 else "as good as"
    return (
        f"version {candidate} (macro F1 {found.new:.3f}) is {word} champion version {champion} ({found.old:.3f}) "
        f"{'within' if low <= 0 <= high else 'beyond'} noise (difference from {low:+.3f} to {high:+.3f} at 95 %)"
    )


def record(client: mlflow.MlflowClient, candidate: ModelVersion, champion: ModelVersion | None, reason: str) -> None:
    """Write a promotion into the registry's tags, before the alias moves.

    A promotion that was killed between the two leaves an entry of a version that is not the champion; the next one
    takes its place.
    """
    tags = client.get_registered_model(tracking.MODEL_NAME).tags
    past = {int(key.removeprefix(HISTORY)): json.loads(tags[key]) for key in tags if key.startswith(HISTORY)}
    number = max(past, default=0)
    if number == 0 or (champion is not None and past[number]["version"] == int(champion.version)):
        number += 1
    entry = {
        "version": int(candidate.version),
        "former": int(champion.version) if champion else None,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "reason": reason,
    }
    client.set_registered_model_tag(tracking.MODEL_NAME, f"{HISTORY}{number:04}", json.dumps(entry, ensure_ascii=False))
    client.set_model_version_tag(tracking.MODEL_NAME, candidate.version, "manasight.promoted", reason)


def find_version(client: mlflow.MlflowClient, version: int | None) -> ModelVersion:
    """A version of the registered model, by default the newest.

    Raises:
        UserError: if there is none.
    """
    versions = client.search_model_versions(f"name = '{tracking.MODEL_NAME}'")
    found = [entry for entry in versions if version is None or int(entry.version) == version]
    if not found:
        what = "no version" if version is None else f"no version {version}"
        raise UserError(f"{what} of '{tracking.MODEL_NAME}' is registered; make one with `manasight export`")
    return max(found, key=lambda entry: int(entry.version))


def fetch(version: ModelVersion) -> OnnxClassifier:
    """Load a registered version's file and check it: what it says of itself, its checksum, a test inference.

    Raises:
        UserError: if any of them is not in order.
    """
    number = version.version
    remedy = f"delete version {number} in MLflow and export its run again"  # for a file that is not what it should be
    with TemporaryDirectory(prefix="manasight-") as folder:
        try:
            uri = f"models:/{tracking.MODEL_NAME}/{number}/model.onnx"
            path = Path(download_artifacts(artifact_uri=uri, dst_path=folder))
        except (MlflowException, OSError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"the file of version {number} cannot be had: {reason}; if it is gone, {remedy}") from error
        expected = version.tags.get("manasight.sha256")
        if expected and hashlib.sha256(path.read_bytes()).hexdigest() != expected:
            raise UserError(
                f"the file of version {number} is damaged: it has not the SHA-256 that was registered with it; {remedy}"
            )
        try:
            model = OnnxClassifier(path)
            model.check()
        except UserError as error:
            reason = str(error).replace(f"'{path}'", "its file")
            raise UserError(f"version {number} fails its check: {reason}") from error
        return model


def answers(model: OnnxClassifier, split: MultiLabelImageFolder) -> np.ndarray:
    """bool `[N, C]`: the labels that a model gives to the images of a split, with its own thresholds."""
    size = model.metadata.input_size
    paths = [Path(path) for path, _ in split.samples]
    images = in_order(lambda path: np.asarray(resize(load_named(path), size)), paths, cpu_cores())
    probabilities = model.predict(batched(tqdm(images, total=len(split), desc="comparing", unit="image", disable=None)))
    return decided(probabilities, model.metadata.thresholds)
