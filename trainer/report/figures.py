"""The figures that people judge a model by: predictions on images, confusion matrices, curves, comparisons."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import BinaryIO

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

mpl.rcParams["text.parse_math"] = False  # a dollar in a label or a file's name is not a formula


def save_predictions(
    images: Sequence[np.ndarray],
    names: Sequence[str],
    probabilities: np.ndarray,
    targets: np.ndarray,
    thresholds: np.ndarray,
    classes: Sequence[str],
    path: Path,
) -> None:
    """Save a grid of images with their predicted labels, in red where a label is wrong or missing.

    Args:
        images: `N` images, uint8 `[H, W, 3]`.
        names: captions.
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
    for axis, image, name, row, truth in zip(axes, images, names, probabilities, targets, strict=False):
        decided = row >= thresholds
        axis.imshow(image)
        lines = [f"{classes[k]} {row[k]:.2f}" for k in np.flatnonzero(decided)] or ["no label"]
        lines += [f"not {classes[k]} {row[k]:.2f}" for k in np.flatnonzero(truth & ~decided)]
        color = "#1a7f37" if (decided == truth).all() else "#cf222e"
        axis.set_title("\n".join(lines), fontsize=9, color=color)
        axis.text(0.5, -0.02, fill(name, 26), transform=axis.transAxes, ha="center", va="top", fontsize=7)
    figure.savefig(path, dpi=110, bbox_inches="tight")


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
    figure.savefig(path, dpi=110, bbox_inches="tight")


def save_precision_recall(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]], chosen: Sequence[tuple[float, float]], path: Path
) -> None:
    """Save every class's precision over its recall.

    Args:
        curves: label → precision and recall, float `[K]` each.
        chosen: per label precision and recall at its threshold.
        path: the PNG file to write.
    """
    columns = min(5, len(curves))
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(2.3 * columns, 2.3 * rows), layout="constrained")
    # All axes get the same limits below; sharing them would take a time that grows with the square of their number.
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes[len(curves) :]:
        axis.axis("off")
    for axis in axes:
        axis.label_outer()
    for axis, (label, (precision, recall)), point in zip(axes, curves.items(), chosen, strict=False):
        axis.step(recall, precision, where="post", color="#3b6fd4")
        axis.plot(point[1], point[0], "o", color="#cf222e", clip_on=False)
        axis.set(title=label, xlim=(0, 1), ylim=(0, 1.03), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
        axis.grid(alpha=0.3)
    figure.supxlabel("recall")
    figure.supylabel("precision")
    figure.savefig(path, dpi=110, bbox_inches="tight")


def save_reliability(series: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]], path: Path) -> None:
    """Save a reliability diagram: how often labels hold over the probability that they were given.

    Args:
        series: name → mean probability, share that holds and number of answers, float `[B]` each.
        path: the PNG file to write.
    """
    figure = Figure(figsize=(3.4 * len(series), 3.6), layout="constrained")
    axes = figure.subplots(1, len(series), squeeze=False, sharey=True)[0]
    for axis, (name, (mean, share, count)) in zip(axes, series.items(), strict=True):
        error = (np.abs(mean - share) * count).sum() / count.sum()
        axis.plot([0, 1], [0, 1], color="#98a2b3", linewidth=1)
        axis.plot(mean, share, color="#3b6fd4", linewidth=1)
        # A dot's area grows with the logarithm of its answers: nearly all lie in the first and the last bin.
        axis.scatter(mean, share, s=12 + 18 * np.log10(count), color="#3b6fd4", zorder=3, clip_on=False)
        axis.set(title=f"{name}\nexpected calibration error {error:.4f}", xlim=(0, 1), ylim=(0, 1))
        axis.set_xlabel("probability given")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("share of labels that hold")
    figure.savefig(path, dpi=110, bbox_inches="tight")


def save_bars(table: pd.DataFrame, names: Sequence[str], path: Path) -> None:
    """Save one group of bars per figure, each beside the one published before where there is one.

    Args:
        table: a row per experiment; columns of `names`, and `baseline_<name>` if there are any.
        names: the figures.
        path: the PNG file to write.
    """
    figure = Figure(figsize=(2.7 * len(names), 3), layout="constrained")
    axes = figure.subplots(1, len(names), squeeze=False)[0]
    places = np.arange(len(table))
    for axis, name in zip(axes, names, strict=True):
        both = ((-0.2, name, "#3b6fd4"), (0.2, f"baseline_{name}", "#c3d2f2"))
        shown = [bar for bar in both if bar[1] in table]
        for shift, column, color in shown:
            bars = axis.bar(places + shift * (len(shown) - 1), table[column], 0.38, color=color)
            axis.bar_label(bars, fmt="%.3f" if name != "minutes" else "%.1f", fontsize=7)
        axis.set(xticks=places, xticklabels=table.index)
        axis.set_title(name, pad=12)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110, bbox_inches="tight")


def save_epochs(histories: Mapping[str, Sequence[float]], path: Path) -> None:
    """Save how a figure grew over the epochs of several runs, as a PNG file."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axis = figure.subplots()
    for name, values in histories.items():
        axis.plot(range(1, len(values) + 1), values, marker=".", label=name)
    axis.set(xlabel="epoch", ylim=(0, 1.02))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(alpha=0.3)
    axis.legend()
    figure.savefig(path, dpi=110, bbox_inches="tight")


def save_attributions(
    images: Sequence[np.ndarray], maps: Mapping[str, Sequence[np.ndarray]], titles: Sequence[str], file: BinaryIO
) -> None:
    """Save a row per image: the image, then what each method says speaks for (red) and against (blue) its label.

    Args:
        images: `N` images, uint8 `[H, W, 3]`.
        maps: method → `N` maps, float `[h, w]` of any size.
        titles: beside each row.
        file: what takes the PNG.
    """
    height, width = images[0].shape[:2]
    figure = Figure(figsize=(2.1 * (1 + len(maps)), 2.1 * height / width * len(images)), layout="constrained")
    axes = figure.subplots(len(images), 1 + len(maps), squeeze=False)
    for axis in axes.ravel():
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    for k, (row, image, title) in enumerate(zip(axes, images, titles, strict=True)):
        row[0].imshow(image)
        row[0].set_ylabel(title, fontsize=8)
        gray = image.mean(2)
        for axis, (method, found) in zip(row[1:], maps.items(), strict=True):
            extent = (0, width, height, 0)
            most = np.percentile(np.abs(found[k]), 99.5) or 1.0
            axis.imshow(gray, cmap="gray", vmin=0, vmax=255, extent=extent)
            axis.imshow(
                found[k], cmap="RdBu_r", vmin=-most, vmax=most, alpha=0.6, extent=extent, interpolation="bilinear"
            )
            if k == 0:
                axis.set_title(method, fontsize=9)
    figure.savefig(file, format="png", dpi=110, bbox_inches="tight")
