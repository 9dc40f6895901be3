"""Datasets whose splits have other names than ours, or are incomplete, and the advice that is given then."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from trainer.cli import main
from trainer.data.module import MultiLabelDataModule
from trainer.data.samples import find_splits
from trainer.errors import UserError

LABELS = {"red": 6, "blue": 6}


@pytest.fixture
def make(make_images: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """A function that makes `<name>/<split>/{red,blue}/*.png`."""

    def make(*splits: str, name: str = "data") -> Path:
        for seed, split in enumerate(splits):
            make_images(f"{name}/{split}", LABELS, seed=seed)
        return tmp_path / name

    return make


@pytest.mark.parametrize(
    "names",
    [
        ("train", "valid", "test"),
        ("Train", "Validation", "Test"),
        ("training", "dev", "eval"),
        ("TRAIN", "VAL", "testing"),
    ],
)
def test_usual_names_of_splits_are_accepted(make, names, capsys, tmp_path):
    root = make(*names)
    data = MultiLabelDataModule(root, input_size=(48, 36), workers=0)
    data.setup("fit")
    assert [Path(data.dataset(split).root).name for split in ("train", "val", "test")] == list(names)
    assert main(["data", "describe", str(root)]) == 0
    assert re.search(r"^images +12 +12 +12$", capsys.readouterr().out, re.MULTILINE)
    assert main(["data", "split", str(root), str(tmp_path / "out")]) == 2
    assert f"is split already: it has {', '.join(names)}; use it as it is" in capsys.readouterr().err


def test_a_label_may_be_called_as_a_split_is(make_images):
    root = make_images("data", {"train": 2, "bus": 2})
    assert find_splits(root) == {}


def test_two_folders_for_one_split_are_refused(make):
    with pytest.raises(UserError, match="has 'val' and 'valid', and both could be the val split"):
        find_splits(make("train", "val", "valid", "test"))


def advice(root: Path, split: str) -> list[str]:
    """The command that the error message of a missing split gives."""
    with pytest.raises(UserError) as caught:
        MultiLabelDataModule(root, workers=0).setup("fit")
    assert f"'{root}' {split}" in str(caught.value)
    return shlex.split(re.search(r"`manasight (.*)`", str(caught.value))[1])


@pytest.mark.parametrize(
    ("splits", "says"),
    [
        (("Train", "Test"), "has no val split"),
        (("train", "valid"), "has no test split"),
        (("train",), "has no val split"),
        (("",), "is not split into train, val, test"),
    ],
)
def test_the_advice_for_missing_splits_works(make, splits, says, capsys):
    root = make(*splits, name="my data")
    command = advice(root, says)
    assert main(command) == 0, capsys.readouterr().err
    new = Path(command[3])
    assert new == root.with_name("my data-split")
    MultiLabelDataModule(new, workers=0).setup("fit")
    given = {"Test": "test", "valid": "val"}.get(splits[-1])
    if given:  # what was there stays what it was
        assert sorted(path.name for path in (new / given).rglob("*.png")) == [
            f"{n:03}.png" for n in range(6) for _ in "rb"
        ]
        assert f"{given} 12 (as given)" in capsys.readouterr().out
    counts = [len(list((new / split).rglob("*.png"))) for split in ("train", "val", "test")]
    assert sum(counts) == 12 * len(splits)


@pytest.mark.parametrize("command", ["data describe ROOT", "data split ROOT new", "fit --data.root ROOT"])
def test_splits_without_training_images_are_named(make, command, capsys, monkeypatch, tmp_path):
    root = make("valid", "test")
    monkeypatch.chdir(tmp_path)
    assert main(command.replace("ROOT", str(root)).split()) == 2
    assert f"'{root}' has 'valid' and 'test' but no training images; put those into '{root / 'train'}'" in (
        capsys.readouterr().err
    )


def test_a_folder_above_the_splits_is_told_from_label_folders(make, capsys):
    root = make("train", "val", "test", name="outer/inner").parent
    for command in (["fit", "--data.root", str(root)], ["data", "split", str(root), str(root.with_name("out"))]):
        assert main(command) == 2
        assert f"did you mean '{root / 'inner'}', which has splits?" in capsys.readouterr().err


def test_near_copies_are_only_blamed_if_they_are_the_cause(make_images, capsys, tmp_path):
    few = make_images("few", {"red": 2, "blue": 5})
    assert main(["data", "split", str(few), str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "too few different images of 'red'" in error
    assert "near_duplicate_bits" not in error
    copies = make_images("copies", {"red": 1, "blue": 5})
    for number in range(1, 5):
        (copies / "red" / f"{number}.png").write_bytes((copies / "red" / "000.png").read_bytes())
    assert main(["data", "split", str(copies), str(tmp_path / "out")]) == 2
    assert "--near_duplicate_bits -1" in capsys.readouterr().err
    assert main(["data", "split", str(copies), str(tmp_path / "out"), "--near_duplicate_bits", "-1"]) == 0
