"""For all tests: long modules first, a tiny real model.onnx, a running app, a stand-in registry, a free port."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import requests
from hypothesis import settings

# Two workers, each with as many threads as there are cores, would wait for each other most of the time.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same code is tried on the same inputs; `make fuzz`, which runs every night, draws new ones each time.
settings.register_profile("repeatable", derandomize=True)
if "MANASIGHT_FUZZ_EXAMPLES" not in os.environ:
    settings.load_profile("repeatable")

ROOT = Path(__file__).resolve().parent.parent
# Modules that take minutes; begun last, one worker would wait for the other.
LONG = ("interruptions", "distributed", "training", "page", "notebooks", "experiments", "features", "manifests")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long modules come first."""
    places = {f"test_{name}": place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONG)))


@pytest.fixture(autouse=True)
def no_tracking_uri_of_another_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow's `set_tracking_uri` leaves its address in the environment, where later tests' processes would find it."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def build_tiny_model(
    classes: tuple[str, ...] = ("red", "green", "blue"),
    input_size: tuple[int, int] = (24, 16),
    gain: float = 12.0,
    metadata: Mapping[str, object] | None = None,
) -> bytes:
    """A model.onnx of Manasight's format that answers how much of each color channel a picture has.

    Three classes see the mean of their channel through a sigmoid (0.5 at half brightness); further classes see gray.
    `metadata` replaces `manasight.*` properties; the value None leaves one out.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    count = len(classes)
    kernel = np.zeros((count, 3, 1, 1), np.float32)
    for index in range(count):
        kernel[index] = gain * (np.eye(3, dtype=np.float32)[index].reshape(3, 1, 1) if index < 3 else 1 / 3)
    constants = {
        "scale": np.float32(1 / 255),
        "kernel": kernel,
        "bias": np.full(count, -gain / 2, np.float32),
        "spatial": np.array([2, 3], np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "scale"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["channels"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["channels"], ["features"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Conv", ["features", "kernel", "bias"], ["activation_maps"]),
        helper.make_node("ReduceMean", ["activation_maps", "spatial"], ["logits"], keepdims=0),
        helper.make_node("Sigmoid", ["logits"], ["probabilities"]),
    ]
    height, width = input_size
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", height, width, 3])],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", count]),
            helper.make_tensor_value_info("activation_maps", TensorProto.FLOAT, ["N", count, height // 4, width // 4]),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    properties: dict[str, object] = {
        "format": 1,
        "classes": list(classes),
        "input_size": list(input_size),
        "thresholds": [0.5] * count,
        "run_id": "0123456789abcdef",
        "git_commit": "c0ffee0000000000000000000000000000000000",
        "data_fingerprint": "feedbeef",
        "metrics": {"test": {"macro_f1": 0.875}},
    } | dict(metadata or {})
    helper.set_model_props(
        model, {f"manasight.{key}": json.dumps(value) for key, value in properties.items() if value is not None}
    )
    onnx.checker.check_model(model)
    return model.SerializeToString()


@pytest.fixture(scope="session")
def tiny_model() -> Callable[..., bytes]:
    """`build_tiny_model`, for tests that need one of their own."""
    return build_tiny_model


@pytest.fixture
def tiny_file(tmp_path: Path) -> Path:
    """A tiny model.onnx on disk."""
    path = tmp_path / "tiny" / "model.onnx"
    path.parent.mkdir()
    path.write_bytes(build_tiny_model())
    return path


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running_app(folder: Path, **environment: str) -> Iterator[tuple[str, subprocess.Popen]]:
    """The real app as its own process; yields its address once /ready answers anything, and the process.

    It runs in `folder`, so that what it keeps on disk stays there; its output goes to `folder/app.log`.
    """
    port = free_port()
    names = ("MANASIGHT_", "MLFLOW_", "STREAMLIT_", "ORT_")
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(names)}
    command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "app" / "main.py"), "--server.port", str(port)]
    log = folder / "app.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=inherited | environment, stdout=output, stderr=subprocess.STDOUT
        )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 240
        while True:
            assert process.poll() is None, f"the app ended with status {process.returncode}:\n{log.read_text()}"
            try:
                requests.get(f"{url}/ready", timeout=5)
                break
            except (requests.ConnectionError, requests.Timeout):  # not there yet, or a busy machine
                assert time.monotonic() < deadline, f"the app did not answer within four minutes:\n{log.read_text()}"
                time.sleep(0.05)
        yield url, process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def start_app() -> Callable[..., object]:
    """`running_app`, for tests that start the app with an environment of their own."""
    return running_app


class StandInRegistry:
    """What the app asks of MLflow, answered from memory: for tests that swap champions faster than MLflow registers.

    The real server is in `tests/unit/test_app_registry.py`.
    """

    def __init__(self) -> None:
        """Nothing is published yet."""
        self.version = 0
        self.files: dict[str, bytes] = {}
        self.downloads: list[str] = []  # versions, in order
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                query = {key: values[0] for key, values in parse_qs(parts.query).items()}
                if parts.path == "/model-versions/get-artifact":
                    status, body = 200, outer.files[query["version"]]
                    outer.downloads.append(query["version"])
                elif parts.path == "/api/2.0/mlflow/registered-models/alias" and outer.version:
                    version = {"version": str(outer.version), "creation_timestamp": outer.version, "tags": []}
                    status, body = 200, json.dumps({"model_version": version}).encode()
                else:
                    status, body = 404, json.dumps({"error_code": "RESOURCE_DOES_NOT_EXIST"}).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_args: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def publish(self, data: bytes) -> str:
        """Make some bytes the champion; returns their version."""
        self.files[str(self.version + 1)] = data
        self.version += 1
        return str(self.version)


@pytest.fixture
def registry() -> Iterator[StandInRegistry]:
    """A registry without a champion."""
    started = StandInRegistry()
    yield started
    started.server.shutdown()
    started.server.server_close()


@pytest.fixture(scope="session")
def find_port() -> Callable[[], int]:
    """`free_port`, for tests that start a server of their own."""
    return free_port
