"""The one model in use: the file that the app starts with, then the champions that it is given.

A model that fails after it was taken over is withdrawn, and the last good one answers again.
"""

import logging
import math
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from app.serving.batching import Batcher, PredictionError
from app.serving.champions import Champions, Refusal
from app.serving.model import MAX_BATCH, Model, ModelError, Prediction
from app.serving.quarantine import Report
from app.serving.registry import Champion
from app.serving.served import Served, drawn, read_card
from app.serving.watchdog import Watchdog
from app.settings import STARTER, Settings
from contract.model import TemporaryModelError

# The model that comes with the app is as trusted as its code, which lies beside it: its check is not worth a second of
# every start.
STARTER_REPORT = Report(memory=0, seconds=0.1)
# The first prediction of a process may be slow, as on an emulated processor, and nobody waits behind it.
START_SECONDS = 240.0

# A new champion has proved itself after this many images or seconds; until then one failure is enough to withdraw it.
PROVEN_IMAGES, PROVEN_SECONDS = 200, 600.0
# What withdraws a model after that: failed batches in a row, or two that hang within these seconds.
MAX_FAILURES = 3
OVERDUE_SECONDS = 3600.0
# For the first prediction of a new champion, which waits behind others.
FIRST_SECONDS = 60.0

log = logging.getLogger("manasight")


@dataclass
class _Trial:
    """A model that has not proved itself yet.

    Attributes:
        previous: answered before it and stays loaded; None after a start.
        started: on the monotonic clock.
        images: that it has answered.
    """

    previous: Served | None
    started: float
    images: int = 0


