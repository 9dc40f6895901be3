"""Wait, for a limited time, for a service that is still starting."""

import sys
import time
from collections.abc import Callable
from typing import TypeVar

MAX_SECONDS = 120
SECONDS_BETWEEN_ATTEMPTS = 1
SECONDS_BETWEEN_LINES = 10

T = TypeVar("T")


def wait_for(service: str, attempt: Callable[[], T], is_away: Callable[[Exception], bool]) -> T:
    """Call `attempt` until it succeeds, and return its result; what it waits for is printed to standard error.

    Args:
        service: name and address, for the message.
        attempt: raises an exception while the service cannot be reached.
        is_away: whether an exception means that the service may still come up; every other one is raised at once.

    Raises:
        Exception: the last one of `attempt`, after MAX_SECONDS.
    """
    start = time.monotonic()
    next_line = start
    while True:
        try:
            return attempt()
        except Exception as error:
            now = time.monotonic()
            if not is_away(error) or now - start >= MAX_SECONDS:
                raise
            if now >= next_line:
                reason = " ".join(str(error).split())
                print(
                    f"waiting for {service} ({now - start:.0f} of at most {MAX_SECONDS} s): {reason}",
                    file=sys.stderr,
                    flush=True,
                )
                next_line = now + SECONDS_BETWEEN_LINES
            time.sleep(SECONDS_BETWEEN_ATTEMPTS)
