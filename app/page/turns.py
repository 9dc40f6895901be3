"""Turns at drawing pages: Python runs one thread at a time, and the thread that answers everybody is one of them."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakValueDictionary

from app.budgets import Budgets

# Pages that are drawn at once; of one client one, so that the others have the other place.
PLACES = 2
# CPU time to draw pages of one client, each second and at once: a page takes a twentieth of a second. Beyond that
# they wait.
SECONDS_PER_SECOND, SECONDS_AT_ONCE = 0.6, 4.0


class Turns:
    """A few places for threads, and one for each client. Used from any thread."""

    def __init__(self, places: int = PLACES) -> None:
        """All are free."""
        self._places = threading.Semaphore(places)
        self._clients: WeakValueDictionary[str, threading.Semaphore] = WeakValueDictionary()
        self._budgets = Budgets(SECONDS_PER_SECOND, SECONDS_AT_ONCE)
        self._changing = threading.Lock()
        self._thread = threading.local()

    @contextmanager
    def turn(self, client: str) -> Iterator[None]:
        """Wait for the client's place, its CPU time and one of all places, and keep both until the block ends."""
        with self._changing:
            own, budget = self._clients.setdefault(client, threading.Semaphore()), self._budgets.of(client)
        with own:
            while (left := budget.left) < 0:
                time.sleep(-left / SECONDS_PER_SECOND)
            with self._places:
                self._thread.own, started = own, time.thread_time()
                try:
                    yield
                finally:
                    self._thread.own = None
                    budget.charge(time.thread_time() - started)

    @contextmanager
    def others_go_first(self) -> Iterator[None]:
        """Give the thread's places to others while it waits for something, and take them back when the block ends."""
        own = getattr(self._thread, "own", None)
        if own is None:
            yield
            return
        self._places.release()
        own.release()
        try:
            yield
        finally:
            own.acquire()
            self._places.acquire()


turns = Turns()
