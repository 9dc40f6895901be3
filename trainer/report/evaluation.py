"""Measures a trained run on its validation and test split: figures, tables, images, one page."""

import json
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from trainer.files import write_whole
from trainer.model.metrics import (
    at_threshold,
    calibration_error,
    confusion_matrices,
    fit_temperature,
    measure,
    per_class,
    precision_recall,
    reliability,
    tune_thresholds,
)
from trainer.progress import progress
from trainer.report import figures
from trainer.report.html import Section, save_page
from trainer.tracking.mlflow import connect
from trainer.tracking.runs import TrainedRun

MAX_SHOWN = 24  # images of predictions, and of mistakes
MAX_CLASSES = 40  # in figures with a picture for each class


def evaluation_of(trained: TrainedRun) -> dict[str, Any]:
    """What `report` wrote of these weights and images: metrics, thresholds, temperature; made if it is missing."""
    path = trained.report / "metrics.json"
    if not is_evaluated(trained):
        report(trained)
    return json.loads(path.read_text())


def is_evaluated(trained: TrainedRun) -> bool:
    """Whether `report` has been called for these weights and images."""
    path = trained.report / "metrics.json"
    return path.is_file() and json.loads(path.read_text()).get("of") == trained.stamp


def report(trained: TrainedRun) -> None:
    """Write `metrics.json`, `per_class.csv`, figures and a page of all to the run's folder, and log them to MLflow."""
    client = connect()
    val_logits, val_targets = logits(trained, "val")
    test_logits, test_targets = logits(trained, "test")
    temperature = fit_temperature(val_logits, val_targets)
    val, test = (val_logits / temperature).sigmoid(), (test_logits / temperature).sigmoid()
    thresholds = tune_thresholds(val, val_targets)
    measured = {}
    for split, raw, calibrated, targets in (
        ("val", val_logits, val, val_targets),
        ("test", test_logits, test, test_targets),
    ):
        measured[split] = measure(calibrated, targets) | {
            "calibration_error_before": calibration_error(raw.sigmoid(), targets),
            "calibration_error": calibration_error(calibrated, targets),
        }
    classes = trained.model.classes
    table = pd.DataFrame(per_class(test, test_targets, thresholds), index=classes)
    table.index.name = "class"

    folder = trained.report
    folder.mkdir(exist_ok=True)
    table.round(4).to_csv(folder / "per_class.csv")
    drawn = extremes(table["f1_at_threshold"].to_numpy(), MAX_CLASSES)
    names = [classes[k] for k in drawn]
    curves = {classes[k]: precision_recall(test[:, k], test_targets[:, k]) for k in drawn}
    chosen = [at_threshold(test[:, k], test_targets[:, k], thresholds[k]) for k in drawn]
    figures.save_precision_recall(curves, chosen, folder / "precision_recall.png")
    before, after = reliability(test_logits.sigmoid(), test_targets), reliability(test, test_targets)
    figures.save_reliability({"before": before, f"after, T = {temperature:.2f}": after}, folder / "reliability.png")
    matrices = confusion_matrices(test, test_targets, thresholds)
    figures.save_confusion_matrices(matrices.numpy()[drawn], names, folder / "confusion_matrices.png")
    worst = worst_mistakes(test, test_targets, thresholds, MAX_SHOWN)
    for name, shown in (("predictions", spread(len(test), MAX_SHOWN)), ("worst", worst)):
        (folder / f"{name}.png").unlink(missing_ok=True)
        if shown:
            pixels, images = trained.data.prepared("test"), trained.data.dataset("test").images
            figures.save_predictions(
                [pixels[index][0] for index in shown],
                ["/".join(images[index].path.parts[-2:]) for index in shown],
                test[shown].numpy(),
                test_targets[shown].numpy() > 0.5,
                thresholds.numpy(),
                classes,
                folder / f"{name}.png",
            )
    content = {"metrics": measured, "thresholds": thresholds.tolist(), "temperature": temperature, "classes": classes}
    content["of"] = trained.stamp
    _page(trained, measured, table, bool(worst))
    # Last, because this file says that the evaluation is there.
    write_whole(folder / "metrics.json", json.dumps(content, indent=2).encode())

    logged = {f"test_{name}": value for name, value in measured["test"].items()} | {"temperature": temperature}
    mlflow.log_metrics(logged, run_id=trained.run_id)
    client.log_artifacts(trained.run_id, str(folder), "evaluation")
    client.log_table(trained.run_id, table.reset_index(), "evaluation/per_class.json")

    print(f"test split of '{trained.data.root}', {len(test_targets)} images, run {trained.run_id}")
    print("at 0.5: " + "  ".join(f"{name} {value:.3f}" for name, value in measured["test"].items()))
    print("f1_at_threshold: with each label's threshold tuned on the validation split")
    if negatives := int((test_targets.sum(1) == 0).sum()):
        print(f"on_negatives: of {negatives} images without any label, those that got this one")
    print()
    print(table.to_string(float_format="{:.3f}".format))
    print(f"results: {folder / 'report.html'}")


