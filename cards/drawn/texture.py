"""Textures of the drawn cards: patches of marble, fibre, grain and cloud, cut from tiles made once per process."""

from functools import cache
from random import Random

import numpy as np

SIDE = 512


def _fractal(rng: np.random.Generator, power: float, stretch: float = 1.0) -> np.ndarray:
    """White noise filtered to a 1/f**power spectrum: zero mean, unit deviation, its edges meet."""
    fy, fx = np.meshgrid(np.fft.fftfreq(SIDE), np.fft.fftfreq(SIDE), indexing="ij")
    radius = np.hypot(fy * stretch, fx / stretch)
    radius[0, 0] = np.inf
    tile = np.fft.ifft2(np.fft.fft2(rng.standard_normal((SIDE, SIDE))) * radius**-power).real
    return np.clip((tile - tile.mean()) / tile.std(), -3, 3).astype(np.float32)


@cache
def tiles() -> dict[str, list[np.ndarray]]:
    """The tiles by kind, the same in every process: variety comes from where a patch is cut."""
    rng = np.random.default_rng(1993)
    cloud = [_fractal(rng, p) for p in (1.5, 1.7, 1.9, 2.2)]
    marble = [np.sin(3 * _fractal(rng, 1.8)) + 0.5 * _fractal(rng, 1.0) for _ in range(2)]
    stone = [2 * (0.8 - np.abs(_fractal(rng, p))) for p in (1.2, 1.5)]
    return {
        "cloud": cloud,
        "marble": [m.astype(np.float32) for m in marble],
        "stone": [s.astype(np.float32) for s in stone],
        "fibre": [_fractal(rng, 1.1, 5), _fractal(rng, 1.1, 0.2), _fractal(rng, 1.0, 14)],
        "grain": [_fractal(rng, 0.4), _fractal(rng, 0.7)],
        "noise": [rng.standard_normal((SIDE, SIDE)).astype(np.float32)],
    }


def patch(rnd: Random, kind: str, width: int, height: int, zoom: float = 1.0) -> np.ndarray:
    """A float32 patch [height, width] of one kind of texture, about zero, cut at random; zoom > 1 is coarser."""
    tile = rnd.choice(tiles()[kind])
    rows = (rnd.randrange(SIDE) + np.arange(height) / zoom).astype(np.intp) % SIDE
    cols = (rnd.randrange(SIDE) + np.arange(width) / zoom).astype(np.intp) % SIDE
    if rnd.random() < 0.5:
        rows = rows[::-1]
    if rnd.random() < 0.5:
        cols = cols[::-1]
    return tile[np.ix_(rows, cols)]
