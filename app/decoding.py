"""Where the app decodes images: worker processes that every visit and request shares, see `contract/decoding.py`."""

import numpy as np

from app.serving.session import cpu_limit
from contract.decoding import Batch, Decoded, Decoders, Lane
from contract.process import WorkerLimits

MB = 1024**2
# Two at least: while one image is slow, others are decoded. More than four would not be faster than the model.
WORKERS = min(4, max(2, cpu_limit()))
# Enough for a photo of 12 megapixels, also one that has to be turned.
USUAL = WorkerLimits(memory=112 * MB, seconds=0.5, wall_seconds=15)
# Enough for 50 megapixels of JPEG and 32 of PNG; others have their turn in the meantime.
LARGE = WorkerLimits(memory=248 * MB, seconds=3.5, wall_seconds=40, nice=5)
# CPU time for all images of a request, or of what a visit of the page adds at once: more for those that send more.
BATCH_SECONDS, SECONDS_PER_MB, SECONDS_PER_IMAGE = 4.0, 0.4, 0.015

# Longest side of an image with a heat map over it, as the API sends it, in pixels.
HEAT_MAP_EDGE = 2048

decoders = Decoders([Lane(WORKERS, USUAL), Lane(1, LARGE, warm=False)])


def batch_of(size: int, count: int) -> Batch:
    """A budget for `count` images that have `size` bytes together."""
    return Batch(max(BATCH_SECONDS, SECONDS_PER_MB * size / 1e6, SECONDS_PER_IMAGE * count))


def pixels(decoded: Decoded, size: tuple[int, int]) -> np.ndarray:
    """The model's input, uint8 `[height, width, 3]`, of what was decoded for this `(height, width)`."""
    return np.frombuffer(decoded.input, np.uint8).reshape(*size, 3)
