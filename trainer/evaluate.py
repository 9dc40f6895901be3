"""`manasight evaluate`: figures, tables and pictures of a trained run on its validation and test split."""

import json
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from trainer import pictures, recorded_data, tracking
from trainer.checkpoints import known_classes
from trainer.classifier import MultiLabelClassifier
from trainer.data.module import MultiLabelDataModule
from trainer.errors import UserError
from trainer.files import write_whole
from trainer.fit import build_parser
from trainer.metrics import (
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
from trainer.page import Section, save_page

SHOWN = 24  # pictures of predictions, and of mistakes at most


@dataclass
class TrainedRun:
    """A trained run: its id, its folder here, its best weights and its data."""

    run_id: str
    folder: Path
    model: MultiLabelClassifier
    data: MultiLabelDataModule

    @property
    def stamp(self) -> list[int | str]:
        """What an evaluation is of: these weights on these images."""
        weights = (self.folder / "checkpoints" / "best.ckpt").stat().st_mtime_ns
        return [weights, str(self.data.root), recorded_data.listing(self.data)]

    @property
    def report(self) -> Path:
        """The folder of its evaluation."""
        return self.folder / "evaluation"


def load_run(run: str, data: Path | None = None) -> TrainedRun:
    """Read a run's best checkpoint and name the data it was trained on.

    Args:
        run: a run's id, the beginning of one, or `latest`.
        data: another folder of splits than the run's own.

    Raises:
        UserError: if MLflow does not know the run, it has no checkpoint yet, or the data's classes are not the model's.
    """
    run_id = tracking.find_run(run)
    known = tracking.get_run(tracking.connect(), run_id)
    folder = tracking.run_folder(run_id)
    checkpoint = folder / "checkpoints" / "best.ckpt"
    if not checkpoint.is_file():
        if known.info.status == "FINISHED":  # which `--resume` would refuse
            raise UserError(f"run {run_id} has finished, but '{checkpoint}' is gone; restore it, or train a new run")
        raise UserError(f"run {run_id} has no checkpoint yet; go on with `manasight fit --resume {run_id}`")
    known_classes(checkpoint, "train a new run", weights_only=True)
    model = MultiLabelClassifier.load_from_checkpoint(checkpoint, map_location="cpu", weights_only=True).eval()
    parser = build_parser("manasight")
    config = parser.parse_path(folder / "config.yaml")
    if data is not None:
        config.data.root = data
    module = parser.instantiate(config).data
    if module.classes != model.classes:
        raise UserError(
            f"'{module.root}' has the classes {', '.join(module.classes)}, but run {run_id} knows "
            f"{', '.join(model.classes)}; name other data, or train a run on this"
        )
    if data is None and (change := recorded_data.change(known, module)):
        print(
            f"note: the images in '{module.root}' changed since run {run_id} was trained ({change}); what follows "
            "is of the images as they are now, and test images that were training images would flatter the model",
            flush=True,
        )
    return TrainedRun(run_id, folder, model, module)


def evaluate(run: str = "latest", data: Path | None = None) -> None:
    """Measure a trained run on its test split and log figures, tables and pictures to its MLflow run.

    Args:
        run: the run's id, the beginning of one, or latest.
        data: another folder of splits than the run's own.
    """
    report(load_run(run, data))


def report(trained: TrainedRun) -> None:
    """Write `metrics.json`, `per_class.csv`, pictures and a page of all to the run's folder, and log them to MLflow."""
    client = tracking.connect()
    val_logits, val_targets = logits(trained, "val")
    test_logits, test_targets = logits(trained, "test")
    temperature = fit_temperature(val_logits, val_targets)
    val, test = (val_logits / temperature).sigmoid(), (test_logits / temperature).sigmoid()
    thresholds = tune_thresholds(val, val_targets)
    figures = {}
    for split, raw, calibrated, targets in (
        ("val", val_logits, val, val_targets),
        ("test", test_logits, test, test_targets),
    ):
        figures[split] = measure(calibrated, targets) | {
            "calibration_error_before": calibration_error(raw.sigmoid(), targets),
            "calibration_error": calibration_error(calibrated, targets),
        }
    classes = trained.model.classes
    table = pd.DataFrame(per_class(test, test_targets, thresholds), index=classes)
    table.index.name = "class"

    folder = trained.report
    folder.mkdir(exist_ok=True)
    table.round(4).to_csv(folder / "per_class.csv")
    curves = {label: precision_recall(test[:, k], test_targets[:, k]) for k, label in enumerate(classes)}
    chosen = [at_threshold(test[:, k], test_targets[:, k], thresholds[k]) for k in range(len(classes))]
    pictures.save_precision_recall(curves, chosen, folder / "precision_recall.png")
    before, after = reliability(test_logits.sigmoid(), test_targets), reliability(test, test_targets)
    pictures.save_reliability({"before": before, f"after, T = {temperature:.2f}": after}, folder / "reliability.png")
    matrices = confusion_matrices(test, test_targets, thresholds)
    pictures.save_confusion_matrices(matrices.numpy(), classes, folder / "confusion_matrices.png")
    worst = worst_mistakes(test, test_targets, thresholds, SHOWN)
    for name, shown in (("predictions", spread(len(test), SHOWN)), ("worst", worst)):
        (folder / f"{name}.png").unlink(missing_ok=True)
        if shown:
            images, samples = trained.data.prepared("test"), trained.data.folder("test").samples
            pictures.save_predictions(
                [images[index][0] for index in shown],
                ["/".join(Path(samples[index][0]).parts[-2:]) for index in shown],
                test[shown].numpy(),
                test_targets[shown].numpy() > 0.5,
                thresholds.numpy(),
                classes,
                folder / f"{name}.png",
            )
    content = {"metrics": figures, "thresholds": thresholds.tolist(), "temperature": temperature, "classes": classes}
    content["of"] = trained.stamp
    _page(trained, figures, table, bool(worst))
    # Last, because this file says that the evaluation is there.
    write_whole(folder / "metrics.json", json.dumps(content, indent=2).encode())

    logged = {f"test_{name}": value for name, value in figures["test"].items()} | {"temperature": temperature}
    mlflow.log_metrics(logged, run_id=trained.run_id)
    client.log_artifacts(trained.run_id, str(folder), "evaluation")
    client.log_table(trained.run_id, table.reset_index(), "evaluation/per_class.json")

    print(f"test split of '{trained.data.root}', {len(test_targets)} images, run {trained.run_id}")
    print("at 0.5: " + "  ".join(f"{name} {value:.3f}" for name, value in figures["test"].items()))
    print("f1_at_threshold: with each label's threshold tuned on the validation split\n")
    print(table.to_string(float_format="{:.3f}".format))
    print(f"results: {folder / 'report.html'}\nnext: manasight export --run {trained.run_id}")


def _page(trained: TrainedRun, figures: dict[str, dict[str, float]], table: pd.DataFrame, mistakes: bool) -> None:
    folder = trained.report
    sections = [
        Section("Figures", "Macro averages at a threshold of 0.5.", pd.DataFrame(figures).T),
        Section("Classes", "On the test split; f1_at_threshold is with the threshold in the last column.", table),
        Section(
            "Precision and recall", "The dot is the label's own threshold.", None, [folder / "precision_recall.png"]
        ),
        Section(
            "Calibration",
            "Of the labels given a probability of 0.8, eight in ten should hold. The model divides its logits by the "
            "temperature T, fitted on the validation split.",
            None,
            [folder / "reliability.png"],
        ),
        Section("Confusion matrices", "At each label's threshold.", None, [folder / "confusion_matrices.png"]),
        Section(
            "Worst mistakes",
            "Wrong labels and missing ones, the worst first." if mistakes else "There are none.",
            None,
            [folder / "worst.png"] if mistakes else [],
        ),
        Section("Images, evenly taken", "", None, [folder / "predictions.png"]),
    ]
    count = len(trained.data.folder("test"))
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
        for images, targets in tqdm(trained.data.loader(split), desc=split, unit="batch", disable=None):
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


def spread(total: int, most: int) -> list[int]:
    """At most `most` indices, spread evenly over `total`."""
    return np.unique(np.linspace(0, total - 1, min(most, total)).round().astype(int)).tolist()
