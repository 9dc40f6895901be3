"""Runs what many users and requests ask for at once: images wait in one queue and go through the model in batches."""

import queue
import threading
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from app.model import Model, Prediction

# Larger batches gain no speed on a CPU, but hold everybody up for longer and take more memory.
MAX_BATCH = 8


@dataclass(frozen=True)
class _Waiting:
    model: Model
    image: np.ndarray
    answer: Future[Prediction]


class Batcher:
    """One thread that predicts; images that queue while it works are taken together."""

    def __init__(self, max_batch: int = MAX_BATCH) -> None:
        """The thread starts at once and ends with `stop` or with the process."""
        self.max_batch = max_batch
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="manasight-inference", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many images nobody has taken yet."""
        return self._queue.qsize()

    def submit(self, model: Model, image: np.ndarray) -> Future[Prediction]:
        """Queue one uint8 `[height, width, 3]` image of the model's input size; cancelling its answer is free."""
        answer: Future[Prediction] = Future()
        self._queue.put(_Waiting(model, image, answer))
        return answer

    def stop(self) -> None:
        """End the thread once what waits now is answered."""
        self._queue.put(None)

    def _run(self) -> None:
        carried: _Waiting | None = None
        while (first := carried or self._queue.get()) is not None:
            carried = None
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
                    carried = following  # a swap: what was meant for the old model is answered by the old model
                    break
                batch.append(following)
            _answer(batch)


def _answer(batch: list[_Waiting]) -> None:
    batch = [waiting for waiting in batch if waiting.answer.set_running_or_notify_cancel()]
    if not batch:
        return
    try:
        predictions = batch[0].model.predict(np.stack([waiting.image for waiting in batch]))
    except Exception as error:
        # Whoever waits has to hear of it, and the thread has to live on for the others.
        for waiting in batch:
            waiting.answer.set_exception(error)
    else:
        for waiting, prediction in zip(batch, predictions, strict=True):
            waiting.answer.set_result(prediction)
