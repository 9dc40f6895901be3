"""The drawn cards: what a seed promises, what the folder tree looks like, what is left after a mistake or Ctrl-C."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image

from cards.drawn import demo, frames
from cards.drawn.card import COLORS, design
from cards.drawn.inks import OF_2015
from cards.drawn.negatives import draw_negative
from trainer.data.staging import staged_folder
from trainer.errors import UserError


def digests(root: Path) -> dict[str, str]:
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(root.rglob("*.jpg"))}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("drawn") / "cards"
    demo.draw(out, count=60, seed=3, photos=0.5, workers=1)
    return out


def test_a_seed_draws_the_same_cards_whatever_the_number_of_workers(drawn: Path, tmp_path: Path) -> None:
    demo.draw(tmp_path / "again", count=60, seed=3, photos=0.5, workers=2)

    assert digests(tmp_path / "again") == digests(drawn)


def test_another_seed_draws_other_cards_under_the_same_names(drawn: Path, tmp_path: Path) -> None:
    demo.draw(tmp_path / "other", count=60, seed=4, photos=0.5, workers=1)

    ours, others = digests(drawn), digests(tmp_path / "other")
    assert ours.keys() == others.keys()
    assert not set(ours.values()) & set(others.values())


def test_every_split_holds_all_18_label_sets(drawn: Path) -> None:
    expected = {
        *("artifact", "artifact-creature", "planeswalker"),
        *(f"{c}-{t}" for c in ("white", "blue", "black", "red", "green") for t in ("creature", "special", "mana")),
    }
    for split in ("train", "val", "test"):
        assert {folder.name for folder in (drawn / split).iterdir()} == expected


def test_splits_are_70_15_15_of_every_label_set_and_share_no_card() -> None:
    jobs = demo.plan(900)

    sizes = Counter((job.path.split("/")[0], job.label_set) for job in jobs)
    assert len({(job.label_set, job.index) for job in jobs}) == len(jobs) == 900
    for label_set in demo.LABEL_SETS:
        train, val, test = (sizes[split, label_set] for split in ("train", "val", "test"))
        assert train + val + test == 50
        assert abs(val - 7.5) <= 0.5
        assert abs(test - 7.5) <= 0.5


def test_unusual_cards_and_negatives_are_drawn_beside_the_usual_ones(tmp_path: Path) -> None:
    demo.draw(tmp_path / "all", count=120, seed=1, photos=0.5, unusual=0.3, negatives=0.2, turned=0.5, workers=1)

    sizes = Counter(path.parent.name for path in (tmp_path / "all").rglob("*.jpg"))
    assert sizes["_none"] == 24
    assert sum(sizes[name] for name in demo.LABEL_SETS) >= 60
    assert sizes.total() == 120
    for split in ("train", "val", "test"):
        assert (tmp_path / "all" / split / "_none").is_dir()


def test_the_usual_cards_do_not_depend_on_the_others() -> None:
    usual = {job for job in demo.plan(100) if job.label_set in demo.LABEL_SETS}

    with_others = set(demo.plan(160, unusual_share=0.25, negatives=0.125))

    assert usual <= with_others
    assert len(with_others) == 160


def test_every_unusual_label_set_is_made_of_the_ten_labels() -> None:
    labels = {label for label_set in demo.LABEL_SETS for label in label_set.split("-")}
    drawn = [demo.unusual(index) for index in range(2000)]

    assert {label for label_set in drawn for label in label_set.split("-")} <= labels
    assert not set(drawn) & set(demo.LABEL_SETS)
    counts = Counter(len([c for c in COLORS if c in label_set.split("-")]) for label_set in drawn)
    assert set(counts) == {0, 1, 2, 3, 4, 5}


@pytest.mark.parametrize("era", ["1993", "1997", "2003", "2015", "borderless", "extended", "showcase"])
def test_every_era_draws_every_kind_of_card(era: str) -> None:
    label_sets = [*demo.LABEL_SETS, *map(demo.unusual, range(40))]
    for number, label_set in enumerate(label_sets):
        rnd = Random(f"{era}/{number}")
        card = design(rnd, label_set.split("-"))
        card.era = era

        image = frames.draw(rnd, card)

        assert image.mode == "RGB"
        assert 1.38 < image.height / image.width < 1.41
        assert np.asarray(image).std() > 15, label_set


@pytest.mark.parametrize("color", COLORS)
def test_a_frame_shows_the_inks_that_were_measured(color: str) -> None:
    """At the left edge of the frame between title and text box, where no text or picture is."""
    seen = []
    for number in range(12):
        rnd = Random(f"inks/{number}")
        card = design(rnd, [color, "creature"])
        card.era, card.legendary, card.token, card.levels = "2015", False, False, False
        pixels = np.asarray(frames.draw(rnd, card).resize((488, 680)))
        seen.append(np.median(pixels[120:360, 22:30].reshape(-1, 3), 0))

    off = np.abs(np.median(seen, 0) - OF_2015[color][0])

    assert off.max() < 30


def test_a_hybrid_frame_has_one_color_on_each_side() -> None:
    rnd = Random(5)
    card = design(rnd, ["blue", "red", "creature"])
    card.era, card.colors, card.hybrid, card.token = "2015", ("blue", "red"), True, False
    pixels = np.asarray(frames.draw(rnd, card).resize((488, 680))).astype(int)

    left, right = (np.median(pixels[120:360, x : x + 8].reshape(-1, 3), 0) for x in (22, 458))

    assert left[2] > left[0] + 40
    assert right[0] > right[2] + 40


def test_an_old_creature_has_its_power_on_the_frame() -> None:
    """The only sign by which it differs from a spell of those years: it must be there, and nowhere else."""
    digits = {}
    for power in ("", "10/10"):
        rnd = Random(8)
        card = design(Random(3), ["red", "creature"])
        card.era, card.power = "1993", power
        digits[power] = np.asarray(frames.draw(rnd, card).resize((488, 680))).astype(int)

    changed = np.abs(digits["10/10"] - digits[""]).max(2) > 60
    rows, columns = np.nonzero(changed)

    assert changed.sum() > 200
    assert rows.min() > 600
    assert columns.min() > 350


def test_negatives_are_varied_rgb_images() -> None:
    images = [draw_negative(Random(number))[0] for number in range(30)]

    assert {image.mode for image in images} == {"RGB"}
    assert len({image.size for image in images}) > 20
    assert all(min(image.size) >= 100 and max(image.size) <= 700 for image in images)


@pytest.mark.parametrize("count", [54, 100, 901])
def test_any_count_is_drawn_exactly(count: int) -> None:
    jobs = demo.plan(count)

    assert len({job.path for job in jobs}) == count
    assert {job.path.split("/")[0] for job in jobs} == {"train", "val", "test"}


def test_pictures_open_as_rgb_in_the_sizes_of_scans(drawn: Path) -> None:
    files = list(drawn.rglob("*.jpg"))

    assert len(files) == 60
    for file in files:
        with Image.open(file) as image:
            image.load()
            assert image.mode == "RGB"
            assert min(image.size) >= 130
            assert max(image.size) <= 700


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "note.txt").write_text("keep me")

    with pytest.raises(UserError, match=r"mine. exists already; remove it"):
        demo.draw(tmp_path / "mine", count=60, workers=1)

    assert [p.name for p in tmp_path.rglob("*")] == ["mine", "note.txt"]


def make_twice_at_once(out):
    with staged_folder(out) as slow:
        (slow / "card.jpg").write_bytes(b"slow")
        with staged_folder(out) as fast:
            (fast / "card.jpg").write_bytes(b"fast")


def test_the_slower_of_two_that_make_one_folder_is_a_sentence_and_keeps_the_other(tmp_path):
    out = tmp_path / "demo"
    out.mkdir()  # an empty folder is replaced
    with pytest.raises(UserError, match="demo' was made by another process in the meantime"):
        make_twice_at_once(out)
    assert (out / "card.jpg").read_bytes() == b"fast"
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    demo.draw(tmp_path / "empty", count=54, workers=1)

    assert len(list((tmp_path / "empty").rglob("*.jpg"))) == 54


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"count": 53}, "--count 53 is too few: .* at least 54"),
        ({"count": 100, "negatives": 0.5}, "--count 100 is too few: .* at least 54 cards, and 50 are left for them"),
        ({"photos": 1.5}, "--photos 1.5 is not a share"),
        ({"turned": -0.1}, "--turned -0.1 is not a share"),
        ({"unusual": 0.6, "negatives": 0.6}, "--unusual 0.6 and --negatives 0.6 are more than 1 together"),
        ({"workers": 0}, "--workers 0 draws nothing"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(tmp_path: Path, arguments: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        demo.draw(tmp_path / "cards", **arguments)

    assert not list(tmp_path.iterdir())


def test_nothing_is_left_when_drawing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(demo, "draw_image", fail)

    with pytest.raises(OSError, match="No space left"):
        demo.draw(tmp_path / "cards", count=60, workers=1)

    assert not list(tmp_path.iterdir())


def test_nothing_is_left_after_ctrl_c(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "trainer.cli",
        "data",
        "demo",
        str(tmp_path / "cards"),
        "--count",
        "5000",
        "--workers",
        "2",
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 60
    while not list(tmp_path.rglob("*.jpg")) and time.monotonic() < deadline:
        time.sleep(0.05)

    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to the workers too
    _, said = process.communicate(timeout=60)

    assert process.returncode == 130
    assert "Traceback" not in said
    assert not list(tmp_path.iterdir())


def test_what_a_killed_run_left_is_removed_by_the_next(tmp_path: Path) -> None:
    others = [tmp_path / name for name in (".cards.original", ".cards.manasight", ".cards2.manasight-abcdefgh")]
    for other in others:
        other.mkdir()
        (other / "note.txt").write_text("keep me")
    (tmp_path / ".cards.manasight-link").symlink_to(others[0])
    kept = {*tmp_path.iterdir()}
    running = ExitStack()
    running.enter_context(staged_folder(tmp_path / "cards"))  # another run that goes on
    started = {*tmp_path.iterdir()}
    draw = [sys.executable, "-m", "trainer.cli", "data", "demo", str(tmp_path / "cards"), "--workers", "1"]
    process = subprocess.Popen([*draw, "--count", "5000"], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".cards.*/*/*/*.jpg")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert len({*tmp_path.iterdir()}) == len(started) + 1

    subprocess.run([*draw, "--count", "54"], check=True)

    assert {*tmp_path.iterdir()} == started | {tmp_path / "cards"}
    with pytest.raises(UserError, match="made by another process"):
        running.close()
    assert {*tmp_path.iterdir()} == kept | {tmp_path / "cards"}
    assert all((other / "note.txt").exists() for other in others)


def test_a_killed_run_leaves_no_process(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "trainer.cli", "data", "demo", str(tmp_path / "cards"), "--count", "4000"]
    process = subprocess.Popen([*command, "--workers", "2"], start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob(".cards.*/*/*/*.jpg")):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.kill()
        process.wait()

        while subprocess.run(["pgrep", "-g", str(process.pid)], stdout=subprocess.DEVNULL, check=False).returncode == 0:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
