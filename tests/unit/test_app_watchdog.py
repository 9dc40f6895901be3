"""/ready says whether predictions work: the watchdog makes one when nobody else did."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import hostile_models as hostile
import numpy as np
import pytest
import requests

from app.serving import watchdog as app_watchdog
from app.serving.batching import PredictionError
from app.serving.serving import Serving, Settings
from app.serving.watchdog import Watchdog


def answered() -> Future:
    """A prediction that is there."""
    future: Future = Future()
    future.set_result(None)
    return future


def never() -> float:
    """No prediction has succeeded."""
    return -1e9


def test_a_recent_prediction_is_enough() -> None:
    def predict() -> Future:
        raise AssertionError("nothing is to be predicted")

    assert Watchdog(predict, time.monotonic, 10).look() == ""


def test_a_failing_prediction_is_a_problem_until_one_succeeds() -> None:
    failed: Future = Future()
    failed.set_exception(PredictionError("It failed.", "why"))
    waiting = [failed, answered()]
    watchdog = Watchdog(lambda: waiting.pop(0), never, 10)

    assert watchdog.look() == watchdog.problem == "It failed."
    assert watchdog.look() == watchdog.problem == ""


def test_a_model_that_was_withdrawn_meanwhile_is_not_a_problem() -> None:
    withdrawn: Future = Future()
    withdrawn.set_exception(PredictionError("It was withdrawn.", "why", withdrawn=True))
    waiting = [withdrawn, answered()]

    assert Watchdog(lambda: waiting.pop(0), never, 10).look() == ""


def test_a_prediction_that_does_not_come_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_watchdog, "ANSWER_SECONDS", 0.05)

    assert Watchdog(Future, never, 10).look() == "No prediction was made within 0 seconds."


def test_a_long_queue_in_which_others_are_answered_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_watchdog, "ANSWER_SECONDS", 0.05)
    times = [-1e9, 1e9]

    assert Watchdog(Future, lambda: times.pop(0), 10).look() == ""


def test_other_parts_can_be_looked_at_too() -> None:
    watchdog = Watchdog(answered, never, 10)

    def probe() -> None:
        raise RuntimeError("no process decodes")

    watchdog.add_probe("decoding", probe)

    assert watchdog.look() == "decoding: no process decodes"


def test_a_look_that_hangs_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_watchdog, "LOOK_SECONDS", 0.0)
    watchdog = Watchdog(answered, never, 10)
    seen: list[str] = []
    watchdog.add_probe("slow", lambda: (time.sleep(0.05), seen.append(watchdog.problem)))

    watchdog.look()

    assert "has had no result" in seen[0]


def test_a_model_that_starts_to_fail_is_noticed_at_once_and_recovers(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(hostile.good().SerializeToString())
    serving = Serving(Settings(model=path, home=tmp_path, watchdog_seconds=3600))
    serving.start()
    model = serving.current().model
    healthy, model._session = model._session, None
    image = np.zeros((8, 8, 3), np.uint8)

    with pytest.raises(PredictionError):
        serving.batcher.submit(model, image).result(10)

    wait_until(lambda: serving.watchdog.problem == "The prediction failed; the app's log says why.")
    model._session = healthy
    wait_until(lambda: serving.watchdog.problem == "")
    serving.stop()


def wait_until(true: Callable[[], bool]) -> None:
    """Wait for something to become true, ten seconds at most."""
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_an_idle_app_is_not_ready_when_its_model_has_stopped_working(
    start_app: Callable, tiny_file: Path, tmp_path: Path
) -> None:
    """The app that is started has a model that fails from its third prediction on."""
    (tmp_path / "sitecustomize.py").write_text(
        "import app.serving.model as m, itertools\n"
        "count, predict = itertools.count(), m.Model.predict\n"
        "def failing(self, *given):\n"
        "    if next(count) > 1: raise RuntimeError('gone')\n"
        "    return predict(self, *given)\n"
        "m.Model.predict = failing\n"
    )
    root = Path(__file__).resolve().parents[2]
    environment = {"PYTHONPATH": f"{tmp_path}:{root}", "MANASIGHT_WATCHDOG_SECONDS": "0.2"}
    with start_app(tmp_path, MANASIGHT_MODEL=str(tiny_file), **environment) as (url, _):
        deadline = time.monotonic() + 20
        while (answer := requests.get(f"{url}/ready", timeout=10)).ok:
            assert time.monotonic() < deadline
            time.sleep(0.05)

        assert answer.json() == {"ready": False, "error": "The prediction failed; the app's log says why."}
        assert "manasight_watchdog_ok 0" in requests.get(f"{url}/metrics", timeout=10).text
