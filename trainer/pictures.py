"""The pictures that people judge a model by: predictions on images, confusion matrices."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure


def save_predictions(
    images: Sequence[np.ndarray],
    probabilities: np.ndarray,
    targets: np.ndarray,
    thresholds: np.ndarray,
    classes: Sequence[str],
    path: Path,
) -> None:
    """Save a grid of images with their predicted labels, in red where a label is wrong or missing.

    Args:
        images: `N` images, uint8 `[H, W, 3]`.
        probabilities: float `[N, C]`.
        targets: bool `[N, C]`.
        thresholds: float `[C]`.
        classes: the `C` label names.
        path: the PNG file to write.
    """
    columns = min(6, len(images))
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(2.1 * columns, 3.4 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.axis("off")
    for axis, image, row, truth in zip(axes, images, probabilities, targets, strict=False):
        decided = row >= thresholds
        axis.imshow(image)
        lines = [f"{classes[k]} {row[k]:.2f}" for k in np.flatnonzero(decided)] or ["no label"]
        lines += [f"not {classes[k]} {row[k]:.2f}" for k in np.flatnonzero(truth & ~decided)]
        colour = "#1a7f37" if (decided == truth).all() else "#cf222e"
        axis.set_title("\n".join(lines), fontsize=9, color=colour)
    figure.savefig(path, dpi=110)


def save_confusion_matrices(matrices: np.ndarray, classes: Sequence[str], path: Path) -> None:
    """Save one 2×2 confusion matrix per class.

    Args:
        matrices: int `[C, 2, 2]`, rows the truth, columns the prediction, no before yes.
        classes: the `C` label names.
        path: the PNG file to write.
    """
    columns = min(5, len(classes))
    rows = -(-len(classes) // columns)
    figure = Figure(figsize=(2.3 * columns, 2.5 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes[len(classes) :]:
        axis.axis("off")
    for axis, matrix, label in zip(axes, matrices, classes, strict=False):
        axis.imshow(matrix / matrix.sum(axis=1, keepdims=True).clip(min=1), cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(matrix):
            share = count / max(1, matrix[row].sum())
            axis.text(column, row, count, ha="center", va="center", color="white" if share > 0.5 else "black")
        axis.set(xticks=[0, 1], yticks=[0, 1], xticklabels=["no", "yes"], yticklabels=["no", "yes"], title=label)
    figure.supxlabel("predicted")
    figure.supylabel("true")
    figure.savefig(path, dpi=110)
