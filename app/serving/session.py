"""Opens ONNX Runtime sessions with the options that serving and checking share."""

import os
from pathlib import Path

import numpy as np
import onnxruntime as ort

from contract.model import ModelError, printable

INPUT, OUTPUTS = "image", ["probabilities", "activation_maps"]


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


def open_session(data: bytes, name: str) -> ort.InferenceSession:
    """A session for the bytes of a model file; `name` is what messages call it.

    Raises:
        ModelError: if ONNX Runtime cannot run it.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = cpu_limit()
    options.inter_op_num_threads = 1
    # Its threads would turn on the spot between two layers, on cores that decode the next image.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Data in other files is refused by onnx_wire.py; if it were not, ONNX Runtime would have to look here.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", "/nonexistent")
    options.add_session_config_entry("session.load_model_format", "ONNX")  # the other format is not checked
    options.log_severity_level = 4  # errors are raised; ONNX Runtime need not print them as well
    try:
        return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises many unrelated classes for bytes that it cannot read
        raise ModelError(f"{name} is not an ONNX model that this app can run: {reason(error)}") from error


def run(
    session: ort.InferenceSession, images: np.ndarray, options: ort.RunOptions | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and activation maps of uint8 `[N, height, width, 3]`; raises whatever ONNX Runtime raises."""
    probabilities, maps = session.run(OUTPUTS, {INPUT: images}, options)
    return probabilities, maps


def reason(error: BaseException) -> str:
    """The first line of an error's text."""
    return printable((str(error).splitlines() or [""])[0]) or type(error).__name__
