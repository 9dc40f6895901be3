"""Checks a candidate model in a process of its own, before the process that serves everybody touches it."""

import hashlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import onnxruntime as ort

from app.memory import available_memory
from contract.model import ModelError, TemporaryModelError, printable

CHECK = Path(__file__).with_name("model_check.py")
# Raise it when the check asks for more: verdicts of older checks then no longer count.
CHECKS = 2
# Of one check; a ResNet-18 takes two seconds.
SECONDS = 60
# A verdict is a few hundred bytes.
MAX_ANSWER = 64 * 1024
# Kept free: for the check's own process, and for what users send meanwhile.
RESERVE = 128 * 1024**2
# Where nothing says how much memory there is.
UNKNOWN_MEMORY = 2 * 1024**3
# What the check's process needs of the environment; no address, no password.
ENVIRONMENT = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG", "OMP_NUM_THREADS", "VIRTUAL_ENV")


@dataclass(frozen=True)
class Report:
    """What the check of a good model measured.

    Attributes:
        memory: bytes that loading it and predicting the largest batch take.
        seconds: for one image of the largest batch.
    """

    memory: int
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """A JSON object that `Report(**object)` reads again."""
        return asdict(self)


_good: OrderedDict[str, Report] = OrderedDict()
_lock = threading.Lock()


def checker() -> str:
    """Names what a verdict depends on beside the file."""
    return f"{CHECKS} onnxruntime {ort.__version__}"


def check(data: bytes, name: str, seconds: int = SECONDS) -> Report:
    """Check a model file; a file that was found good is not checked again.

    Args:
        data: the file.
        name: what messages call it.
        seconds: after which the check is ended.

    Raises:
        TemporaryModelError: if this machine has too little memory or time for it now.
        ModelError: if it must never be served.
    """
    digest = hashlib.sha256(data).hexdigest()
    with _lock:
        if digest in _good:
            _good.move_to_end(digest)
            return _good[digest]
    report = _read(_run(data, name, seconds), name)
    remember(digest, report)
    return report


def remember(digest: str, report: Report) -> None:
    """Take over the verdict of an earlier check."""
    with _lock:
        _good[digest] = report
        while len(_good) > 64:
            _good.popitem(last=False)


def _run(data: bytes, name: str, seconds: int) -> bytes:
    """What the check printed before it ended or was ended."""
    left = available_memory()
    memory = UNKNOWN_MEMORY if left is None else max(0, left - RESERVE - len(data))
    arguments = {"name": printable(name), "bytes": len(data), "memory": memory, "seconds": seconds}
    environment = {key: os.environ[key] for key in ENVIRONMENT if key in os.environ}
    # One arena: each thread's own would count against the limit without being used.
    environment |= {"ORT_DISABLE_TELEMETRY": "1", "MALLOC_ARENA_MAX": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        process = subprocess.Popen(  # noqa: S603  # this interpreter and a file of this package
            [sys.executable, "-B", str(CHECK), json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=environment,
            start_new_session=True,
        )
    except OSError as error:  # too many processes, too little memory
        raise TemporaryModelError(f"{name} could not be checked: {error.strerror or error}") from error
    if process.stdin is None or process.stdout is None:
        raise TemporaryModelError(f"{name} could not be checked")
    threading.Thread(target=_feed, args=(process.stdin, data), daemon=True).start()
    try:
        answer = _collect(process.stdout, time.monotonic() + seconds)
        if answer is None:
            raise TemporaryModelError(f"{name} did not pass its check within {seconds} seconds")
    finally:
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    if not answer and process.returncode:
        how = f"signal {-process.returncode}" if process.returncode < 0 else f"status {process.returncode}"
        raise TemporaryModelError(f"{name} ended its check with {how}: it takes too much memory or time, or crashes")
    return answer


def _feed(stream: IO[bytes], data: bytes) -> None:
    with suppress(OSError), stream:  # the check may end before it has read everything
        stream.write(data)


def _collect(stream: IO[bytes], deadline: float) -> bytes | None:
    """What the process writes until it closes its output, or too much of it; None if that takes too long."""
    answer = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while len(answer) <= MAX_ANSWER:
            left = deadline - time.monotonic()
            if left <= 0 or not selector.select(left):
                return None
            piece = os.read(stream.fileno(), MAX_ANSWER)
            if not piece:
                break
            answer += piece
    return answer


def _read(answer: bytes, name: str) -> Report:
    try:
        verdict = json.loads(answer)
        if "refused" in verdict:
            kind = TemporaryModelError if verdict.get("temporary") else ModelError
            raise kind(printable(str(verdict["refused"]), 600))
        return Report(memory=int(verdict["memory"]), seconds=float(verdict["seconds"]))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ModelError(f"{name} could not be checked: the check gave no verdict") from error
