"""Loads a checked model.onnx, and turns batches of pixels into probabilities and activation maps."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from app.serving import quarantine
from app.serving.quarantine import Report
from app.serving.session import open_session, run
from contract import model as metadata
from contract.model import ModelError

__all__ = ["Model", "ModelError", "Prediction"]

# Seconds within which a batch has to be answered, whatever the model; and how much slower than in its check it may be.
MIN_BATCH_SECONDS, MAX_BATCH_SECONDS = 5.0, 20.0
SLOWER = 20
# Images in the largest batch.
MAX_BATCH = 8


@dataclass(frozen=True)
class Prediction:
    """What the model says about one image.

    Attributes:
        probabilities: float32 `[C]`, in the order of the model's classes.
        activation_maps: float32 `[C, h, w]`, class activation maps, no unit; positive where a place speaks for a class.
    """

    probabilities: np.ndarray
    activation_maps: np.ndarray


class Model:
    """One loaded `model.onnx`. Its methods may be called from several threads at once.

    Attributes:
        classes: names of the C classes, in output order.
        input_size: `(height, width)` in pixels that images must have.
        letterbox: whether images keep their proportions within it.
        thresholds: float32 `[C]`; a class is predicted when its probability reaches its threshold.
        run_id, git_commit, data_fingerprint: where the model came from; empty where the file does not say.
        metrics: what the trainer measured, e.g. `{"test": {"macro_f1": 0.98}}`; may be empty.
        sha256: hexadecimal digest of the file's bytes.
        batch_seconds: after which a batch counts as hanging.
        withdrawn: why it may not be used any more, empty while it may.
    """

    def __init__(self, data: bytes, name: str, report: Report | None = None) -> None:
        """Check the bytes of a model file in a process of its own, then load them.

        Args:
            data: the file.
            name: what messages call it.
            report: of its check, if it was checked before; without one it is checked now.

        Raises:
            ModelError: if the bytes are not a model.onnx of the known format that answers as it should.
        """
        self.name = name
        self.sha256 = hashlib.sha256(data).hexdigest()
        self.report = report or quarantine.check(data, name)
        self.withdrawn = ""
        longest = SLOWER * MAX_BATCH * self.report.seconds
        self.batch_seconds = min(MAX_BATCH_SECONDS, max(MIN_BATCH_SECONDS, longest))
        self._session = open_session(data, name)
        found = metadata.read_metadata(self._session.get_modelmeta().custom_metadata_map, name)
        self.classes: list[str] = found["classes"]
        self.input_size: tuple[int, int] = tuple(found["input_size"])
        self.letterbox: bool = found["letterbox"]
        self.thresholds = np.asarray(found["thresholds"], dtype=np.float32)
        self.run_id: str = found.get("run_id") or ""
        self.git_commit: str = found.get("git_commit") or ""
        self.data_fingerprint: str = found.get("data_fingerprint") or ""
        self.metrics: dict[str, Any] = found.get("metrics") or {}

    @classmethod
    def from_file(cls, path: Path, report: Report | None = None) -> "Model":
        """Load a file, as the constructor does.

        Raises:
            ModelError: if it cannot be read or is not a model that this app can serve.
        """
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ModelError(f"cannot read the model {path}: {error.strerror or error}") from error
        return cls(data, str(path), report)

    @property
    def test_f1(self) -> float | None:
        """Macro F1 on the test split as the trainer measured it, or None where the file does not say."""
        return metadata.macro_f1(self.metrics)

    def predict(self, images: np.ndarray, options: ort.RunOptions | None = None) -> list[Prediction]:
        """Run the model on uint8 `[N, height, width, 3]` RGB images of its own input size; one prediction per image.

        Args:
            images: the batch.
            options: its `terminate`, set from another thread, ends the run with an exception.

        Raises:
            ValueError: if the answer has another shape than it should, or numbers that are not finite.
            Exception: what ONNX Runtime raises.
        """
        probabilities, maps = run(self._session, images, options)
        if probabilities.shape != (len(images), len(self.classes)) or maps.shape[:2] != probabilities.shape:
            raise ValueError(f"{probabilities.shape} probabilities and {maps.shape} maps for {len(images)} images")
        if not (np.isfinite(probabilities).all() and np.isfinite(maps).all()):
            raise ValueError("an answer has numbers that are not finite")
        probabilities = np.clip(probabilities, 0, 1)
        return [Prediction(p, m) for p, m in zip(probabilities, maps, strict=True)]

    def shifted(self, shift: float) -> np.ndarray:
        """The thresholds moved by `shift` and kept within 0.01 and 0.99; float32 `[C]`."""
        return np.clip(self.thresholds + np.float32(shift), 0.01, 0.99)

    def labels(self, probabilities: np.ndarray, shift: float = 0.0) -> list[str]:
        """The classes whose probability reaches their threshold, in class order.

        Args:
            probabilities: float32 `[C]`.
            shift: added to every threshold.
        """
        chosen = probabilities >= self.shifted(shift)
        return [name for name, on in zip(self.classes, chosen, strict=True) if on]
