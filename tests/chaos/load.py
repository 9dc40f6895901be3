"""The load while things break: visitors of the app, writers to MLflow, and a book of what was acknowledged."""

import hashlib
import io
import os
import random
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import mlflow
import requests
from mlflow.exceptions import MlflowException

# What a client may raise when the server is away or half there.
LOST = (MlflowException, requests.RequestException, OSError)


@dataclass
class Run:
    """What MLflow said it had stored of one run: nothing of it may ever be missing."""

    run_id: str
    status: str | None = "RUNNING"
    number: str | None = None
    metrics: dict[int, float] = field(default_factory=dict)
    digest: str | None = None
    version: int | None = None
    checked: bool = False

    def count(self) -> Counter[str]:
        """How much of each kind that is."""
        once = {"runs": self.status, "params": self.number, "artifacts": self.digest, "versions": self.version}
        return Counter({kind: 1 for kind, value in once.items() if value is not None} | {"metrics": len(self.metrics)})

    def check(self, client: mlflow.MlflowClient) -> None:
        """Ask MLflow for all of it.

        Raises:
            AssertionError: naming what is missing or differs.
        """
        known = replace(self, metrics=dict(self.metrics))  # a writer may go on with it
        found = client.get_run(known.run_id)
        # One that was running when it was noted may have ended since.
        assert known.status in (None, "RUNNING", found.info.status), f"run {self.run_id} is {found.info.status}"
        assert known.number in (None, found.data.params.get("number")), f"run {self.run_id}: its parameter is lost"
        points = {point.step: point.value for point in client.get_metric_history(self.run_id, "value")}
        for step, value in known.metrics.items():
            assert points.get(step) == value, f"run {self.run_id}: the metric of step {step} is lost"
        if known.digest:
            with tempfile.TemporaryDirectory() as folder:
                data = Path(client.download_artifacts(self.run_id, "blob", folder)).read_bytes()
            assert hashlib.sha256(data).hexdigest() == known.digest, f"run {self.run_id}: its artifact differs"
        if known.version:
            owner = client.get_model_version("chaos", str(known.version)).run_id
            assert owner == self.run_id, f"version {known.version} is lost"
        self.checked = known.status == "FINISHED"


@dataclass
class Book:
    """All that was acknowledged, and how often something was refused."""

    runs: list[Run] = field(default_factory=list)
    refused: int = 0

    def check(self, client: mlflow.MlflowClient, again: bool = False) -> Counter[str]:
        """Ask MLflow for what was not asked for yet, or for all of it `again`.

        Returns:
            how much of each kind is in the book.

        Raises:
            AssertionError: naming what is missing or differs.
        """
        runs = self.runs[:]
        for run in runs:
            if again or not run.checked:
                self._ask(run, client)
        return sum((run.count() for run in runs), Counter())

    @staticmethod
    def _ask(run: Run, client: mlflow.MlflowClient) -> None:
        """A server that has just come back may be too busy to answer; what is lost is still lost a minute later."""
        end = time.monotonic() + 60
        while True:
            try:
                return run.check(client)
            except LOST:
                if time.monotonic() > end:
                    raise
            time.sleep(1)


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
        while not self._stop.wait(2):
            try:
                info = client.create_run(self.experiment).info
                run = Run(info.run_id)
                self.book.runs.append(run)
                number = str(rng.random())
                client.log_param(run.run_id, "number", number)
                run.number = number
                for step in range(3):
                    value = rng.random()
                    client.log_metric(run.run_id, "value", value, step=step)
                    run.metrics[step] = value
                data = rng.randbytes(50_000)
                with tempfile.TemporaryDirectory() as folder:
                    (Path(folder) / "blob").write_bytes(data)
                    client.log_artifact(run.run_id, str(Path(folder) / "blob"))
                run.digest = hashlib.sha256(data).hexdigest()
                run.version = int(client.create_model_version("chaos", f"{info.artifact_uri}/blob", run.run_id).version)
                # Unknown until the answer comes: the server may have stored what it could not acknowledge.
                run.status = None
                client.set_terminated(run.run_id)
                run.status = "FINISHED"
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
