"""The figures that every split is judged by."""

import torch
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    MultilabelAccuracy,
    MultilabelAveragePrecision,
    MultilabelConfusionMatrix,
    MultilabelExactMatch,
    MultilabelF1Score,
    MultilabelPrecision,
    MultilabelRecall,
)


def multilabel_metrics(classes: int, prefix: str = "") -> MetricCollection:
    """Macro averages over the classes at a threshold of 0.5, mean average precision, and the share of exact matches.

    They take probabilities float `[N, C]` and targets int `[N, C]`.
    """
    return MetricCollection(
        {
            "accuracy": MultilabelAccuracy(classes, average="macro"),
            "precision": MultilabelPrecision(classes, average="macro"),
            "recall": MultilabelRecall(classes, average="macro"),
            "macro_f1": MultilabelF1Score(classes, average="macro"),
            "map": MultilabelAveragePrecision(classes, average="macro"),
            "exact_match": MultilabelExactMatch(classes),
        },
        prefix=prefix,
        # The grouping is found by comparing states on the first batch, which costs more than it saves here.
        compute_groups=False,
    )


def measure(probabilities: Tensor, targets: Tensor) -> dict[str, float]:
    """All of `multilabel_metrics` for probabilities float `[N, C]` against targets `[N, C]`."""
    metrics = multilabel_metrics(probabilities.shape[1])
    return {name: float(value) for name, value in metrics(probabilities, targets.int()).items()}


def per_class(probabilities: Tensor, targets: Tensor, thresholds: Tensor) -> dict[str, list[float]]:
    """Figures of each class: precision, recall, F1 and accuracy at 0.5, average precision, F1 at its own threshold.

    Args:
        probabilities: float `[N, C]`.
        targets: `[N, C]`, 0 or 1.
        thresholds: float `[C]`.

    Returns:
        figure → its `C` values.
    """
    classes, truth = probabilities.shape[1], targets.int()
    metrics = {
        "precision": MultilabelPrecision(classes, average=None),
        "recall": MultilabelRecall(classes, average=None),
        "f1": MultilabelF1Score(classes, average=None),
        "accuracy": MultilabelAccuracy(classes, average=None),
        "average_precision": MultilabelAveragePrecision(classes, average=None),
    }
    table = {name: metric(probabilities, truth).tolist() for name, metric in metrics.items()}
    decided = (probabilities >= thresholds).int()
    table["f1_at_threshold"] = MultilabelF1Score(classes, average=None)(decided, truth).tolist()
    return {"positives": truth.sum(0).tolist(), **table, "threshold": thresholds.tolist()}


def confusion_matrices(probabilities: Tensor, targets: Tensor, thresholds: Tensor) -> Tensor:
    """int64 `[C, 2, 2]`: per class true negatives, false positives; false negatives, true positives."""
    return MultilabelConfusionMatrix(probabilities.shape[1])((probabilities >= thresholds).int(), targets.int())


def tune_thresholds(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Per class the threshold with the best F1; of all that reach it the one nearest to 0.5.

    Nearest to 0.5 because a small split leaves a wide range of equally good thresholds, whose ends are chance.

    Args:
        probabilities: float `[N, C]`.
        targets: `[N, C]`, 0 or 1.

    Returns:
        float32 `[C]`, each from 0.05 to 0.95.
    """
    best = []
    for column, truth in zip(probabilities.T.double(), targets.T.bool(), strict=True):
        edges = torch.cat([torch.tensor([0.0, 0.5]), column, torch.tensor([1.0])]).double().unique()
        # F1 is constant between neighbouring probabilities: their midpoints and 0.5 stand for every threshold.
        candidates = torch.cat([(edges[1:] + edges[:-1]) / 2, torch.tensor([0.5])]).clamp(0.05, 0.95)
        decided = column[None] >= candidates[:, None]
        hits = (decided & truth).sum(1)
        f1 = 2 * hits / (decided.sum(1) + truth.sum()).clamp(min=1)
        winners = candidates[f1 >= f1.max() - 1e-9]
        best.append(winners[(winners - 0.5).abs().argmin()])
    return torch.stack(best).float()
