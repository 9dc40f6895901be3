"""`manasight train`: from a dataset to the champion in one command that can be interrupted anywhere."""

import json
import signal
from pathlib import Path

import pytest

from trainer.cli import main
from trainer.commands import train
from trainer.stopping import Stopped

pytestmark = pytest.mark.slow


@pytest.fixture
def options(make_images) -> list[str]:
    for part in ("train", "val", "test"):
        root = make_images(f"data/{part}", {"red": 4, "blue": 4, "red-square": 4}).parent
    given = [f"--data.root={root}", "--data.input_size=[48,36]", "--data.workers=0", "--model.weights=none"]
    return ["train", *given, "--trainer.max_epochs=1", "--trainer.accelerator=cpu"]


def interrupt(*_: object) -> None:
    raise Stopped(signal.SIGTERM)


def forbidden(*_: object) -> None:
    raise AssertionError("this was done before the interruption")


def test_interrupted_in_each_stage_it_resumes_with_that_stage(home, options, capsys, monkeypatch):
    for stage in ("report", "write_model", "register_model"):
        with monkeypatch.context() as during:
            during.setattr(train, stage, interrupt)
            assert main(options) == 75
        (run,) = (folder.name for folder in (home / "runs").iterdir() if folder.is_dir())
        assert f"stopped by SIGTERM; resume with: manasight train --resume {run}" in capsys.readouterr().out
        options = ["train", "--resume", run]

    monkeypatch.setattr(train, "report", forbidden)
    monkeypatch.setattr(train, "write_model", forbidden)
    assert main(options) == 0
    printed = capsys.readouterr().out
    headings = [line for line in printed.splitlines() if line.startswith("train ")]
    assert headings == [f"train {n} of 4: {name}" for n, name in enumerate(train.STAGES, 1)]
    assert "epoch 1/" not in printed
    assert json.loads(printed.splitlines()[-1]) == {"run": run, "version": 1, "champion": True}


def test_a_failure_after_the_training_says_how_to_resume(home, options, capsys, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "model.onnx")

    monkeypatch.setattr(train, "report", lambda *_: None)
    monkeypatch.setattr(train, "write_model", full)
    monkeypatch.setattr(train, "is_written", lambda *_: False)
    assert main(options) == 1
    output = capsys.readouterr()
    assert "once the problem is solved, resume with: manasight train --resume " in output.out
    assert output.err == "manasight: the disk is full; free some space, or write somewhere else\n"


def test_labels_that_the_champion_does_not_know_are_refused_before_the_training(home, options, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(train, "check_labels", lambda *asking: asked.append(asking) or interrupt())
    with pytest.raises(Stopped):
        main([*options, "--data.separator=+", "--force", " "])
    ((root, form, force),) = asked
    assert (Path(root).name, form.separator, force) == ("data", "+", None)
    assert not (home / "runs").exists()


def test_a_search_for_a_learning_rate_is_refused(options, capsys):
    assert main([*options, "--find_learning_rate"]) == 2
    assert "use it with `manasight fit`" in capsys.readouterr().err
