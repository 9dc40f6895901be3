"""The figures that every split is judged by."""

from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor, nn
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
from torchmetrics.functional.classification import binary_precision_recall_curve

BINS = 15  # of a reliability diagram
RESAMPLES = 2000  # of the bootstrap


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
        figure → its `C` values. If some images have no label, `on_negatives` says how many of those got the label.
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
    negatives = truth.sum(1) == 0
    if negatives.any():
        table["on_negatives"] = decided[negatives].sum(0).tolist()
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
        ranked, order = column.sort()
        below = torch.searchsorted(ranked, candidates)  # how many images get too little for each candidate
        missed = torch.cat([torch.zeros(1, dtype=torch.long), truth[order].cumsum(0)])[below]
        hits, decided = truth.sum() - missed, len(column) - below
        f1 = 2 * hits / (decided + truth.sum()).clamp(min=1)
        winners = candidates[f1 >= f1.max() - 1e-9]
        best.append(winners[(winners - 0.5).abs().argmin()])
    return torch.stack(best).float()


def precision_recall(probabilities: Tensor, targets: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """One class's precision and recall at every threshold: float `[K]` each, from probabilities and targets `[N]`."""
    precision, recall, _ = binary_precision_recall_curve(probabilities, targets.int())
    return precision.numpy(), recall.numpy()


def at_threshold(probabilities: Tensor, targets: Tensor, threshold: Tensor) -> tuple[float, float]:
    """One class's precision and recall at one threshold, from probabilities and targets `[N]`."""
    decided, truth = probabilities >= threshold, targets > 0.5
    hits = int((decided & truth).sum())
    return hits / max(1, int(decided.sum())), hits / max(1, int(truth.sum()))


def fit_temperature(logits: Tensor, targets: Tensor) -> float:
    """The one number that logits are divided by so that probabilities mean what they say, for all classes together.

    It minimizes the cross-entropy (Guo et al. 2017, https://arxiv.org/abs/1706.04599). Where the split is separated
    without a mistake that would be at zero, with every probability 0 or 1; so targets are smoothed by how many examples
    stand behind them (Platt 1999, Probabilistic outputs for support vector machines, section 2.2).

    Args:
        logits: float `[N, C]` of the validation split.
        targets: `[N, C]`, 0 or 1.

    Returns:
        from 0.05 to 20; above 1 for a model that was too sure of itself.
    """
    logits, targets = logits.double(), targets.double()
    # Counted over all classes, as the temperature is one for all: per class, rare labels would make all answers unsure.
    positives, answers = targets.sum(), targets.numel()
    yes, no = (positives + 1) / (positives + 2), 1 / (answers - positives + 2)
    smoothed = torch.where(targets > 0.5, yes, no)

    def loss(exponent: float) -> float:
        return float(nn.functional.binary_cross_entropy_with_logits(logits / 20**exponent, smoothed))

    return float(20 ** minimize_scalar(loss, bounds=(-1, 1), method="bounded", options={"xatol": 1e-4}).x)


def reliability(probabilities: Tensor, targets: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How often labels hold that were given a probability: every answer for every class counts alike.

    Args:
        probabilities: float `[N, C]`.
        targets: `[N, C]`, 0 or 1.

    Returns:
        per bin that is not empty, of `BINS` of equal width from 0 to 1: mean probability, share of labels that hold,
        number of answers; float64 `[B]` each.
    """
    found, truth = probabilities.flatten().double().numpy(), targets.flatten().double().numpy()
    place = np.minimum((found * BINS).astype(int), BINS - 1)
    count, total, held = (np.bincount(place, weights, BINS) for weights in (None, found, truth))
    some = count > 0
    return total[some] / count[some], held[some] / count[some], count[some].astype(np.float64)


def calibration_error(probabilities: Tensor, targets: Tensor) -> float:
    """Expected calibration error: the mean distance of `reliability` from the diagonal, weighted by its counts."""
    mean, share, count = reliability(probabilities, targets)
    return float((np.abs(mean - share) * count).sum() / count.sum())


class Comparison(NamedTuple):
    """Two models' macro F1 on the same images, their difference and its 95 % bootstrap interval."""

    new: float
    old: float
    difference: float
    interval: tuple[float, float]


def compare(new: np.ndarray, old: np.ndarray, truth: np.ndarray) -> Comparison:
    """Compare two models by macro F1 with a paired bootstrap over the images.

    Each resample draws as many images as there are, with replacement, and judges both models on them, so that images
    that are hard for both do not widen the interval (Efron & Tibshirani 1993, chapter 13: percentile interval). The
    same answers always give the same interval.

    Args:
        new, old: bool `[N, C]`, the labels that each model gives.
        truth: bool `[N, C]`.
    """
    counts = [np.stack([found & truth, found | truth], 1).reshape(len(truth), -1) for found in (new, old)]
    # Per image and class: hits and, from hits and the union, 2 TP + FP + FN = union + hits.
    table = np.concatenate(counts, 1).astype(np.float64)

    def scores(sums: np.ndarray) -> np.ndarray:
        hits, union = np.moveaxis(sums.reshape(-1, 2, 2, truth.shape[1]), 2, 0)
        return (2 * hits / np.maximum(union + hits, 1)).mean(-1)

    rng = np.random.default_rng(0)
    share = np.full(len(truth), 1 / len(truth))
    drawn = np.concatenate([scores(rng.multinomial(len(truth), share) @ table) for _ in range(RESAMPLES)])
    low, high = np.percentile(drawn[:, 0] - drawn[:, 1], [2.5, 97.5])
    first, second = scores(table.sum(0))[0]
    return Comparison(float(first), float(second), float(first - second), (float(low), float(high)))
