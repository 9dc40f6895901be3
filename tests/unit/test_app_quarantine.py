"""A candidate model is judged in a process of its own: what would hurt the app is refused there, within limits."""

import subprocess
import sys
from pathlib import Path

import hostile_models as hostile
import numpy as np
import psutil
import pytest

from app.serving import quarantine
from app.serving.model import Model
from app.serving.quarantine import Report, check
from app.settings import STARTER
from contract.model import ModelError, TemporaryModelError


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (hostile.external_data("secret.txt"), "keeps data in other files"),
        (hostile.external_constant(), "keeps data in other files"),
        (hostile.other_domain(), "uses operators of “com.microsoft”"),
        (hostile.function(), "functions of its own"),
        (hostile.loop(), "operator Loop"),
        (hostile.sequence(), "operator SequenceConstruct"),
        (hostile.random(), "operator RandomUniformLike"),
        (hostile.fixed_batch(), "fails on a test image of 8×8"),
        (hostile.failing_alone(), "not finite"),
        (hostile.not_a_number_on_flat(), "not finite"),
        (hostile.mixing(), "answers differently for an image beside others"),
        (hostile.empty_maps(), "activation maps where"),
        (hostile.large_maps(1000), "more than 4 MB an image"),
        (hostile.large_maps(9000), "more memory for 8 images than 256 MB"),
        (hostile.failing_on(255), "fails on a test image"),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_a_model_that_would_fail_or_hurt_is_refused(model: object, said: str) -> None:
    with pytest.raises(ModelError, match=said) as caught:
        check(model.SerializeToString(), "candidate")

    assert str(caught.value).startswith("candidate")
    assert not caught.value.temporary


def test_a_check_that_does_not_end_is_ended() -> None:
    with pytest.raises(TemporaryModelError, match="did not pass its check within 2 seconds"):
        check(hostile.slow().SerializeToString(), "candidate", seconds=2)

    left = [child for child in psutil.Process().children() if str(quarantine.CHECK) in child.cmdline()]
    assert not left


def test_the_process_that_serves_takes_no_memory_for_a_model_that_needs_too_much() -> None:
    code = (
        "import resource, sys\n"
        "from app.serving.model import Model, ModelError\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak()\n"
        "try:\n    Model(sys.stdin.buffer.read(), 'large')\n"
        "except ModelError:\n    print((peak() - before) // 1024)"
    )
    data = hostile.large_maps(9000).SerializeToString()
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True)

    assert int(done.stdout) < 30


def test_the_starter_passes() -> None:
    report = check(STARTER.read_bytes(), "starter")

    assert 0 < report.seconds < 1
    assert 20 < report.memory / 1024**2 < 400


def test_a_good_model_is_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    data = hostile.good(run_id="once").SerializeToString()
    report = check(data, "first")
    monkeypatch.setattr(quarantine, "CHECK", Path("/nonexistent"))

    assert check(data, "again") == report


def test_too_little_memory_is_a_temporary_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quarantine, "available_memory", lambda: quarantine.RESERVE + 40 * 1024**2)

    with pytest.raises(TemporaryModelError, match="MB that are left; give the container more"):
        check(hostile.large_maps(4000).SerializeToString(), "candidate")


@pytest.mark.parametrize(
    ("program", "kind", "said"),
    [
        ("import os; os.abort()", TemporaryModelError, "signal 6"),
        ("import sys; sys.exit(3)", TemporaryModelError, "status 3"),
        ("while True: print('x' * 10**6)", ModelError, "no verdict"),
        ("print('{\"memory\": null}')", ModelError, "no verdict"),
        ("print('[' * 60000)", ModelError, "no verdict"),
        ('import os; print(\'{"refused": "%s"}\' % sorted(os.environ))', ModelError, r"^(?!.*MLFLOW)"),
    ],
    ids=["aborts", "exits", "endless output", "nonsense", "deep nonsense", "environment"],
)
def test_whatever_becomes_of_the_check_is_a_verdict(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str, kind: type[ModelError], said: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    (tmp_path / "check.py").write_text(program)
    monkeypatch.setattr(quarantine, "CHECK", tmp_path / "check.py")

    with pytest.raises(kind, match=said):
        check(b"model", "candidate")


def test_what_a_model_must_not_answer_is_an_error_while_serving(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check tries some images; another one may still be answered with NaN."""
    report = Report(memory=0, seconds=0.1)
    model = Model(hostile.not_a_number_on_flat().SerializeToString(), "flat", report)

    with pytest.raises(ValueError, match="not finite"):
        model.predict(np.zeros((1, 8, 8, 3), np.uint8))


def test_external_data_is_not_read_even_without_the_check(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_bytes(b"abcd")
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ModelError, match="not an ONNX model that this app can run"):
        Model(hostile.external_data("secret.txt").SerializeToString(), "external", Report(memory=0, seconds=0.1))
