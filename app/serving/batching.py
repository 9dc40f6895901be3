"""Runs what many users and requests ask for at once: images wait in one queue and go through the model in batches."""

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
import onnxruntime as ort

from app.serving.model import MAX_BATCH, Model, ModelError, Prediction
from app.serving.session import reason

# How often the time of a batch is looked at.
WATCH_SECONDS = 0.25
# A machine that is busy with something else gives a batch little of its processors: only seconds in which this process
# works count, but on the clock no more than this many times as long.
MAX_STARVATION = 8
# How long a batch may take to end after it was asked to; then its thread is abandoned and another one takes over.
TERMINATE_SECONDS = 2.0
# Between two reports of failures in the log.
LOG_SECONDS = 10.0

log = logging.getLogger("manasight")


class PredictionError(ModelError):
    """The model gave no answer; the message is a sentence for whoever asked. Another model may answer the next time.

    Attributes:
        why: what went wrong, for the log and the page.
        withdrawn: whether another model answers from now on.
    """

    def __init__(self, sentence: str, why: str, *, withdrawn: bool = False) -> None:
        """What is said in public, and the reason."""
        super().__init__(sentence)
        self.why, self.withdrawn = why, withdrawn


@dataclass(frozen=True)
class _Waiting:
    model: Model
    image: np.ndarray
    answer: Future[Prediction]


@dataclass
class _Running:
    """One batch in the model."""

    batch: list[_Waiting]
    options: ort.RunOptions = field(default_factory=ort.RunOptions)
    seconds: float = 0.0
    working_seconds: float = 0.0
    overdue: bool = False
    abandoned: bool = False
    finished: threading.Event = field(default_factory=threading.Event)


class Batcher:
    """One thread that predicts; images that queue while it works are taken together. A second one watches its time."""

    def __init__(
        self,
        max_batch: int = MAX_BATCH,
        succeeded: Callable[[Model, int], None] = lambda *_: None,
        failed: Callable[[Model, str, bool], None] = lambda *_: None,
    ) -> None:
        """The threads start at once and end with `stop` or with the process.

        Args:
            max_batch: images in one batch.
            succeeded: called after a batch with the model and the number of images.
            failed: called after a batch that failed, before anybody hears of it, with the model, what went wrong, and
                whether it took too long. It may withdraw the model.
        """
        self.max_batch = max_batch
        self._succeeded, self._failed = succeeded, failed
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._carried: _Waiting | None = None
        self._running: _Running | None = None
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._logged = -LOG_SECONDS
        self._start()
        threading.Thread(target=self._watch, name="manasight-batch-watch", daemon=True).start()

    @property
    def waiting(self) -> int:
        """How many images nobody has taken yet."""
        return self._queue.qsize()

    def submit(self, model: Model, image: np.ndarray) -> Future[Prediction]:
        """Queue one uint8 `[height, width, 3]` image of the model's input size; cancelling its answer is free.

        The answer raises PredictionError if the model fails, takes too long or was withdrawn.

        Raises:
            ValueError: if the image has another shape.
        """
        if image.shape != (*model.input_size, 3):
            raise ValueError(f"the image is {image.shape}, the model takes {model.input_size}")
        answer: Future[Prediction] = Future()
        self._queue.put(_Waiting(model, image, answer))
        return answer

    def stop(self) -> None:
        """End the threads once what waits now is answered."""
        self._queue.put(None)

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="manasight-inference", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while (first := self._carried or self._queue.get()) is not None:
            self._carried = None
            batch = [first]
            while len(batch) < self.max_batch:
                try:
                    following = self._queue.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    self._queue.put(None)  # stop in the next round
                    break
                if following.model is not first.model:
                    self._carried = following  # a swap: what was meant for the old model is answered by the old model
                    break
                batch.append(following)
            if not self._answer([waiting for waiting in batch if waiting.answer.set_running_or_notify_cancel()]):
                return  # this thread was given up, and another one has taken over
        self._stopped.set()

    def _answer(self, batch: list[_Waiting]) -> bool:
        """Predict a batch; False if that took so long that this thread is no longer the one that predicts."""
        if not batch:
            return True
        model = batch[0].model
        if model.withdrawn:
            _refuse(batch, model, model.withdrawn)
            return True
        running = _Running(batch)
        self._running = running
        predictions, failure = [], None
        try:
            predictions = model.predict(np.stack([waiting.image for waiting in batch]), running.options)
        except Exception as error:  # ONNX Runtime raises many unrelated classes
            failure = error
        with self._lock:
            self._running = None
            running.finished.set()
        if running.abandoned:
            return False
        if failure is None:
            for waiting, prediction in zip(batch, predictions, strict=True):
                waiting.answer.set_result(prediction)
            self._succeeded(model, len(batch))
            return True
        why = _too_slow(running) if running.overdue else f"it failed on {_count(batch)}: {reason(failure)}"
        self._report(model, why, running.overdue, failure)
        if len(batch) > 1 and not running.overdue and not model.withdrawn:
            return all(self._answer([waiting]) for waiting in batch)  # perhaps only one image is to blame
        _refuse(batch, model, why)
        return True

    def _watch(self) -> None:
        """Count each batch's seconds, in steps that a paused machine does not count, and end what hangs."""
        worked = time.process_time()
        while not self._stopped.wait(WATCH_SECONDS):
            before, worked = worked, time.process_time()
            if not self._thread.is_alive() and not self._stopped.is_set():
                log.error("the thread that predicts has ended; another one is started")
                self._start()
            running = self._running
            if running is None:
                continue
            running.seconds += WATCH_SECONDS
            running.working_seconds += min(WATCH_SECONDS, worked - before)
            limit = running.batch[0].model.batch_seconds
            if running.working_seconds > limit or running.seconds > MAX_STARVATION * limit:
                running.overdue = True
                running.options.terminate = True
                if not running.finished.wait(TERMINATE_SECONDS):
                    self._abandon(running)

    def _abandon(self, running: _Running) -> None:
        """Leave a thread that cannot be ended behind; the next one takes what waits."""
        with self._lock:
            if running.finished.is_set():
                return
            running.abandoned, self._running = True, None
        model = running.batch[0].model
        why = f"{_too_slow(running)}, and could not be ended"
        self._report(model, why, overdue=True, error=None)
        _refuse(running.batch, model, why)
        self._start()

    def _report(self, model: Model, why: str, overdue: bool, error: Exception | None) -> None:
        if (now := time.monotonic()) - self._logged >= LOG_SECONDS:
            self._logged = now
            log.error("%s gave no answer: %s", model.name, why, exc_info=error)
        try:
            self._failed(model, why, overdue)
        except Exception:
            log.exception("a failure of %s could not be handled", model.name)  # the answers are still due


def _refuse(batch: list[_Waiting], model: Model, why: str) -> None:
    sentence = "The prediction failed; the app's log says why."
    if model.withdrawn:
        sentence = "The model was withdrawn because it failed; try again."
    for waiting in batch:
        waiting.answer.set_exception(PredictionError(sentence, why, withdrawn=bool(model.withdrawn)))


def _too_slow(running: _Running) -> str:
    return f"it took longer than {running.batch[0].model.batch_seconds:.0f} s for {_count(running.batch)}"


def _count(batch: list[_Waiting]) -> str:
    return "an image" if len(batch) == 1 else f"{len(batch)} images"
