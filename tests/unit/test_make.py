"""What the Makefile hands on to scripts and programs."""

import os
import pty
import signal
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def exported(folder: Path, *settings: str) -> list[str]:
    """The lines of `env` in a recipe, on a machine without images of its own."""
    (folder / "Makefile").write_text(f"include {ROOT}/docker/docker.mk\nshow:\n\t@env\n")
    environment = {"PATH": os.environ["PATH"], "AIRGAP_STATE": str(folder)}
    command = ["make", "-f", folder / "Makefile", "show", *settings]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.splitlines()


def test_a_setting_that_nobody_made_is_not_exported_as_an_empty_one(tmp_path: Path) -> None:
    names = {line.partition("=")[0] for line in exported(tmp_path)}
    assert not names & {"COMPOSE_FILE", "PYTHON_IMAGE", "TORCH_INDEX", "ARGS"}


def test_settings_reach_the_scripts(tmp_path: Path) -> None:
    lines = exported(tmp_path, "ARGS=--trainer.max_epochs 3", "TORCH_INDEX=default", "PORT=9000", "RESUME=01")
    assert {"ARGS=--trainer.max_epochs 3", "TORCH_INDEX=default", "APP_HOST_PORT=9000", "RESUME=01"} <= set(lines)


def test_ports_that_nobody_gave_are_left_to_the_file_of_settings(tmp_path: Path) -> None:
    assert not [line for line in exported(tmp_path) if "_HOST_PORT=" in line]


def test_a_path_with_a_dollar_sign_is_taken_as_it_is(tmp_path: Path) -> None:
    assert "DATA=/photos/a$b $(c) #d" in exported(tmp_path, "DATA=/photos/a$b $(c) #d")


def test_images_made_for_a_closed_network_are_taken(tmp_path: Path) -> None:
    (tmp_path / "images.env").write_text("PYTHON_IMAGE=python:3\nIMAGENET ?= none\n")
    assert {"PYTHON_IMAGE=python:3", "IMAGENET=none"} <= set(exported(tmp_path))


def test_images_made_by_root_are_taken_by_every_user(tmp_path: Path) -> None:
    """The engine's images are the machine's, so where their settings are does not depend on who asks."""
    read = {
        subprocess.run(
            ["make", "-f", "docker/docker.mk", "-pn", "help"],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "HOME": str(home)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        .stdout.partition("AIRGAP_STATE = ")[2]
        .splitlines()[:1][0]
        for home in ("/root", tmp_path)
    }
    assert read == {"/var/lib/manasight"}


@pytest.mark.parametrize(
    ("settings", "typed", "gone"),
    [([], None, False), ([], b"no\n", False), ([], b"yes\n", True), (["YES=1"], None, True)],
)
def test_runs_and_models_are_only_deleted_by_who_means_it(tmp_path: Path, settings, typed, gone) -> None:
    database = tmp_path / ".manasight/mlflow.db"
    database.parent.mkdir()
    database.touch()
    ours, theirs = pty.openpty()
    if typed:
        os.write(ours, typed)
    stdin = theirs if typed else subprocess.DEVNULL
    command = ["make", "-f", ROOT / "Makefile", "-I", ROOT, "clean", *settings]
    done = subprocess.run(command, cwd=tmp_path, stdin=stdin, capture_output=True, text=True, timeout=60)
    os.close(ours)
    os.close(theirs)
    assert (done.returncode == 0, database.exists()) == (gone, not gone)
    assert ("deletes all runs and models" in done.stderr) == (not settings)


def test_an_interrupted_demo_resumes_its_training(tmp_path: Path) -> None:
    """`manasight train` exits with 75 at Ctrl-C, which a terminal sends to make too."""
    program = tmp_path / ".venv/bin/manasight"
    program.parent.mkdir(parents=True)
    (tmp_path / ".venv/installed").touch()
    (tmp_path / ".manasight/data/demo").mkdir(parents=True)
    (tmp_path / ".manasight/runs").mkdir()
    program.write_text(
        '#!/bin/bash\necho "$@" >>calls; echo 0123 >.manasight/runs/latest\n'
        "[ ! -e quick ] || exit 0\ntrap 'kill $!; exit 75' INT\nsleep 60 & echo begun; wait\n"
    )
    program.chmod(0o755)
    command = ["make", "-f", ROOT / "Makefile", "-I", ROOT, "-o", ".venv/installed", "demo-model"]
    environment = {"PATH": os.environ["PATH"]}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as make:
        assert make.stdout
        while make.stdout.readline() != "begun\n":
            pass
        os.killpg(make.pid, signal.SIGINT)
        assert "'make demo' resumes it" in make.communicate(timeout=60)[0]
    assert make.returncode
    assert not (tmp_path / ".manasight/demo-model").exists()
    (tmp_path / "quick").touch()
    for _ in range(2):
        subprocess.run(command, cwd=tmp_path, env=environment, timeout=60, check=True)
    assert (tmp_path / ".manasight/demo-model").exists()
    first, second, third = (tmp_path / "calls").read_text().splitlines()
    assert second == "train --resume 0123"
    assert first == third == "train --config trainer/experiments/demo.yaml --data.root .manasight/data/demo"
