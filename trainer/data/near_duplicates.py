"""Finds images that look alike: copies in another size, quality or brightness."""

from collections.abc import Iterable
from hashlib import blake2b
from typing import NamedTuple

import imagehash
import numpy as np
from PIL import Image

from trainer.data.neighbors import LEVELS, MOST_BITS, near_hashes, near_thumbnails

# Of 256 hash bits: on 564 scans a smaller, recompressed copy differs in at most 16, another object in at least 35.
ALIKE_BITS = 20

# The hash of a plain picture (a shape or stripes on one color) is nearly all zeros, whatever the picture: thumbnails
# decide. Of the rarer bit scans have a share of 0.4 to 0.5, a circle on white has 0.05 to 0.34.
RARER_BIT = 1 / 3
FEW = 2000  # images of which every pair is compared
CHUNK = 1000  # images of which numbers are made of all pixels at once


class Fingerprint(NamedTuple):
    """What two images are compared by: a difference hash, bool `[256]`, and a thumbnail, uint8 `[12, 12, 3]`."""

    bits: np.ndarray
    thumbnail: np.ndarray


def fingerprint(image: Image.Image) -> Fingerprint:
    """Fingerprint an RGB image, decoded at its full size: bits differ between decodings at a half or a quarter."""
    # A hash sees 17 by 16 spots: most pixels can go first. From half as many more copies would be missed.
    small = image.reduce(max(1, min(image.size) // 128))
    thumbnail = np.asarray(small.resize((12, 12), Image.Resampling.BILINEAR))
    return Fingerprint(imagehash.dhash(small, hash_size=16).hash.ravel(), thumbnail)


class Fingerprints:
    """What many images are compared by, in half a kilobyte each; equal ones are kept once."""

    def __init__(self, fingerprints: Iterable[Fingerprint] = ()) -> None:
        """Keep some; each can be forgotten."""
        self._places: dict[bytes, int] = {}
        self._each: list[int] = []
        self._bits, self._thumbnails = bytearray(), bytearray()
        for one in fingerprints:
            self.add(one)

    def add(self, one: Fingerprint) -> None:
        """Keep one more."""
        bits, thumbnail = np.packbits(one.bits).tobytes(), one.thumbnail.tobytes()
        place = self._places.setdefault(blake2b(bits + thumbnail, digest_size=16).digest(), len(self._places))
        if len(self._bits) < len(self._places) * len(bits):
            self._bits += bits
            self._thumbnails += thumbnail
        self._each.append(place)

    def groups(self, bits: int) -> np.ndarray:
        """`group_alike` of all."""
        if not self._each:
            return np.empty(0, np.int32)
        packed = np.frombuffer(self._bits, np.uint64).reshape(len(self._places), -1)
        thumbnails = np.frombuffer(self._thumbnails, np.uint8).reshape(len(self._places), -1, 3)
        return _grouped(packed, thumbnails, bits)[self._each]


def group_alike(fingerprints: Iterable[Fingerprint], bits: int) -> np.ndarray:
    """Group images that look alike.

    Two are linked if their hashes differ in at most `bits` and their thumbnails by at most half the contrast (standard
    deviation), or by `LEVELS` where the hash says little. The distance of thumbnails is the root mean square over
    pixels and channels, in levels; the mean color counts a quarter, so that a brighter copy is found.

    Args:
        fingerprints: of `N` images.
        bits: 0 to 256.

    Returns:
        int32 `[N]`: the group of each image; linked images, also over a third, share one.
    """
    return Fingerprints(fingerprints).groups(bits)


def _grouped(packed: np.ndarray, thumbnails: np.ndarray, bits: int) -> np.ndarray:
    """The groups of different images: their hashes, uint64 `[N, 4]`, and thumbnails, uint8 `[N, 144, 3]`."""

    def pixels(rows: np.ndarray) -> np.ndarray:
        """float32 `[M, 432]`; of all images they would take more memory than everything else."""
        return (thumbnails[rows] - 3 * colors[rows, None]).reshape(len(rows), -1)

    parts = np.array_split(np.arange(len(packed)), len(packed) // CHUNK + 1)
    colors = np.concatenate([thumbnails[part].mean(axis=1, dtype=np.float32) for part in parts]) / 4
    contrast = np.sqrt(np.concatenate([thumbnails[part].var(axis=1, dtype=np.float32).mean(axis=1) for part in parts]))
    squares = np.concatenate([(pixels(part) ** 2).mean(axis=1) for part in parts])
    share = np.bitwise_count(packed).sum(axis=1) / 256
    tolerance = np.where(np.minimum(share, 1 - share) > RARER_BIT, contrast / 2, 0).clip(LEVELS)
    groups = _Groups(len(packed))

    def link(index: int, near: np.ndarray) -> None:
        """Link an image with those of some others that look like it."""
        near = near[groups.numbers[near] != groups.numbers[index]]
        near = near[np.bitwise_count(packed[near] ^ packed[index]).sum(axis=1) <= bits]
        limit = np.maximum(tolerance[near], tolerance[index]) ** 2
        # Mean colors alone distinguish most plain images, at a hundredth of the cost.
        close = ((colors[near] - colors[index]) ** 2).mean(axis=1) <= limit
        near, limit = near[close], limit[close]
        if not len(near):
            return
        # |a - b|² = |a|² + |b|² - 2ab, without an array of differences.
        one = pixels(np.array([index]))[0]
        products = np.einsum("nj,j->n", pixels(near), one) / len(one)
        squared = squares[near] + squares[index] - 2 * products
        groups.join(index, near[squared <= limit])

    rarer = np.minimum(share, 1 - share)
    if len(packed) <= FEW or bits > MOST_BITS:
        everything = np.arange(len(packed))
        for index in range(len(packed)):
            link(index, everything[index + 1 :])
    else:
        # Hashes of two images that differ in few bits have about the same share of rarer ones.
        for index, near in near_hashes(packed, np.flatnonzero(rarer > RARER_BIT - bits / 256), bits):
            link(index, near)
        for index, near in near_thumbnails(pixels, np.flatnonzero(rarer <= RARER_BIT)):
            link(index, near)
    return groups.numbers


class _Groups:
    """Groups that are joined; `numbers` has each member's, int32 `[N]`."""

    def __init__(self, count: int) -> None:
        self.numbers = np.arange(count, dtype=np.int32)
        self._members = {number: [number] for number in range(count)}

    def join(self, one: int, others: np.ndarray) -> None:
        """Join the groups of others with that of one; the smaller one gets the larger one's number."""
        for number in np.unique(self.numbers[others]).tolist():
            smaller, larger = sorted((number, int(self.numbers[one])), key=lambda group: len(self._members[group]))
            if smaller != larger:
                self.numbers[self._members[smaller]] = larger
                self._members[larger] += self._members.pop(smaller)
