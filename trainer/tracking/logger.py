"""Delivers a run's metrics to MLflow in the background; while the server is away they are kept, on disk too."""

import json
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import mlflow
from lightning.pytorch.loggers import MLFlowLogger
from lightning.pytorch.utilities import rank_zero_only
from mlflow.entities import Metric

# Metrics in one request: MLflow's limit.
MOST = 1000
# Seconds between two tries.
PAUSE = 2.0


class SteadyLogger(MLFlowLogger):
    """Lightning's MLflow logger, which neither waits for the server nor loses or repeats a step.

    Every metric is written to a journal beside the checkpoints and from there sent by a thread. A metric that was sent
    twice because an answer got lost counts once: MLflow's stores know it by its time. A step that a resumed run does
    again is not logged again.
    """

    def __init__(self, run_id: str, folder: Path, resumed: bool) -> None:
        """Start delivering.

        Args:
            run_id: the MLflow run.
            folder: of the journal.
            resumed: whether the run has metrics already, there or in the journal.
        """
        super().__init__(tracking_uri=mlflow.get_tracking_uri(), run_id=run_id)
        self._journal = folder / "metrics.waiting"
        self.trouble = ""  # why nothing is taken, as the end of a sentence
        self._changed = threading.Condition()
        self._waiting: list[Metric] = []
        self._steps: dict[str, int] = {}
        if rank_zero_only.rank == 0:
            self._client = mlflow.MlflowClient()
            if resumed:
                self._remember()
            threading.Thread(target=self._deliver, name="metrics", daemon=True).start()

    def _remember(self) -> None:
        """Find the last step of every metric, and what was not delivered."""
        for name in self._client.get_run(self.run_id).data.metrics:
            if not name.startswith("system/"):
                history = self._client.get_metric_history(self.run_id, name)
                self._steps[name] = max(point.step for point in history)
        lines = self._journal.read_text().splitlines() if self._journal.is_file() else []
        for line in lines:
            with suppress(ValueError):  # a line that was being written when the process was killed
                self._waiting.append(Metric(*json.loads(line)))
        for metric in self._waiting:
            self._steps[metric.key] = max(metric.step, self._steps.get(metric.key, -1))

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Note metrics for delivery."""
        step, now = step or 0, int(time.time() * 1000)
        new = [
            Metric(name, float(value), now, step) for name, value in metrics.items() if step > self._steps.get(name, -1)
        ]
        self._steps |= {metric.key: step for metric in new}
        lines = "".join(json.dumps([item.key, item.value, item.timestamp, item.step]) + "\n" for item in new)
        with self._changed:
            with self._journal.open("a") as file:
                file.write(lines)
            self._waiting += new
            self._changed.notify_all()

    def log_hyperparams(self, *_: object, **__: object) -> None:
        """Nothing: `manasight fit` logs its options itself, under their own names."""

    def _deliver(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                batch = self._waiting[:MOST]
            try:
                self._client.log_batch(self.run_id, metrics=batch)
            except Exception as error:  # whatever is wrong with the server or the way to it: `flush` says what waits
                self.trouble = f"; MLflow says: {str(error).partition(chr(10))[0]}"
                time.sleep(PAUSE)
                continue
            self.trouble = ""
            with self._changed:
                del self._waiting[: len(batch)]
                if not self._waiting:
                    self._journal.unlink(missing_ok=True)
                self._changed.notify_all()

    def flush(self, seconds: float) -> int:
        """Wait until everything is delivered, at most so long.

        Returns:
            how many metrics are still waiting; a resumed run delivers them.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting, seconds)
            return len(self._waiting)

    def finalize(self, status: str = "success") -> None:
        """Nothing: `manasight fit` ends the run itself, when everything is delivered."""
