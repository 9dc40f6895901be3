"""Does work in threads, with results in order and few of them waiting."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 8  # batches under way or waiting, per worker
BATCH = 32  # of what takes less than it costs to hand it to a thread


def in_order(work: Callable[[Item], Result], items: Iterable[Item], workers: int, batch: int = 1) -> Iterator[Result]:
    """The results of `work` in the order of the items. Memory does not grow with their number."""
    pool = ThreadPoolExecutor(workers)
    waiting: deque[Future[list[Result]]] = deque()
    rest = iter(items)
    try:
        while some := list(islice(rest, batch)):
            waiting.append(pool.submit(_all, work, some))
            if len(waiting) > workers * AHEAD:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        # Whoever stops early first tells the workers to end, and does not wait for them here.
        pool.shutdown(wait=False, cancel_futures=True)


def _all(work: Callable[[Item], Result], items: list[Item]) -> list[Result]:
    return [work(item) for item in items]
