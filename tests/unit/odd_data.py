"""Datasets as people have them, each with what its owner expects; the runner is benchmarks/odd_datasets.py."""

import contextlib
import csv
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import test_colors as colors
from hostile_files import HEIC_HALVES, encoded, png_chunk
from labeled_folders import make_folders
from PIL import Image, ImageOps
from table_texts import LABELS, TEXTS
from test_app_images import ODD_TAGS, SIDEWAYS, exif
from test_odd_folders import LITTER, LITTER_FOLDERS
from test_split import textured

from contract.images import decode
from trainer.cli import main as manasight
from trainer.data.images import load_rgb
from trainer.data.samples import read_samples
from trainer.paths import home

ROOT = Path(__file__).resolve().parents[2]
START = "import sys; from trainer.cli import main; sys.exit(main())"
MOST_LEVELS = 2  # of 255: mean error of colors
KINDS = ("PNG", "TIFF", "WEBP")
FIT = "--data.input_size=[48,36] --data.workers=0 --model.weights=none --trainer.max_epochs=1 --trainer.accelerator=cpu"
FIT += " --trainer.limit_train_batches=2 --trainer.limit_val_batches=2"


class Case(NamedTuple):
    """One dataset: its name, what its owner expects, and what makes and tries it in an empty folder."""

    name: str
    expects: str
    attempt: Callable[[Path], str]


CASES: list[Case] = []
Attempt = Callable[[Path], str]


def case(name: str, expects: str) -> Callable[[Attempt], Attempt]:
    """Add a function to the cases; it returns what came of it, or raises AssertionError."""

    def add(attempt: Attempt) -> Attempt:
        CASES.append(Case(name, expects, attempt))
        return attempt

    return add


