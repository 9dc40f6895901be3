"""Processes of `manasight` that tests kill: forked from one that has imported all of it, since that takes seconds."""

import atexit
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TextIO

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([f"trainer.commands.{name}" for name in ("fit", "evaluate", "export", "promote")])


def run(arguments: list[str], environment: dict[str, str], folder: str, output: str, first: str) -> None:
    """What the new process does: as `python -m trainer.cli` there would, after a piece of code of the test's."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    pipe = os.open(output, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(pipe, stream)
    sys.stdout, sys.stderr = (open(stream, "w", closefd=False) for stream in (1, 2))  # noqa: SIM115
    exec(first, {})
    from trainer.cli import main

    try:
        sys.exit(main(arguments))
    finally:
        atexit._run_exitfuncs()  # which multiprocessing leaves out


class Manasight:
    """A running command; a `subprocess.Popen` as far as tests need one."""

    def __init__(self, arguments: list[str], output: Path, first: str = "") -> None:
        """Start it here and with this environment; `first` is code that runs before it."""
        os.mkfifo(output)
        self._process = CONTEXT.Process(
            target=run, args=(arguments, dict(os.environ), str(Path.cwd()), str(output), first)
        )
        self._process.start()
        self.stdout: TextIO = output.open()
        output.unlink()
        self.pid: int = self._process.pid

    def poll(self) -> int | None:
        """Its exit status, minus the signal that ended it, or None while it runs."""
        self._process.join(0)
        return self._process.exitcode

    def wait(self, seconds: float) -> int:
        """Its exit status, when it has ended."""
        self._process.join(seconds)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("manasight", seconds)
        return self._process.exitcode

    def send_signal(self, sign: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, sign)

    def kill(self) -> None:
        """End it at once, if it still runs."""
        self._process.kill()
        self._process.join()
