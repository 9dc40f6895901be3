"""Wrong labels that were put in are found, on the page and in the table; and what to label next is various."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from trainer.cli import main
from trainer.commands import suspects
from trainer.data.suspects import doubts, label_next, out_of_fold
from trainer.paths import STARTER


def test_flipped_labels_come_first():
    rng = np.random.default_rng(0)
    truth = rng.random((400, 3)) < 0.4
    features = truth @ rng.normal(0, 1, (3, 20)) + rng.normal(0, 0.3, (400, 20))
    flipped = rng.choice(400, 20, replace=False)
    targets = truth.copy()
    targets[flipped, rng.integers(0, 3, 20)] ^= True
    probabilities = out_of_fold(features, targets, [tuple(map(str, np.flatnonzero(row))) for row in targets])
    excess = doubts(probabilities, targets)
    found = np.argsort(-excess.max(1))[:40]
    assert len({*flipped} & {*found}) >= 18
    assert (excess >= 0).sum() < 40


def test_copies_do_not_confirm_each_other():
    rng = np.random.default_rng(0)
    features = rng.normal(0, 1, (60, 5)).repeat(2, 0)
    targets = (features[:, :1] > 0) | np.zeros((120, 2), bool)
    targets[:2] ^= True  # an image and its copy
    probabilities = out_of_fold(features, targets, [tuple(map(str, np.flatnonzero(row))) for row in targets])
    assert doubts(probabilities, targets)[:2].max(1).min() > np.quantile(doubts(probabilities, targets).max(1), 0.9)


def test_what_to_label_next_is_uncertain_and_various():
    features = np.array([[1.0, 0], [1, 0.01], [0, 1], [0, 1.01]])
    assert label_next(features, np.array([[0.5], [0.5], [0.6], [0.99]]), 2) == [0, 2]
    assert len(label_next(features, np.full((4, 1), 0.5), 9)) == 4


@pytest.fixture
def wrong(make_images, monkeypatch, tmp_path):
    """A folder in which one image lies in the wrong folder, and another folder without labels."""
    monkeypatch.setenv("MANASIGHT_HOME", str(tmp_path / "home"))
    root = make_images("data", {"red": 12, "blue": 12, "green-square": 12})
    make_images("new", {"red": 2, "blue": 2})
    (root / "red" / "005.png").rename(root / "blue" / "lost.png")
    return root


def test_the_table_and_the_page_show_them(wrong, tmp_path, capsys):
    options = ["--model", str(STARTER), "--out", str(tmp_path / "s.csv"), "--html", str(tmp_path / "s.html")]
    assert main(["data", "suspects", str(wrong), *options]) == 0
    table = pd.read_csv(tmp_path / "s.csv")
    assert len(table) == 36
    assert Path(table["file"][0]).name == "lost.png"
    assert (table["labels"][0], table["suggested"][0], table["wrong"][0]) == ("blue", "red", True)
    assert "blue/lost.png" in (tmp_path / "s.html").read_text()
    assert "probably have a wrong label" in capsys.readouterr().out
    assert list((tmp_path / "home" / "features").iterdir())
    assert main(["data", "suspects", str(wrong), *options, "--unlabeled", str(tmp_path / "new"), "--count", "3"]) == 0
    assert len(pd.read_csv(tmp_path / "s.csv")) == 3
    corrected = tmp_path / "s.csv"
    assert main(["data", "suspects", str(wrong), *options]) == 0
    table = pd.read_csv(corrected)  # the table itself trains, once it is corrected
    table["labels"] = table["suggested"]
    table.to_csv(corrected, index=False)
    assert main(["data", "split", str(corrected), str(tmp_path / "split")]) == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--model", "no.onnx"], "there is no 'no.onnx'; name a model.onnx with --model"),
        (["--out", "x.txt"], "'x.txt' is not a .csv file"),
        (["--out", "gone/x.csv"], "'gone/x.csv' cannot be written; name a file in a folder that exists"),
        (["--html", "gone/x.html"], "'gone/x.html' cannot be written; name a file in a folder that exists"),
        (["--count", "0"], "--count 0 lists nothing"),
    ],
)
def test_mistakes_get_a_sentence(wrong, capsys, options, says):
    assert main(["data", "suspects", str(wrong), *options]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.slow
def test_the_champion_sees_or_the_starter_wherever_one_is(make_images, register, monkeypatch, capsys):
    """Without --model; the folder is not the checkout's."""
    make_images("data", {"red": 6, "blue": 6})
    command = ["data", "suspects", "data"]
    assert main(command) == 0
    assert f"seen by the backbone of the starter, {STARTER}\n" in capsys.readouterr().out
    monkeypatch.setattr(suspects, "STARTER", Path("gone"))
    assert main(command) == 2
    said = capsys.readouterr().err
    assert "there is no champion in '" in said
    assert said.endswith("' yet, and this copy of Manasight has no starter; name a model.onnx with --model\n")
    version = register()
    assert main(["promote"]) == 0
    assert main(command) == 0
    assert f"seen by the backbone of manasight version {version} (champion)\n" in capsys.readouterr().out


def test_a_file_that_is_no_model_gets_a_sentence(wrong, capsys, tmp_path):
    (tmp_path / "x.onnx").write_bytes(b"x")
    assert main(["data", "suspects", str(wrong), "--model", str(tmp_path / "x.onnx")]) == 2
    assert "is not a model of Manasight's" in capsys.readouterr().err


def test_unreadable_images_are_left_out_if_asked(wrong, tmp_path, capsys):
    (wrong / "red" / "000.png").write_bytes(b"no picture")
    command = ["data", "suspects", str(wrong), "--model", str(STARTER), "--out", str(tmp_path / "s.csv")]
    assert main(command) == 2
    assert "leave them out with --drop_unreadable" in capsys.readouterr().err
    assert main([*command, "--drop_unreadable"]) == 0
    assert "left out 1 unreadable images" in capsys.readouterr().out
    assert len(pd.read_csv(tmp_path / "s.csv")) == 35
