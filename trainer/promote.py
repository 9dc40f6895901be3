"""`manasight promote`: moves the alias `champion` to a registered model if it beats the present champion."""

from pathlib import Path

import mlflow
import numpy as np
import torch
from mlflow.artifacts import download_artifacts
from mlflow.exceptions import MlflowException
from tqdm import tqdm

from trainer import tracking
from trainer.data.folder import MultiLabelImageFolder
from trainer.data.image import load_rgb, resize
from trainer.errors import UserError
from trainer.evaluate import load_run
from trainer.metrics import measure
from trainer.onnx_file import OnnxClassifier, batched, decided

ALIAS = "champion"


def promote(version: int | None = None, data: Path | None = None, force: bool = False) -> None:
    """Make a registered model the champion if its macro F1 on the test split is higher than the present champion's.

    Both are measured on the same images, each with its own thresholds.

    Args:
        version: the candidate's version; by default the newest.
        data: the folder of splits to compare on; by default that of the candidate's run.
        force: promote it even if it is not the better one.
    """
    client = tracking.connect()
    name = tracking.MODEL_NAME
    candidate = find_version(client, version)
    champion = find_champion(client)
    if champion is None:
        reason = "there was no champion"
    elif int(champion.version) == int(candidate.version):
        print(f"{name} version {candidate.version} is the champion already")
        return
    else:
        new, old = fetch(candidate.version), fetch(champion.version)
        if new.metadata.classes != old.metadata.classes and not force:
            raise UserError(
                f"version {candidate.version} knows {new.metadata.classes}, champion {champion.version} "
                f"{old.metadata.classes}; they cannot be compared: promote with --force if that is meant"
            )
        if new.metadata.classes != old.metadata.classes:
            reason = "forced: its classes are not the former champion's"
        else:
            root = data if data is not None else load_run(new.metadata.run_id).data.root
            split = MultiLabelImageFolder(root / "test", classes=new.metadata.classes)
            f1, former = macro_f1(new, split), macro_f1(old, split)
            comparison = f"macro F1 {f1:.4f} against {former:.4f} of version {champion.version} on {len(split)} images"
            if f1 <= former and not force:
                print(f"version {champion.version} stays champion: {comparison} is not better")
                return
            reason = comparison if f1 > former else f"forced: {comparison}"
    client.set_registered_model_alias(name, ALIAS, candidate.version)
    client.set_model_version_tag(name, candidate.version, "manasight.promoted", reason)
    print(f"{name} version {candidate.version} is the champion: {reason}")


def find_version(client: mlflow.MlflowClient, version: int | None) -> mlflow.entities.model_registry.ModelVersion:
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


def find_champion(client: mlflow.MlflowClient) -> mlflow.entities.model_registry.ModelVersion | None:
    """The version that the alias names now, if it names one."""
    try:
        return client.get_model_version_by_alias(tracking.MODEL_NAME, ALIAS)
    except MlflowException:
        return None


def fetch(version: str) -> OnnxClassifier:
    """Load a registered version."""
    uri = f"models:/{tracking.MODEL_NAME}/{version}"
    return OnnxClassifier(Path(download_artifacts(artifact_uri=uri)) / "model.onnx")


def macro_f1(model: OnnxClassifier, split: MultiLabelImageFolder) -> float:
    """Macro F1 of a model on labelled images, with the model's own thresholds."""
    size = model.metadata.input_size
    images = (np.asarray(resize(load_rgb(Path(path)), size)) for path, _ in split.samples)
    probabilities = model.predict(batched(tqdm(images, total=len(split), desc="comparing", unit="image", disable=None)))
    labels = decided(probabilities, model.metadata.thresholds)
    return measure(torch.from_numpy(labels).float(), split.targets)["macro_f1"]
