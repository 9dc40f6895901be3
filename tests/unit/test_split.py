"""`manasight data split`: shares, honesty, and what it refuses."""

import os
import re
import shutil
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter
from scipy.sparse.csgraph import connected_components

from trainer.cli import main
from trainer.data import near_duplicates as near_duplicates_module
from trainer.data.describe import examine
from trainer.data.fingerprint import MANIFEST
from trainer.data.near_duplicates import Fingerprint, fingerprint, group_alike
from trainer.data.split import assign, near_duplicates, split
from trainer.errors import UserError


def textured(path: Path, seed: int, size: tuple[int, int] = (200, 280)) -> Image.Image:
    """A picture with large shapes that a perceptual hash can tell apart."""
    rng = np.random.default_rng(seed)
    noise = Image.fromarray(rng.integers(0, 256, (14, 10, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    image = noise.filter(ImageFilter.GaussianBlur(2))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return image


def make_textured(root: Path, folders: dict[str, int]) -> Path:
    for base, (folder, count) in enumerate(folders.items()):
        for number in range(count):
            textured(root / folder / f"{folder}-{number}.png", seed=1000 * base + number)
    return root


def drawn(kind: str, rng: np.random.Generator) -> Image.Image:
    """Shapes of one color on another: the hash of most is nearly all zeros."""
    ground, color = (tuple(rng.integers(0, 256, 3).tolist()) for _ in range(2))
    image = Image.new("RGB", (64, 64), ground)
    draw = ImageDraw.Draw(image)
    if kind == "circle":
        radius = int(rng.integers(8, 22))
        x, y = rng.integers(radius, 64 - radius, 2).tolist()
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)
        return image
    step = int(rng.integers(4, 16))
    for top in range(0, 64, step):
        for left in range(0, 64, step):
            if (top // step + (left // step if kind == "checkers" else 0)) % 2:
                draw.rectangle((left, top, left + step - 1, top + step - 1), fill=color)
    return image


def hashed(hashes: np.ndarray) -> list[Fingerprint]:
    """Fingerprints with these hashes, bool `[N, 256]`, of pictures whose thumbnails are the same."""
    return [Fingerprint(one, np.zeros((12, 12, 3), np.uint8)) for one in hashes]


def files(root: Path) -> dict[str, list[str]]:
    return {part.name: sorted(path.name for path in part.rglob("*.*")) for part in sorted(root.iterdir())}


def test_each_label_set_is_split_70_15_15(tmp_path):
    root = make_textured(tmp_path / "all", {"red": 40, "red-square": 20})
    split(root, tmp_path / "out")
    counts = {
        part: Counter(name.rpartition("-")[0] for name in names) for part, names in files(tmp_path / "out").items()
    }
    assert counts["train"] == {"red": 28, "red-square": 14}
    assert counts["val"] == {"red": 6, "red-square": 3}
    assert counts["test"] == {"red": 6, "red-square": 3}


def test_the_seed_decides(tmp_path):
    root = make_textured(tmp_path / "all", {"red": 12, "blue": 12})
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        split(root, tmp_path / name, seed=seed)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert files(tmp_path / "a") != files(tmp_path / "c")


def test_near_duplicates_stay_in_one_split(tmp_path):
    root = make_textured(tmp_path / "all", {"red": 10, "blue": 10})
    for number in range(10):
        original = Image.open(root / "red" / f"red-{number}.png")
        original.resize((110, 154)).save(root / "red" / f"red-{number}-small.jpg", quality=60)
    split(root, tmp_path / "out")
    home = {name: part for part, names in files(tmp_path / "out").items() for name in names}
    assert len(set(home.values())) == 3
    for number in range(10):
        assert home[f"red-{number}.png"] == home[f"red-{number}-small.jpg"]


def test_near_duplicates_with_different_labels_are_told(tmp_path, capsys):
    root = make_textured(tmp_path / "all", {"red": 10, "blue": 10})
    split(root, tmp_path / "before")
    assert len(capsys.readouterr().out.splitlines()) == 3
    shutil.copy(root / "red" / "red-7.png", root / "blue" / "copy.png")
    split(root, tmp_path / "out")
    _, note, *_ = capsys.readouterr().out.splitlines()
    assert note.startswith("different labels in 1 group of near duplicates, as 'blue/copy.png' and 'red/red-7.png'; `")


def test_near_duplicates_that_distort_the_split_are_told(tmp_path, capsys):
    root = make_textured(tmp_path / "all", {"red-square": 20})
    for number in range(20):
        shutil.copy(root / "red-square" / "red-square-0.png", root / "red-square" / f"copy-{number}.png")
    split(root, tmp_path / "out", (0.2, 0.4, 0.4))
    counts, note, *_ = capsys.readouterr().out.splitlines()
    assert counts.startswith("train 21, ")
    assert note.startswith("without near duplicates it would be 8, 16, 16 images; `")


def test_near_duplicates_are_linked_over_a_third(tmp_path):
    first = textured(tmp_path / "a.png", 1)
    first.resize((120, 168)).save(tmp_path / "b.jpg", quality=50)
    textured(tmp_path / "c.png", 2)
    groups = near_duplicates([tmp_path / name for name in ("a.png", "b.jpg", "c.png")], bits=20)
    assert groups[0] == groups[1] != groups[2]


def test_plain_pictures_of_different_shapes_are_not_alike(tmp_path):
    rng = np.random.default_rng(0)
    for kind in ("circle", "stripes", "checkers"):
        (tmp_path / "all" / kind).mkdir(parents=True)
        for number in range(60):
            drawn(kind, rng).save(tmp_path / "all" / kind / f"{kind}-{number}.png")
    split(tmp_path / "all", tmp_path / "out")
    for part, wanted in (("train", 42), ("val", 9), ("test", 9)):
        counts = Counter(name.partition("-")[0] for name in files(tmp_path / "out")[part])
        assert counts == {kind: pytest.approx(wanted, abs=1) for kind in ("circle", "stripes", "checkers")}


def test_shapes_that_differ_only_in_color_are_not_alike():
    groups = []
    for color in ("red", "orange", "blue", "black"):
        image = Image.new("RGB", (200, 200), "white")
        ImageDraw.Draw(image).ellipse((50, 50, 150, 150), fill=color)
        groups.append(fingerprint(image))
    assert len(set(group_alike(groups, 20).tolist())) == 4


@pytest.mark.parametrize("kind", ["circle", "stripes", "checkers", "textured"])
def test_copies_are_alike(tmp_path, kind):
    if kind == "textured":
        original = textured(tmp_path / "a.png", 0)
    else:
        original = drawn(kind, np.random.default_rng(1)).resize((240, 240), Image.Resampling.NEAREST)
    width, height = original.size
    original.save(tmp_path / "copy.png")
    original.save(tmp_path / "a.jpg", quality=60)
    original.resize((width // 2, height // 2)).save(tmp_path / "half.jpg", quality=75)
    original.resize((width * 2, height * 2)).save(tmp_path / "double.png")
    if kind == "textured":  # a brighter or cropped plain picture may well be another
        ImageEnhance.Brightness(original).enhance(1.2).save(tmp_path / "brighter.png")
        ImageEnhance.Brightness(original).enhance(0.8).save(tmp_path / "darker.png")
        original.crop((1, 1, width - 1, height - 1)).save(tmp_path / "cropped.png")
    copies = [original, *(Image.open(path).convert("RGB") for path in tmp_path.iterdir())]
    assert set(group_alike([fingerprint(copy) for copy in copies], 20).tolist()) == {0}


@pytest.mark.parametrize("bits", [0, 1, 6, 20, 30, 40])
@pytest.mark.parametrize("seed", range(2))
def test_many_images_are_grouped_as_if_every_pair_were_compared(monkeypatch, seed, bits):
    monkeypatch.setattr(near_duplicates_module, "FEW", 0)
    rng = np.random.default_rng(seed)
    # Hashes from plain to busy, each with copies that differ in up to about twice the bits; one has more than a run.
    share = rng.choice([0.02, 0.2, 0.3, 0.36, 0.5], 90)
    one = np.where(np.arange(500) < 60, 0, rng.integers(0, 90, 500))
    hashes = (rng.random((90, 256)) < share[:, None])[one]
    hashes ^= rng.random(hashes.shape) < rng.choice([0, 1, 2], 500)[:, None] * bits / 512
    # Thumbnails of few motifs in few colors, with noise about as large as what is allowed.
    motifs = rng.integers(0, 200, (6, 12, 12, 3)) * rng.choice([0.02, 0.3, 1], (6, 1, 1, 1))
    thumbnails = motifs[rng.integers(0, 6, 500)] + rng.integers(0, 3, (500, 1, 1, 3)) * rng.choice(
        [5, 15, 25], (500, 1, 1, 1)
    )
    thumbnails += rng.normal(0, 1, thumbnails.shape) * rng.choice([0.5, 3, 4, 12], (500, 1, 1, 1))
    thumbnails = thumbnails.clip(0, 255).astype(np.uint8)

    groups = group_alike([Fingerprint(*pair) for pair in zip(hashes, thumbnails, strict=True)], bits)

    pixels = thumbnails.reshape(500, -1, 3).astype(float)
    minor = np.minimum(hashes.mean(axis=1), 1 - hashes.mean(axis=1))
    tolerance = np.where(minor > 1 / 3, np.sqrt(pixels.var(axis=1).mean(axis=1)) / 2, 0).clip(5)
    pixels -= 0.75 * pixels.mean(axis=1, keepdims=True)
    flat = pixels.reshape(500, -1)
    distance = np.sqrt(np.array([((flat - row) ** 2).mean(axis=1) for row in flat]))
    alike = distance <= np.maximum(tolerance, tolerance[:, None])
    alike &= (hashes[:, None] != hashes[None]).sum(axis=2) <= bits
    expected = connected_components(alike)[1]
    assert 10 < len(set(expected)) < 490
    assert (
        len(set(zip(groups.tolist(), expected.tolist(), strict=True)))
        == len({*groups.tolist()})
        == len({*expected.tolist()})
    )


def test_describe_finds_no_look_alikes_across_the_splits(tmp_path):
    (tmp_path / "all" / "red-square").mkdir(parents=True)
    for number in range(30):  # a crop's hash differs in about as many bits as are allowed
        image = textured(tmp_path / "all" / "red-square" / f"{number}.jpg", number, (520, 520))
        cut = 9 + number % 4
        image.crop((cut, cut, 520 - cut, 520 - cut)).save(tmp_path / "all" / "red-square" / f"{number}-cropped.jpg")
    split(tmp_path / "all", tmp_path / "out")
    report, _ = examine(tmp_path / "out")
    assert len(report["look_alikes"]) > 5
    assert all(len({name.partition("/")[0] for name in group}) == 1 for group in report["look_alikes"])


def test_many_images_of_which_none_look_alike_are_groups_of_their_own():
    rng = np.random.default_rng(0)  # some share bands, none differ in few bits
    images = (Fingerprint(rng.random(256) < 0.5, np.zeros((12, 12, 3), np.uint8)) for _ in range(10_000))
    tracemalloc.start()
    groups = group_alike(images, 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(set(groups.tolist())) == 10_000
    assert peak < 10_000 * 1500  # bytes


def test_any_hashes_are_grouped_as_links_over_thirds_say():
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2, (120, 256), dtype=bool)[rng.integers(0, 120, 300)]
    hashes ^= rng.random(hashes.shape) < 0.04  # copies of copies, about 20 bits apart: some are linked, some not
    links = (hashes[:, None] != hashes[None]).sum(axis=2) <= 20
    for _ in range(9):  # over 2, 4, … 512 others
        links = links.astype(int) @ links > 0

    groups = group_alike(hashed(hashes), 20)
    assert ((groups[:, None] == groups[None]) == links).all()
    assert groups.dtype == np.int32


@pytest.mark.parametrize("flips", [0, 1])
def test_thousands_of_look_alikes_fit_in_memory(flips):
    hashes = np.zeros((3000, 256), bool)
    if flips:  # all different, all within a few bits
        for number, one in enumerate(hashes):
            one[:12] = np.unpackbits(np.array([number >> 8, number & 255], np.uint8))[-12:]
    tracemalloc.start()
    groups = group_alike(hashed(hashes), 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(set(groups.tolist())) == 1
    assert peak < 20e6  # bytes


def test_small_groups_fill_every_split():
    parts = assign([("red",)] * 3, [0, 1, 2], (0.7, 0.15, 0.15), seed=0)
    assert sorted(parts) == [0, 1, 2]


def test_links_take_no_space(tmp_path):
    root = make_textured(tmp_path / "all", {"red": 6, "blue": 6})
    split(root, tmp_path / "out", mode="link")
    placed = next((tmp_path / "out" / "train" / "red").iterdir())
    assert placed.samefile(root / "red" / placed.name)
    assert placed.stat().st_nlink == 2


def test_an_existing_folder_is_refused_and_kept(tmp_path):
    root = make_textured(tmp_path / "all", {"red": 6})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("precious")
    with pytest.raises(UserError, match="exists already"):
        split(root, tmp_path / "out")
    assert (tmp_path / "out" / "mine.txt").read_text() == "precious"


def test_links_to_nothing_are_refused(tmp_path):
    root = make_textured(tmp_path / "all", {"red": 6})
    for name, target in (("loop", "loop"), ("gone", "nowhere")):
        (tmp_path / name).symlink_to(target)
        with pytest.raises(UserError, match=f"{name}' is a link to nothing; remove it"):
            split(root, tmp_path / name)
    with pytest.raises(UserError, match="there is no folder"):
        split(tmp_path / "loop", tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"all", "loop", "gone"}


def test_a_link_to_an_empty_folder_is_followed(tmp_path):
    root = make_textured(tmp_path / "all", {"red-square": 6})
    (tmp_path / "empty").mkdir()
    (tmp_path / "out").symlink_to("empty")
    split(root, tmp_path / "out")
    assert (tmp_path / "out").is_symlink()
    assert {path.name for path in (tmp_path / "empty").iterdir()} == {"train", "val", "test", MANIFEST}


def test_the_folder_that_one_is_in_is_refused(tmp_path, monkeypatch):
    root = make_textured(tmp_path / "all", {"red": 6})
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for out in (Path(), tmp_path / "here"):
        with pytest.raises(UserError, match="is the folder that you are in"):
            split(root, out)
    assert not list(Path().iterdir())


def test_a_name_of_the_greatest_length_can_be_made(tmp_path):
    root = make_textured(tmp_path / "all", {"red-square": 6})
    for name in ("x" * 255, "ö" * 127):
        split(root, tmp_path / name)
        assert (tmp_path / name / "train").is_dir()


@pytest.mark.parametrize("name", [b"caf\xe9", b"red/caf\xe9.png"])
def test_names_that_are_no_utf8_are_refused(tmp_path, name):
    root = make_textured(tmp_path / "all", {"red": 6, "blue": 6})
    (root / ("red/red-0.png" if b"/" in name else "blue")).rename(root / os.fsdecode(name))
    with pytest.raises(UserError, match=r"caf\\xe9.*' is not UTF-8; rename it"):
        split(root, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["all"]


def test_too_few_images_are_refused_and_nothing_is_left(tmp_path):
    root = make_textured(tmp_path / "all", {"red": 12, "blue": 2})
    with pytest.raises(UserError, match="too few different images of 'blue'"):
        split(root, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["all"]


def test_fractions_must_add_up(tmp_path):
    with pytest.raises(UserError, match="add up to 1"):
        split(make_textured(tmp_path / "all", {"red": 6}), tmp_path / "out", fractions=(0.7, 0.2, 0.2))


@pytest.mark.parametrize("given", ["[0.7,0.2,0.2]", "[1,0,0]", "[.nan,0.5,0.5]", "[0.7,0.3]", "0.7", "0.7 0.15 0.15"])
def test_what_the_error_advises_is_accepted(tmp_path, capsys, given):
    root = make_textured(tmp_path / "all", {"red-square": 6})
    assert main(["data", "split", str(root), str(tmp_path / "out"), "--fractions", given]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert "--fractions" in error
    advised = re.findall(r"as (?:in )?(\[.*?\])", error)[-1]
    assert main(["data", "split", str(root), str(tmp_path / "out"), "--fractions", advised]) == 0
