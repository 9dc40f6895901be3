"""A champion that passes its check and fails later is withdrawn by itself, and the last good model answers again."""

import io
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hostile_models as hostile
import numpy as np
import pytest
import requests
from PIL import Image

from app.serving import follower, holder
from app.serving.batching import PredictionError
from app.serving.champions import RETRY_SECONDS, Champions
from app.serving.quarantine import Report
from app.serving.registry import Champion
from app.serving.serving import Serving, Settings

REPORT = Report(memory=0, seconds=0.01)
# The color that the models here fail on.
BAD = 7


@pytest.fixture
def settings(registry: Any, tmp_path: Path) -> Settings:
    """Settings that start with a good file and follow the stand-in registry, which is asked by `check` only."""
    path = tmp_path / "model.onnx"
    path.write_bytes(hostile.good().SerializeToString())
    return Settings(model=path, tracking_uri=registry.url, poll_seconds=3600, home=tmp_path / "home")


@pytest.fixture
def serving(settings: Settings) -> Iterator[Serving]:
    """A started `Serving` that has looked at an empty registry."""
    started = Serving(settings)
    started.start()
    started.check()
    yield started
    started.stop()


def ask(serving: Serving, color: int = 100) -> float:
    """What the model in use answers for an image of one color."""
    image = np.full((8, 8, 3), color, np.uint8)
    return float(serving.submit(serving.current(), image).result(30).probabilities[0])


def test_a_new_champion_that_fails_is_withdrawn_and_not_downloaded_again(serving: Serving, registry: Any) -> None:
    registry.publish(hostile.good(run_id="one").SerializeToString())
    assert serving.check()
    registry.publish(hostile.failing_on(BAD).SerializeToString())
    assert serving.check()
    assert ask(serving) > 0

    with pytest.raises(PredictionError, match="withdrawn"):
        ask(serving, BAD)

    assert serving.current().champion.version == "1"
    assert ask(serving, BAD) > 0
    assert serving.note.startswith("The model version 2 was withdrawn: it failed on an image")
    assert not serving.check()
    assert "Version 2 was withdrawn" in serving.note
    assert (serving.rollbacks, serving.trouble) == (1, True)
    assert registry.downloads == ["1", "2"]


def test_a_proven_champion_is_withdrawn_when_it_fails_again_and_again(
    serving: Serving, registry: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holder, "PROVEN_IMAGES", 2)
    monkeypatch.setattr(serving.watchdog, "wake", lambda: None)  # its prediction succeeds
    registry.publish(hostile.failing_on(BAD).SerializeToString())
    assert serving.check()
    ask(serving)
    ask(serving)

    for _ in range(holder.MAX_FAILURES):
        assert serving.current().champion
        with pytest.raises(PredictionError):
            ask(serving, BAD)

    assert serving.current().champion is None
    assert ask(serving, BAD) > 0


def test_a_proven_champion_that_hangs_twice_is_withdrawn_whatever_it_answers_between(
    serving: Serving, registry: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holder, "PROVEN_IMAGES", 1)
    registry.publish(hostile.good(run_id="one").SerializeToString())
    assert serving.check()
    model = serving.current().model
    for _ in range(2):
        ask(serving)
        assert serving.current().champion
        serving._failed(model, "it took too long", True)

    assert serving.current().champion is None


def test_a_success_between_failures_keeps_a_proven_champion(
    serving: Serving, registry: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holder, "PROVEN_IMAGES", 1)
    registry.publish(hostile.failing_on(BAD).SerializeToString())
    assert serving.check()
    for _ in range(4):
        ask(serving)
        with pytest.raises(PredictionError, match="log says why"):
            ask(serving, BAD)

    assert serving.current().champion
    assert serving.rollbacks == 0


def test_the_only_model_stays_though_it_fails(settings: Settings, registry: Any) -> None:
    settings.model.write_bytes(hostile.failing_on(BAD).SerializeToString())
    serving = Serving(settings)
    serving.start()
    for _ in range(5):
        with pytest.raises(PredictionError):
            ask(serving, BAD)

    assert ask(serving) > 0
    serving.stop()


def test_a_refused_file_is_remembered_by_its_digest_and_across_restarts(
    serving: Serving, settings: Settings, registry: Any
) -> None:
    for _ in range(2):
        registry.publish(hostile.loop().SerializeToString())
        for _ in range(3):
            assert not serving.check()
    assert "operator Loop" in serving.note
    assert serving.refusals == 2

    later = Serving(settings)
    later.start()
    later.check()
    later.stop()

    assert registry.downloads == ["1", "2"]
    assert "operator Loop" in later.note


