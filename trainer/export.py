"""`manasight export`: writes a run's `model.onnx`, checks it against torch on real images, logs and registers it."""

import hashlib
import json
from pathlib import Path
from typing import Any

import mlflow
import mlflow.onnx
import numpy as np
import onnx
import onnxruntime
import torch
from mlflow.models.signature import ModelSignature
from mlflow.types import Schema, TensorSpec

from trainer import tracking
from trainer.errors import UserError
from trainer.evaluate import TrainedRun, load_run, report, spread
from trainer.onnx_file import Metadata, OnnxClassifier, build

# Largest change of a probability that float16 weights may bring, and how many test images are tried.
TOLERANCE = 0.01
CHECKED_IMAGES = 64


def export(run: str = "latest", data: Path | None = None, register: bool = True) -> None:
    """Write a run's model.onnx, check it against torch on images of the test split, log and register it in MLflow.

    Its probabilities are calibrated: the graph divides the logits by a temperature fitted on the validation split.

    Args:
        run: the run's id, the beginning of one, or latest.
        data: another folder of splits than the run's own.
        register: make it a version of the registered model, unless it is one already.
    """
    trained = load_run(run, data)
    client = tracking.connect()
    evaluation = evaluation_of(trained)
    tags = client.get_run(trained.run_id).data.tags
    metadata = Metadata(
        classes=trained.model.classes,
        input_size=trained.data.input_size,
        thresholds=[round(threshold, 4) for threshold in evaluation["thresholds"]],
        run_id=trained.run_id,
        git_commit=tags.get("manasight.git_commit", "unknown"),
        data_fingerprint=tags.get("manasight.data_fingerprint", "unknown"),
        metrics=evaluation["metrics"],
    )
    path = trained.folder / "model.onnx"
    temporary = trained.folder / "model.onnx.new"
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
    following = f"predict IMAGES --model {path}"
    if register:
        version = register_model(trained.run_id, path)
        print(f"registered: {tracking.MODEL_NAME} version {version}")
        following = f"promote --version {version}"
    print(f"results: {path}\nnext: manasight {following}")


def evaluation_of(trained: TrainedRun) -> dict[str, Any]:
    """What `manasight evaluate` wrote of these weights and data: metrics, thresholds, temperature; made if need be."""
    path = trained.report / "metrics.json"
    if not path.is_file() or json.loads(path.read_text()).get("of") != trained.stamp:
        report(trained)
    return json.loads(path.read_text())


def largest_difference(trained: TrainedRun, path: Path, temperature: float) -> float:
    """The largest difference between a file's and torch's probabilities over images of the test split."""
    images = trained.data.prepared("test")
    pixels = np.stack([images[index][0] for index in spread(len(images), CHECKED_IMAGES)])
    with torch.inference_mode():
        expected = (trained.model(torch.from_numpy(pixels)) / temperature).sigmoid().numpy()
    return float(np.abs(OnnxClassifier(path)(pixels) - expected).max())


def register_model(run_id: str, path: Path) -> str:
    """Log a model.onnx to its run, unchanged, and make it a version of the registered model.

    Returns:
        the new version, or the one that was made of this very file before.
    """
    client = mlflow.MlflowClient()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    same = client.search_model_versions(f"name = '{tracking.MODEL_NAME}' and tags.`manasight.sha256` = '{digest}'")
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
    version = mlflow.register_model(logged.model_uri, tracking.MODEL_NAME).version
    figures = metadata.metrics.get("test", {})
    tags = {
        "run_id": run_id,
        "macro_f1": f"{figures.get('macro_f1', 0):.4f}",
        "sha256": digest,
        # So that `promote --check` need not fetch the file.
        "classes": json.dumps(metadata.classes, ensure_ascii=False),
    }
    for key, value in tags.items():
        client.set_model_version_tag(tracking.MODEL_NAME, version, f"manasight.{key}", value)
    return version
