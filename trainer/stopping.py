"""Signals that stop a command: how they are caught, and what messages call them."""

import signal
from types import FrameType
from typing import NoReturn

# The exit status of an interrupted command that can be resumed (EX_TEMPFAIL of sysexits.h).
RESUMABLE = 75
# The exit status of what fails until something is changed: a Kubernetes Job does not try again.
LASTING = 2

NAMES = {
    signal.SIGINT: "Ctrl-C",
    signal.SIGTERM: "SIGTERM",
    signal.SIGHUP: "SIGHUP: the terminal was closed",
    signal.SIGQUIT: "SIGQUIT",
}


class Stopped(SystemExit):
    """Raised where a signal arrives, so that what cleans up gets to do so. The exit status is 128 + its number."""

    def __init__(self, number: int) -> None:
        """Remember the signal."""
        super().__init__(128 + number)
        self.name = NAMES[signal.Signals(number)]


def raise_stopped(number: int, _frame: FrameType | None) -> NoReturn:
    """A signal handler.

    Raises:
        Stopped: always.
    """
    raise Stopped(number)


def handled() -> list[signal.Signals]:
    """The signals of `NAMES` that this process does not ignore; `nohup` makes it ignore SIGHUP."""
    return [number for number in NAMES if signal.getsignal(number) is not signal.SIG_IGN]


def catch() -> None:
    """Raise `Stopped` at all of them but Ctrl-C, which raises KeyboardInterrupt."""
    for number in handled():
        if number != signal.SIGINT:
            signal.signal(number, raise_stopped)
