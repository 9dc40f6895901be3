"""`manasight data demo`: draws a rights-free dataset of trading cards from code and free fonts, labeled by folder."""

import itertools
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from itertools import repeat
from multiprocessing import get_context, parent_process
from pathlib import Path
from random import Random
from typing import NamedTuple

from cards.drawn import frames
from cards.drawn.camera import TURNS, shoot
from cards.drawn.card import COLORS, design
from cards.drawn.negatives import draw_negative
from trainer.data.fingerprint import fingerprints, read_parts
from trainer.data.staging import staged_folder
from trainer.errors import UnavailableError, UserError
from trainer.progress import progress
from trainer.resources import cpu_cores

LABEL_SETS = tuple(
    sorted(
        (
            "artifact",
            "artifact-creature",
            "planeswalker",
            *(f"{c}-{t}" for c in COLORS for t in ("creature", "mana", "special")),
        )
    )
)
# Label sets outside those, and how often each is drawn among them. Every color of a card is a label; lands that are not
# basic name none; enchantments that are creatures are `special`, too. `PAIR` and `MANY` stand for two and more colors.
UNUSUAL = {
    "PAIR-creature": 14,
    "PAIR-special": 7,
    "MANY-creature": 7,
    "MANY-special": 3,
    "ONE-creature-special": 6,
    "PAIR-creature-special": 2,
    "ONE-artifact": 5,
    "ONE-artifact-creature": 5,
    "PAIR-artifact-creature": 2,
    "PAIR-artifact": 1,
    "mana": 8,
    "artifact-mana": 2,
    "special-mana": 1,
    "creature": 4,
    "special": 1,
    "creature-special": 1,
    "artifact-special": 1,
}
NEGATIVES = "_none"  # the folder of images without a label
SHARES = {"val": 0.15, "test": 0.15}  # train takes the rest
LEAST = 3 * len(LABEL_SETS)  # one card of every label set in every split


class Job(NamedTuple):
    """One image to draw: where it goes, its label set, and its number within the group."""

    path: str
    label_set: str
    index: int


def unusual(index: int) -> str:
    """The label set of one of the unusual cards, the same for every seed."""
    rnd = Random(f"unusual/{index}")
    found = rnd.choices(list(UNUSUAL), list(UNUSUAL.values()))[0]
    first, _, kinds = found.partition("-")
    count = {"ONE": 1, "PAIR": 2, "MANY": rnd.choice((3, 3, 3, 4, 5, 5))}.get(first, 0)
    return "-".join([*sorted(rnd.sample(COLORS, count), key=COLORS.index), kinds]) if count else found


def _split(size: int, group: str, label_sets: Iterator[str]) -> list[Job]:
    """The jobs of one group: 70 % for training, 15 % each to validate and to test, at least one if there are three."""
    val, test = (max(size > 2, round(size * share)) for share in SHARES.values())
    jobs = []
    for index, label_set in zip(range(size), label_sets, strict=False):
        split = "test" if index >= size - test else "val" if index >= size - test - val else "train"
        jobs.append(Job(f"{split}/{label_set}/{group}-{index:05d}.jpg", label_set, index))
    return jobs


def plan(count: int, unusual_share: float = 0.0, negatives: float = 0.0) -> list[Job]:
    """The images of a dataset: the usual label sets equally often (give or take one), 70/15/15 within each group."""
    others, none = round(count * unusual_share), round(count * negatives)
    usual = count - others - none
    jobs = []
    for position, label_set in enumerate(LABEL_SETS):
        size = usual // len(LABEL_SETS) + (position < usual % len(LABEL_SETS))
        jobs += _split(size, label_set, repeat(label_set))
    return jobs + _split(others, "unusual", map(unusual, itertools.count())) + _split(none, "none", repeat(NEGATIVES))


