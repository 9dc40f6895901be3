"""Promotion: who becomes champion, who does not, and what the registry remembers of it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mlflow_server import mlflow_server

from trainer.cli import main
from trainer.commands.promote import answers, promote
from trainer.data.dataset import MultiLabelImageFolder
from trainer.errors import UserError
from trainer.model.metrics import compare
from trainer.model.onnx_file import OnnxClassifier
from trainer.tracking.mlflow import connect
from trainer.tracking.registry import HISTORY, fetch, find_version, fit_note, other_labels

CLASSES = ["red", "green", "blue"]  # in the order of the tiny model's channels


@pytest.fixture
def data(make_images: Callable[..., Path]) -> Path:
    return make_images("data/test", dict.fromkeys(CLASSES, 20), size=(24, 16)).parent


def champion() -> int:
    client = connect()
    return int(client.get_model_version_by_alias("manasight", "champion").version)


def history() -> list[dict]:
    tags = connect().get_registered_model("manasight").tags
    return [json.loads(tags[key]) for key in sorted(tags) if key.startswith(HISTORY)]


def threshold_that_misses(data: Path, count: int) -> list[float]:
    """Thresholds with which the tiny model misses so many of the red images."""
    path = Path("model.onnx")
    split = MultiLabelImageFolder(data / "test", classes=CLASSES)
    images = np.stack([np.asarray(split[index][0]) for index in range(len(split))])
    red = OnnxClassifier(path)(images)[split.targets[:, 0].numpy() > 0.5, 0]
    return [float(np.sort(red)[count - 1 : count + 1].mean()), 0.5, 0.5]


def test_a_paired_bootstrap_tells_noise_from_difference():
    rng = np.random.default_rng(1)
    truth = rng.random((400, 5)) < 0.3
    noisy = [truth ^ (rng.random(truth.shape) < share) for share in (0.02, 0.02, 0.1)]
    alike, apart = compare(noisy[0], noisy[1], truth), compare(noisy[0], noisy[2], truth)
    assert alike.interval[0] < 0 < alike.interval[1]
    assert apart.interval[0] > 0
    assert apart.difference == pytest.approx(apart.new - apart.old)
    assert compare(noisy[2], noisy[0], truth).interval[1] < 0
    assert compare(noisy[0], noisy[0], truth).interval == (0, 0)  # paired: the same answers have no difference at all
    assert apart == compare(noisy[0], noisy[2], truth)  # the same seed, the same interval


def test_its_macro_f1_is_that_of_the_reports():
    import torch

    from trainer.model.metrics import measure

    rng = np.random.default_rng(2)
    truth, found = rng.random((50, 4)) < 0.3, rng.random((50, 4)) < 0.3
    truth[:, 3] = found[:, 3] = False  # a class that nobody has
    expected = measure(torch.from_numpy(found).float(), torch.from_numpy(truth))["macro_f1"]
    assert compare(found, truth, truth).new == pytest.approx(expected)


@pytest.mark.slow
def test_a_worse_candidate_stays_below_the_champion(register, data, capsys):
    register()
    promote(data=data)
    assert "there was no champion" in capsys.readouterr().out
    register(thresholds=threshold_that_misses(data, 1))
    promote(data=data)
    printed = capsys.readouterr()
    sentence = r"version 2 \(macro F1 0\.\d{3}\) is worse than champion version 1 \(1\.000\) within noise \(difference "
    sentence += r"from -0\.\d{3} to \+0\.000 at 95 %\) on 60 images: version 1 stays champion\n"
    assert re.fullmatch(sentence, printed.out)
    assert "Downloading" not in printed.err  # what MLflow says on its own
    assert "already exists" not in printed.err
    register(thresholds=[0.99999] * 3)
    promote(data=data)
    assert "champion version 1 (1.000) beyond noise" in capsys.readouterr().out
    assert champion() == 1
    assert [entry["version"] for entry in history()] == [1]


@pytest.mark.slow
def test_within_noise_the_better_figure_wins(register, data, capsys):
    register()
    register(thresholds=threshold_that_misses(data, 1))
    promote(version=2, data=data)
    promote(version=1, data=data)
    assert champion() == 1
    assert "version 1 (macro F1 1.000) is better than champion version 2" in capsys.readouterr().out
    first, second = history()
    assert (first["version"], first["former"]) == (2, None)
    assert (second["version"], second["former"]) == (1, 2)
    assert "is better than champion version 2" in second["reason"]
    assert second["at"] >= first["at"]


@pytest.mark.slow
def test_force_needs_a_reason_which_is_kept(register, data, capsys):
    register()
    promote(data=data)
    register(classes=["black", "green", "red"])
    with pytest.raises(UserError, match=r"labels black, green, red, champion .*: --force 'new labels'"):
        promote(data=data)
    assert main(["promote", "--force", " "]) == 2
    assert "--force needs a reason" in capsys.readouterr().err
    assert main(["promote", "--force"]) == 2
    assert champion() == 1
    assert main(["promote", "--force", "blue was a mistake"]) == 0
    assert champion() == 2
    assert history()[-1]["reason"] == "forced: blue was a mistake"
    assert history()[-1]["former"] == 1
    version = connect().get_model_version("manasight", "2")
    assert version.tags["manasight.promoted"] == "forced: blue was a mistake"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ((b"format\x12\x011", b"format\x12\x013"), "has format 3; this version reads formats 1 and 2"),
        ((b"[0.5, 0.5, 0.5]", b"[0.5, 0.500000]"), "manasight.thresholds must be a list of 3 numbers"),
        ({"input_size": [25, 16]}, "a test inference failed"),
        ({"classes": ["red", "green"], "thresholds": [0.5, 0.5]}, "do not fit 2 classes"),
    ],
)
def test_a_file_that_fails_its_check_is_refused_even_by_force(register, data, monkeypatch, changed, says):
    register()
    promote(data=data)
    if isinstance(changed, tuple):  # the present version would not even register it
        version = register()
        spoil(version, lambda path: path.write_bytes(path.read_bytes().replace(*changed)))
        connect().delete_model_version_tag("manasight", version, "manasight.sha256")
    else:
        register(**changed)
    for force in (None, "I know better"):
        with pytest.raises(UserError, match=f"version 2 fails its check: .*{says}"):
            promote(data=data, force=force)
    assert champion() == 1


def spoil(version: str, change: Callable[[Path], object]) -> None:
    """Change a registered version's file where the registry keeps it."""
    client = connect()
    uri = client.get_model_version_download_uri("manasight", version)
    change(Path(uri.removeprefix("file://")) / "model.onnx")