@pytest.mark.parametrize("error", [MemoryError(), RecursionError("deep"), UnicodeEncodeError("utf-8", "x", 0, 1, "no")])
def test_any_exception_is_a_refusal(
    serving: Serving, registry: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_arguments: object) -> None:
        raise error

    monkeypatch.setattr(follower, "Model", fail)
    registry.publish(b"model")

    assert not serving.check()
    assert not serving.check()

    assert registry.downloads == ["1"]
    assert serving.note.startswith("Version 1 was refused: ")


def test_a_temporary_refusal_ends_later_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    champions = Champions(tmp_path)
    champion = Champion("m", "1", 5, "", "")
    now = time.time()
    for wait in (RETRY_SECONDS, 2 * RETRY_SECONDS):
        champions.refuse(champion, "a" * 64, "too slow", temporary=True)
        assert Champions(tmp_path).refused("1", 5)
        monkeypatch.setattr("app.serving.champions.time.time", lambda later=now + wait - 60: later)
        assert champions.refused("1", 5)
        monkeypatch.setattr("app.serving.champions.time.time", lambda later=now + wait + 60: later)
        assert not champions.refused("1", 5)
        monkeypatch.setattr("app.serving.champions.time.time", lambda: now)


def test_a_withdrawn_champion_is_not_what_the_next_start_serves(
    serving: Serving, settings: Settings, registry: Any
) -> None:
    registry.publish(hostile.good(run_id="one").SerializeToString())
    assert serving.check()
    registry.publish(hostile.failing_on(BAD).SerializeToString())
    assert serving.check()
    with pytest.raises(PredictionError):
        ask(serving, BAD)

    later = Serving(settings)
    later.start()
    assert later.current().champion.version == "1"
    later.stop()


def test_a_champion_with_which_the_app_keeps_ending_is_left_out(
    serving: Serving, settings: Settings, registry: Any
) -> None:
    """As when the kernel ends it for its memory: nothing of the process is left to withdraw the model."""
    registry.publish(hostile.good(run_id="one").SerializeToString())
    assert serving.check()
    for _ in range(2):
        crashing = Serving(settings)
        crashing.start()
        assert crashing.current().champion

    later = Serving(settings)
    later.start()
    later.check()
    assert later.current().champion is None
    assert "the app ended 3 times" in later.note
    later.stop()


def test_a_kept_champion_of_an_earlier_version_is_checked(settings: Settings, registry: Any) -> None:
    """Versions before this check kept one object, and whatever it named was loaded into the app."""
    model = hostile.fixed_batch().SerializeToString()
    champions = Serving(settings).champions
    champions.keep(model, Champion("manasight", "1", 5, "", ""), REPORT)
    path = champions.folder / "champion.json"
    path.write_text(json.dumps(json.loads(path.read_text())["champions"][0]["champion"]))

    later = Serving(settings)
    later.start()
    assert later.current().champion is None
    later.stop()


def test_a_folder_that_cannot_be_written_is_one_warning(
    settings: Settings, registry: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "home").write_text("a file is in the way")
    serving = Serving(settings)
    serving.start()
    registry.publish(hostile.good(run_id="one").SerializeToString())
    serving.check()
    assert serving.current().champion
    serving.stop()

    warnings = [record.message for record in caplog.records if "cannot be written" in record.message]
    assert len(warnings) == 1
    assert "Mount a writable volume and set MANASIGHT_HOME" in warnings[0]


def metrics(url: str) -> dict[str, str]:
    """The counters by name."""
    lines = requests.get(f"{url}/metrics", timeout=10).text.splitlines()
    return dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))


@pytest.mark.slow
def test_a_request_that_a_new_champion_fails_on_is_answered_by_the_last_good_model(
    start_app: Callable, registry: Any, settings: Settings, tmp_path: Path
) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), BAD, np.uint8)).save(buffer, "PNG")
    registry.publish(hostile.good(run_id="one").SerializeToString())
    environment = {"MLFLOW_TRACKING_URI": registry.url, "MANASIGHT_POLL_SECONDS": "0.1"}
    with start_app(tmp_path, MANASIGHT_MODEL=str(settings.model), **environment) as (url, _):

        def wait_for(version: str) -> None:
            deadline = time.monotonic() + 60
            while requests.get(f"{url}/api/model", timeout=10).json()["version"] != version:
                assert time.monotonic() < deadline
                time.sleep(0.1)

        wait_for("1")
        registry.publish(hostile.failing_on(BAD).SerializeToString())
        wait_for("2")

        answer = requests.post(f"{url}/api/predict", data=buffer.getvalue(), timeout=40)

        assert (answer.status_code, answer.json()["model"]["version"]) == (200, "1")
        deadline = time.monotonic() + 10  # the watchdog looks again after a failure
        while not requests.get(f"{url}/ready", timeout=10).ok:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        found = metrics(url)
        assert found["manasight_model_rollbacks_total"] == "1"
        assert found["manasight_model_refused_total"] == "1"
        assert found["manasight_watchdog_ok"] == "1"
        assert "was withdrawn: it failed on an image" in (tmp_path / "app.log").read_text()