def _page(trained: TrainedRun, measured: dict[str, dict[str, float]], table: pd.DataFrame, mistakes: bool) -> None:
    folder = trained.report
    some = f" The {MAX_CLASSES // 2} classes with the lowest and the highest F1; the table has all." * (
        len(table) > MAX_CLASSES
    )
    sections = [
        Section("Figures", "Macro averages at a threshold of 0.5.", pd.DataFrame(measured).T),
        Section(
            "Classes",
            "On the test split; f1_at_threshold is with the threshold in the last column."
            + " on_negatives counts the images without any label that got this one." * ("on_negatives" in table),
            table,
        ),
        Section(
            "Precision and recall",
            f"The dot is the label's own threshold.{some}",
            None,
            [folder / "precision_recall.png"],
        ),
        Section(
            "Calibration",
            "Of the labels given a probability of 0.8, eight in ten should hold. The model divides its logits by the "
            "temperature T, fitted on the validation split.",
            None,
            [folder / "reliability.png"],
        ),
        Section("Confusion matrices", f"At each label's threshold.{some}", None, [folder / "confusion_matrices.png"]),
        Section(
            "Worst mistakes",
            "Wrong labels and missing ones, the worst first." if mistakes else "There are none.",
            None,
            [folder / "worst.png"] if mistakes else [],
        ),
        Section("Images, evenly taken", "", None, [folder / "predictions.png"]),
    ]
    count = len(trained.data.dataset("test"))
    save_page(
        f"Run {trained.run_id[:8]}",
        f"{count} test images of {trained.data.root.name}",
        sections,
        folder / "report.html",
    )


def logits(trained: TrainedRun, split: str) -> tuple[Tensor, Tensor]:
    """Run the model over a split without augmentation.

    Returns:
        logits and targets, float32 `[N, C]` each, in the order of the split's samples.
    """
    outputs = []
    with torch.inference_mode():
        for images, targets in progress(trained.data.loader(split), desc=split, unit="batch"):
            outputs.append((trained.model(images), targets))
    predicted, truth = zip(*outputs, strict=True)
    return torch.cat(predicted), torch.cat(truth)


def worst_mistakes(probabilities: Tensor, targets: Tensor, thresholds: Tensor, most: int) -> list[int]:
    """The images with a label that is wrong or missing, the one of the highest cross-entropy first.

    Args:
        probabilities: float `[N, C]`.
        targets: `[N, C]`, 0 or 1.
        thresholds: float `[C]`.
        most: how many at most.
    """
    wrong = ((probabilities >= thresholds) != (targets > 0.5)).any(1)
    loss = nn.functional.binary_cross_entropy(probabilities, targets, reduction="none").sum(1)
    ranked = loss.masked_fill(~wrong, -1).argsort(descending=True, stable=True)
    return ranked[: min(most, int(wrong.sum()))].tolist()


def extremes(scores: np.ndarray, most: int) -> list[int]:
    """The places of the lowest and the highest of scores `[C]`, half each, from low to high; of all if they are few.

    A class without a score, NaN, comes first: what could not be measured is looked at first.
    """
    if len(scores) <= most:
        return list(range(len(scores)))
    ranked = np.argsort(np.nan_to_num(scores, nan=-1.0), kind="stable").tolist()
    return ranked[: most // 2] + ranked[len(ranked) - most // 2 :]


def spread(total: int, most: int) -> list[int]:
    """At most `most` indices, spread evenly over `total`."""
    return np.unique(np.linspace(0, total - 1, min(most, total)).round().astype(int)).tolist()
