"""The command line: what it lists, and one sentence instead of a traceback for every mistake."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trainer.cli import COMMANDS, main


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANASIGHT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def sentence(capsys: pytest.CaptureFixture[str], *args: object) -> str:
    """The one line on stderr of a command that fails."""
    assert main([str(arg) for arg in args]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("manasight:")]
    assert len(lines) == 1
    return lines[0]


def test_help_lists_every_command_without_loading_torch():
    command = [sys.executable, "-X", "importtime", "-m", "trainer.cli", "--help"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert all(name in result.stdout for name in COMMANDS)
    assert "torch" not in result.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([*name.split(), "--help"])
    assert stopped.value.code == 0
    assert f"usage: manasight {name}" in capsys.readouterr().out


def test_an_unknown_command_is_named(capsys):
    assert "there is no command 'data scry'" in sentence(capsys, "data", "scry")


def test_a_flag_needs_no_value(make_images, capsys):
    assert main(["data", "describe", str(make_images("data", {"red": 1, "blue": 1})), "--check"]) == 0
    assert "all 2 images are readable" in capsys.readouterr().out


def test_missing_data_is_named(capsys, tmp_path):
    error = sentence(capsys, "fit", "--data.root", tmp_path / "cards", "--model.weights", "none")
    assert "there is no" in error
    assert "manasight data split" in error


def test_missing_weights_are_named(capsys, make_images):
    for part in ("train", "val", "test"):
        root = make_images(f"data/{part}", {"red": 2, "blue": 2}).parent
    error = sentence(capsys, "fit", "--data.root", root, "--model.weights", "gone.pth")
    assert "there are no weights at 'gone.pth'" in error


def test_an_mlflow_server_that_is_not_there_is_named(capsys, make_images, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for part in ("train", "val", "test"):
        root = make_images(f"data/{part}", {"red": 2, "blue": 2}).parent
    error = sentence(capsys, "fit", "--data.root", root, "--model.weights", "none")
    assert "MLflow at 'http://127.0.0.1:9' does not answer" in error
    assert "check MLFLOW_TRACKING_URI" in error


@pytest.mark.parametrize("command", ["evaluate", "export"])
def test_no_run_yet(capsys, command):
    assert "there is no run in" in sentence(capsys, command)


def test_nothing_to_resume(capsys):
    assert "there is no run in" in sentence(capsys, "fit", "--resume")


def test_nothing_to_promote(capsys):
    assert "no version of 'manasight' is registered" in sentence(capsys, "promote")


def test_no_champion_to_predict_with(capsys, make_images):
    error = sentence(capsys, "predict", make_images("data", {"red": 1}))
    assert "there is no champion yet" in error


def test_a_port_in_use_is_named(capsys):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        error = sentence(capsys, "serve", "--port", port, "--check")
    assert f"port {port} cannot be used" in error
    assert "choose another with --port" in error


def test_wrong_trainer_options_are_a_sentence(capsys, make_images):
    for part in ("train", "val", "test"):
        root = make_images(f"data/{part}", {"red": 2, "blue": 2}).parent
    options = ["--data.root", root, "--model.weights", "none", "--trainer.accelerator", "abacus"]
    assert "trainer options do not go together" in sentence(capsys, "fit", *options)


def test_a_stopped_split_leaves_nothing(make_images, tmp_path):
    root = make_images("data", {"red": 60, "blue": 60}, size=(600, 400))
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "trainer.cli", "data", "split", str(root), str(out)], stderr=subprocess.DEVNULL
    )
    while not list(tmp_path.glob(".out.*")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) != 0
    assert [entry.name for entry in tmp_path.iterdir()] == ["data"]
