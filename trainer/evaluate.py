"""`manasight evaluate`: figures, tables and pictures of a trained run on its validation and test split."""

import json
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from trainer import pictures, tracking
from trainer.classifier import MultiLabelClassifier
from trainer.data.module import MultiLabelDataModule
from trainer.errors import UserError
from trainer.fit import build_parser
from trainer.metrics import confusion_matrices, measure, per_class, tune_thresholds


@dataclass
class TrainedRun:
    """A trained run: its id, its folder here, its best weights and its data."""

    run_id: str
    folder: Path
    model: MultiLabelClassifier
    data: MultiLabelDataModule

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
        UserError: if the run has no checkpoint yet, or the data's classes are not the model's.
    """
    run_id = tracking.find_run(run)
    folder = tracking.run_folder(run_id)
    checkpoint = folder / "checkpoints" / "best.ckpt"
    if not checkpoint.is_file():
        raise UserError(f"run {run_id} has no checkpoint yet; go on with `manasight fit --resume {run_id}`")
    model = MultiLabelClassifier.load_from_checkpoint(checkpoint, map_location="cpu", weights_only=True).eval()
    parser = build_parser("manasight")
    config = parser.parse_path(folder / "config.yaml")
    if data is not None:
        config.data.root = data
    module = parser.instantiate(config).data
    if module.classes != model.classes:
        raise UserError(f"'{module.root}' has the classes {module.classes}, but run {run_id} knows {model.classes}")
    return TrainedRun(run_id, folder, model, module)


def evaluate(run: str = "latest", data: Path | None = None) -> None:
    """Measure a trained run on its test split and log figures, tables and pictures to its MLflow run.

    Args:
        run: the run's id, the beginning of one, or latest.
        data: another folder of splits than the run's own.
    """
    report(load_run(run, data))


def report(trained: TrainedRun) -> None:
    """Write `metrics.json`, `per_class.csv` and pictures to the run's folder and log them to MLflow."""
    client = tracking.connect()
    val_probabilities, val_targets = probabilities(trained, "val")
    test_probabilities, test_targets = probabilities(trained, "test")
    thresholds = tune_thresholds(val_probabilities, val_targets)
    figures = {"val": measure(val_probabilities, val_targets), "test": measure(test_probabilities, test_targets)}
    table = pd.DataFrame(per_class(test_probabilities, test_targets, thresholds), index=trained.model.classes)
    table.index.name = "class"

    folder = trained.report
    folder.mkdir(exist_ok=True)
    table.round(4).to_csv(folder / "per_class.csv")
    content = {"metrics": figures, "thresholds": thresholds.tolist(), "classes": trained.model.classes}
    (folder / "metrics.json").write_text(json.dumps(content, indent=2))
    matrices = confusion_matrices(test_probabilities, test_targets, thresholds)
    pictures.save_confusion_matrices(matrices.numpy(), trained.model.classes, folder / "confusion_matrices.png")
    images = trained.data.prepared("test")
    shown = spread(len(images), 24)
    pictures.save_predictions(
        [images[index][0] for index in shown],
        test_probabilities[shown].numpy(),
        test_targets[shown].numpy() > 0.5,
        thresholds.numpy(),
        trained.model.classes,
        folder / "predictions.png",
    )
    mlflow.log_metrics({f"test_{name}": value for name, value in figures["test"].items()}, run_id=trained.run_id)
    client.log_artifacts(trained.run_id, str(folder), "evaluation")
    client.log_table(trained.run_id, table.reset_index(), "evaluation/per_class.json")

    print(f"test split of '{trained.data.root}', {len(test_targets)} images, run {trained.run_id}")
    print("  ".join(f"{name} {value:.3f}" for name, value in figures["test"].items()) + "\n")
    print(table.to_string(float_format="{:.3f}".format))
    print(f"results: {folder}\nnext: manasight export --run {trained.run_id}")


def probabilities(trained: TrainedRun, split: str) -> tuple[Tensor, Tensor]:
    """Run the model over a split without augmentation.

    Returns:
        probabilities and targets, float32 `[N, C]` each, in the order of the split's samples.
    """
    outputs = []
    with torch.inference_mode():
        for images, targets in tqdm(trained.data.loader(split), desc=split, unit="batch", disable=None):
            outputs.append((trained.model(images).sigmoid(), targets))
    predicted, truth = zip(*outputs, strict=True)
    return torch.cat(predicted), torch.cat(truth)


def spread(total: int, most: int) -> list[int]:
    """At most `most` indices, spread evenly over `total`."""
    return np.unique(np.linspace(0, total - 1, min(most, total)).round().astype(int)).tolist()
