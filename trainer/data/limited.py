"""Decodes images in processes with limits, so that a hostile or broken file costs seconds and not the run."""

from pathlib import Path

import numpy as np
from PIL import Image

from contract.decoding import Decoded, Decoders, Lane, Wanted
from contract.images import ImageError
from contract.process import WorkerLimits
from trainer.resources import cpu_cores

# As many pixels as Pillow reads at most. Twenty seconds of CPU time are enough for them.
PIXELS = 178_000_000
LIMITS = WorkerLimits(
    memory=2 * 1024**3, seconds=20, wall_seconds=120, jpeg_pixels=PIXELS, pixels=PIXELS, reply=3 * PIXELS
)
MAX_BYTES = 1024**3
WHOLE = 2**31 - 1


class LimitedReader:
    """Worker processes that read images, for use in a with statement."""

    def __init__(self, workers: int | None = None) -> None:
        """One worker per core by default; they start with the first image."""
        self._decoders = Decoders([Lane(workers or cpu_cores(), LIMITS)], MAX_BYTES)

    def __enter__(self) -> "LimitedReader":
        """Use it."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes."""
        self._decoders.close()

    def load_rgb(self, file: Path | bytes) -> Image.Image:
        """As `image.load_rgb`, also of a file's bytes.

        Raises:
            OSError: if the file cannot be read.
            ValueError: if it is not an image in a supported format, is damaged, or takes too much time or memory.
        """
        found = self._decode(file, Wanted(rgb=WHOLE, at_least=0))
        return Image.frombuffer("RGB", found.rgb_size, found.rgb)

    def load_input(self, path: Path, size: tuple[int, int]) -> np.ndarray:
        """A model's input, uint8 `[height, width, 3]`, resized to `(height, width)`; raises what `load_rgb` does."""
        found = self._decode(path, Wanted(size=size, at_least=0))
        return np.frombuffer(found.input, np.uint8).reshape(*size, 3)

    def _decode(self, file: Path | bytes, wanted: Wanted) -> Decoded:
        data = file if isinstance(file, bytes) else file.read_bytes()
        try:
            return self._decoders.decode(data, wanted)
        except ImageError as error:
            raise ValueError(str(error.__cause__ or error).rstrip(".")) from error
