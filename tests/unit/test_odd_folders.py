"""Folders as users have them: what is read, what is left out and said so, and what is refused."""

import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from trainer.cli import main
from trainer.data.samples import Format, find_images, read_samples
from trainer.errors import UserError

LITTER = (".DS_Store", "Thumbs.db", "._x.jpg", "desktop.ini")
LITTER_FOLDERS = ("__MACOSX", "@eaDir", "lost+found", "$RECYCLE.BIN", ".ipynb_checkpoints")


def describe(root: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert main(["data", "describe", str(root), *options]) == 0
    return capsys.readouterr().out


def test_content_decides_over_the_name(make_images, capsys):
    root = make_images("data", {"red": 2, "blue": 1})
    for name in ("a.gif", "b.jfif", "c.jpg_large", "no-extension", "e.txt", "f.php?size=large"):
        with (root / "red" / name).open("wb") as file:
            Image.new("RGB", (20, 20), name.encode()[0] * 256).save(file, "JPEG")
    for kind in ("GIF", "AVIF", "TIFF", "BMP", "WEBP", "PPM"):
        Image.new("RGB", (20, 20)).save(root / "blue" / f"{kind}.data", kind)
    assert len(read_samples(root).images) == 3 + 6 + 6
    assert "all 15 images are readable" in describe(root, capsys, "--check")


def test_files_that_are_left_out_are_counted_and_listed(make_images, capsys):
    root = make_images("data", {"red": 1, "blue": 1})
    (root / "red" / "notes.txt").write_text("BM and P5 are only words here")
    (root / "red" / "more.TXT").write_text("")
    (root / "blue" / "layers.psd").write_bytes(b"8BPS\x00\x01" + bytes(30))
    shutil.copy(root / "red" / "000.png", root / "loose.png")
    said = describe(root, capsys)
    assert "4 files skipped: 2 × .txt, 1 × image outside of a label folder, 1 × PSD (--verbose lists them)" in said
    said = describe(root, capsys, "--verbose")
    assert "  blue/layers.psd: PSD\n  red/more.TXT: .txt\n" in said
    assert main(["data", "split", str(root), str(root.with_name("out"))]) == 2  # one image a class is too few
    assert "too few different images" in capsys.readouterr().err


def test_what_systems_leave_is_ignored_quietly(make_images, capsys):
    root = make_images("data", {"red": 1, "blue": 1})
    for folder in (root, root / "red"):
        for name in LITTER:
            (folder / name).write_bytes(b"x")
        for name in LITTER_FOLDERS:
            (folder / name).mkdir()
            shutil.copy(root / "blue" / "000.png", folder / name / "thumbnail.png")
    assert len(read_samples(root).images) == len(find_images(root)[0]) == len(find_images(f"{root}/**/*")[0]) == 2
    assert "skipped" not in describe(root, capsys)


# Root may enter every folder.
DROP = "import os; os.geteuid() or (os.setgroups([]), os.setgid(65534), os.setuid(65534))"


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs POSIX permissions")
def test_a_folder_that_may_not_be_entered_is_named(make_images, start):
    root = make_images("data", {"red": 1, "blue": 1})
    (root / "red").chmod(0)
    for folder in (root, *root.parents):
        if folder.stat().st_uid == os.geteuid() and str(folder).startswith("/tmp/"):
            folder.chmod(0o755)
    done = start("data", "describe", str(root), first=DROP)
    try:
        said = done.stdout.read()
        assert f"the folder '{root}/red' cannot be read (Permission denied)" in said
        assert done.wait(60) == 2
    finally:
        (root / "red").chmod(0o755)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs POSIX permissions")
@pytest.mark.parametrize(
    ("command", "file"),
    [
        ("data describe locked/data", "locked/data"),
        ("data push locked/data s3://bucket/data", "locked/data"),
        ("fit --data.root locked/data --model.weights none", "locked/data"),
        ("fit --resume auto", "locked/home/runs/latest"),
        ("evaluate --run abc", "locked/home/runs"),
        ("predict locked/image.png --model model.onnx", "locked/image.png"),
        ("predict image.png --out locked/table.csv", "locked"),
    ],
)
def test_what_may_not_be_looked_at_is_not_called_missing(command, file, start, tmp_path, monkeypatch):
    """Since Python 3.14 `Path.exists` and its relatives say no where they may not look."""
    (tmp_path / "locked").mkdir(0)
    monkeypatch.setenv("MANASIGHT_HOME", str(tmp_path / "locked/home"))
    arguments = [str(tmp_path / word) if word.startswith("locked") else word for word in command.split()]
    # What the commands import later is in folders of root's, too.
    done = start(
        *arguments, first=f"import multiprocessing.managers, trainer.data.s3, trainer.commands.predict\n{DROP}"
    )
    assert f"Permission denied ('{tmp_path / file}')" in done.stdout.read()
    assert done.wait(60) == 2


def test_folders_below_a_label_folder_are_found(make_images, capsys):
    root = make_images("data", {"red/first": 2, "red/second/third": 1, "blue": 1})
    assert [(sample.labels, sample.path.relative_to(root).as_posix()) for sample in read_samples(root).images] == [
        (("blue",), "blue/000.png"),
        (("red",), "red/first/000.png"),
        (("red",), "red/first/001.png"),
        (("red",), "red/second/third/000.png"),
    ]
    assert "3 images in folders below a label folder have its labels; --nested adds" in describe(root, capsys)


def test_nested_folders_add_labels(make_images, capsys, tmp_path):
    root = make_images("data", {f"{color}/{shape}": 6 for color in ("red", "blue") for shape in ("square", "disc")})
    assert {sample.labels for sample in read_samples(root, Format(nested=True)).images} == {
        ("red", "square"),
        ("disc", "red"),
        ("blue", "square"),
        ("blue", "disc"),
    }
    assert main(["data", "split", str(root), str(tmp_path / "out"), "--nested"]) == 0
    assert (tmp_path / "out/train/red/square").is_dir()
    assert "disc" in describe(tmp_path / "out", capsys, "--nested")


def test_a_separator_that_was_forgotten_is_suggested(make_images, capsys):
    names = [f"{color}_{thing}" for color in ("black", "blue", "red") for thing in ("dress", "jeans")]
    root = make_images("data", dict.fromkeys([*names, "black_shirt"], 1))
    hint = "7 folders, 7 labels: did you mean --separator _ (6 labels: black, blue, dress, jeans, red, …)?"
    assert hint in describe(root, capsys)
    assert "did you mean" not in describe(root, capsys, "--separator", "_")


@pytest.mark.parametrize(
    "names", [["golden retriever", "great dane"], ["t-shirt_long", "dress_long"], ["red", "blue_sky"]]
)
def test_names_that_do_not_fall_into_fewer_labels_are_left_alone(make_images, capsys, names):
    assert "did you mean" not in describe(make_images("data", dict.fromkeys(names, 1)), capsys)


def test_links_out_of_the_folder_are_followed_when_asked(make_images, tmp_path, capsys):
    store = make_images("store", {"a": 2})
    root = make_images("data", {"blue": 1})
    (root / "red").mkdir()
    (root / "red" / "one.png").symlink_to(store / "a" / "000.png")
    (root / "green").symlink_to(store / "a")
    with pytest.raises(UserError, match=r"is a link that leaves .*--follow_links"):
        read_samples(root)
    assert len(read_samples(root, Format(follow_links=True)).images) == 4
    assert "green" in describe(root, capsys, "--follow-links")
    (store / "a" / "back").symlink_to(root)
    with pytest.raises(UserError, match="is a link to a folder that contains it"):
        read_samples(root, Format(follow_links=True))
    wild = make_images("wild", {"cat": 2})
    (wild / "cat" / "loop").symlink_to("..")  # the images are seen through it, and are none of it
    with pytest.raises(UserError, match=r"wild/cat/loop' is a link to a folder that contains it; remove the link"):
        read_samples(wild)


def test_what_is_beside_the_splits_is_mentioned(make_images, capsys):
    for split in ("train", "val", "test"):
        make_images(f"data/{split}", {"red": 1, "blue": 1})
    root = make_images("data", {"extra": 3})
    assert "1 file skipped: 1 × beside the splits" in describe(root, capsys)
