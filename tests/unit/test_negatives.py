"""Images without any label: a folder called `_none`."""

import json

import pandas as pd
import pytest

from trainer.cli import main


@pytest.fixture
def labeled(make_images):
    return make_images("labeled", {"red": 10, "blue": 10, "_none": 10})


def test_describe_counts_them(labeled, capsys):
    assert main(["data", "describe", str(labeled), "--as_json"]) == 0
    (part,) = json.loads(capsys.readouterr().out)["splits"].values()
    assert part["without_label"] == 10
    assert set(part["classes"]) == {"red", "blue"}
    assert part["label_sets"]["_none"] == 10


def test_split_stratifies_them(labeled, tmp_path):
    assert main(["data", "split", str(labeled), str(tmp_path / "out"), "--near_duplicate_bits=-1"]) == 0
    counts = {split: len(list((tmp_path / "out" / split / "_none").iterdir())) for split in ("train", "val", "test")}
    assert sum(counts.values()) == 10
    assert counts["train"] >= 6
    assert min(counts.values()) >= 1


@pytest.mark.slow
def test_a_model_is_trained_and_measured_on_them(home, make_images):
    for part in ("train", "val", "test"):
        root = make_images(f"data/{part}", {"red": 4, "blue": 4, "nothing": 4}).parent
    fit = [f"--data.root={root}", "--data.negatives=nothing", "--data.input_size=[48,36]", "--data.workers=0"]
    fit += ["--model.weights=none", "--trainer.max_epochs=1", "--trainer.accelerator=cpu"]
    assert main(["fit", *fit]) == 0
    assert main(["evaluate"]) == 0
    (table,) = home.glob("runs/*/evaluation/per_class.csv")
    found = pd.read_csv(table, index_col="class")
    assert list(found.index) == ["blue", "red"]
    assert found["positives"].tolist() == [4, 4]
    assert found["on_negatives"].between(0, 4).all()
