"""Predicts now and then by itself, so that /ready says whether predictions work and not only that a model is loaded."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from app.serving.batching import PredictionError
from app.serving.model import ModelError
from contract.model import printable

# How long a prediction of the watchdog may take, its time in the queue included; and all that it looks at.
ANSWER_SECONDS = 5.0
LOOK_SECONDS = 30.0
# Between two looks while something is wrong.
RETRY_SECONDS = 1.0

log = logging.getLogger("manasight")


class Watchdog:
    """A thread that asks for a prediction when nobody else had one for a while."""

    def __init__(
        self, predict: Callable[[], Future[Any] | None], succeeded: Callable[[], float], seconds: float
    ) -> None:
        """Nothing runs before `start`.

        Args:
            predict: queues a prediction as a request would; None if no model is loaded.
            succeeded: when a prediction last succeeded, in seconds of the monotonic clock.
            seconds: without a successful prediction after which one is asked for.
        """
        self._predict, self._succeeded, self.seconds = predict, succeeded, seconds
        self._probes: dict[str, Callable[[], None]] = {}
        self._problem = ""
        self._looking_since: float | None = None
        self._wake = threading.Event()
        self._stopped = False

    @property
    def problem(self) -> str:
        """Why no prediction can be expected now, as a sentence; empty while all is well."""
        since = self._looking_since
        if since is not None and time.monotonic() - since > LOOK_SECONDS:
            return f"The app's own check has had no result for {LOOK_SECONDS:.0f} seconds."
        return self._problem

    def add_probe(self, name: str, probe: Callable[[], None]) -> None:
        """Look at something else too, such as the processes that decode; `probe` raises if it does not work."""
        self._probes[name] = probe

    def start(self) -> None:
        """Look every few seconds from now on."""
        threading.Thread(target=self._run, name="manasight-watchdog", daemon=True).start()

    def stop(self) -> None:
        """End the thread after its current look."""
        self._stopped = True
        self._wake.set()

    def wake(self) -> None:
        """Look at once: a prediction has failed."""
        self._wake.set()

    def look(self) -> str:
        """Look now; what is wrong, or nothing."""
        self._looking_since = time.monotonic()
        try:
            found = self._look_at_predictions()
            for name, probe in self._probes.items():
                try:
                    probe()
                except Exception as error:
                    found = found or f"{name}: {printable(str(error)) or type(error).__name__}"
        finally:
            self._looking_since = None
        if found != self._problem:
            log.log(logging.ERROR if found else logging.INFO, "watchdog: %s", found or "predictions work again")
        self._problem = found
        return found

    def _look_at_predictions(self) -> str:
        started = time.monotonic()
        if not self._problem and started - self._succeeded() < self.seconds:
            return ""
        try:
            return self._predict_now(started)
        except PredictionError as error:
            if not error.withdrawn:
                return str(error)
        except ModelError as error:
            return str(error)
        try:
            return self._predict_now(started)  # with the model that took over
        except ModelError as error:
            return str(error)

    def _predict_now(self, started: float) -> str:
        try:
            waiting = self._predict()
            if waiting is not None:
                waiting.result(ANSWER_SECONDS)
        except TimeoutError:
            if self._succeeded() < started:  # else it only has to wait behind others
                return f"No prediction was made within {ANSWER_SECONDS:.0f} seconds."
        except ModelError:
            raise
        except Exception as error:
            log.exception("the watchdog's prediction failed")
            return f"The app's own prediction failed: {printable(str(error)) or type(error).__name__}"
        return ""

    def _run(self) -> None:
        while True:
            self._wake.wait(RETRY_SECONDS if self._problem else self.seconds)
            if self._stopped:
                return
            try:
                self.look()
            except Exception:
                log.exception("the watchdog failed")
                self._problem = "The app's own check failed; see the log."
            if not self._stopped:
                self._wake.clear()  # also of what failed during the look
