"""Reads and checks a model.onnx, and turns batches of pixels into probabilities and activation maps."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

KNOWN_FORMAT = 1
# Pixels of an input's longer side: larger ones would take gigabytes for one batch.
MAX_EDGE = 2048


class ModelError(Exception):
    """A file that cannot be served; the message names it and says what is wrong with it."""


@dataclass(frozen=True)
class Prediction:
    """What the model says about one image.

    Attributes:
        probabilities: float32 `[C]`, in the order of the model's classes.
        activation_maps: float32 `[C, h, w]`, class activation maps, no unit; positive where a place speaks for a class.
    """

    probabilities: np.ndarray
    activation_maps: np.ndarray


def cpu_limit() -> int:
    """How many CPUs this process may use: its affinity, cut down to the limit of its control group (at least 1).

    ONNX Runtime counts the machine's cores; in a container limited to 2 of 64 it would start 64 threads that stall
    each other.
    """
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return cpus
    return cpus if quota == "max" else max(1, min(cpus, int(quota) // int(period)))


class Model:
    """One loaded `model.onnx`. Its methods may be called from several threads at once.

    Attributes:
        classes: names of the C classes, in output order.
        input_size: `(height, width)` in pixels that images must have.
        thresholds: float32 `[C]`; a class is predicted when its probability reaches its threshold.
        run_id, git_commit, data_fingerprint: where the model came from; empty where the file does not say.
        metrics: what the trainer measured, e.g. `{"test": {"macro_f1": 0.98}}`; may be empty.
        sha256: hexadecimal digest of the file's bytes.
    """

    def __init__(self, data: bytes, name: str) -> None:
        """Load the bytes of a model file; `name` is what messages call it.

        Raises:
            ModelError: if the bytes are not a model.onnx of the known format that answers a test inference.
        """
        self.name = name
        self.sha256 = hashlib.sha256(data).hexdigest()
        options = ort.SessionOptions()
        options.intra_op_num_threads = cpu_limit()
        options.inter_op_num_threads = 1
        # Its threads would turn on the spot between two layers, on cores that decode the next picture.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 4  # what goes wrong is raised below; ONNX Runtime need not print it as well
        try:
            self._session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime raises many unrelated classes for bytes that it cannot read
            reason = str(error).splitlines()[0]
            raise ModelError(f"{name} is not an ONNX model that this app can run: {reason}") from error
        metadata = _read_metadata(self._session.get_modelmeta().custom_metadata_map, name)
        self.classes: list[str] = metadata["classes"]
        self.input_size: tuple[int, int] = tuple(metadata["input_size"])
        self.thresholds = np.asarray(metadata["thresholds"], dtype=np.float32)
        self.run_id: str = metadata.get("run_id") or ""
        self.git_commit: str = metadata.get("git_commit") or ""
        self.data_fingerprint: str = metadata.get("data_fingerprint") or ""
        self.metrics: dict[str, Any] = metadata.get("metrics") or {}
        self._check_answers()

    @classmethod
    def from_file(cls, path: Path) -> "Model":
        """Load a file.

        Raises:
            ModelError: if it cannot be read or is not a model that this app can serve.
        """
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ModelError(f"cannot read the model {path}: {error.strerror or error}") from error
        return cls(data, str(path))

    @property
    def test_f1(self) -> float | None:
        """Macro F1 on the test split as the trainer measured it, or None where the file does not say."""
        test = self.metrics.get("test")
        value = test.get("macro_f1") if isinstance(test, Mapping) else None
        return float(value) if isinstance(value, int | float) else None

    def predict(self, images: np.ndarray) -> list[Prediction]:
        """Run the model on uint8 `[N, height, width, 3]` RGB images of its own input size; one prediction per image."""
        probabilities, maps = self._session.run(["probabilities", "activation_maps"], {"image": images})
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

    def _check_answers(self) -> None:
        """Run two images through the model: shapes, types and a batch size that is not fixed to one are needed."""
        height, width = self.input_size
        ramp = np.linspace(0, 255, 2 * height * width * 3).astype(np.uint8).reshape(2, height, width, 3)
        try:
            probabilities, maps = self._session.run(["probabilities", "activation_maps"], {"image": ramp})
        except Exception as error:  # as above: no common class
            reason = str(error).splitlines()[0]
            raise ModelError(f"{self.name} fails on two test images of {height}×{width}: {reason}") from error
        shape = (2, len(self.classes))
        if probabilities.dtype != np.float32 or probabilities.shape != shape:
            raise ModelError(f"{self.name} answers {probabilities.shape} probabilities where {shape} are expected")
        if maps.dtype != np.float32 or maps.ndim != 4 or maps.shape[:2] != shape:
            raise ModelError(
                f"{self.name} answers {maps.shape} activation maps where {(*shape, 'h', 'w')} are expected"
            )
        if not (np.isfinite(probabilities).all() and np.isfinite(maps).all()):
            raise ModelError(f"{self.name} answers numbers that are not finite")
        if probabilities.min() < 0 or probabilities.max() > 1:
            raise ModelError(f"{self.name} answers probabilities outside 0 and 1")


def _read_metadata(properties: Mapping[str, str], name: str) -> dict[str, Any]:
    """The `manasight.*` properties of a file, parsed and checked.

    Raises:
        ModelError: if the format is unknown, or what a prediction needs is missing or contradicts itself.
    """
    found: dict[str, Any] = {}
    for key, text in properties.items():
        if key.startswith("manasight."):
            try:
                # NaN is no JSON: a figure that could not be measured counts as none.
                found[key.removeprefix("manasight.")] = json.loads(text, parse_constant=lambda _: None)
            except ValueError as error:
                raise ModelError(f"{name}: the metadata property {key} is not JSON") from error
    if "format" not in found:
        raise ModelError(f"{name} has no manasight.format: it was not written by `manasight export`")
    if found["format"] != KNOWN_FORMAT:
        raise ModelError(
            f"{name} has format {found['format']}; this app reads format {KNOWN_FORMAT}. Export the model again."
        )
    classes, size, thresholds = (found.get(key) for key in ("classes", "input_size", "thresholds"))
    if (
        not _list_of(classes, str)
        or not classes
        or len(set(classes)) != len(classes)
        or not all(map(str.strip, classes))
    ):
        raise ModelError(f"{name}: manasight.classes must be a list of different names")
    if not _list_of(size, int) or len(size) != 2 or min(size) < 1:
        raise ModelError(f"{name}: manasight.input_size must be [height, width] in pixels")
    if not _list_of(thresholds, int | float) or len(thresholds) != len(classes):
        raise ModelError(f"{name}: manasight.thresholds must be a list of {len(classes)} numbers, one per class")
    if min(thresholds) < 0 or max(thresholds) > 1:
        raise ModelError(f"{name}: manasight.thresholds must be from 0 to 1")
    for key in ("run_id", "git_commit", "data_fingerprint"):
        if not isinstance(found.get(key) or "", str):
            raise ModelError(f"{name}: manasight.{key} must be a text")
    if not isinstance(found.get("metrics") or {}, Mapping):
        raise ModelError(f"{name}: manasight.metrics must be an object")
    if max(size) > MAX_EDGE:
        raise ModelError(f"{name}: manasight.input_size is {size}; at most {MAX_EDGE} pixels are served")
    return found


def _list_of(value: Any, kind: Any) -> bool:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and all(isinstance(item, kind) and not isinstance(item, bool) for item in value)
    )
