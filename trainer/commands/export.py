"""`manasight export`: writes a run's `model.onnx`, checks it against torch on real images, logs and registers it."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from contract.model import FORMAT, LETTERBOXED
from contract.registry import ARTIFACT, model_name
from trainer.errors import UserError
from trainer.model.onnx_file import Metadata, OnnxClassifier, build, read_metadata, separator_for
from trainer.paths import program
from trainer.report.evaluation import evaluation_of, spread
from trainer.tracking.mlflow import connect
from trainer.tracking.registry import register_model
from trainer.tracking.runs import FINGERPRINT_TAG, TrainedRun, load_run

# Largest change of a probability that float16 weights may cause, and how many test images are tried.
TOLERANCE = 0.01
CHECKED_IMAGES = 64


def export(run: str = "latest", data: Path | None = None, register: bool = True) -> None:
    """Write a run's model.onnx, check it against torch on images of the test split, log and register it in MLflow.

    Its probabilities are calibrated: the graph divides the logits by a temperature fitted on the validation split.

    Args:
        run: the run's ID, the beginning of one, or latest.
        data: another folder of splits than the run's own.
        register: make it a version of the registered model, unless it is one already.
    """
    trained = load_run(run, data)
    path = write_model(trained)
    following = f"predict IMAGES --model {path}"
    if register:
        version = register_model(trained.run_id, path)
        print(f"registered: {model_name()} version {version}")
        following = f"promote --version {version}"
    print(f"results: {path}\nnext: {program()} {following}")


def write_model(trained: TrainedRun) -> Path:
    """Write a run's model.onnx.

    Raises:
        UserError: if its probabilities are not those of the network.
    """
    evaluation = evaluation_of(trained)
    metadata = describe(trained, evaluation)
    path = trained.folder / ARTIFACT
    temporary = path.with_name(f"{ARTIFACT}.new")
    try:
        onnx.save(build(trained.model.network, metadata, evaluation["temperature"]), temporary)
        difference = largest_difference(trained, temporary, evaluation["temperature"])
        if not difference <= TOLERANCE:
            raise UserError(
                f"model.onnx differs from torch by {difference:.4f} in a probability, more than {TOLERANCE}"
            )
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    print(f"model.onnx: {path.stat().st_size / 1e6:.1f} MB, probabilities within {difference:.1e} of torch's")
    return path


def is_written(trained: TrainedRun) -> bool:
    """Whether a run's model.onnx is there, and of its present evaluation."""
    path = trained.folder / ARTIFACT
    return path.is_file() and read_metadata(path) == describe(trained, evaluation_of(trained))


def describe(trained: TrainedRun, evaluation: dict[str, Any]) -> Metadata:
    """The metadata of a run's model.onnx."""
    tags = connect().get_run(trained.run_id).data.tags
    return Metadata(
        classes=trained.model.classes,
        input_size=trained.data.input_size,
        letterbox=trained.data.letterbox,
        format=LETTERBOXED if trained.data.letterbox else FORMAT,
        thresholds=[round(threshold, 4) for threshold in evaluation["thresholds"]],
        run_id=trained.run_id,
        git_commit=tags.get("manasight.git_commit", "unknown"),
        data_fingerprint=tags.get(FINGERPRINT_TAG, "unknown"),
        metrics=evaluation["metrics"],
        architecture=trained.model.hparams["backbone"],
        separator=separator_for(trained.model.classes, trained.data.form.separator),
    )


def largest_difference(trained: TrainedRun, path: Path, temperature: float) -> float:
    """The largest difference between a file's and torch's probabilities over images of the test split."""
    images = trained.data.prepared("test")
    pixels = np.stack([images[index][0] for index in spread(len(images), CHECKED_IMAGES)])
    with torch.inference_mode():
        expected = (trained.model(torch.from_numpy(pixels)) / temperature).sigmoid().numpy()
    return float(np.abs(OnnxClassifier(path)(pixels) - expected).max())
