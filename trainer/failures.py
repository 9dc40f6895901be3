"""Turns an exception that is not a UserError into one sentence, and keeps its traceback in a file."""

import os
import re
import select
import shlex
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from trainer.files import write_whole
from trainer.paths import home

LOG_NAME = "last-error.log"
MAX_MESSAGE = 300  # characters

SMALLER_BATCHES = "give a smaller --data.batch_size or --data.input_size"
FEWER_WORKERS = "give fewer --workers"
# What a command can do about too little memory; for others memory has to be freed.
MEMORY_ADVICE = {
    "fit": SMALLER_BATCHES,
    "experiments": SMALLER_BATCHES,
    "predict": FEWER_WORKERS,
    "data demo": FEWER_WORKERS,
    "data describe": FEWER_WORKERS,
    "data pull": FEWER_WORKERS,
    "data push": FEWER_WORKERS,
}
# Commands that train with loader workers, and can do without.
LOADER_COMMANDS = ("fit", "experiments")

OUT_OF_MEMORY = re.compile(r"out of memory|can(not|'t) allocate memory|bad_alloc", re.IGNORECASE)
GPU = re.compile(r"\b(CUDA|cuDNN|CUBLAS|NCCL|HIP|MPS)\b")
SHARED_MEMORY = re.compile(r"shared memory|bus error|</?torch_\d", re.IGNORECASE)
OPEN_FILES = re.compile(r"too many open files|items of ancdata", re.IGNORECASE)
WORKER_DIED = re.compile(r"DataLoader worker .*(killed by signal|exited unexpectedly)", re.IGNORECASE)
SIGNAL = re.compile(r"killed by signal: ([\w ]+)")
# The first line of what PyTorch makes of an exception in a loader worker.
FROM_WORKER = re.compile(r"^Caught (\w+) in DataLoader worker.*?^[\w.]*\1: (.*)", re.DOTALL | re.MULTILINE)


def plain(message: str) -> str:
    """An exception's message without the traceback that PyTorch puts around one from a loader worker."""
    found = FROM_WORKER.search(message)
    return found[2].strip() if found else message


def known(error: BaseException, command: str) -> str | None:
    """What went wrong and what to do, if this kind of failure is known."""
    message = plain(str(error))
    if WORKER_DIED.search(message) and error.__cause__ is not None:
        message += f" ({error.__cause__})"  # which has the signal
    on_gpu = type(error).__name__ == "OutOfMemoryError" or GPU.search(message)
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and OUT_OF_MEMORY.search(message)):
        where = "the GPU" if on_gpu else "this machine"
        return f"{where} has too little free memory; {MEMORY_ADVICE.get(command, 'free some of it, and try again')}"
    if type(error).__module__.startswith(("sqlalchemy.", "sqlite3")):
        return f"the database failed: {first_line(message)}; check that its disk has room and that it can be written to"
    if isinstance(error, ImportError):
        return f"the installation is damaged: {first_line(message)}; install Manasight again"
    if not isinstance(error, (RuntimeError, OSError)):
        return None
    fallback = ", or --data.workers 0" if command in LOADER_COMMANDS else ""
    if OPEN_FILES.search(message):
        return f"too many files are open; raise the limit with `ulimit -n 65536`{fallback}"
    if SHARED_MEMORY.search(message):
        return f"there is too little shared memory; give the container more (--shm-size=1g){fallback}"
    if WORKER_DIED.search(message):
        fewer = f"; give fewer --data.workers{fallback}" if fallback else ""
        if (found := SIGNAL.search(message)) and found[1] != "Killed":
            return f"a loader worker was ended by a signal: {found[1]}"
        return f"a loader worker was killed, most likely because memory ran out{fewer}"
    if isinstance(error, RuntimeError) and GPU.search(message):
        instead = ", or train without it: --trainer.accelerator cpu" if command in LOADER_COMMANDS else ""
        return f"the GPU failed: {first_line(message)}; try again{instead}"
    return None


def unexpected(error: BaseException, argv: Sequence[str]) -> str:
    """A sentence for any other exception: its name and message, and where its traceback was written."""
    message = first_line(plain(str(error)))
    what = f"{type(error).__name__}: {message}" if message else type(error).__name__
    log = write_log(error, argv)
    where = f"; the traceback is in '{log}'" if log else ""
    return f"unexpected error: {what}{where} (MANASIGHT_DEBUG=1 shows it here)"


def write_log(error: BaseException, argv: Sequence[str]) -> Path | None:
    """Write a traceback to `home()`, or to the system's temporary folder; None if neither can be written."""
    head = f"{time.strftime('%Y-%m-%d %H:%M:%S')} manasight {shlex.join(argv)}\n\n"
    shown = head + "".join(traceback.format_exception(error))
    for folder in (home(), Path(tempfile.gettempdir())):
        with suppress(OSError):
            write_whole(folder / LOG_NAME, shown.encode(errors="backslashreplace"))
            return folder / LOG_NAME
    return None


def first_line(message: str) -> str:
    """A message's first line, no longer than a sentence may be."""
    line = next((line.strip() for line in message.splitlines() if line.strip()), "")
    return line if len(line) <= MAX_MESSAGE else line[:MAX_MESSAGE] + "…"


def output_is_closed() -> bool:
    """Whether nobody reads stdout any more, as after `| head`."""
    poll = select.poll()
    with suppress(OSError, ValueError):
        poll.register(sys.stdout.fileno(), 0)
        return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))
    return False


def silence_output() -> None:
    """Let what is still written to stdout go nowhere, so that Python does not complain at its end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
