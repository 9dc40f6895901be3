"""Champions change while requests run: none fails, none mixes two models, and nothing is left behind."""

import io
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from PIL import Image

pytestmark = pytest.mark.slow

SWAPS = 200


def test_two_hundred_swaps_under_load_fail_no_request_and_leak_nothing(
    start_app: Callable, tiny_model: Callable, registry: Any, tmp_path: Path
) -> None:
    models = [tiny_model(classes=("red", "green", "blue")), tiny_model(classes=("fire", "leaf", "sea"))]
    (tmp_path / "model.onnx").write_bytes(models[0])
    registry.publish(models[0])
    buffer = io.BytesIO()
    Image.new("RGB", (40, 56), "red").save(buffer, "PNG")
    environment = {"MLFLOW_TRACKING_URI": registry.url, "MANASIGHT_POLL_SECONDS": "0.02"}
    stop = threading.Event()
    answers: list[tuple[str, list[str]] | str] = []

    def ask(url: str) -> None:
        with requests.Session() as client:
            while not stop.is_set():
                try:
                    answer = client.post(f"{url}/api/predict", data=buffer.getvalue(), timeout=30)
                    answer.raise_for_status()
                    answers.append((answer.json()["model"]["version"], answer.json()["images"][0]["labels"]))
                except requests.RequestException as error:
                    answers.append(str(error))

    with start_app(tmp_path, MANASIGHT_MODEL=str(tmp_path / "model.onnx"), **environment) as (url, process):

        def wait_for(version: str) -> None:
            deadline = time.monotonic() + 30
            while requests.get(f"{url}/api/model", timeout=30).json()["version"] != version:
                assert time.monotonic() < deadline, f"version {version} was not taken over"
                time.sleep(0.01)

        wait_for("1")
        clients = [threading.Thread(target=ask, args=(url,)) for _ in range(4)]
        for client in clients:
            client.start()
        seen = psutil.Process(process.pid)
        for swap in range(SWAPS):
            wait_for(registry.publish(models[(swap + 1) % 2]))
            if swap == SWAPS // 4:  # by then every pool and cache has its size
                early = (seen.memory_info().rss, seen.num_threads(), seen.num_fds())
        late = (seen.memory_info().rss, seen.num_threads(), seen.num_fds())
        stop.set()
        for client in clients:
            client.join()

    failures = [answer for answer in answers if isinstance(answer, str)]
    assert not failures
    assert len(answers) > SWAPS
    assert len({version for version, _ in answers}) > SWAPS // 4
    assert all(found == (["red"] if int(version) % 2 else ["fire"]) for version, found in answers)
    assert late[0] - early[0] < 30 * 1024**2, f"{(late[0] - early[0]) / 1024**2:.0f} MB more after {SWAPS} swaps"
    assert late[1] <= early[1] + 4
    assert late[2] <= early[2] + 8
    kept = list(tmp_path.glob(".manasight/app/*/*"))
    assert sorted(path.suffix for path in kept) == [".json", ".onnx", ".onnx"]  # with the one to go back to
