"""The three experiments in one command, and pictures of where the winner looks."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from cards.drawn.demo import LABEL_SETS
from trainer.cli import main
from trainer.commands.experiments import command, compare, read_baseline, resumable
from trainer.commands.explain import correlation
from trainer.model.network import MultiLabelNetwork
from trainer.report import figures as pictures
from trainer.tracking.mlflow import connect
from trainer.tracking.registry import register_model

pytestmark = pytest.mark.slow

SETS = ("red-square", "red", "blue-square", "blue")


@pytest.fixture
def data(home: Path, make_images: Callable[..., Path], tmp_path: Path) -> Path:
    torch.save(MultiLabelNetwork(1).backbone.state_dict(), tmp_path / "resnet18.pth")
    for seed, (part, count) in enumerate({"train": 12, "val": 4, "test": 4}.items()):
        root = make_images(f"data/{part}", dict.fromkeys(SETS, count), seed=seed).parent
    return root


def experiments(data: Path, *more: str, weights: str = "resnet18.pth") -> int:
    options = ["--data.input_size=[64,48]", "--data.workers=0", "--trainer.accelerator=cpu", "--trainer.max_epochs=1"]
    return main(["experiments", "--data", str(data), "--model.weights", weights, *options, *more])


def test_a_stop_between_two_trainings_says_how_to_go_on(capsys):
    with pytest.raises(SystemExit), resumable("manasight experiments"):
        sys.exit(143)
    assert "stopped; resume all of it with: manasight experiments --resume" in capsys.readouterr().out


def test_three_runs_a_table_and_a_winner(data, tmp_path, tiny_model, capsys, monkeypatch):
    assert experiments(data) == 0
    printed = capsys.readouterr().out
    client = connect()
    experiment = client.get_experiment_by_name("comparison")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert sorted(runs) == ["finetune", "frozen", "scratch"]
    weights = {name: run.data.params["model.weights"] for name, run in runs.items()}
    assert weights == {"frozen": "resnet18.pth", "finetune": "resnet18.pth", "scratch": "none"}
    assert {run.data.params["data.input_size"] for run in runs.values()} == {"(64, 48)"}
    assert len({run.data.tags["manasight.data_fingerprint"] for run in runs.values()}) == 1

    folder = tmp_path / "home" / "experiments" / "comparison"
    table = pd.read_csv(folder / "comparison.csv", index_col="experiment")
    assert not [name for name in table if "baseline" in name]
    for name, run in runs.items():
        assert run.info.status == "FINISHED"
        assert table.loc[name, "macro_f1"] == pytest.approx(run.data.metrics["test_macro_f1"], abs=1e-4)
        assert table.loc[name, "minutes"] == pytest.approx(run.data.metrics["train_seconds"] / 60, abs=1e-4)
        logged = {entry.path for entry in client.list_artifacts(run.info.run_id, "comparison")}
        assert {"comparison/comparison.csv", "comparison/comparison.html"} <= logged
    page = (folder / "comparison.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert "baseline" not in page
    assert "resnet18.pth" in page

    # The winner on the validation split, and it alone, is registered and champion.
    winner = table["val_macro_f1"].astype(float).idxmax()
    assert f"best on the validation split: {winner}" in printed
    (version,) = client.search_model_versions("name = 'manasight'")
    assert version.run_id == runs[winner].info.run_id
    assert int(client.get_model_version_by_alias("manasight", "champion").version) == int(version.version)

    # Again with --resume: nothing is trained again.
    assert experiments(data, "--resume") == 0
    assert capsys.readouterr().out.count("has finished") == 3
    assert len(client.search_runs([experiment.experiment_id])) == 3
    assert len(client.search_model_versions("name = 'manasight'")) == 1  # the same file makes no new version
    assert experiments(data, "--resume", "--trainer.max_epochs=3") == 2
    assert "began with --trainer.max_epochs 1, not 3" in capsys.readouterr().err

    # A champion with other labels is replaced for a reason only, and the question comes before any training.
    other = tmp_path / "other.onnx"
    other.write_bytes(tiny_model(metadata={"run_id": version.run_id}))
    champion = register_model(version.run_id, other)
    client.set_registered_model_alias("manasight", "champion", champion)
    assert experiments(data) == 2
    assert "give a reason: --force 'new labels'" in capsys.readouterr().err
    assert len(client.search_runs([experiment.experiment_id])) == 3
    assert experiments(data, "--resume", "--force", "new labels") == 0
    assert client.get_model_version_by_alias("manasight", "champion").version == version.version
    assert "is the champion: forced: new labels" in capsys.readouterr().out

    # Where the winner looks; every label has a 000.png.
    titles, save = [], pictures.save_attributions
    monkeypatch.setattr(pictures, "save_attributions", lambda *a: (titles.extend(a[2]), save(*a)))
    assert main(["explain", "--run", runs[winner].info.run_id, "--count", "2", "--labels", "red"]) == 0
    assert "over 2 maps" in capsys.readouterr().out
    assert titles[0].startswith("blue/000.png\n")
    figures = client.get_run(runs[winner].info.run_id).data.metrics
    assert figures["explanation_agreement"] > 0.999
    (logged,) = client.list_artifacts(runs[winner].info.run_id, "explanations")
    assert logged.path == "explanations/explanations.png"
    assert main(["explain", "--labels", "green"]) == 2
    assert "the model knows no label 'green'; it knows blue, red, square" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--trainer.max_epoks=3"], "did you mean '--trainer.max_epochs'?"),
        (["--data.batch_size=0"], "batch_size 0 is too small"),
        (["--data.root=nowhere"], "there is no folder 'nowhere'"),
        (["--trainer.max_epochs=0"], "--trainer.max_epochs 0 is out of range"),
        (["--find_learning_rate"], "--find_learning_rate is for `manasight fit`"),
        (["--experiment=../x"], "--experiment '../x' names a folder too"),
        (["--name=mine"], "the runs are named frozen, finetune and scratch"),
        (["--config=mine.yaml"], "take name and experiment out of --config"),
    ],
)
def test_a_mistake_shows_before_any_training(data, tmp_path, capsys, more, says):
    Path("mine.yaml").write_text("experiment: mine\n")
    assert experiments(data, *more) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "home" / "runs").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "the folder of splits is required: --data ROOT; see"),
        (["--dat", "x"], "there is no option '--dat', did you mean '--data'? See"),
        (["--seed=1"], "the folder of splits is required: --data ROOT; see"),
    ],
)
def test_data_must_be_named(capsys, words, says):
    assert main(["experiments", *words]) == 2
    assert says in capsys.readouterr().err


def test_a_baseline_is_compared_only_with_its_own_classes(tmp_path, capsys):
    rows = {"finetune": {"accuracy": 0.9, "precision": 0.8, "recall": 0.7, "minutes": 3.0, "run": "01234567"}}
    of_cards = {label for name in LABEL_SETS for label in name.split("-")}
    baseline = read_baseline(Path(__file__).parents[2] / "cards" / "baseline.yaml")
    assert compare(rows, baseline, sorted(of_cards)).loc["finetune", "baseline_accuracy"] == 0.999
    table = compare(rows, baseline, ["indoors", "cat"])
    assert table.columns.tolist() == [*rows["finetune"]]
    assert "the baseline is left out: its classes are artifact, black" in capsys.readouterr().out
    pictures.save_bars(table, ("accuracy", "minutes"), tmp_path / "bars.png")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "note: x",
        "{note: x, classes: 3, experiments: {}}",
        "{note: x, classes: [a], experiments: {a: {b: c}}}",
    ],
)
def test_a_baseline_of_another_form_is_one_sentence(data, tmp_path, capsys, text):
    path = tmp_path / "baseline.yaml"
    path.write_text(text)
    assert experiments(data, "--baseline", str(path)) == 2
    assert "needs a note, a list of classes, and experiments with numbers" in capsys.readouterr().err
    assert experiments(data, "--baseline", str(tmp_path / "none.yaml")) == 2
    assert "cannot read the baseline" in capsys.readouterr().err


def test_maps_that_are_proportional_agree_and_others_do_not():
    one = np.random.default_rng(0).normal(size=(3, 4))
    assert correlation([one, one], [3 * one + 1, 0.1 * one]) == pytest.approx(1)
    assert correlation([one, one], [one, -one]) == pytest.approx(-1)  # the lowest counts
    assert np.isnan(correlation([np.ones((1, 1))], [np.ones((1, 1))]))


def test_only_scratch_keeps_its_own_weights():
    import argparse

    options = argparse.Namespace(data="d", weights="w.pth", experiment="e")
    assert "w.pth" not in command("scratch", options, [])
    assert command("frozen", options, ["--seed", "1"])[-4:] == ["--model.weights", "w.pth", "--seed", "1"]
