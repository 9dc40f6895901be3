"""The registered model: its versions, its champion, and the history of promotions."""

import hashlib
import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
import mlflow.onnx
import numpy as np
import onnx
import onnxruntime
from mlflow.artifacts import download_artifacts
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models.signature import ModelSignature
from mlflow.types import Schema, TensorSpec

from contract.registry import ALIAS, ARTIFACT, CLASSES_TAG, DIGEST_TAG, model_name
from trainer.errors import UserError, error_of_mlflow
from trainer.model.onnx_file import OnnxClassifier
from trainer.tracking.mlflow import connect, exists

# Tags of the registered model with its history, numbered in order.
HISTORY = "manasight.promotion."
MAX_LISTED_LABELS = 6


def find_champion(client: mlflow.MlflowClient) -> ModelVersion | None:
    """The version that the alias names now, if it names one."""
    try:
        return client.get_model_version_by_alias(model_name(), ALIAS)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return None


def present_champion() -> ModelVersion | None:
    """`find_champion`, but where nothing was trained yet the question creates no database."""
    return find_champion(connect()) if exists() else None


def find_version(client: mlflow.MlflowClient, version: int | None) -> ModelVersion:
    """A version of the registered model, by default the newest.

    Raises:
        UserError: if there is none.
    """
    versions = client.search_model_versions(f"name = '{model_name()}'")
    found = [entry for entry in versions if version is None or int(entry.version) == version]
    if not found:
        what = "no version" if version is None else f"no version {version}"
        raise UserError(f"{what} of '{model_name()}' is registered; make one with `manasight export`")
    return max(found, key=lambda entry: int(entry.version))


def fetch(version: ModelVersion) -> OnnxClassifier:
    """Load a registered version; raises as `fetched`."""
    with fetched(version) as (_, model):
        return model


@contextmanager
def fetched(version: ModelVersion) -> Iterator[tuple[Path, OnnxClassifier]]:
    """A registered version's file while it is needed, loaded and checked: its metadata, its checksum, a test inference.

    Raises:
        UserError: if one of them is wrong.
    """
    number = version.version
    remedy = f"delete version {number} in MLflow and export its run again"  # for a file that is not what it should be
    with TemporaryDirectory(prefix="manasight-") as folder:
        try:
            path = Path(download_artifacts(artifact_uri=f"models:/{model_name()}/{number}/{ARTIFACT}", dst_path=folder))
        except (MlflowException, OSError) as error:
            reason = str(error).splitlines()[0]
            raise error_of_mlflow(
                f"the file of version {number} cannot be downloaded: {reason}; if it is gone, {remedy}", error
            ) from error
        expected = version.tags.get(DIGEST_TAG)
        if expected and hashlib.sha256(path.read_bytes()).hexdigest() != expected:
            raise UserError(
                f"the file of version {number} is damaged: it does not have the SHA-256 that was registered with it; "
                f"{remedy}"
            )
        try:
            model = OnnxClassifier(path)
            model.check()
        except UserError as error:
            reason = str(error).replace(f"'{path}'", "its file")
            raise UserError(f"version {number} fails its check: {reason}") from error
        yield path, model


def register_model(run_id: str, path: Path) -> str:
    """Log a model.onnx to its run, unchanged, and make it a version of the registered model.

    Returns:
        the new version, or the one that was made of this very file before.
    """
    client = mlflow.MlflowClient()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    same = client.search_model_versions(f"name = '{model_name()}' and tags.`{DIGEST_TAG}` = '{digest}'")
    if same:
        return same[0].version
    metadata = OnnxClassifier(path).metadata
    height, width = metadata.input_size
    classes = len(metadata.classes)
    signature = ModelSignature(
        Schema([TensorSpec(np.dtype(np.uint8), (-1, height, width, 3), "image")]),
        Schema(
            [
                TensorSpec(np.dtype(np.float32), (-1, classes), "probabilities"),
                TensorSpec(np.dtype(np.float32), (-1, classes, -1, -1), "activation_maps"),
            ]
        ),
    )
    before = client.get_run(run_id).info
    with mlflow.start_run(run_id):
        logged = mlflow.onnx.log_model(
            onnx.load(path),
            name="model",
            signature=signature,
            # Named, or MLflow would start a process that loads the model to find out.
            pip_requirements=[f"onnxruntime=={onnxruntime.__version__}", f"onnx=={onnx.__version__}"],
            save_as_external_data=False,
        )
    if before.status != "FINISHED":  # opening the run must not turn a failed one into a finished one
        client.set_terminated(run_id, before.status)
    version = mlflow.register_model(logged.model_uri, model_name()).version
    figures = metadata.metrics.get("test", {})
    tags = {
        "manasight.run_id": run_id,
        "manasight.macro_f1": f"{figures.get('macro_f1', 0):.4f}",
        DIGEST_TAG: digest,
        # So that `promote --check` need not download the file.
        CLASSES_TAG: json.dumps(metadata.classes, ensure_ascii=False),
    }
    for key, value in tags.items():
        client.set_model_version_tag(model_name(), version, key, value)
    return version


def promote(client: mlflow.MlflowClient, candidate: ModelVersion, champion: ModelVersion | None, reason: str) -> None:
    """Make a version the champion, and write that into the registry's tags before the alias moves.

    A promotion that was killed between the two leaves an entry of a version that is not the champion; the next one
    replaces it.

    Args:
        client: of MLflow.
        candidate: the new champion.
        champion: the present one, if there is one.
        reason: for the promotion.
    """
    tags = client.get_registered_model(model_name()).tags
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
    client.set_registered_model_tag(model_name(), f"{HISTORY}{number:04}", json.dumps(entry, ensure_ascii=False))
    client.set_model_version_tag(model_name(), candidate.version, "manasight.promoted", reason)
    client.set_registered_model_alias(model_name(), ALIAS, candidate.version)


def labels_tag(version: ModelVersion) -> list[str] | None:
    """The labels that were registered with a version; None for a version of a Manasight that did not store them yet."""
    with suppress(KeyError, ValueError):
        return list(json.loads(version.tags[CLASSES_TAG]))
    return None


def other_labels(who: str, labels: Collection[str], champion: str, known: Collection[str]) -> str:
    """Say that two label sets differ, the difference first, since label sets can be long.

    Args:
        who: has `labels`, as the subject of the sentence.
        labels: of the dataset or candidate.
        champion: the champion's version.
        known: the champion's labels.
    """
    shared = set(labels) & set(known)
    return (
        f"{who} has the labels {_shorten(labels, shared)}, champion version {champion} has {_shorten(known, shared)}, "
        "so the two cannot be compared"
    )


def fit_note(client: mlflow.MlflowClient, labels: Collection[str]) -> str | None:
    """One line for `manasight fit` if the champion has other labels. Two small queries, and never a reason to fail."""
    with suppress(MlflowException):
        champion = find_champion(client)
        known = labels_tag(champion) if champion else None
        if champion and known and set(known) != set(labels):
            return (
                f"note: {other_labels('this dataset', labels, champion.version, known)}: "
                "`manasight promote` will need --force 'new labels'"
            )
    return None


def _shorten(labels: Collection[str], shared: Collection[str]) -> str:
    """`a, b and 3 more`: labels of one side only come first."""
    ordered = sorted(labels, key=lambda label: (label in shared, label))
    shown = ", ".join(ordered[:MAX_LISTED_LABELS])
    more = len(ordered) - MAX_LISTED_LABELS
    return f"{shown} and {more} more" if more > 0 else shown
