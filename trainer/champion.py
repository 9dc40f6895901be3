"""The registry's champion and its labels, compared with those of a dataset before minutes of training."""

import json
from collections.abc import Collection
from contextlib import suppress

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from trainer import tracking

ALIAS = "champion"
LABELS_TAG = "manasight.classes"
MAX_NAMED_LABELS = 6


def find_champion(client: mlflow.MlflowClient) -> ModelVersion | None:
    """The version that the alias names now, if it names one."""
    try:
        return client.get_model_version_by_alias(tracking.MODEL_NAME, ALIAS)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return None


def labels_tag(version: ModelVersion) -> list[str] | None:
    """The labels that were registered with a version; None for versions of Manasight before it kept them there."""
    with suppress(KeyError, ValueError):
        return list(json.loads(version.tags[LABELS_TAG]))
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
    """One line for `manasight fit` if the champion has other labels. Two small queries, and no reason to fail."""
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
    shown = ", ".join(ordered[:MAX_NAMED_LABELS])
    more = len(ordered) - MAX_NAMED_LABELS
    return f"{shown} and {more} more" if more > 0 else shown