@pytest.mark.slow
def test_a_damaged_file_is_refused(register, data):
    version = register()
    spoil(version, lambda path: path.write_bytes(path.read_bytes() + b"\0"))
    with pytest.raises(UserError, match="version 1 is damaged: it does not have the SHA-256"):
        promote(data=data)
    spoil(version, lambda path: path.unlink())
    with pytest.raises(
        UserError, match=r"the file of version 1 cannot be downloaded: .*; if it is gone, delete version 1 in MLflow"
    ):
        promote(data=data)


@pytest.mark.slow
def test_a_version_that_is_fetched_from_a_server_leaves_no_copy(register, tmp_path, monkeypatch, find_port):
    temporary, port = tmp_path / "temporary", find_port()
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    with mlflow_server(tmp_path, port):
        version = find_version(connect(), int(register()))
        before = list(temporary.iterdir())
        assert fetch(version).metadata.classes == CLASSES
        assert list(temporary.iterdir()) == before


KILLED = """
import os, signal, sys
import mlflow
from trainer.cli import main

mlflow.MlflowClient.set_registered_model_alias = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_a_promotion_that_is_killed_is_done_again(register, data):
    register()
    promote(data=data)
    register(thresholds=threshold_that_misses(data, 2))
    register(thresholds=threshold_that_misses(data, 1))
    promote(version=2, data=data, force="a worse one, to be beaten")
    command = [sys.executable, "-c", KILLED, "promote", "--data", str(data)]
    assert subprocess.run(command, env=os.environ, capture_output=True).returncode == -signal.SIGKILL
    assert champion() == 2  # the app still finds a champion that is in order
    promote(data=data)
    assert champion() == 3
    assert [(entry["version"], entry["former"]) for entry in history()] == [(1, None), (2, 1), (3, 2)]


def test_answers_are_those_of_the_models_own_thresholds(tmp_path, tiny_model, data):
    path = tmp_path / "model.onnx"
    split = MultiLabelImageFolder(data / "test", classes=CLASSES)
    path.write_bytes(tiny_model())
    np.testing.assert_array_equal(answers(OnnxClassifier(path), split), split.targets.numpy() > 0.5)
    path.write_bytes(tiny_model(metadata={"thresholds": [0.5, 0.5, 0.99999]}))
    assert not answers(OnnxClassifier(path), split)[:, 2].any()


def check(data: Path, *more: str) -> int:
    return main(["promote", "--check", "--data", str(data), *more])


def test_without_a_champion_any_labels_pass_the_check_and_no_database_is_made(
    make_images, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("MANASIGHT_HOME", str(tmp_path / "new"))
    assert check(make_images("own", {"cat": 1, "dog": 1})) == 0
    assert capsys.readouterr().out == "there is no champion yet, so any labels will do\n"
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_labels_are_compared_with_the_champions_before_a_training(register, data, make_images, capsys, monkeypatch):
    register()
    assert check(data.parent) == 0  # registered, but no champion yet
    promote(data=data)
    assert check(data / "test") == 0  # label folders
    shutil.copytree(data / "test", data / "Training")
    assert check(data) == 0  # splits
    assert "has the labels of champion version 1" in capsys.readouterr().out
    own = make_images("own", {"cat": 1, "red-dog": 1})
    monkeypatch.setattr("trainer.commands.promote.fetch", lambda *_: pytest.fail("a tag suffices"))
    assert check(own) == 2
    assert capsys.readouterr().err == (
        f"manasight: '{own}' has the labels cat, dog, red, champion version 1 has blue, green, red, so the two cannot "
        "be compared; to replace the champion, give a reason: --force 'new labels' (`make train` and jobs of the "
        "cluster: PROMOTE='new labels')\n"
    )
    assert check(own, "--force", "new labels") == 0
    assert check(own, "--force", "") == 2
    assert check(make_images("joined", {"red+green": 1, "blue": 1}), "--separator", "+") == 0


@pytest.mark.slow
def test_a_champion_registered_without_a_tag_of_labels_is_asked_itself(register, data):
    register()
    promote(data=data)
    connect().delete_model_version_tag("manasight", "1", "manasight.classes")
    assert check(data / "test") == 0


def test_a_check_that_cannot_be_made_says_why(make_images, monkeypatch, capsys, find_port, tmp_path):
    assert main(["promote", "--check"]) == 2
    assert "name its folder with --data" in capsys.readouterr().err
    assert check(tmp_path / "nowhere") == 2
    assert f"there is no folder '{tmp_path / 'nowhere'}'" in capsys.readouterr().err
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{find_port()}")
    monkeypatch.setenv("MANASIGHT_PATIENCE", "0")
    assert check(make_images("own", {"cat": 1, "dog": 1})) == 1
    assert "check MLFLOW_TRACKING_URI" in capsys.readouterr().err


def test_labels_that_differ_are_named_first():
    shared = [f"label {number}" for number in range(20)]
    sentence = other_labels("'x'", [*shared, "zebra"], "3", shared)
    assert "'x' has the labels zebra, label 0, label 1, label 10, label 11, label 12 and 15 more, champion" in sentence


@pytest.mark.slow
def test_fit_notes_other_labels_than_the_champions(register, data):
    register()
    promote(data=data)
    assert fit_note(connect(), CLASSES) is None
    assert "`manasight promote` will need --force 'new labels'" in fit_note(connect(), ["cat", "dog"])
