"""Draws a rights-free data set of trading cards, labelled by folder, from nothing but code and free fonts."""

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context, parent_process
from pathlib import Path
from random import Random
from typing import NamedTuple

from cards.drawn import frames
from cards.drawn.camera import shoot
from cards.drawn.card import COLOURS, design
from trainer.data.staging import staged_folder
from trainer.errors import UserError
from trainer.progress import progress
from trainer.resources import cpu_cores

LABEL_SETS = tuple(
    sorted(
        (
            "artifact",
            "artifact-creature",
            "planeswalker",
            *(f"{c}-{t}" for c in COLOURS for t in ("creature", "mana", "special")),
        )
    )
)
SHARES = {"val": 0.15, "test": 0.15}  # train takes the rest
LEAST = 3 * len(LABEL_SETS)  # one card of every label set in every split


class Job(NamedTuple):
    """One card to draw: where it goes and what its label set is."""

    path: str
    label_set: str
    index: int


def plan(count: int) -> list[Job]:
    """The cards of a data set: every label set equally often (give or take one), 70/15/15 within each."""
    jobs = []
    for position, label_set in enumerate(LABEL_SETS):
        size = count // len(LABEL_SETS) + (position < count % len(LABEL_SETS))
        val, test = (max(1, round(size * share)) for share in SHARES.values())
        for index in range(size):
            split = "test" if index >= size - test else "val" if index >= size - test - val else "train"
            jobs.append(Job(f"{split}/{label_set}/{label_set}-{index:05d}.jpg", label_set, index))
    return jobs


def draw_card(job: Job, root: Path, seed: int, photos: float) -> None:
    """Draw one card. Its random numbers depend on the seed, the label set and the index, on nothing else."""
    rnd = Random(f"{seed}/{job.label_set}/{job.index}")
    card = frames.draw(rnd, design(rnd, frozenset(job.label_set.split("-"))))
    image, quality = shoot(rnd, card, photo=rnd.random() < photos)
    image.save(root / job.path, quality=quality)


def draw(out: Path, count: int = 900, seed: int = 0, photos: float = 0.0, workers: int | None = None) -> None:
    """Draw a rights-free data set of trading cards.

    Writes `<out>/<train|val|test>/<label>-<label>/*.jpg`: 18 label sets, as many cards of each, split 70/15/15. The
    same seed draws the same cards whatever the number of workers.

    Args:
        out: the folder to make; one that holds anything is refused.
        count: number of cards, all splits together.
        seed: another seed draws other cards.
        photos: share of cards seen by a phone on a table or in a hand, from 0 to 1; the others are scans.
        workers: processes that draw; one per CPU by default.

    Raises:
        UserError: if the folder is not empty or a number makes no sense.
    """
    if count < LEAST:
        raise UserError(
            f"--count {count} is too few: {len(LABEL_SETS)} label sets in three splits need at least {LEAST}"
        )
    if not 0 <= photos <= 1:
        raise UserError(f"--photos {photos} is not a share: give a number from 0 to 1")
    if workers is not None and workers < 1:
        raise UserError(f"--workers {workers} draws nothing: give 1 or more, or leave it out for one per CPU")
    out = Path(out).absolute()
    jobs = plan(count)
    with staged_folder(out) as root:
        for folder in {Path(job.path).parent for job in jobs}:
            (root / folder).mkdir(parents=True)
        work = partial(draw_card, root=root, seed=seed, photos=photos)
        drawn = _spread(work, jobs, workers or cpu_cores())
        for _ in progress(drawn, "drawing", count, unit=" cards"):
            pass
    print(f"{count} cards in {len(LABEL_SETS)} label sets\nresults: {out}")


def _end_with_parent() -> None:
    """Workers hold each other's pipes open: without this they outlive a parent that is killed."""

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
        # Workers are born deaf to Ctrl-C: this process hears it and stops them after the cards in hand.
        hearing = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            done = pool.map(work, jobs, chunksize=4)
        finally:
            signal.signal(signal.SIGINT, hearing)
        yield from done
    except BrokenProcessPool as died:
        raise UserError("a drawing process was killed, most likely for want of memory: give fewer --workers") from died
    finally:
        pool.shutdown(cancel_futures=True)
