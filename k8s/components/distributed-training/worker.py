"""A worker of a distributed training: torchrun, if there is something to train, and a status that the Job understands.

Called as torchrun is. Mounted into the trainer's image from a ConfigMap.
"""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

from torch.distributed import DistError, run
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous import RendezvousError, RendezvousTimeoutError
from torch.distributed.launcher.api import elastic_launch

# The status of a training that goes on in the next pod: the Job does not count it as a failure.
RESUMABLE = 75
# Seconds that the first worker may need to start: its image, its data set.
START = 3600
# Seconds until rank 0 has closed the run and a shared folder shows it.
CLOSE = 120


def main(words: list[str]) -> int:
    """Train with the other workers; returns 0 when the run is finished, `RESUMABLE` if this worker is to come again."""
    first = os.environ["JOB_COMPLETION_INDEX"] == "0"
    # Whose pod is lost after the training would otherwise wait for workers that are done and never come back.
    finished = Path(os.environ["MANASIGHT_HOME"]) / "finished"
    arguments = run.parse_args(words)
    if not first:
        print(f"waits for the first worker at {arguments.rdzv_endpoint}", flush=True)
    if not first and not wait(START, lambda: finished.exists() or listens(arguments.rdzv_endpoint)):
        raise SystemExit(f"worker: nobody listened at {arguments.rdzv_endpoint} for {START} seconds")
    if finished.exists():
        print("the run has finished; there is nothing left to train")
        return 0
    # torchrun would look for its own name in DNS, which may not have it yet.
    arguments.rdzv_conf += f",is_host={first}"
    config, program, its_words = run.config_from_args(arguments)
    if 0 in elastic_launch(config, program)(*its_words):  # the rank that tracks the run, in whichever pod it is
        finished.touch()
    # If that one failed after its last epoch, it needs the others once more.
    return 0 if wait(CLOSE, finished.exists) else RESUMABLE


def wait(seconds: float, true: Callable[[], bool]) -> bool:
    """Wait until something is true; False if it did not become so in time."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(1)
    return True


def listens(address: str) -> bool:
    """Whether somebody takes connections at HOST:PORT."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError:
        return False
    return True


def stop(number: int, _: object) -> None:
    """Leave as torchrun leaves while it trains: without closing the rendezvous for the others."""
    raise SignalException("stopped by SIGTERM", signal.Signals(number))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    try:
        sys.exit(main(sys.argv[1:]))
    except ChildFailedError as error:
        print(error, file=sys.stderr)
        # A trainer that could not reach MLflow at its end ends with it.
        sys.exit(RESUMABLE if error.get_first_failure()[1].exitcode == RESUMABLE else 1)
    except RendezvousTimeoutError as error:
        raise SystemExit(f"worker: the others did not come: {error}") from error
    except (SignalException, RendezvousError, DistError) as error:
        print(f"worker: to be resumed: {error}", file=sys.stderr)
        sys.exit(RESUMABLE)
