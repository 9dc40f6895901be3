"""`manasight data describe`: counts, exact statistics, broken and duplicate images, and the page."""

import json
import os
import re
import shutil
import time

import numpy as np
import pytest
from PIL import Image

from trainer.cli import main
from trainer.commands.describe import describe
from trainer.data.dataset import MultiLabelImageFolder
from trainer.data.describe import examine
from trainer.data.parallel import in_order
from trainer.data.scan import channel_statistics
from trainer.errors import UserError


def test_json_counts_images_classes_and_sizes(make_images, capsys):
    root = make_images("data", {"red-square": 3, "blue": 1})
    describe(root, as_json=True)
    report = json.loads(capsys.readouterr().out)
    part = report["splits"]["all"]
    assert part["images"] == 4
    assert part["classes"]["square"] == {"images": 3, "share": 0.75}
    assert part["label_sets"] == {"blue": 1, "red-square": 3}
    assert part["height"] == [48, 48.0, 48]
    assert part["width"] == [36, 36.0, 36]
    assert report["broken"] == []


def test_tables_cover_every_split(make_images, capsys):
    for part in ("train", "val", "test"):
        root = make_images(f"data/{part}", {"red": 2, "blue": 1}).parent
    describe(root)
    printed = capsys.readouterr().out
    assert "train  val  test" in " ".join(printed.split("\n")[1].split()).replace(" ", "  ")
    assert "66.7%" in printed


