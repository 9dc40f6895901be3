"""Turns at drawing pages: Python runs one thread at a time, and the thread that answers everybody is one of them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakValueDictionary

# Pages that are drawn at once; of one client one, so that the others have the other place.
PLACES = 2


class Turns:
    """A few places for threads, and one for each client. Used from any thread."""

    def __init__(self, places: int = PLACES) -> None:
        """All are free."""
        self._places = threading.Semaphore(places)
        self._clients: WeakValueDictionary[str, threading.Semaphore] = WeakValueDictionary()
        self._changing = threading.Lock()
        self._thread = threading.local()

    @contextmanager
    def turn(self, client: str) -> Iterator[None]:
        """Wait for the client's place and one of all, and keep both until the block ends."""
        with self._changing:
            own = self._clients.setdefault(client, threading.Semaphore())
        with own, self._places:
            self._thread.own = own
            try:
                yield
            finally:
                self._thread.own = None

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
