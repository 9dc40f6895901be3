"""The load while things break: visitors of the app, writers to MLflow, and a book of what was acknowledged."""

import hashlib
import io
import os
import random
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import mlflow
import requests
from mlflow.exceptions import MlflowException

# What a client may raise when the server is away or half there.
LOST = (MlflowException, requests.RequestException, OSError)


@dataclass
class Book:
    """What MLflow said it had stored: nothing of it may ever be missing."""

    runs: dict[str, str] = field(default_factory=dict)
    metrics: dict[tuple[str, int], float] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    artifacts: dict[tuple[str, str], str] = field(default_factory=dict)
    versions: dict[int, str] = field(default_factory=dict)
    refused: int = 0

    def check(self, client: mlflow.MlflowClient) -> Counter[str]:
        """Ask MLflow for all of it.

        Returns:
            how many of each kind were found.

        Raises:
            AssertionError: naming what is missing or differs.
        """
        for run_id, status in list(self.runs.items()):
            found = client.get_run(run_id).info.status
            # One that was running when it was noted may have ended since.
            assert found == status or status == "RUNNING", f"run {run_id} is {found}, not {status}"
        points: dict[str, dict[int, float]] = {}
        for (run_id, step), value in list(self.metrics.items()):
            if run_id not in points:
                points[run_id] = {point.step: point.value for point in client.get_metric_history(run_id, "value")}
            assert points[run_id].get(step) == value, f"run {run_id}: the metric of step {step} is lost"
        for run_id, value in list(self.params.items()):
            assert client.get_run(run_id).data.params.get("number") == value, f"run {run_id}: its parameter is lost"
        with tempfile.TemporaryDirectory() as folder:
            for (run_id, name), digest in list(self.artifacts.items()):
                path = Path(client.download_artifacts(run_id, name, folder))
                assert hashlib.sha256(path.read_bytes()).hexdigest() == digest, f"run {run_id}: {name} differs"
                path.unlink()
        for version, run_id in list(self.versions.items()):
            assert client.get_model_version("chaos", str(version)).run_id == run_id, f"version {version} is lost"
        kinds = ("runs", "metrics", "params", "artifacts", "versions")
        return Counter({kind: len(getattr(self, kind)) for kind in kinds})


class Load:
    """Visitors and writers in threads, from `with` to its end."""

    def __init__(self, app: str, tracking: str, picture: bytes, visitors: int = 2, writers: int = 2) -> None:
        """Addresses of app and MLflow, the picture that is asked about, and how many threads of each kind."""
        self.app, self.tracking, self.picture = app, tracking, picture
        self.book = Book()
        self.answers: Counter[str] = Counter()
        self.dropped: list[float] = []
        self.wrong: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._visit) for _ in range(visitors)]
        self._threads += [threading.Thread(target=self._write, args=(index,)) for index in range(writers)]
        self._expected: dict[str, dict[str, float]] = {}

    def __enter__(self) -> "Load":
        """Start."""
        client = mlflow.MlflowClient(self.tracking)
        self.experiment = client.create_experiment(f"chaos {time.time()}")
        if not client.search_registered_models("name = 'chaos'"):
            client.create_registered_model("chaos")
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop and wait for all."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _visit(self) -> None:
        """Ask the app again and again; every answer is the model's, or a sentence that says why not."""
        while not self._stop.wait(0.1):
            try:
                answer = requests.post(f"{self.app}/api/predict", self.picture, timeout=60)
                content = answer.json()
            except (requests.RequestException, ValueError):
                self.dropped.append(time.monotonic())
                time.sleep(0.2)
                continue
            if answer.status_code != 200:
                self.answers["refused"] += 1
                if not content.get("error"):
                    self.wrong.append(f"{answer.status_code} without a sentence")
                continue
            self.answers["answered"] += 1
            found = content["images"][0]["probabilities"]
            expected = self._expected.setdefault(content["model"]["sha256"], found)
            if any(abs(found[name] - value) > 1e-4 for name, value in expected.items()):
                self.wrong.append(f"{found} after {expected} from one model")

    def _write(self, index: int) -> None:
        """Make runs with everything a run has, and note only what was acknowledged."""
        client = mlflow.MlflowClient(self.tracking)
        rng = random.Random(index)
        while not self._stop.wait(1):
            try:
                run = client.create_run(self.experiment).info
                self.book.runs[run.run_id] = "RUNNING"
                number = str(rng.random())
                client.log_param(run.run_id, "number", number)
                self.book.params[run.run_id] = number
                for step in range(3):
                    value = rng.random()
                    client.log_metric(run.run_id, "value", value, step=step)
                    self.book.metrics[run.run_id, step] = value
                data = rng.randbytes(50_000)
                with tempfile.TemporaryDirectory() as folder:
                    (Path(folder) / "blob").write_bytes(data)
                    client.log_artifact(run.run_id, str(Path(folder) / "blob"))
                self.book.artifacts[run.run_id, "blob"] = hashlib.sha256(data).hexdigest()
                version = client.create_model_version("chaos", f"{run.artifact_uri}/blob", run.run_id).version
                self.book.versions[int(version)] = run.run_id
                # Unknown until the answer comes: the server may have stored what it could not acknowledge.
                del self.book.runs[run.run_id]
                client.set_terminated(run.run_id)
                self.book.runs[run.run_id] = "FINISHED"
            except LOST:
                self.book.refused += 1
                time.sleep(0.3)


def impatient() -> None:
    """Make this process's MLflow clients fail at once: what is tested is the server, not the client's patience."""
    os.environ |= {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}


def card() -> bytes:
    """A picture to ask about."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((200, 280)).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()