def test_check_lists_every_broken_image(make_images):
    root = make_images("data", {"red": 2, "blue": 2})
    (root / "red" / "000.png").write_bytes(b"")
    whole = (root / "blue" / "001.png").read_bytes()
    (root / "blue" / "001.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"2 of 4 images are unreadable(.|\n)*blue/001\.png(.|\n)*red/000\.png"):
        describe(root, check=True)


def test_broken_images_are_printed_and_left_out_of_the_counts(make_images, capsys):
    root = make_images("data", {"red": 2, "blue": 2})
    (root / "red" / "000.png").write_bytes(b"no picture")
    describe(root)
    printed = capsys.readouterr().out
    assert re.search(r"images +3\n", printed)
    assert "Broken: 1\nred/000.png: cannot identify image file" in printed


def test_a_split_without_a_readable_image_is_refused(make_images):
    root = make_images("data", {"red": 1})
    (root / "red" / "000.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"no image in .* can be read"):
        describe(root)


def test_one_label_set_is_one_however_its_folders_are_named(make_images):
    for part, folder in (("train", "red-square"), ("test", "square-red")):
        root = make_images(f"data/{part}", {folder: 2}).parent
    report, _ = examine(root)
    assert [part["label_sets"] for part in report["splits"].values()] == [{"red-square": 2}, {"red-square": 2}]


def test_a_picture_on_its_side_has_the_size_that_one_sees(make_images):
    root = make_images("data", {"red": 1})
    turned = Image.Exif()
    turned[0x0112] = 6
    (root / "red" / "000.png").unlink()
    Image.new("RGB", (30, 20)).save(root / "red" / "side.jpg", exif=turned)
    for decode in (False, True):
        part = examine(root, decode=decode)[0]["splits"]["all"]
        assert (part["width"][0], part["height"][0]) == (20, 30)


def test_duplicates_and_look_alikes_are_found_across_splits(make_images, capsys):
    for part, seed in (("train", 0), ("test", 1)):
        root = make_images(f"data/{part}", {"red-square": 4, "blue": 4}, size=(240, 180), seed=seed).parent
    shutil.copy(root / "train" / "blue" / "001.png", root / "test" / "blue" / "copy.png")
    spots = np.random.default_rng(0).integers(0, 256, (12, 9, 3), dtype=np.uint8)
    picture = Image.fromarray(spots).resize((180, 240))
    picture.save(root / "train" / "red-square" / "large.png")
    picture.resize((120, 160)).save(root / "test" / "red-square" / "small.jpg", quality=60)
    report, _ = examine(root)
    assert report["duplicates"] == [["train/blue/001.png", "test/blue/copy.png"]]
    assert report["look_alikes"] == [["train/red-square/large.png", "test/red-square/small.jpg"]]
    describe(root, check=True)
    assert "train/blue/001.png = test/blue/copy.png" in capsys.readouterr().out


def test_the_page_shows_every_class_and_needs_no_other_file(make_images, tmp_path, capsys):
    for part in ("train", "val", "test"):
        root = make_images(f"data/{part}", {"red-square": 5, "blue": 3, "a&b": 1}).parent
    (root / "val" / "blue" / "bad.png").write_bytes(b"<b>")
    describe(root, html=tmp_path / "out" / "page.html", pictures=4)
    text = (tmp_path / "out" / "page.html").read_text()
    assert "results: " in capsys.readouterr().out
    sections = re.findall(r"<h3>([^<]*) <small>(\d+)</small></h3>\s*<div(.*?)</div>", text, re.DOTALL)
    assert [(label, int(count)) for label, count, _ in sections] == [
        *(("a&amp;b", 3), ("blue", 9), ("red", 15), ("square", 15))
    ]
    assert [body.count("<figure>") for *_, body in sections] == [3, 4, 4, 4]
    assert "val/blue/bad.png: cannot identify image file" in text
    assert not re.search(r"(src|href)=\"(?!data:image/jpeg;base64,)", text)
    assert "{{" not in text


def test_results_come_in_order_and_few_wait():
    taken = []

    def items():
        for number in range(500):
            taken.append(number)
            yield number

    def work(number: int) -> int:
        time.sleep(0.001 * (number % 3))
        return number

    results = in_order(work, items(), workers=2)
    assert [next(results) for _ in range(50)] == list(range(50))
    assert len(taken) < 50 + 2 * 8 + 2
    assert list(results) == list(range(50, 500))


def test_channel_statistics_are_exact(make_images):
    root = make_images("data", {"red": 2, "blue": 1})
    Image.new("RGB", (300, 20), (1, 2, 3)).save(root / "red" / "wide.png")
    data = MultiLabelImageFolder(root)
    mean, deviation = channel_statistics(data)
    pixels = np.concatenate([np.asarray(image).reshape(-1, 3) for image, _ in data]) / 255
    np.testing.assert_allclose(mean, pixels.mean(0), atol=1e-12)
    np.testing.assert_allclose(deviation, pixels.std(0), atol=1e-12)


def test_splits_without_train_are_refused(make_images):
    with pytest.raises(UserError, match="has 'test' but no train"):
        examine(make_images("data/test", {"red": 1}).parent)


def test_what_is_no_image_is_printed_and_what_is_no_file_is_left_out(make_images, capsys):
    root = make_images("data", {"red": 1, "blue": 1})
    os.mkfifo(root / "red" / "pipe.jpg")
    (root / "red" / "web.jpg").write_text("<html>")
    (root / "blue" / "gone.jpg").symlink_to("nowhere.jpg")
    (root / "blue" / "loop.jpg").symlink_to("loop.jpg")
    for options in ([], ["--check"]):
        assert main(["data", "describe", str(root), *options]) == 2 * len(options)
        printed = "".join(capsys.readouterr())
        assert "red/web.jpg: cannot identify image file\n" in printed
        assert "blue/gone.jpg: No such file or directory\n" in printed
        assert "blue/loop.jpg: Too many levels of symbolic links\n" in printed
        assert "pipe.jpg" not in printed


@pytest.mark.parametrize("options", [[], ["--check"], ["--as-json"], ["--html", "page.html"]])
@pytest.mark.parametrize("name", [b"caf\xe9", b"red/caf\xe9.png"])
def test_names_that_are_no_utf8_are_a_sentence(make_images, capsys, monkeypatch, name, options):
    root = make_images("data", {"red": 2, "green": 1, "blue": 1})
    (root / ("red/000.png" if b"/" in name else "green")).rename(root / os.fsdecode(name))
    monkeypatch.chdir(root.parent)
    assert main(["data", "describe", "data", *options]) == 2
    assert "caf\\xe9" in (error := capsys.readouterr().err)
    assert error.endswith("' is not UTF-8; rename it\n")
    assert not (root.parent / "page.html").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--html", "."], "'.' is a folder; name a file with --html, as in --html report.html"),
        (["--html", "/"], "'/' is a folder; name a file"),
        (["--html", ""], "'.' is a folder; name a file"),
        (["--html", "data"], "'data' is a folder; name a file with --html, as in --html data/report.html"),
        (["--pictures", "-3"], "--pictures -3 is too small"),
        (["--workers", "0"], "--workers 0 is too small"),
    ],
)
def test_mistakes_are_a_sentence_before_anything_is_decoded(make_images, capsys, monkeypatch, options, says):
    root = make_images("data", {"red": 1})
    monkeypatch.chdir(root.parent)
    monkeypatch.setattr("trainer.commands.describe.examine", None)
    assert main(["data", "describe", "data", *options]) == 2
    assert says in capsys.readouterr().err
    assert [path.name for path in root.parent.iterdir()] == ["data"]
