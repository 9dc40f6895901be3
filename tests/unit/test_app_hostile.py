"""The running app under files that cost a decoder its limits: whoever else asks is answered as before."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest
import requests
from hostile_files import HOSTILE, encoded, jpeg_with_many_scans, jpeg_with_split_exif
from PIL import Image

pytestmark = pytest.mark.slow

GOOD = encoded(Image.effect_noise((390, 550), 60).convert("RGB"), "JPEG")
MB = 1024**2


@pytest.fixture(scope="module")
def app(start_app: Callable, tiny_model: Callable, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple]:
    """Address and process of an app that serves the tiny model."""
    folder = tmp_path_factory.mktemp("app")
    (folder / "model.onnx").write_bytes(tiny_model())
    with start_app(folder, MANASIGHT_MODEL=str(folder / "model.onnx")) as (url, process):
        requests.post(f"{url}/api/predict", data=GOOD, timeout=60).raise_for_status()
        yield url, psutil.Process(process.pid)


def cpu(process: psutil.Process) -> float:
    """CPU seconds of a process and of its children, those that have ended included."""
    times = process.cpu_times()
    living = sum(sum(child.cpu_times()[:2]) for child in process.children())
    return times.user + times.system + times.children_user + times.children_system + living


def memory(process: psutil.Process) -> int:
    """Resident bytes of a process and its children; a child may end meanwhile."""
    total = process.memory_info().rss
    for child in process.children():
        try:
            total += child.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


@pytest.mark.parametrize(
    "files",
    [
        [jpeg_with_many_scans(2400, 4000)] * 32,
        [jpeg_with_split_exif(5_000_000)] * 2,
        [HOSTILE["fax"]()],
        [HOSTILE["PNG bomb"]()] * 8,
        [HOSTILE["HEIC lie"](), HOSTILE["HEIC giant"]()] * 4,
    ],
    ids=["32 of many scans", "split EXIF", "fax", "8 PNG bombs", "8 HEIC lies"],
)
def test_one_hostile_request_costs_little_and_holds_up_nobody(app: tuple, files: list[bytes]) -> None:
    url, process = app
    before, resting = cpu(process), memory(process)
    ready, others, peak, ended = [], [], [resting], threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            peak.append(memory(process))

    def ask(method: str, path: str, times: list[float]) -> None:
        while not ended.wait(0.1):
            started = time.perf_counter()
            requests.request(method, url + path, data=GOOD if method == "POST" else None, timeout=30).raise_for_status()
            times.append(time.perf_counter() - started)

    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(watch), pool.submit(ask, "GET", "/ready", ready)]
        running.append(pool.submit(ask, "POST", "/api/predict", others))
        answer = requests.post(
            f"{url}/api/predict", files=[("f", (f"{n}.jpg", data)) for n, data in enumerate(files)], timeout=120
        )
        ended.set()
        for one in running:
            one.result()

    assert answer.status_code in (200, 422)
    assert all("error" in image or image["labels"] is not None for image in answer.json()["images"])
    # What the others asked for in the meantime is in it.
    assert cpu(process) - before - 0.05 * len(others) < 5
    assert max(peak) - resting < 320 * MB
    assert max(ready, default=0) < 1
    assert np.percentile(others or [0], 95) < 1
