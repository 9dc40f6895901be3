"""A limit on the log: of messages that are alike, ten a minute, so that no client can fill a disk with them."""

import logging
import time

BURST = 10
WINDOW_SECONDS = 60.0
MAX_KINDS = 1000


class LimitAlike(logging.Filter):
    """Lets ten messages of one kind through in a minute, and says with the next one how many were left out.

    Messages are alike if they come from the same line of code.
    """

    def __init__(self) -> None:
        """Nothing was logged yet."""
        super().__init__()
        self._kinds: dict[tuple[str, int, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Decide once for a record, however many handlers it reaches."""
        decided = record.__dict__.get("manasight_wanted")
        if decided is None:
            decided = record.__dict__["manasight_wanted"] = self._decide(record)
        return decided

    def _decide(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        kind = (record.pathname, record.lineno, record.name)
        started, count = self._kinds.get(kind, (now, 0))
        if now - started > WINDOW_SECONDS:
            if count > BURST:
                record.msg = f"{record.getMessage()} ({count - BURST} like this one were left out)"
                record.args = None
            started, count = now, 0
        if len(self._kinds) >= MAX_KINDS and kind not in self._kinds:
            self._kinds.clear()
        self._kinds[kind] = (started, count + 1)
        return count < BURST


def limit_log() -> None:
    """Put the limit on every logger and handler there is; call it when all libraries have set theirs up.

    On both: a filter of a logger does not see what its children log, and Streamlit replaces its handlers.
    """
    limit = LimitAlike()
    loggers = [logging.root, *(logging.getLogger(name) for name in list(logging.root.manager.loggerDict))]
    for logger in loggers:
        logger.addFilter(limit)
        for handler in logger.handlers:
            handler.addFilter(limit)
