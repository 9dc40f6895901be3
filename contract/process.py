"""A decoding process seen from outside: started, asked, killed, and what it said last."""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
HEAD = struct.Struct("!I")
MAX_HEAD = 64 * 1024
# Seconds that a process may take to start.
START_SECONDS = 60.0
# What a process inherits. Passwords and addresses are not among it.
INHERITED = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG", "LC_ALL", "SYSTEMROOT", "TMPDIR")


@dataclass(frozen=True)
class WorkerLimits:
    """Limits of an image in a process.

    Attributes:
        memory: bytes of address space that decoding may add to the process.
        seconds: of CPU time, all threads together.
        wall_seconds: on the clock; a stopped or starved process is given up.
        jpeg_pixels, pixels: of a JPEG, and of any other image.
        reply: bytes of an answer.
        nice: how far the process steps back behind the others of the machine.
    """

    memory: int
    seconds: float
    wall_seconds: float
    jpeg_pixels: int = 50_000_000
    pixels: int = 32_000_000
    reply: int = 160_000_000
    nice: int = 0


class StartError(Exception):
    """A decoding process could not be started; the message says why."""


class DiedError(Exception):
    """A process ended before it answered.

    Attributes:
        timed_out: whether it had used up its time.
        said: the end of what it wrote to its standard error.
    """

    def __init__(self, timed_out: bool, code: int, said: str) -> None:
        """`code` is its exit status, negative for a signal."""
        super().__init__(f"status {code}" + (f": {said}" if said else ""))
        self.timed_out = timed_out
        self.said = said


class Worker:
    """One process. It is used by one thread at a time."""

    def __init__(self, limits: WorkerLimits) -> None:
        """Start the process and wait until it is ready.

        Raises:
            StartError: if it cannot be started.
        """
        self.limits = limits
        try:
            self._socket, theirs = socket.socketpair()
            self._errors, errors = os.pipe()
            # Whatever a decoder prints beyond what fits into the pipe is lost, and never waits for a reader.
            os.set_blocking(errors, False)
            os.set_blocking(self._errors, False)
        except OSError as error:
            raise StartError(str(error)) from error
        try:
            self._process = subprocess.Popen(  # noqa: S603 - this program itself
                [sys.executable, "-S", "-P", "-m", "contract.worker", json.dumps(asdict(limits))],
                stdin=theirs,
                stdout=theirs,
                stderr=errors,
                env=_environment(),
                cwd=ROOT,
                start_new_session=True,  # Ctrl-C in a terminal is for the one that started it
            )
        except OSError as error:
            self._socket.close()
            os.close(self._errors)
            raise StartError(str(error)) from error
        finally:
            theirs.close()
            os.close(errors)
        try:
            self._read_answer(time.monotonic() + START_SECONDS)
        except DiedError as error:
            raise StartError(f"a decoding process ended at its start, {error}") from error

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def ask(self, head: dict[str, Any], data: bytes, seconds: float) -> tuple[dict[str, Any], list[memoryview]]:
        """Have one image decoded within some seconds of CPU time; the answer's head and its parts.

        Raises:
            DiedError: if the process died or had to be killed; it cannot be used any more.
        """
        deadline = time.monotonic() + self.limits.wall_seconds
        text = json.dumps(head | {"seconds": seconds, "length": len(data)}).encode()
        self._discard_errors()
        try:
            self._socket.settimeout(self.limits.wall_seconds)
            self._socket.sendall(HEAD.pack(len(text)) + text)
            self._socket.sendall(data)
        except OSError:
            raise self._died(deadline) from None
        return self._read_answer(deadline)

    def terminate(self) -> None:
        """Kill the process from another thread; the one that uses it sees it die."""
        self._process.kill()

    def kill(self) -> None:
        """Kill the process and let go of what belongs to it."""
        self._process.kill()
        self._process.wait()
        self._socket.close()
        if self._errors >= 0:
            os.close(self._errors)
            self._errors = -1

    def _read_answer(self, deadline: float) -> tuple[dict[str, Any], list[memoryview]]:
        try:
            (length,) = HEAD.unpack(self._read(HEAD.size, deadline))
            if length > MAX_HEAD:
                raise ValueError("the head is too long")
            head = json.loads(bytes(self._read(length, deadline)))
            lengths = [int(length) for length in head["lengths"]]
            if min(lengths, default=0) < 0 or sum(lengths) > self.limits.reply:
                raise ValueError("the answer is too long")
            content = self._read(sum(lengths), deadline)
        except (OSError, EOFError, ValueError, KeyError, TypeError):
            raise self._died(deadline) from None
        parts, at = [], 0
        for length in lengths:
            parts.append(content[at : at + length])
            at += length
        return head, parts

    def _read(self, length: int, deadline: float) -> memoryview:
        content = memoryview(bytearray(length))
        left = content
        while left:
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            if not (count := self._socket.recv_into(left)):
                raise EOFError
            left = left[count:]
        return content

    def _died(self, deadline: float) -> DiedError:
        """Kill what is left of the process, and say what happened."""
        late = time.monotonic() >= deadline
        if not late:
            with suppress(subprocess.TimeoutExpired):  # its own end is under way: the reason for it is wanted
                self._process.wait(1)
        said = self._last_error()
        self.kill()
        code = self._process.returncode
        return DiedError(late or code == -signal.SIGPROF, code, said)

    def _last_error(self) -> str:
        try:
            text = os.read(self._errors, 65536).decode(errors="replace").strip()
        except OSError:
            return ""
        return text.splitlines()[-1][:200] if text else ""

    def _discard_errors(self) -> None:
        with suppress(OSError):  # nothing more was written
            while os.read(self._errors, 65536):
                pass


def _environment() -> dict[str, str]:
    found = {name: os.environ[name] for name in INHERITED if name in os.environ}
    return found | {
        # Modules are found where this process finds them, without what Python's site would do at each start.
        "PYTHONPATH": os.pathsep.join([str(ROOT), *(path for path in sys.path if path)]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OPENBLAS_NUM_THREADS": "1",
        # One arena, and large images in mappings of their own, which go back to the system at once.
        "MALLOC_ARENA_MAX": "1",
        "MALLOC_MMAP_THRESHOLD_": str(4 * 1024**2),
        "MALLOC_TRIM_THRESHOLD_": str(16 * 1024**2),
    }
