"""Decodes images outside this process: in worker processes with limits, which are killed and replaced as needed.

Images go to the first lane, which has one worker per core and tight limits. What exceeds them goes on in the last lane,
whose single worker has more memory and time: large and hostile images wait for each other there, and nobody else does.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from contract.images import ENOUGH, MAX_BYTES, ImageError
from contract.process import DiedError, StartError, Worker, WorkerLimits
from contract.queueing import Batch, FairQueue

# Seconds without work after which the process of a lane that is not kept warm ends.
IDLE_SECONDS = 10.0
# Seconds between two lines of log about processes that died.
LOG_SECONDS = 10.0

TOO_SLOW = "The image takes too long to decode. Save it again as a plain JPEG or PNG."
TOO_SLOW_TOGETHER = "The images sent together take too long to decode. Send fewer at once."
TOO_MUCH_MEMORY = "The image takes more memory to decode than is allowed. Make it smaller, or save it as JPEG."
STOPPING = "The app is stopping."
CRASHED = "The image cannot be decoded: it makes the decoder fail. Save it again as JPEG or PNG."

log = logging.getLogger("manasight")


class DecodingError(Exception):
    """Nothing can be decoded now, through no fault of the image; the message says why."""


@dataclass(frozen=True)
class Lane:
    """Workers with the same limits.

    Attributes:
        workers: how many.
        limits: of each.
        warm: whether they are kept when there is nothing to do.
    """

    workers: int
    limits: WorkerLimits
    warm: bool = True


@dataclass(frozen=True)
class Decoded:
    """What was asked for of one image.

    Attributes:
        size: width and height of the upright image in pixels.
        input: RGB pixels in the size of the model's input; empty if not asked for, like what follows.
        jpeg: a small copy.
        rgb: pixels of the image, at most of the edge that was asked for.
        rgb_size: width and height of these.
    """

    size: tuple[int, int]
    input: memoryview
    jpeg: bytes
    rgb: memoryview
    rgb_size: tuple[int, int]


WHOLE = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class Wanted:
    """What is made of an image.

    Attributes:
        size: `(height, width)` of the model's input; none by default.
        letterbox: whether the input keeps the image's proportions.
        turn: quarter turns, clockwise, of the upright image.
        crop: the part that is kept of it then: left, top, right, bottom, as shares of its width and height.
        jpeg: longest edge of a small JPEG; 0 for none.
        rgb: longest edge of the pixels that are wanted; 0 for none.
        at_least: a large JPEG may be decoded smaller, but not below this many pixels; 0 for never.
    """

    size: tuple[int, int] | None = None
    letterbox: bool = False
    turn: int = 0
    crop: tuple[float, float, float, float] = WHOLE
    jpeg: int = 0
    rgb: int = 0
    at_least: int = ENOUGH


@dataclass
class _Job:
    data: bytes
    wanted: Wanted
    owner: "Batch[_Job]"
    future: Future[Decoded]
    queued: float = 0.0
    running: bool = False
    lanes: list["_Running"] = field(default_factory=list)


@dataclass
class _Running:
    """A lane at work."""

    lane: Lane
    queue: FairQueue[_Job]
    threads: list[threading.Thread] = field(default_factory=list)


class Decoders:
    """The worker processes, and the queues before them. Processes start when there is work, or with `start`."""

    def __init__(self, lanes: Sequence[Lane], max_bytes: int = MAX_BYTES) -> None:
        """Nothing is started yet; files above `max_bytes` will be refused."""
        self.max_bytes = max_bytes
        # An owner never takes all the workers of a lane, so that the next one finds a free one.
        self._lanes = [_Running(lane, FairQueue(max(1, lane.workers - 1))) for lane in lanes]
        self._lock = threading.Lock()
        self._closed = False
        self._logged = float("-inf")
        self._failing = ""  # why the last process could not be started
        self.counts: Counter[str] = Counter(restarts=0, timeouts=0, memory=0)
        self.workers: set[Worker] = set()

    def start(self) -> None:
        """Start the processes of the lanes that are kept warm, without waiting for them."""
        with self._lock:
            if self._closed or any(running.threads for running in self._lanes):
                return
            for running in self._lanes:
                for number in range(running.lane.workers):
                    name = f"manasight-decode-{number}"
                    thread = threading.Thread(target=self._work, args=(running,), name=name, daemon=True)
                    running.threads.append(thread)
                    thread.start()

    def submit(self, data: bytes, wanted: Wanted, batch: Batch | None = None) -> Future[Decoded]:
        """Queue one file. The answer is Decoded, or raises ImageError, or DecodingError if there are no workers."""
        future: Future[Decoded] = Future()
        if not data:
            future.set_exception(ImageError("The file is empty."))
        elif len(data) > self.max_bytes:
            sentence = f"The file has {len(data) / 1024**2:.0f} MB; at most {self.max_bytes // 1024**2} MB are read."
            future.set_exception(ImageError(sentence))
        elif self._closed:
            future.set_exception(DecodingError(STOPPING))
        else:
            self.start()
            job = _Job(data, wanted, batch or Batch(), future)
            self._queue(job)
        return future

    def decode(self, data: bytes, wanted: Wanted, batch: Batch | None = None) -> Decoded:
        """Decode one file and wait for it; raises what `submit` says."""
        return self.submit(data, wanted, batch).result()

    def close(self) -> None:
        """End all processes; what waits is answered with DecodingError."""
        with self._lock:
            self._closed = True
            workers = list(self.workers)
        for running in self._lanes:
            for job in running.queue.close():
                if job.running or job.future.set_running_or_notify_cancel():
                    job.future.set_exception(DecodingError(STOPPING))
        for worker in workers:
            worker.terminate()
        for thread in (thread for running in self._lanes for thread in running.threads):
            thread.join(5)

    def __enter__(self) -> "Decoders":
        """Close at the end of a with statement."""
        return self

    def __exit__(self, *_: object) -> None:
        """End all processes."""
        self.close()

    @property
    def waiting(self) -> int:
        """How many images nobody has taken yet."""
        return sum(len(running.queue) for running in self._lanes)

    @property
    def oldest(self) -> float:
        """Seconds for which an image waits for the first lane; large ones are expected to wait for each other."""
        return self._lanes[0].queue.oldest

    def problem(self, patience: float = 20.0) -> str:
        """Why images are not decoded now; empty if they are, or if none came yet."""
        if self._failing:
            return self._failing
        if self.oldest > patience:
            return f"Images have waited {self.oldest:.0f} seconds to be decoded."
        return ""

    def _queue(self, job: _Job) -> None:
        job.lanes = self._lanes[-1:] if self._is_large(job.owner) else list(self._lanes)
        job.lanes[0].queue.put(job)

    def _is_large(self, owner: Batch) -> bool:
        """Whether an owner's images go to the last lane: slow ones do, and all while one is there, for its memory."""
        return owner.demoted or self._lanes[-1].queue.serves(owner)

    def _work(self, running: _Running) -> None:
        """One thread: keeps one process and gives it job after job."""
        worker = self._start(running) if running.lane.warm else None
        while not self._closed:
            job = running.queue.get(None if running.lane.warm or worker is None else IDLE_SECONDS)
            if job is None:
                worker = self._end(worker)
                continue
            try:
                if not job.running and not job.future.set_running_or_notify_cancel():
                    continue
                job.running = True
                worker = worker or self._start(running)
                if worker is None:
                    job.future.set_exception(DecodingError(self._failing or STOPPING))
                else:
                    worker = self._answer(running, worker, job)
            except Exception as error:  # the thread has to live on for the others
                log.exception("decoding failed")
                if not job.future.done():
                    job.future.set_exception(error)
                worker = self._end(worker)
            finally:
                running.queue.done(job.owner)
        self._end(worker)

    def _answer(self, running: _Running, worker: Worker, job: _Job) -> Worker | None:
        """Have one image decoded; the worker, if it can be used again."""
        if running is not self._lanes[-1] and self._is_large(job.owner):
            self._queue(job)
            return worker
        seconds = job.owner.reserve(job, running.lane.limits.seconds)
        if seconds is None:
            return worker
        if not seconds:
            job.future.set_exception(ImageError(TOO_SLOW_TOGETHER))
            return worker
        job.lanes = job.lanes[1:]
        unused = 0.0
        try:
            worker, unused = self._ask(running, worker, job, seconds)
        finally:
            for parked in job.owner.give_back(unused):
                self._pass_on(parked, STOPPING)
        return worker

    def _ask(self, running: _Running, worker: Worker, job: _Job, seconds: float) -> tuple[Worker | None, float]:
        """Give a job to a process: the process, if it can be used again, and the seconds of CPU time not needed."""
        started = time.monotonic()
        head = {name: getattr(job.wanted, name) for name in Wanted.__dataclass_fields__}
        try:
            answer, parts = worker.ask(head, job.data, seconds)
        except DiedError as died:
            self._end(worker)
            unused = 0.0 if died.timed_out else max(0.0, seconds - (time.monotonic() - started))
            self._note_death(died)
            if died.timed_out:
                job.owner.demoted = True
            self._pass_on(job, TOO_SLOW if died.timed_out else CRASHED)
            return self._start(running) if running.lane.warm else None, unused
        job.owner.demoted &= answer["seconds"] > self._lanes[0].lane.limits.seconds
        if answer.get("fault") == "memory":
            self.counts["memory"] += 1
            self._pass_on(job, answer["error"] or TOO_MUCH_MEMORY)
        elif "error" in answer:
            error = ImageError(answer["error"])
            error.__cause__ = ValueError(answer["detail"]) if answer["detail"] else None
            job.future.set_exception(error)
        else:
            job.future.set_result(_decoded(job.wanted, answer, parts))
        return self._end(worker) if answer.get("last") else worker, max(0.0, seconds - answer["seconds"])

    def _pass_on(self, job: _Job, sentence: str) -> None:
        """Give a job to the next lane, or if this was the last one, answer it."""
        if not job.lanes or self._closed:
            job.future.set_exception(ImageError(sentence))
        else:
            job.lanes[0].queue.put(job)

    def _start(self, running: _Running) -> Worker | None:
        try:
            worker = Worker(running.lane.limits)
        except StartError as error:
            self._failing = f"Images cannot be decoded: {error}"
            log.error("%s", self._failing)
            return None
        self._failing = ""
        with self._lock:
            self.workers.add(worker)
            closed = self._closed
        return self._end(worker) if closed else worker

    def _end(self, worker: Worker | None) -> None:
        if worker is not None:
            with self._lock:
                self.workers.discard(worker)
            worker.kill()

    def _note_death(self, died: DiedError) -> None:
        self.counts["restarts"] += 1
        self.counts["timeouts"] += died.timed_out
        if died.timed_out or time.monotonic() - self._logged < LOG_SECONDS:
            return
        self._logged = time.monotonic()
        log.warning("a decoding process died and was replaced: %s", died)


def _decoded(wanted: Wanted, answer: dict[str, Any], parts: list[memoryview]) -> Decoded:
    """Put the parts of an answer in their places.

    Raises:
        ValueError: if they are not what was asked for.
    """
    left = iter(parts)
    pixels = next(left) if wanted.size else memoryview(b"")
    jpeg = bytes(next(left)) if wanted.jpeg else b""
    rgb = next(left) if wanted.rgb else memoryview(b"")
    width, height = map(int, answer["size"])
    across, down = map(int, answer["shown"])
    if wanted.size and len(pixels) != wanted.size[0] * wanted.size[1] * 3:
        raise ValueError("a decoding process gave pixels of another size than it was asked for")
    if len(rgb) != across * down * 3:
        raise ValueError("a decoding process gave another number of pixels than it says")
    return Decoded((width, height), pixels, jpeg, rgb, (across, down))
