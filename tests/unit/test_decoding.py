"""Decoding in worker processes: hostile files cost a bounded time and memory, and other people's images go through."""

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from hostile_files import HOSTILE, encoded, jpeg_with_many_scans, tiff_of_broken_fax
from PIL import Image

from contract.decoding import Batch, Decoded, Decoders, DecodingError, Lane, Wanted
from contract.images import ImageError
from contract.process import ROOT, WorkerLimits

MB = 1024**2
SIZE = Wanted(size=(28, 20))
USUAL = WorkerLimits(memory=64 * MB, seconds=0.2, wall_seconds=30)
LARGE = WorkerLimits(memory=128 * MB, seconds=0.8, wall_seconds=60)
GOOD = encoded(Image.effect_noise((300, 200), 60).convert("RGB"), "JPEG")
# Half a minute of work for a decoder.
SLOW = jpeg_with_many_scans(2400, 4000)


@pytest.fixture(scope="module")
def shared() -> Iterator[Decoders]:
    """Two lanes with tight limits."""
    with Decoders([Lane(2, USUAL), Lane(1, LARGE, warm=False)]) as decoders:
        yield decoders


@pytest.fixture
def decoders() -> Iterator[Decoders]:
    """The same for a test that breaks them or counts."""
    with Decoders([Lane(2, USUAL), Lane(1, LARGE, warm=False)]) as decoders:
        yield decoders


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_costs_no_more_than_its_limits(shared: Decoders, name: str) -> None:
    data = HOSTILE[name]()
    batch = Batch(10.0)
    memory = Peak(shared)

    with memory:
        answer: object
        try:
            answer = shared.decode(data, SIZE, batch)
        except ImageError as error:
            answer = str(error)

    assert 10.0 - batch.seconds <= USUAL.seconds + LARGE.seconds + 0.2
    assert memory.largest < LARGE.memory + 60 * MB
    assert isinstance(answer, Decoded) or (answer.endswith(".") and "\n" not in answer)
    assert shared.decode(GOOD, SIZE).size == (300, 200)


class Peak:
    """The largest resident memory of any worker while in use."""

    def __init__(self, decoders: Decoders) -> None:
        self.decoders = decoders
        self.largest = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.01):
            for worker in list(self.decoders.workers):
                try:
                    self.largest = max(self.largest, psutil.Process(worker.pid).memory_info().rss)
                except psutil.NoSuchProcess:
                    continue


def test_an_image_that_takes_too_long_is_named_so(shared: Decoders) -> None:
    with pytest.raises(ImageError, match="takes too long to decode"):
        shared.decode(SLOW, SIZE)


def test_an_image_that_takes_too_much_memory_is_named_so(shared: Decoders) -> None:
    with pytest.raises(ImageError, match="takes 200 MB to decode; at most 134 MB are allowed"):
        shared.decode(encoded(Image.new("L", (5000, 5000)), "PNG"), SIZE)


def test_a_large_image_goes_on_where_there_is_more_memory(decoders: Decoders) -> None:
    assert decoders.decode(encoded(Image.new("L", (3500, 3500)), "PNG"), SIZE).size == (3500, 3500)
    assert decoders.counts["memory"] == 1


def test_a_hostile_image_takes_no_other_one_with_it(decoders: Decoders) -> None:
    slow = [decoders.submit(SLOW, SIZE, Batch()) for _ in range(3)]
    good = [decoders.submit(GOOD, SIZE) for _ in range(30)]

    assert all(future.result(60).size == (300, 200) for future in good)
    assert all(isinstance(future.exception(60), ImageError) for future in slow)
    assert decoders.counts["timeouts"] == 6


def test_one_requests_slow_images_leave_a_worker_to_the_others(decoders: Decoders) -> None:
    decoders.decode(GOOD, SIZE)
    batch = Batch()
    slow = [decoders.submit(SLOW, SIZE, batch) for _ in range(8)]

    started = time.process_time(), time.monotonic()
    for _ in range(20):
        decoders.decode(GOOD, SIZE)

    assert not any(future.done() for future in slow[2:])
    assert time.monotonic() - started[1] < 5


def test_images_sent_together_share_a_budget_of_time(decoders: Decoders) -> None:
    batch = Batch(0.5)

    answers = [decoders.submit(SLOW, SIZE, batch) for _ in range(8)]

    sentences = {str(answer.exception(60)) for answer in answers}
    assert "The images sent together take too long to decode. Send fewer at once." in sentences
    assert batch.seconds >= 0


