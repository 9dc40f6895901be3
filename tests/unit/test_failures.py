"""Whatever fails, the command line says so in one sentence; the traceback is in a file."""

import errno
import os
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import torch
from mlflow.exceptions import RestException

from trainer import cli, failures
from trainer.cli import LASTING, main
from trainer.data.module import MultiLabelDataModule
from trainer.errors import UnavailableError, UserError


@pytest.fixture
def failing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """A function that runs a command whose work raises an exception, and returns what it prints to stderr."""
    monkeypatch.setenv("MANASIGHT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MANASIGHT_DEBUG", raising=False)

    def run(error: BaseException, command: str = "promote") -> str:
        def explode(*_: object) -> None:
            raise error

        monkeypatch.setattr(cli, "run", explode)
        assert main(command.split()) in (1, LASTING)
        (line,) = capsys.readouterr().err.splitlines()
        return line

    return run


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UserError("the labels differ"), LASTING),
        (UnavailableError("nothing listens there"), 1),
        (RestException({"error_code": "PERMISSION_DENIED"}), LASTING),
        (RestException({"error_code": "TEMPORARILY_UNAVAILABLE"}), 1),
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), LASTING),
        (PermissionError(errno.EACCES, "Permission denied"), LASTING),
        (OSError(errno.ENOSPC, "No space left on device"), 1),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), 1),
        (MemoryError(), 1),
        (ModuleNotFoundError("No module named 'captum'"), LASTING),
        (ValueError("something else"), 1),
    ],
)
def test_the_status_says_whether_another_try_may_work(error, status, monkeypatch, tmp_path):
    monkeypatch.setenv("MANASIGHT_HOME", str(tmp_path))
    monkeypatch.setattr(cli, "run", MagicMock(side_effect=error))
    assert main(["promote"]) == status


def raised(function: Callable[[], object]) -> BaseException:
    with pytest.raises(Exception) as caught:  # noqa: PT011 (whatever it raises is what is wanted)
        function()
    return caught.value


class BadWorker(torch.utils.data.Dataset):
    """A dataset whose worker process kills itself."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        os.kill(os.getpid(), self.number)
        return index


def died_of(number: int) -> BaseException:
    loader = torch.utils.data.DataLoader(BadWorker(number), num_workers=1, multiprocessing_context="fork")
    return raised(lambda: list(loader))


def test_too_little_memory_advises_what_the_command_offers(failing):
    error = raised(lambda: torch.empty(1 << 50, dtype=torch.uint8))
    says = "manasight: this machine has too little free memory; give a smaller --data.batch_size or --data.input_size"
    assert failing(error, "fit") == says
    assert failing(MemoryError("Unable to allocate 9 EiB"), "fit") == says
    assert failing(MemoryError(), "data describe").endswith("too little free memory; give fewer --workers")
    assert failing(MemoryError(), "evaluate").endswith("too little free memory; free some of it, and try again")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8 GiB\n"),
        RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB, other allocations: 1 GB, max allowed: 9 GB)."),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    ],
)
def test_a_gpus_memory_is_told_from_the_machines(failing, error):
    says = "the GPU has too little free memory; give a smaller --data.batch_size or --data.input_size"
    assert says in failing(error, "experiments")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            RuntimeError("CUDA error: no kernel image is available\nCompile with"),
            "the GPU failed: CUDA error: no kernel",
        ),
        (RuntimeError("No CUDA GPUs are available"), "or train without it: --trainer.accelerator cpu"),
        (RuntimeError("unable to write to file </torch_12_3>: No space left on device (28)"), "--shm-size=1g"),
        (RuntimeError("received 0 items of ancdata"), "ulimit -n 65536"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Terminated. "), "ended by a signal: Terminated"),
        (OSError(24, "Too many open files"), "ulimit -n 65536"),
        (
            sqlite3.OperationalError("database is locked"),
            "the database failed: database is locked; check that its disk",
        ),
        (ModuleNotFoundError("No module named 'captum'"), "the installation is damaged: No module named 'captum'"),
        (BrokenPipeError(32, "Broken pipe"), "manasight: Broken pipe"),  # not stdout's: that one is silent
    ],
)
def test_known_failures_say_what_to_do(failing, error, says):
    assert says in failing(error, "fit")


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (signal.SIGKILL, "a loader worker was killed, most likely because memory ran out"),
        (signal.SIGBUS, "--shm-size=1g"),
    ],
)
def test_a_loader_worker_that_dies_is_a_sentence(failing, number, says):
    error = failing(died_of(number), "fit")
    assert says in error
    assert "--data.workers 0" in error


def test_a_mistake_found_by_a_loader_worker_is_a_sentence(failing, make_images):
    for part in ("train", "val", "test"):
        root = make_images(f"data/{part}", {"red": 1, "blue": 1}).parent
    broken = root / "val" / "red" / "000.png"
    broken.write_bytes(broken.read_bytes()[:2000])
    loader = MultiLabelDataModule(root, input_size=(48, 36), workers=1).loader("val")
    loader.multiprocessing_context = "fork"
    error = raised(lambda: list(loader))
    assert isinstance(error, UserError)
    assert failing(error, "fit").startswith(f"manasight: cannot read image '{broken}' (")


def test_an_unexpected_error_is_one_sentence_and_its_traceback_is_kept(failing, tmp_path):
    error = failing(RecursionError("maximum recursion depth exceeded\nmore"), "promote --force x")
    log = tmp_path / "home" / "last-error.log"
    assert error == (
        "manasight: unexpected error: RecursionError: maximum recursion depth exceeded; "
        f"the traceback is in '{log}' (MANASIGHT_DEBUG=1 shows it here)"
    )
    assert "manasight promote --force x" in log.read_text()
    assert "in explode" in log.read_text()


def test_a_home_that_cannot_be_written_does_not_hide_the_error(failing, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MANASIGHT_HOME", str(tmp_path / "file" / "home"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert f"the traceback is in '{tmp_path / failures.LOG_NAME}'" in failing(KeyError("x"))


def test_with_debug_the_exception_itself_is_raised(failing, monkeypatch):
    monkeypatch.setenv("MANASIGHT_DEBUG", "1")
    with pytest.raises(RecursionError):
        failing(RecursionError("deep"))
