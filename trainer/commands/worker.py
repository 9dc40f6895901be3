"""`manasight worker`: a worker of an Indexed Job, torchrun with exit statuses that the Job understands.

Called as torchrun is: `manasight worker --nnodes=2 … -m trainer.cli train …`. The Job sets JOB_COMPLETION_INDEX; the
first one hosts the rendezvous, and after the training runs the same command alone, for the stages that follow.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

from torch.distributed import DistError, run
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous import RendezvousError, RendezvousTimeoutError
from torch.distributed.launcher.api import elastic_launch

from trainer.errors import UnavailableError, UserError
from trainer.paths import make_home
from trainer.stopping import LASTING, RESUMABLE

# Seconds that the first worker may need to start: its image, its dataset.
START_SECONDS = 3600
# Seconds until rank 0 has closed the run and a shared folder shows it.
CLOSE_SECONDS = 120


def main(args: list[str], prog: str = "manasight worker") -> int:
    """Train with the other workers; the first one checks the options before, and runs the stages that follow.

    Returns:
        0 when the run is finished, `RESUMABLE` if this worker is to be started again.

    Raises:
        UserError: if the training failed, or the others did not come.
    """
    if args[:1] in (["--help"], ["-h"]):
        parser = run.get_args_parser()
        parser.prog = prog
        parser.parse_args(args)
    if "JOB_COMPLETION_INDEX" not in os.environ:
        raise UserError(f"{prog} needs JOB_COMPLETION_INDEX, which Kubernetes sets in the pods of an Indexed Job")
    signal.signal(signal.SIGTERM, stop)
    try:
        return train(args)
    except ChildFailedError as error:
        # A trainer that could not reach MLflow at its end exits with this status.
        status = error.get_first_failure()[1].exitcode
        if status == RESUMABLE:
            return RESUMABLE
        kind = UserError if status == LASTING else UnavailableError
        raise kind(f"the training failed: {error}") from error
    except ValueError as error:  # what torchrun raises where it cannot use its own options
        raise UserError(f"torchrun cannot use these options: {error}") from error
    except RendezvousTimeoutError as error:
        raise UnavailableError(f"the other workers did not come: {error}") from error
    except (SignalException, RendezvousError, DistError) as error:
        print(f"{prog}: to be resumed: {error}", file=sys.stderr)
        return RESUMABLE


def train(words: list[str]) -> int:
    """Wait for the first worker, then run torchrun with these words; returns an exit status."""
    first = os.environ["JOB_COMPLETION_INDEX"] == "0"
    # A worker whose pod is lost after the training would otherwise wait for workers that are done and never return.
    finished = make_home() / "finished"
    arguments = run.parse_args(words)
    # torchrun would look for its own name in DNS, which may not have it yet.
    arguments.rdzv_conf = ",".join(filter(None, (arguments.rdzv_conf, f"is_host={first}")))
    config, program, its_words = run.config_from_args(arguments)
    if not first:
        print(f"waiting for the first worker at {arguments.rdzv_endpoint}", flush=True)
    if not first and not wait(START_SECONDS, lambda: finished.exists() or listens(arguments.rdzv_endpoint)):
        raise UserError(f"nobody listened at {arguments.rdzv_endpoint} for {START_SECONDS} seconds")
    if not finished.exists():
        # What would fail again ends the Job here: torchrun would retry it, and the others would wait.
        if first and (status := subprocess.call([program, *its_words, "--check"])):  # noqa: S603
            return status
        if 0 in elastic_launch(config, program)(*its_words):  # the rank that tracks the run, in whichever pod it is
            finished.touch()
        # If that one failed after its last epoch, it needs the others once more.
        if not wait(CLOSE_SECONDS, finished.exists):
            return RESUMABLE
    if first:  # without torchrun: the run has finished, so `train` continues with its next stage
        os.execv(program, [program, *its_words])  # noqa: S606
    print("the run has finished; there is nothing left to train")
    return 0


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
    """Leave as torchrun does while it trains: without closing the rendezvous for the others."""
    raise SignalException("stopped by SIGTERM", signal.Signals(number))
