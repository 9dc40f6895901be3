"""A queue that serves whoever waits in turn: one request with many images does not hold up the others."""

import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Hashable
from typing import Generic, Protocol, TypeVar


class Queued(Protocol):
    """Something that waits for its turn; `owner` is whose turn it is."""

    owner: Hashable
    queued: float


Item = TypeVar("Item", bound=Queued)

# Seconds of CPU time; less is not worth a try.
LEAST_SECONDS = 0.05


class Batch(Generic[Item]):
    """Images that belong together, such as those of one request: they share their turns and a budget of CPU time."""

    def __init__(self, seconds: float = float("inf")) -> None:
        """The images may take this many seconds of CPU time together."""
        self.seconds = seconds  # what is left
        self.demoted = False  # the last one was slow, so the next one goes where it does not hold up other people's
        self._lock = threading.Lock()
        self._running = 0
        self._parked: list[Item] = []

    def reserve(self, job: Item, most: float) -> float | None:
        """Set seconds aside for an image, at most `most`.

        Returns:
            The seconds, 0 if too little is left; None if the image has to wait for what others do not use up.
        """
        with self._lock:
            seconds = min(most, self.seconds)
            if seconds >= LEAST_SECONDS:
                self.seconds -= seconds
                self._running += 1
                return seconds
            if self._running:
                self._parked.append(job)
                return None
            return 0.0

    def give_back(self, seconds: float) -> list[Item]:
        """End an image that did not need these seconds of what was set aside; the images that waited for them."""
        with self._lock:
            self.seconds += seconds
            self._running -= 1
            parked, self._parked = self._parked, []
            return parked


class FairQueue(Generic[Item]):
    """Items of several owners; each owner in turn gives one, and has a limited number under way."""

    def __init__(self, under_way: int) -> None:
        """At most `under_way` items of one owner are out at the same time."""
        self.under_way = under_way
        self._waiting: OrderedDict[Hashable, deque[Item]] = OrderedDict()
        self._out: Counter[Hashable] = Counter()
        self._changed = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        """How many items wait."""
        with self._changed:
            return sum(map(len, self._waiting.values()))

    def put(self, item: Item) -> None:
        """Queue an item behind the others of its owner."""
        item.queued = time.monotonic()
        with self._changed:
            self._waiting.setdefault(item.owner, deque()).append(item)
            self._changed.notify()

    def get(self, timeout: float | None = None) -> Item | None:
        """Take the next item; None after `timeout` seconds without one, or when the queue is closed."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while not self._closed:
                if (owner := self._next()) is not None:
                    return self._take(owner)
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return None
                self._changed.wait(left)
        return None

    def serves(self, owner: Hashable) -> bool:
        """Whether an item of an owner waits or is under way."""
        with self._changed:
            return owner in self._waiting or self._out[owner] > 0

    def done(self, owner: Hashable) -> None:
        """Say that an item is no longer under way."""
        with self._changed:
            self._out[owner] -= 1
            if self._out[owner] <= 0:
                del self._out[owner]
            self._changed.notify_all()

    def close(self) -> list[Item]:
        """Wake everybody up and give out nothing more; what was waiting."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            left = [item for items in self._waiting.values() for item in items]
            self._waiting.clear()
            return left

    @property
    def oldest(self) -> float:
        """Seconds for which the longest waiting item has waited; 0 if none waits."""
        with self._changed:
            first = min((items[0].queued for items in self._waiting.values()), default=None)
        return 0.0 if first is None else time.monotonic() - first

    def _next(self) -> Hashable | None:
        return next((owner for owner in self._waiting if self._out[owner] < self.under_way), None)

    def _take(self, owner: Hashable) -> Item:
        items = self._waiting[owner]
        item = items.popleft()
        self._waiting.move_to_end(owner)
        if not items:
            del self._waiting[owner]
        self._out[owner] += 1
        return item