def test_images_wait_for_time_that_the_one_before_them_does_not_use_up(decoders: Decoders) -> None:
    large = encoded(Image.effect_noise((3500, 3500), 90), "PNG")
    batch = Batch(LARGE.seconds + 0.04)  # nearly all of it is set aside for the large one

    first = decoders.submit(large, SIZE, batch)
    while batch.seconds > 0.04:
        time.sleep(0.001)
    others = [decoders.submit(GOOD, SIZE, batch) for _ in range(6)]

    assert first.result(60).size == (3500, 3500)
    assert [answer.result(60).size for answer in others] == [(300, 200)] * 6


def test_nothing_else_of_a_request_is_decoded_beside_its_large_image(decoders: Decoders) -> None:
    """The memory of both lanes together would be more than one request may take."""
    large, small = [encoded(Image.effect_noise((side, side), 90), "PNG") for side in (3500, 1000)]
    batch = Batch()
    first, last = [running.queue for running in decoders._lanes]
    both: list[bool] = []

    answers = [decoders.submit(data, SIZE, batch) for data in (large, *[small] * 20)]
    while not all(answer.done() for answer in answers):
        both.append(first._out[batch] > 0 and last._out[batch] > 0)
        time.sleep(0.001)

    assert [answer.result().size[0] for answer in answers] == [3500] + [1000] * 20
    assert sum(both) < len(both) / 10  # each is looked at before it goes to the last lane


def test_short_images_cost_a_budget_what_they_take() -> None:
    """Some milliseconds each, less than the kernel's tick: they add up as well."""
    data = encoded(Image.effect_noise((800, 600), 60).convert("RGB"), "JPEG")
    batch = Batch(1000.0)
    with Decoders([Lane(1, USUAL)]) as one:
        one.decode(data, SIZE)
        process = psutil.Process(next(iter(one.workers)).pid)
        before = sum(process.cpu_times()[:2])
        for _ in range(200):
            one.decode(data, SIZE, batch)
        taken = sum(process.cpu_times()[:2]) - before

    assert 1000.0 - batch.seconds == pytest.approx(taken, rel=0.35)


def test_images_at_work_in_both_lanes_share_one_budget(decoders: Decoders) -> None:
    batch = Batch(USUAL.seconds + LARGE.seconds)

    for answer in [decoders.submit(SLOW, SIZE, batch) for _ in range(16)]:
        answer.exception(60)

    assert decoders.counts["timeouts"] == 2


@pytest.mark.parametrize("how", [signal.SIGSEGV, signal.SIGKILL, signal.SIGABRT])
def test_a_worker_that_dies_is_replaced_and_its_image_tried_again(decoders: Decoders, how: signal.Signals) -> None:
    decoders.decode(GOOD, SIZE)
    large = encoded(Image.effect_noise((2000, 2000), 90), "PNG")
    for worker in list(decoders.workers):
        os.kill(worker.pid, signal.SIGSTOP)
    future = decoders.submit(large, SIZE)
    time.sleep(0.2)

    for worker in list(decoders.workers):
        os.kill(worker.pid, how)
        os.kill(worker.pid, signal.SIGCONT)

    assert future.result(60).size == (2000, 2000)
    assert decoders.decode(GOOD, SIZE).size == (300, 200)
    assert decoders.counts["restarts"] >= 1


def test_a_worker_that_hangs_is_killed() -> None:
    limits = WorkerLimits(memory=64 * MB, seconds=5, wall_seconds=0.5)
    with Decoders([Lane(1, limits)]) as decoders:
        decoders.decode(GOOD, SIZE)
        (worker,) = decoders.workers
        os.kill(worker.pid, signal.SIGSTOP)

        with pytest.raises(ImageError, match="too long"):
            decoders.decode(GOOD, SIZE)
        assert decoders.decode(GOOD, SIZE).size == (300, 200)


def test_a_decoder_that_writes_megabytes_of_log_is_not_heard(
    shared: Decoders, capfd: pytest.CaptureFixture, caplog: pytest.LogCaptureFixture
) -> None:
    with suppress(ImageError):
        shared.decode(tiff_of_broken_fax(9, 300_000, 1_000_000), SIZE)

    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_a_worker_knows_no_secret_and_little_code(shared: Decoders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    with Decoders([Lane(1, USUAL)]) as decoders:
        decoders.decode(GOOD, SIZE)
        (worker,) = decoders.workers
        assert "secret" not in str(psutil.Process(worker.pid).environ())

    code = "import sys, contract.worker; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], env={"PYTHONPATH": path()}, capture_output=True, check=True
    )
    assert not {b"onnxruntime", b"streamlit", b"numpy", b"app", b"trainer", b"torch"} & set(done.stdout.split())