def status_of(*arguments: object) -> tuple[int, str]:
    """Run `manasight` here; its exit status and what it says."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = manasight([str(argument) for argument in arguments])
    return status, said.getvalue()


def run(*arguments: object) -> str:
    """A command that has to succeed; what it says."""
    status, said = status_of(*arguments)
    assert status == 0, said
    return said


def refused(*arguments: object, says: str) -> str:
    """A command that has to fail with one sentence about something; the sentence."""
    status, said = status_of(*arguments)
    assert status == 2, f"status {status}: {said}"
    assert "Traceback" not in said, said
    assert says in said, said
    return said.strip().splitlines()[-1].replace(str(Path.cwd()), "…").removeprefix("manasight: ")


def described(root: Path, *options: str) -> dict[str, int]:
    """Images of each label set by `describe --check`."""
    report = json.loads(run("data", "describe", root, "--check", "--as-json", *options))
    sets: dict[str, int] = {}
    for part in report["splits"].values():
        for name, count in part["label_sets"].items():
            sets[name] = sets.get(name, 0) + count
    return sets


def split(root: Path, *options: str) -> str:
    """How many images each split gets."""
    said = run("data", "split", root, root.parent / "split", *options)
    return next(line for line in said.splitlines() if line.startswith("train ")).partition(";")[0]


def shown(sets: dict[str, int]) -> str:
    """Label sets with their numbers, at most six."""
    listed = [f"{name} {count}" for name, count in list(sets.items())[:6]]
    return ", ".join(listed) + ", …" * (len(sets) > 6)


def table_case(name: str, key: str, expects: str = "each image has the labels of its row") -> None:
    """A table of the tests: a.png is red and square, b.png blue, c.png without a label."""

    def attempt(folder: Path) -> str:
        file, text = TEXTS[key]
        make_folders(folder, {"pictures": 5})
        for number, letter in enumerate("abcde"):
            (folder / "pictures" / f"{number:03}.png").rename(folder / "pictures" / f"{letter}.png")
        (folder / file).write_text(text, encoding="utf-16" if key == "Excel" else "utf-8")
        sets = described(folder / file)
        found = {sample.path.name: sample.labels for sample in read_samples(folder / file).images}
        assert {name: found[name] for name in LABELS} == LABELS, found
        return shown(sets)

    CASES.append(Case(name, expects, attempt))


table_case("Planet's CSV: names without extension, labels separated by spaces", "separators: space (Planet)")
table_case("CSV with a column of 0 and 1 per label", "0 and 1")
table_case("CelebA's columns of −1 and 1", "CelebA")
table_case("Excel's CSV: `sep=;`, UTF-16", "Excel")
table_case("Hugging Face's `metadata.jsonl`", "Hugging Face")
table_case("Label Studio, JSON", "Label Studio JSON", "the choices of each task; no annotation means no label")
table_case("Label Studio, CSV", "Label Studio CSV", "the choices of each task; an empty cell means no label")
table_case("CVAT for images, XML", "CVAT", "tags and the labels of shapes")
table_case("Lists as pandas writes them", "lists of pandas")
table_case("The CSV of `manasight predict`", "predictions", "labels as in its column, not the probabilities")


@case("Parquet with lists of labels and a column of splits", "`fit` trains from the file at once")
def _(folder: Path) -> str:
    import pandas as pd

    make_folders(folder, {"red-square": 12, "blue": 12})
    paths = sorted(folder.rglob("*.png"))
    rows = [[str(path.relative_to(folder)), path.parent.name.split("-")] for path in paths]
    parts = [["train", "train", "valid", "test"][number % 4] for number in range(len(rows))]
    frame = pd.DataFrame(rows, columns=["file", "labels"]).assign(split=parts)
    frame.to_parquet(folder / "x.parquet")
    run("fit", f"--data.root={folder / 'x.parquet'}", *FIT.split())
    return "trained on " + shown(described(folder / "x.parquet"))


@case("A table that names missing files", "the row's number; left out on request")
def _(folder: Path) -> str:
    make_folders(folder, {"red": 6, "blue": 6})
    rows = [f"{path.relative_to(folder)},{path.parent.name}" for path in sorted(folder.rglob("*.png"))]
    (folder / "x.csv").write_text("\n".join(["file,labels", *rows, "gone.png,red"]))
    said = refused("data", "split", folder / "x.csv", folder / "split", says="row 14 of 'x.csv'")
    return f"“{said[:60]}…”; with `--drop-unreadable` {split(folder / 'x.csv', '--drop-unreadable')}"


@case("A table with two different rows for one image", "one sentence with both rows")
def _(folder: Path) -> str:
    make_folders(folder, {"red": 2})
    (folder / "x.csv").write_text("file,labels\nred/000.png,red\nred/001.png,blue\nred/000.png,blue\n")
    return refused("data", "describe", folder / "x.csv", says="rows 2 and 4 of")


@case("Clothes: `black_jeans`, `blue_dress`, …", "a hint at the separator; labels once it is given")
def _(folder: Path) -> str:
    names = [f"{color}_{kind}" for color in ("black", "blue", "red") for kind in ("dress", "jeans")]
    root = make_folders(folder / "data", dict.fromkeys(names, 5))
    hint = "6 folders, 6 labels: did you mean --separator _ (5 labels: black, blue, dress, jeans, red)?"
    assert hint in run("data", "describe", root)
    return f"“{hint}”; {split(root, '--separator=_')}"


@case("Nested folders: `black/creature/x.jpg`", "with `--nested` each level adds labels")
def _(folder: Path) -> str:
    names = {f"{color}/{kind}": 5 for color in ("red", "blue") for kind in ("square", "disc")}
    root = make_folders(folder / "data", names)
    sets = described(root, "--nested")
    assert sets == names, sets
    return f"{shown(sets)}; {split(root, '--nested')}"


@case("Folders below label folders", "their images count; a hint at `--nested`")
def _(folder: Path) -> str:
    root = make_folders(folder / "data", {"red/first": 3, "red/second/third": 3, "blue": 6})
    assert described(root) == {"red": 6, "blue": 6}
    assert "6 images in folders below a label folder" in run("data", "describe", root)
    return split(root)


@case("Negatives only in test", "trains, evaluates, and counts them")
def _(folder: Path) -> str:
    for seed, part in enumerate(("train", "val", "test")):
        make_folders(
            folder / "data" / part, {"red": 6, "blue": 6} | ({"_none": 4} if part == "test" else {}), seed=seed
        )
    run("fit", f"--data.root={folder / 'data'}", *FIT.split())
    run("evaluate")
    report = json.loads(run("data", "describe", folder / "data", "--as-json"))
    counts = {name: part["without_label"] for name, part in report["splits"].items()}
    assert counts == {"train": 0, "val": 0, "test": 4}, counts
    table = max(home().glob("runs/*/evaluation/per_class.csv"), key=lambda path: path.stat().st_mtime)
    with table.open(newline="") as file:
        wrong = {row["class"]: int(row["on_negatives"]) for row in csv.DictReader(file)}
    assert wrong.keys() == {"red", "blue"}, wrong
    return f"without label: {shown(counts)}; of these got {shown(wrong)}"


@case("A class only in test", "refused before training, with the class and the split")
def _(folder: Path) -> str:
    for seed, part in enumerate(("train", "val", "test")):
        make_folders(
            folder / "data" / part, {"red": 3, "blue": 3} | ({"green": 3} if part == "test" else {}), seed=seed
        )
    return refused("fit", f"--data.root={folder / 'data'}", *FIT.split(), says="has 'green', which training lacks")


@case("One image per class", "refused with how many are needed; nothing is written")
def _(folder: Path) -> str:
    root = make_folders(folder / "data", {"red": 1, "blue": 1, "green": 1})
    said = refused("data", "split", root, folder / "split", says="too few different images of")
    assert [path.name for path in folder.iterdir()] == ["data"]
    return said


@case("200 classes", "split and trained like two")
def _(folder: Path) -> str:
    root = make_folders(folder / "data", {f"class {number:03}": 4 for number in range(200)})
    sizes = split(root)
    run("fit", f"--data.root={folder / 'split'}", *FIT.split())
    return f"{sizes}; trained"


@case("A read-only mount", "described and split; nothing is written there")
def _(folder: Path) -> str:
    root = make_folders(folder / "data", {"red": 6, "blue": 6})
    mount = (
        'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && ! touch "$1/x" 2>/dev/null && shift && exec "$@"'
    )
    own = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--user", "--map-root-user"]
    said = ""
    for words in (["describe", root, "--check"], ["split", root, folder / "split"]):
        command = [*own, "sh", "-c", mount, "sh", str(root), sys.executable, "-c", START, "data", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
        assert done.returncode == 0, done.stderr
        said = done.stdout
    return next(line for line in said.splitlines() if line.startswith("train ")).partition(";")[0]


@case(
    "A linked dataset, and images that are links elsewhere (DVC, git-annex)", "followed, out of the folder on request"
)
def _(folder: Path) -> str:
    store = make_folders(folder / "store", {"all": 12})
    for number, path in enumerate(sorted(store.rglob("*.png"))):
        target = folder / "tree" / ("red" if number % 2 else "blue") / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(path)
    (folder / "data").symlink_to("tree")
    refused("data", "describe", folder / "data", says="follow such links with --follow_links")
    assert described(folder / "data", "--follow-links") == {"blue": 6, "red": 6}
    return split(folder / "data", "--follow-links")


def with_images(folder: Path, images: dict[str, bytes]) -> Path:
    """A dataset of `red` and `blue` with further files in `red`; every one of them has to be read."""
    root = make_folders(folder / "data", {"red": 4, "blue": 4})
    for name, data in images.items():
        (root / "red" / name).write_bytes(data)
    assert described(root) == {"blue": 4, "red": 4 + len(images)}
    return root


@case("A PNG with 10 MB of metadata", "an image like any other")
def _(folder: Path) -> str:
    plain = encoded(Image.fromarray(colors.PIXELS), "PNG")
    text = png_chunk(b"tEXt", b"Comment\0" + b"x" * 10_000_000)
    root = with_images(folder, {"large.png": plain[:33] + text + plain[33:]})
    assert (np.asarray(load_rgb(root / "red" / "large.png")) == colors.PIXELS).all()
    return split(root)


@case("All eight EXIF orientations", "upright, alike in trainer and app")
def _(folder: Path) -> str:
    files = {}
    for value, inverse in zip(range(1, 9), (1, 2, 3, 4, 5, 8, 7, 6), strict=True):
        # What the camera stores is the picture turned the other way.
        stored = Image.fromarray(colors.PIXELS)
        stored.getexif()[0x0112] = inverse
        tags = Image.Exif()
        tags[0x0112] = value
        files[f"{value}.png"] = encoded(ImageOps.exif_transpose(stored), "PNG", exif=tags)
    root = with_images(folder, files)
    for name, data in files.items():
        for found in (load_rgb(root / "red" / name), decode(data)):
            assert np.array_equal(found, colors.PIXELS), name
    return f"{len(files)} equal images"


@case("Odd EXIF tags in turned images", "upright, and not called damaged")
def _(folder: Path) -> str:
    image = Image.new("RGB", (20, 10), "blue")
    image.paste("red", (0, 0, 10, 10))
    files = {
        f"{number}.{kind}": encoded(image, kind, exif=exif(SIDEWAYS, tag))
        for number, tag in enumerate(ODD_TAGS.values())
        for kind in ("JPEG", "PNG", "WEBP")
    }
    root = with_images(folder, files)
    assert {load_rgb(root / "red" / name).size for name in files} == {(10, 20)}
    return f"{len(files)} upright images"


def color_case(name: str, kinds: tuple[str, ...], make: Callable[[str], tuple[bytes, np.ndarray]]) -> None:
    """Images with a color profile, against the pixels that its standard asks for."""

    def attempt(folder: Path) -> str:
        files = {kind: make(kind) for kind in kinds}
        root = with_images(folder, {kind: data for kind, (data, _) in files.items()})
        error = max(
            np.abs(np.asarray(found, float) - expected).mean()
            for kind, (data, expected) in files.items()
            for found in (load_rgb(root / "red" / kind), decode(data))
        )
        assert error <= MOST_LEVELS, error
        return f"mean error {error:.2f} levels"

    CASES.append(Case(name, f"sRGB as the standard says, within {MOST_LEVELS} of 255 levels", attempt))


for space in colors.WIDE:
    color_case(f"{space}: {', '.join(KINDS)}", KINDS, partial(colors.wide, space))
color_case("CMYK with a profile: JPEG, TIFF", ("JPEG", "TIFF"), colors.printed)


@case("JPEGs called `a.gif`, `b.jfif`, `c.jpg_large`, `d`", "content decides")
def _(folder: Path) -> str:
    data = encoded(Image.fromarray(colors.PIXELS), "JPEG")
    return shown(described(with_images(folder, dict.fromkeys(("a.gif", "b.jfif", "c.jpg_large", "d"), data))))


@case("HEIC, AVIF, GIF, BMP, TIFF, PPM", "all are read")
def _(folder: Path) -> str:
    image = Image.fromarray(colors.PIXELS)
    files = {f"x.{kind.lower()}": encoded(image, kind) for kind in ("AVIF", "GIF", "BMP", "TIFF", "PPM", "WEBP")}
    return shown(described(with_images(folder, files | {"x.heic": HEIC_HALVES})))


@case(
    "Files that systems leave: `.DS_Store`, `Thumbs.db`, `__MACOSX`, …; and notes",
    "the first are ignored, notes counted",
)
def _(folder: Path) -> str:
    root = make_folders(folder / "data", {"red": 4, "blue": 4})
    for name in (*LITTER, "notes.txt"):
        (root / "red" / name).write_bytes(b"x")
    for name in LITTER_FOLDERS:
        shutil.copytree(root / "blue", root / name)
    assert described(root) == {"red": 4, "blue": 4}
    note = "1 file skipped: 1 × .txt"
    assert note in run("data", "describe", root)
    return note


@case("Broken images: empty, cut, HTML", "each is named with the reason; left out on request")
def _(folder: Path) -> str:
    root = make_folders(folder / "data", {"red": 8, "blue": 8})
    whole = (root / "red" / "000.png").read_bytes()
    for name, data in {"empty.jpg": b"", "cut.png": whole[: len(whole) // 2], "page.jpg": b"<html>"}.items():
        (root / "red" / name).write_bytes(data)
    status, said = status_of("data", "describe", root, "--check")
    assert status == 2, said
    for name in ("cut.png", "empty.jpg: the file is empty", "page.jpg: cannot identify image file"):
        assert f"red/{name}" in said, said
    return split(root, "--drop-unreadable")


@case("The same image in two splits, once smaller", "`describe --check` lists it; `split` keeps both together")
def _(folder: Path) -> str:
    root = folder / "data"
    for number in range(12):
        textured(root / ("red" if number % 2 else "blue") / f"{number}.png", number)
    with Image.open(root / "red" / "1.png") as image:
        image.resize((100, 140)).save(root / "red" / "small.jpg", quality=60)
    said = run("data", "describe", root, "--check")
    assert "red/1.png = red/small.jpg" in said, said
    sizes = split(root)
    places = [path.parts[-3] for path in (folder / "split").rglob("*.*") if path.name in ("1.png", "small.jpg")]
    assert len(places) == 2, places
    assert len({*places}) == 1, places
    return sizes


@case("`Train`, `Test` and no validation", "validation is taken out of `Train`; `Test` stays")
def _(folder: Path) -> str:
    for seed, part in enumerate(("Train", "Test")):
        make_folders(folder / "data" / part, {"red": 9, "blue": 9}, seed=seed)
    sizes = split(folder / "data")
    assert sizes.endswith("test 18 (as given) images"), sizes
    return sizes
