"""Names in MLflow's model registry that the trainer writes and the app reads."""

import os

ALIAS = "champion"  # marks the version to serve
ARTIFACT = "model.onnx"
# Tags of a model version: the file's SHA-256 (a version without it is checked by a test inference alone), and its class
# names as a JSON list.
DIGEST_TAG = "manasight.sha256"
CLASSES_TAG = "manasight.classes"


def model_name() -> str:
    """The registered model's name, from the environment."""
    return os.environ.get("MANASIGHT_MODEL_NAME") or "manasight"