def path() -> str:
    """Where this process finds its modules."""
    return os.pathsep.join([str(ROOT), *filter(None, sys.path)])


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's /proc")
def test_a_worker_may_neither_fill_memory_nor_disk(shared: Decoders) -> None:
    shared.decode(GOOD, SIZE)

    limits = (Path("/proc") / str(next(iter(shared.workers)).pid) / "limits").read_text()

    found = {line[:26].strip(): line[26:].split()[0] for line in limits.splitlines()[1:]}
    assert int(found["Max address space"]) < 200 * MB
    assert found["Max core file size"] == found["Max file size"] == "0"
    assert int(found["Max open files"]) <= 32


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends processes to gain memory")
def test_a_worker_is_ended_before_the_server_where_memory_runs_out(shared: Decoders) -> None:
    shared.decode(GOOD, Wanted(size=(8, 8)))

    own = int(Path("/proc/self/oom_score").read_text())
    scores = [int(Path(f"/proc/{worker.pid}/oom_score").read_text()) for worker in shared.workers]
    assert min(scores, default=0) > own + 300


def test_closing_ends_the_workers_and_what_waits() -> None:
    with Decoders([Lane(1, LARGE)]) as decoders:
        decoders.decode(GOOD, SIZE)
        (worker,) = decoders.workers
        waiting = [decoders.submit(SLOW, SIZE) for _ in range(3)]

    assert not psutil.pid_exists(worker.pid)
    assert all(isinstance(future.exception(5), ImageError | DecodingError) for future in waiting)
    with pytest.raises(DecodingError):
        decoders.decode(GOOD, SIZE)


def test_workers_end_with_the_process_that_started_them() -> None:
    code = (
        "import os, sys; from contract.decoding import *; from contract.process import *\n"
        "decoders = Decoders([Lane(1, WorkerLimits(1 << 27, 1, 9))]); decoders.start()\n"
        "try: decoders.decode(b'x', Wanted(size=(2, 2)))\n"
        "except Exception: print(*(worker.pid for worker in decoders.workers), flush=True)\n"
        "os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)

    pid = int(done.stdout)
    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_no_process_to_decode_with_is_a_problem_and_no_fault_of_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    with Decoders([Lane(1, USUAL, warm=False)]) as decoders:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "executable", "/nothing/python")
            with pytest.raises(DecodingError, match="No such file"):
                decoders.decode(GOOD, SIZE)
            assert "Images cannot be decoded" in decoders.problem()

        assert decoders.decode(GOOD, SIZE).size == (300, 200)
        assert decoders.problem() == ""


def test_images_that_wait_for_long_are_a_problem() -> None:
    with Decoders([Lane(1, WorkerLimits(memory=64 * MB, seconds=5, wall_seconds=5))]) as decoders:
        decoders.decode(GOOD, SIZE)
        (worker,) = decoders.workers
        os.kill(worker.pid, signal.SIGSTOP)
        futures = [decoders.submit(GOOD, SIZE) for _ in range(2)]
        time.sleep(0.3)

        assert decoders.waiting == 1
        assert decoders.problem(patience=0.2).startswith("Images have waited")
        assert decoders.problem() == ""

        os.kill(worker.pid, signal.SIGCONT)
        assert all(future.result(10).size == (300, 200) for future in futures)
        assert decoders.problem(patience=0.2) == ""


def test_a_file_with_too_many_bytes_is_not_sent() -> None:
    with Decoders([Lane(1, USUAL)], max_bytes=MB) as decoders:
        with pytest.raises(ImageError, match="at most 1 MB"):
            decoders.decode(bytes(2 * MB), SIZE)
        assert not decoders.workers


def test_everything_that_is_asked_for_comes_back(shared: Decoders) -> None:
    found = shared.decode(GOOD, Wanted(size=(28, 20), jpeg=100, rgb=50))

    assert len(found.input) == 28 * 20 * 3
    assert Image.open(io.BytesIO(found.jpeg)).size == (100, 67)
    assert found.rgb_size == (50, 33)
    assert len(found.rgb) == 50 * 33 * 3


@pytest.mark.parametrize("make", [lambda: b"", lambda: b"no image"], ids=["empty", "text"])
def test_what_is_not_an_image_is_said(shared: Decoders, make: Callable[[], bytes]) -> None:
    with pytest.raises(ImageError, match=r"The file is empty\.|Unsupported image format\."):
        shared.decode(make(), SIZE)