def draw_image(job: Job, root: Path, seed: int, photos: float, turned: float) -> None:
    """Draw one image. Its random numbers depend on the seed, the label set and the index, on nothing else."""
    rnd = Random(f"{seed}/{job.label_set}/{job.index}")
    if job.label_set == NEGATIVES:
        image, quality = draw_negative(rnd)
    else:
        card = frames.draw(rnd, design(rnd, frozenset(job.label_set.split("-"))))
        image, quality = shoot(rnd, card, photo=rnd.random() < photos)
    if rnd.random() < turned:
        image = image.transpose(rnd.choice(TURNS))
    image.save(root / job.path, quality=quality)


def draw(
    out: Path,
    count: int = 900,
    seed: int = 0,
    photos: float = 0.0,
    unusual: float = 0.0,
    negatives: float = 0.0,
    turned: float = 0.0,
    workers: int | None = None,
) -> None:
    """Draw a rights-free dataset of trading cards.

    Writes `<out>/<train|val|test>/<label>-<label>/*.jpg`: 18 label sets with the same number of cards each, split
    70/15/15. The same seed draws the same images with any number of workers.

    Args:
        out: the folder to create; it must be empty or missing.
        count: number of images, all splits together.
        seed: another seed draws other cards.
        photos: share of cards seen by a phone on a table or in a hand, from 0 to 1; the others are scans.
        unusual: share of cards outside the 18 label sets, such as those of several colors, colored artifacts,
            enchantment creatures, lands that are not basic.
        negatives: share of images without a card, in the folder `_none`: no label applies to them.
        turned: share of images turned by 90, 180 or 270 degrees.
        workers: processes that draw; one per CPU by default.

    Raises:
        UserError: if the folder is not empty or a number is out of range.
    """
    for name, share in {"photos": photos, "unusual": unusual, "negatives": negatives, "turned": turned}.items():
        if not 0 <= share <= 1:
            raise UserError(f"--{name} {share} is not a share: give a number from 0 to 1")
    if unusual + negatives > 1:
        raise UserError(f"--unusual {unusual} and --negatives {negatives} are more than 1 together")
    usual = count - round(count * unusual) - round(count * negatives)
    if usual < LEAST:
        raise UserError(
            f"--count {count} is too few: {len(LABEL_SETS)} label sets in three splits need at least {LEAST} cards"
            + (f", and {usual} are left for them" if usual != count else "")
        )
    if workers is not None and workers < 1:
        raise UserError(f"--workers {workers} draws nothing: give 1 or more, or leave it out for one per CPU")
    out = Path(out).absolute()
    jobs = plan(count, unusual, negatives)
    with staged_folder(out) as root:
        for folder in {Path(job.path).parent for job in jobs}:
            (root / folder).mkdir(parents=True)
        work = partial(draw_image, root=root, seed=seed, photos=photos, turned=turned)
        drawn = _spread(work, jobs, workers or cpu_cores())
        for _ in progress(drawn, "drawing", count, unit=" images"):
            pass
        found = fingerprints(read_parts(root))["all"]
    print(f"{count} images in {len({job.label_set for job in jobs})} label sets\nfingerprint: {found}\nresults: {out}")


def _end_with_parent() -> None:
    """Workers hold each other's pipes open: without this they would outlive a parent that is killed."""

    def watch() -> None:
        parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _spread(work: partial, jobs: list[Job], workers: int) -> Iterator[None]:
    """Do the jobs in this process if there is one worker, in a pool if there are more."""
    if workers == 1:
        yield from map(work, jobs)
        return
    pool = ProcessPoolExecutor(min(workers, len(jobs)), get_context("spawn"), _end_with_parent)
    try:
        # Workers ignore Ctrl-C: this process catches it and stops them after their current cards.
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            done = pool.map(work, jobs, chunksize=4)
        finally:
            signal.signal(signal.SIGINT, handler)
        yield from done
    except BrokenProcessPool as died:
        raise UnavailableError(
            "a drawing process was killed, probably for lack of memory: give fewer --workers"
        ) from died
    finally:
        pool.shutdown(cancel_futures=True)
