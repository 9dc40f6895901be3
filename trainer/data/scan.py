"""Looks at every image of a data set once, in parallel: what is broken, alike, and how bright its channels are."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from trainer.data.images import UNREADABLE, LimitedReader, header_size, reason
from trainer.data.near_duplicates import ALIKE_BITS, Fingerprint, Fingerprints, fingerprint
from trainer.data.parallel import BATCH, in_order
from trainer.progress import progress
from trainer.resources import cpu_cores


class Look(NamedTuple):
    """One image: its size as displayed, or why it cannot be read, and what else was asked for."""

    path: Path
    width: int = 0
    height: int = 0
    problem: str = ""
    digest: str = ""
    fingerprint: Fingerprint | None = None
    histogram: np.ndarray | None = None


def survey(paths: Sequence[Path], decode: bool, workers: int | None = None) -> Iterator[Look]:
    """Look at images, in their order. They are decoded in other processes, under limits of memory and time.

    Args:
        paths: the files.
        decode: decode every pixel: finds truncated files and fills in `digest` (SHA-256 of the file), `fingerprint`
            (by which look-alikes are found) and `histogram` (int64 `[3, 256]`: pixels per channel and level).
        workers: threads; one per core by default.
    """
    workers = workers or cpu_cores()
    with LimitedReader(workers) as reader:
        look = (lambda path: _decoded(path, reader)) if decode else _header
        looks = in_order(look, paths, workers, 1 if decode else BATCH)
        yield from progress(looks, "looking", len(paths), unit="image")


def histogram(image: Any) -> np.ndarray:
    """Pixels per channel and level of an RGB image or a uint8 array `[H, W, 3]`, int64 `[3, 256]`."""
    image = image if isinstance(image, Image.Image) else Image.fromarray(np.asarray(image))
    return np.array(image.histogram(), dtype=np.int64).reshape(3, 256)


def moments(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation per channel behind a histogram `[3, 256]`: float64 `[3]` each, from 0 to 1."""
    levels = np.arange(256.0)
    total = counts.sum(1)
    mean = counts @ levels / total
    return mean / 255, np.sqrt((counts @ levels**2 / total - mean**2).clip(0)) / 255


def channel_statistics(dataset: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel over all pixels of all images, exactly, image by image.

    Args:
        dataset: its items' images are RGB images of PIL or uint8 arrays `[H, W, 3]` of any size.

    Returns:
        mean and standard deviation, float64 `[3]` each, on a scale from 0 to 1.
    """
    counts = np.zeros((3, 256), np.int64)
    images = in_order(lambda index: histogram(dataset[index][0]), range(len(dataset)), cpu_cores())
    for one in progress(images, "channel statistics", len(dataset), unit="image"):
        counts += one
    return moments(counts)


def same_files(looks: Iterable[Look]) -> list[list[Path]]:
    """Files that are equal byte for byte, in groups."""
    groups: dict[str, list[Path]] = defaultdict(list)
    for look in looks:
        groups[look.digest].append(look.path)
    return [group for digest, group in groups.items() if digest and len(group) > 1]


def look_alikes(looks: Sequence[Look], fingerprints: Fingerprints) -> list[list[Path]]:
    """Images that look alike and are not all the same file, in groups: copies in another size or quality."""
    groups: dict[int, list[Look]] = defaultdict(list)
    for look, number in zip(looks, fingerprints.groups(ALIKE_BITS).tolist(), strict=True):
        groups[number].append(look)
    return [[look.path for look in group] for group in groups.values() if len({look.digest for look in group}) > 1]


def _header(path: Path) -> Look:
    try:
        return Look(path, *header_size(path))
    except UNREADABLE as error:
        return Look(path, problem=reason(path, error))


def _decoded(path: Path, reader: LimitedReader) -> Look:
    digest = ""
    try:
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        image = reader.load_rgb(data)
    except UNREADABLE as error:
        return Look(path, problem=reason(path, error), digest=digest)
    return Look(path, *image.size, "", digest, fingerprint(image), histogram(image))
