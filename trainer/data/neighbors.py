"""Finds the few images that may look like each other among many, so that not every pair has to be compared."""

from collections.abc import Callable, Iterator
from itertools import combinations

import numpy as np

LEVELS = 5  # of 255: what recompression and resizing change in a thumbnail
LONG = 32  # from so many images with the same part of a hash on, each is compared with all of the others at once
MOST_BITS = 30  # with more that may differ, parts of a hash are too short to distinguish images


def near_hashes(packed: np.ndarray, chosen: np.ndarray, bits: int) -> Iterator[tuple[int, np.ndarray]]:
    """Images and others whose hashes differ in few bits: every such pair comes at least once, and some other pairs.

    Hashes are cut into `bits` + 3 bands: three are equal if at most `bits` bits differ. Two of these are in the same
    half of the bands: it is enough to look up each two bands of a half (multi-index hashing: Norouzi, Punjani and Fleet
    2014, arXiv:1307.2982).

    Args:
        packed: the bits of hashes, uint64 `[N, 4]`.
        chosen: int `[M]`, the images that count.
        bits: how many may differ, up to `MOST_BITS`.
    """
    if len(chosen) < 2:
        return
    packed = packed[chosen]
    count = bits + 3
    # Bits far from each other say more than neighbors do.
    bands = np.empty((count, len(chosen)), np.uint32)
    for part in np.array_split(np.arange(len(chosen)), len(chosen) // 1000 + 1):
        hashes = np.unpackbits(packed[part].view(np.uint8), axis=1)
        for start in range(count):
            band = hashes[:, start::count][:, :32]
            bands[start, part] = band @ (1 << np.arange(band.shape[1], dtype=np.int64))
    found = []
    for half in (range(count // 2), range(count // 2, count)):
        for one, other in combinations(half, 2):
            key = bands[one].astype(np.uint64) << np.uint64(32) | bands[other].astype(np.uint64)
            order = np.argsort(key, kind="stable")
            starts = np.flatnonzero(np.diff(key[order], prepend=key[order[:1]] ^ np.uint64(1)))
            lengths = np.diff(starts, append=len(order))
            for start, length in zip(starts[lengths > LONG], lengths[lengths > LONG], strict=True):
                run = chosen[order[start : start + length]]
                for place in range(length - 1):
                    yield int(run[place]), run[place + 1 :]
            sizes = np.repeat(lengths, lengths)
            order = order[(sizes > 1) & (sizes <= LONG)]
            for shift in range(1, LONG):
                same = np.flatnonzero(key[order[shift:]] == key[order[:-shift]])
                if not len(same):
                    break
                left, right = order[same], order[same + shift]
                near = np.bitwise_count(packed[left] ^ packed[right]).sum(axis=1) <= bits
                found.append(np.sort(np.stack([left[near], right[near]]), axis=0))
    found = [pairs for pairs in found if pairs.size]
    if found:
        left, right = np.unique(np.concatenate(found, axis=1), axis=1)
        first, starts = np.unique(left, return_index=True)
        yield from zip(chosen[first].tolist(), np.split(chosen[right], starts[1:]), strict=True)


def near_thumbnails(pixels: Callable[[np.ndarray], np.ndarray], chosen: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Images and others whose thumbnails differ by `LEVELS` at most: every such pair comes once, and some other pairs.

    What differs little does so along every direction. Of the four along which a sample of the images differs most, the
    first one sorts them, so that only some follow each within that distance.

    Args:
        pixels: gives those of some images, float32 `[M, K]`.
        chosen: int `[M]`, the images that count.
    """
    if len(chosen) < 2:
        return
    sample = pixels(chosen[:: len(chosen) // 1000 + 1])
    _, directions = np.linalg.eigh(np.cov(sample, rowvar=False))
    directions = directions[:, :-5:-1].astype(np.float32)
    along = np.concatenate([pixels(part) @ directions for part in np.array_split(chosen, len(chosen) // 1000 + 1)])
    order = np.argsort(along[:, 0], kind="stable")
    along, chosen = np.ascontiguousarray(along[order].T), chosen[order]
    radius = np.float32(LEVELS * len(directions) ** 0.5 + 0.5)  # half a level for what float32 rounds off
    ends = np.searchsorted(along[0], along[0] + radius, side="right")
    for place, end in enumerate(ends.tolist()):
        near = np.ones(end - place - 1, bool)
        for line in along[1:]:
            near &= abs(line[place + 1 : end] - line[place]) <= radius
        if near.any():
            yield int(chosen[place]), chosen[place + 1 : end][near]
