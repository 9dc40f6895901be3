"""Where runs are tracked: odd paths, the kind of an experiment, what MLflow's page shows of a run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest

from trainer.errors import UserError
from trainer.tracking.mlflow import KIND, TRAINING, connect, experiment_id, run_tags


@pytest.mark.parametrize("folder", ["50% off %41", "what?now", "a #1 it's", "ünï 猫; & more"])
def test_runs_are_kept_below_a_folder_of_any_name(folder, new_database, tmp_path, monkeypatch):
    home = tmp_path / folder / ".manasight"
    home.mkdir(parents=True)
    shutil.copy(new_database, home)
    monkeypatch.setenv("MANASIGHT_HOME", str(home))
    client = connect()
    experiment = experiment_id(client, "manasight")
    run = client.create_run(experiment)
    client.log_text(run.info.run_id, "kept", "note.txt")
    assert mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/note.txt") == "kept"
    assert [path.name for path in tmp_path.iterdir()] == [folder]
    assert sorted(path.name for path in home.iterdir()) == ["artifacts", "mlflow.db", "mlflow.db.lock"]


def test_packages_below_a_folder_that_mlflow_cannot_use_are_named(tmp_path):
    """As of a checkout in a folder with % in its name: `.venv` is inside."""
    packages = tmp_path / "50% off"
    packages.symlink_to(Path(mlflow.__file__).parents[1])
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-m", "trainer.cli", "promote"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([root, str(packages)]), "MANASIGHT_HOME": "home"},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 2, done.stderr
    assert f"MLflow is installed below '{packages}'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_new_experiment_is_of_the_training_kind(home):
    client = connect()
    found = client.get_experiment(experiment_id(client, "manasight"))
    assert found.tags[KIND] == TRAINING == "custom_model_development"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, TRAINING),
        ("genai_development_inferred", TRAINING),
        ("genai_development", "genai_development"),  # somebody chose it
    ],
)
def test_an_older_experiment_becomes_one_of_the_training_kind(home, before, after):
    client = connect()
    client.create_experiment("older", tags={KIND: before} if before else None)
    assert client.get_experiment(experiment_id(client, "older")).tags[KIND] == after


@pytest.mark.parametrize(("commit", "tag"), [("c0ffee-dirty", "c0ffee"), ("c0ffee", "c0ffee"), ("unknown", None)])
def test_the_commit_is_given_as_mlflow_shows_it(commit, tag, monkeypatch):
    monkeypatch.setenv("MANASIGHT_GIT_COMMIT", commit)
    tags = run_tags("manasight fit", "a note")
    assert tags.get("mlflow.source.git.commit") == tag
    assert tags["mlflow.note.content"] == "a note"
    assert (tags["mlflow.source.name"], tags["mlflow.source.type"]) == ("manasight fit", "LOCAL")


@pytest.mark.parametrize("name", ["it's", "a/b", "what?", "50%"])
def test_a_model_name_that_would_change_a_query_or_an_address_is_refused(home, name, monkeypatch):
    monkeypatch.setenv("MANASIGHT_MODEL_NAME", name)
    with pytest.raises(UserError, match="use letters, digits"):
        connect()