class Holder:
    """Holds the model in use, and goes back to the last good one when it fails.

    `served` is replaced as a whole, and who predicts holds on to what it read: a swap never mixes two models.
    """

    def __init__(self, settings: Settings) -> None:
        """Nothing is loaded before `start`."""
        self.settings = settings
        self.served: Served | None = None
        self.problem = ""  # why no model could be loaded at start
        self.note = ""  # what the last look at the registry found, if it was not the champion in use
        self.trouble = False  # whether somebody should look at it
        self.swaps = 0  # champions taken over since the start
        self.refusals = 0  # models refused since the start, in their check or afterwards
        self.rollbacks = 0  # models withdrawn since the start
        self.batcher = Batcher(succeeded=self._succeeded, failed=self._failed)
        self.watchdog = Watchdog(self._probe, lambda: self._last_success, settings.watchdog_seconds)
        self.champions = Champions.of(settings)
        self._last_success = -math.inf
        self._failures = 0  # in a row
        self._overdue = -math.inf  # when a batch last took too long
        self._trial: _Trial | None = None
        self._swapping = threading.Lock()

    def start(self) -> None:
        """Load the champion kept from last time, else the file. Needs no network."""
        found = self.champions.read(trial=True) if self.settings.follows else None
        if found:
            kept = Served(*found)
            try:
                self.predict_first(kept.model, START_SECONDS)
                self.served, self._trial = kept, _Trial(None, time.monotonic())
            except ModelError as error:
                log.warning("%s", error)
        if self.served is None:
            try:
                file = self._load_file()
                self.predict_first(file.model, START_SECONDS)
                self.served = file
            except ModelError as error:
                self.problem = str(error)
                self.refusals += 1
                log.error("%s", error)
        self.watchdog.start()

    def stop(self) -> None:
        """End the background threads; what waits for a prediction gets it."""
        self.watchdog.stop()
        self.batcher.stop()
        if self._trial:
            self.champions.end_trial()

    def current(self) -> Served:
        """The model in use; hold on to it for everything that belongs to one answer.

        Raises:
            ModelError: if there is none.
        """
        if self.served is None:
            raise ModelError(self.problem or "The model is still loading.")
        return self.served

    def submit(self, served: Served, image: np.ndarray) -> Future[Prediction]:
        """Queue an image for a model: uint8 RGB pixels `[height, width, 3]` of its input size.

        The answer raises PredictionError if the model fails.
        """
        return self.batcher.submit(served.model, image)

    def report(self, note: str, *, trouble: bool = True) -> None:
        """Say what there is to know of the registry or the model; `trouble` if somebody should look at it."""
        self.note, self.trouble = note, trouble

    def predict_first(self, model: Model, seconds: float = FIRST_SECONDS) -> None:
        """One prediction through the queue, which also makes the first one of a user as fast as the others.

        Raises:
            TemporaryModelError: if it fails.
        """
        try:
            usual, started = model.batch_seconds, time.monotonic()
            model.batch_seconds = max(usual, seconds) if seconds > FIRST_SECONDS else usual
            self.batcher.submit(model, drawn(model)).result(seconds)
            # A machine on which one image takes seconds, as under emulation, needs longer for a batch too.
            model.batch_seconds = min(seconds, max(usual, 2 * MAX_BATCH * (time.monotonic() - started)))
        except PredictionError as error:
            raise TemporaryModelError(f"the first prediction of {model.name} failed: {error.why}") from error
        except TimeoutError as error:
            raise TemporaryModelError(f"{model.name} made no prediction within {seconds:.0f} s") from error

    def take_over(self, data: bytes, served: Served) -> None:
        """Serve a champion, whose file is `data`, from now on, on trial."""
        if served.champion is None:
            raise ValueError("only champions are taken over")
        self.champions.begin_trial(served.model.sha256)
        with self._swapping:
            self._trial = _Trial(self.served, time.monotonic())
            self.served, self._failures, self._overdue = served, 0, -math.inf
            self.swaps += 1
            self.problem = ""
        self.report("", trouble=False)
        log.info("now serving %s version %s", served.champion.name, served.champion.version)
        self.champions.keep(data, served.champion, served.model.report)

    def refuse(self, champion: Champion, digest: str, why: str, *, temporary: bool) -> Refusal:
        """Count and remember a champion that is not served; `temporary` if it is tried again later."""
        self.refusals += 1
        sentence = f"Version {champion.version} was {why}"
        log.warning("%s", sentence)
        return self.champions.refuse(champion, digest, sentence, temporary=temporary)

    # What becomes of the model in use

    def _succeeded(self, model: Model, images: int) -> None:
        """A batch was answered."""
        self._last_success = time.monotonic()
        served, trial = self.served, self._trial
        if served is None or served.model is not model:
            return
        self._failures = 0
        if trial is None:
            return
        trial.images += images
        if trial.images >= PROVEN_IMAGES or self._last_success - trial.started >= PROVEN_SECONDS:
            self._trial = None  # and with it the model before
            self.champions.end_trial()

    def _failed(self, model: Model, why: str, overdue: bool) -> None:
        """A batch failed: go back to the last good model if this one is new, or fails again and again."""
        with self._swapping:
            served = self.served
            if served is None or served.model is not model:
                return
            self._last_success = -math.inf
            self.watchdog.wake()
            self._failures += 1
            again = overdue and time.monotonic() - self._overdue < OVERDUE_SECONDS
            self._overdue = time.monotonic() if overdue else self._overdue
            if self._trial is None and self._failures < MAX_FAILURES and not again:
                return
            fallback = self._fallback(model)
            if fallback is None:
                return
            if served.champion:
                self.refuse(served.champion, model.sha256, f"withdrawn: {why}", temporary=overdue)
            model.withdrawn = why
            self.served, self._trial, self._failures, self._overdue = fallback, None, 0, -math.inf
            self.rollbacks += 1
            self.champions.end_trial()
            name = f"version {served.champion.version}" if served.champion else served.title
            self.report(f"The model {name} was withdrawn: {why}. {fallback.title} answers again.")
            log.error("%s", self.note)

    def _fallback(self, failed: Model) -> Served | None:
        """What answered before, or the newest kept champion, or the file of the start; None if all of them failed."""
        if self._trial and self._trial.previous and not self._trial.previous.model.withdrawn:
            return self._trial.previous
        try:
            if self.settings.follows and (found := self.champions.read(failed.sha256)):
                return Served(*found)
            file = self._load_file()
            return file if file.model.sha256 != failed.sha256 else None
        except ModelError as error:
            log.error("there is no model to go back to: %s", error)
            return None

    def _probe(self) -> Future[Prediction] | None:
        """Queue the watchdog's image for the model in use."""
        served = self.served
        return self.batcher.submit(served.model, drawn(served.model)) if served else None

    # What is on disk

    def _load_file(self) -> Served:
        """The file that the app was started with.

        Raises:
            ModelError: if it cannot be read or does not pass the check.
        """
        path = self.settings.model
        report = STARTER_REPORT if path.resolve() == STARTER else None
        return Served(Model.from_file(path, report), card=read_card(path.with_name("README.md")))
