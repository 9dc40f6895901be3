"""Batch prediction: folders, patterns, S3; CSV and Parquet; what cannot be read is listed."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from s3_server import s3_server

from trainer.cli import main
from trainer.data.samples import read_samples


@pytest.fixture
def model(tmp_path: Path, tiny_model: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.onnx"
    path.write_bytes(tiny_model(metadata={"thresholds": [0.5, 0.5, 0.999999]}))
    return path


@pytest.fixture
def images(make_images: Callable[..., Path]) -> Path:
    root = make_images("pictures", {"red": 20, "green": 3, "blue": 2}, size=(48, 32))
    (root / "red" / "broken.png").write_bytes(b"not a picture")
    (root / "red" / "._000.png").write_bytes(b"what macOS leaves beside a picture")
    shutil.copytree(root / "green", root / ".green.being-made")
    (root / "notes.txt").write_text("no picture either")
    return root


def test_a_folder_becomes_a_table_with_a_column_per_label(model, images, capsys):
    assert main(["predict", str(images), "--model", str(model)]) == 0
    printed = capsys.readouterr().out
    assert "left out 1 unreadable images" in printed
    assert "red/broken.png: cannot identify image file" in printed
    assert f"25 images labeled by {model}\n" in printed
    table = pd.read_csv("predictions.csv", keep_default_na=False)
    assert table.columns.tolist() == ["file", "labels", "red", "green", "blue"]
    assert len(table) == 25
    assert table["file"].tolist() == sorted(table["file"])  # order survives the threads
    expected = {"red": "red", "green": "green", "blue": ""}  # blue's threshold is out of reach
    assert [expected[Path(row.file).parent.name] for row in table.itertuples()] == table["labels"].tolist()


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"separator": "+"}, "+"),
        ({}, "-"),
        ({"classes": ["t-shirt", "green", "blue"]}, ";"),  # as from an older file
    ],
)
def test_labels_are_joined_by_the_models_own_separator(images, tiny_model, monkeypatch, tmp_path, metadata, expected):
    monkeypatch.chdir(tmp_path)
    Path("model.onnx").write_bytes(tiny_model(metadata={"thresholds": [0.0, 0.0, 0.0], **metadata}))
    assert main(["predict", str(images / "red"), "--model", "model.onnx"]) == 0
    table = pd.read_csv("predictions.csv")
    assert set(table["labels"]) == {expected.join(metadata.get("classes", ["red", "green", "blue"]))}
    found = read_samples(Path("predictions.csv")).images
    assert {sample.labels for sample in found} == {tuple(sorted(table.columns[2:]))}


def test_parquet_holds_the_same(model, images):
    assert main(["predict", str(images), "--model", str(model)]) == 0
    assert main(["predict", str(images), "--model", str(model), "--out", "table.parquet", "--workers", "1"]) == 0
    found = pd.read_parquet("table.parquet")
    expected = pd.read_csv("predictions.csv", keep_default_na=False)
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, atol=1e-6)
    assert found["red"].dtype == np.float32
    assert not list(Path().glob(".*"))


@pytest.mark.parametrize(
    ("pattern", "count"), [("pictures/**/*.png", 25), ("pictures/*/000.png", 3), ("pictures/gre?n/*", 3)]
)
def test_a_pattern_names_images(model, images, pattern, count):
    assert main(["predict", pattern, "--model", str(model)]) == 0
    assert len(pd.read_csv("predictions.csv")) == count


def test_only_unreadable_images_are_a_fault_and_no_table(model, images, capsys):
    assert main(["predict", str(images / "red" / "broken.png"), "--model", str(model)]) == 2
    assert "none of the 1 images at" in capsys.readouterr().err
    assert not Path("predictions.csv").exists()


def test_a_name_that_is_no_text_and_links_to_nothing_do_not_stop_the_others(model, images, capsys):
    (images / "green" / "000.png").rename(images / "green" / os.fsdecode(b"caf\xe9.png"))
    (images / "green" / "loop.png").symlink_to("loop.png")
    (images / "green" / "gone.png").symlink_to("nowhere.png")
    for out in ("table.csv", "table.parquet"):
        assert main(["predict", str(images), "--model", str(model), "--out", out]) == 0
        printed = capsys.readouterr().out
        assert "left out 3 unreadable images" in printed
        assert "loop.png" in printed
        assert "gone.png" in printed
    table = pd.read_parquet("table.parquet")
    assert table[table["file"].str.endswith("caf\\xe9.png")]["labels"].tolist() == ["green"]


def test_a_class_may_be_called_as_a_column_is(tmp_path, tiny_model, images, model):
    model.write_bytes(tiny_model(metadata={"classes": ["labels", "green", "file"]}))
    for out in ("table.csv", "table.parquet"):
        assert main(["predict", str(images), "--model", str(model), "--out", out]) == 0
    assert pd.read_parquet("table.parquet").columns.tolist() == [
        "file",
        "labels",
        "class labels",
        "green",
        "class file",
    ]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["pictures/*.gif"], "there are no images at 'pictures/*.gif'"),
        (["nowhere"], "there is no 'nowhere'"),
        (["pictures", "--out", "folder.csv"], "'folder.csv' is a folder"),
        (["pictures", "--out", "table.xlsx"], "'table.xlsx' is neither .csv nor .parquet"),
        (["pictures", "--workers", "0"], "--workers 0 decodes nothing"),
        (["pictures", "--model", "gone.onnx"], "there is no model at 'gone.onnx'"),
        (["s3:///x"], "'s3:///x' is not an address in S3"),
    ],
)
def test_a_mistake_is_one_sentence_and_no_table(model, images, capsys, args, says):
    Path("folder.csv").mkdir()
    assert main(["predict", *(["--model", str(model)] if "--model" not in args else []), *args]) == 2
    assert says in capsys.readouterr().err
    Path("folder.csv").rmdir()
    assert not list(Path().glob("*.csv")) + list(Path().glob("*.parquet"))


@pytest.mark.slow
def test_images_in_s3_are_labeled_under_their_addresses(model, images, tmp_path, monkeypatch, capsys):
    with s3_server(tmp_path / "s3") as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        assert main(["data", "push", str(images), "s3://data/some/pictures"]) == 0
        assert main(["predict", "s3://data/some/pictures/", "--model", str(model)]) == 0
        table = pd.read_csv("predictions.csv")
        assert len(table) == 25
        assert table["file"][0] == "s3://data/some/pictures/blue/000.png"
        printed = capsys.readouterr().out
        assert "s3://data/some/pictures/red/broken.png: cannot identify" in printed
        assert printed.splitlines()[-1] == "results: predictions.csv"
        assert "manasight-" not in printed  # the copies' folder is gone
        assert main(["predict", "s3://data/nothing", "--model", str(model)]) == 2
        assert "there is nothing at 's3://data/nothing'" in capsys.readouterr().err
