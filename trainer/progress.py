"""Progress of long work: a bar in a terminal, a line every ten seconds in a log."""

import sys
import threading
from typing import Any, TextIO

from tqdm import tqdm

SECONDS = 10.0

# No processes share a bar. The lock for processes that tqdm would make starts a helper process wherever workers are not
# forked: on macOS, and everywhere since Python 3.14.
tqdm.set_lock(threading.RLock())


class _Lines:
    """What tqdm draws over and over, as lines of a log."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> None:
        """Write one state of the bar."""
        if text := text.strip("\r\n \x1b[A"):
            self.stream.write(text + "\n")

    def flush(self) -> None:
        """Show it now."""
        self.stream.flush()


def progress(*arguments: Any, **options: Any) -> tqdm:
    """A `tqdm` bar on stderr. Without a terminal, work of more than ten seconds gets a line every ten seconds.

    Args:
        arguments: of `tqdm`: iterable, title, total.
        options: of `tqdm`.

    Returns:
        the bar, which yields what the iterable yields.
    """
    if not sys.stderr.isatty():
        quiet = {"mininterval": SECONDS, "maxinterval": SECONDS, "delay": SECONDS, "ncols": 0}
        options = {"file": _Lines(sys.stderr)} | quiet | options
    return tqdm(*arguments, **options)
