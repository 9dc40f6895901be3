"""Decodes image files to RGB, in this process or in limited ones, and finds those that cannot be decoded."""

from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from contract.decoding import Decoded, Decoders, Lane, Wanted
from contract.images import ImageError, open_image, upright_rgb, upright_size
from contract.process import WorkerLimits
from trainer.data.parallel import BATCH, in_order
from trainer.errors import UserError
from trainer.progress import progress
from trainer.resources import cpu_cores

# As many pixels as Pillow reads at most. Twenty seconds of CPU time are enough for them.
PIXELS = 178_000_000
LIMITS = WorkerLimits(
    memory=2 * 1024**3, seconds=20, wall_seconds=120, jpeg_pixels=PIXELS, pixels=PIXELS, reply=3 * PIXELS
)
MAX_BYTES = 1024**3
WHOLE = 2**31 - 1

# What reading one file may raise; `load_rgb` raises nothing else for a damaged one.
UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


def load_rgb(path: Path, at_least: tuple[int, int] | None = None) -> Image.Image:
    """Decode an image file to RGB, upright by its EXIF orientation.

    Args:
        path: the file.
        at_least: `(height, width)`. A JPEG may then be decoded at a half, quarter or eighth of its size, as long as it
            stays at least this large; that skips most of the work for a large image.

    Raises:
        one of UNREADABLE: if the file is not an image in a supported format, or is damaged.
    """
    try:
        with open_image(path) as image:
            if at_least is not None:
                # The image may lie on its side until EXIF turns it: ask for the larger edge both ways.
                edge = max(at_least)
                image.draft("RGB", (edge, edge))
            return upright_rgb(image)
    except (*UNREADABLE, MemoryError):
        raise
    except Exception as error:  # struct.error, TypeError, …: whatever is wrong is wrong with this file
        raise ValueError(f"{type(error).__name__}: {error}") from error


def load_named(path: Path) -> Image.Image:
    """`load_rgb` for images that have to be there.

    Raises:
        UserError: naming the file if it cannot be decoded.
    """
    try:
        return load_rgb(path)
    except UNREADABLE as error:
        raise UserError(
            f"cannot read image '{path}' ({error}); repair or remove it, and all others that "
            "`manasight data describe FOLDER --check` lists"
        ) from error


def header_size(path: Path) -> tuple[int, int]:
    """Width and height of the upright image by its header, without decoding it.

    Raises:
        one of UNREADABLE: if the file is not an image in a supported format.
    """
    try:
        with open_image(path) as image:
            return upright_size(image)
    except (*UNREADABLE, MemoryError):
        raise
    except Exception as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def reason(path: Path, error: Exception) -> str:
    """Why an image file cannot be decoded, given what was raised; without its name, which is given beside it."""
    try:
        if not path.stat().st_size:
            return "the file is empty"
        # Pillow names what it was given, which may be an object in memory.
        return "cannot identify image file" if isinstance(error, UnidentifiedImageError) else str(error)
    except OSError as problem:
        return problem.strerror or str(problem)


def unreadable_images(paths: Iterable[Path], decode: bool = True) -> list[tuple[Path, str]]:
    """The files that are not images, with the reason.

    Args:
        paths: the files.
        decode: decode every pixel, which finds truncated files too; else only look at size and header.
    """
    paths = list(paths)

    def problem(path: Path) -> str | None:
        try:
            if decode:
                limited.load_rgb(path)
            else:
                header_size(path)
        except UNREADABLE as error:
            return reason(path, error)
        return None

    with LimitedReader() if decode else nullcontext() as limited:
        problems = in_order(problem, paths, cpu_cores(), 1 if decode else BATCH)
        problems = progress(problems, "checking", len(paths), unit="image", disable=not decode)
        return [(path, text) for path, text in zip(paths, problems, strict=True) if text]


class LimitedReader:
    """Worker processes that decode images under limits: a hostile or broken file costs seconds, not the run.

    For use in a with statement.
    """

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
        """As `load_rgb` above, also of a file's bytes.

        Raises:
            OSError: if the file cannot be read.
            ValueError: if it is not an image in a supported format, is damaged, or takes too much time or memory.
        """
        found = self._decode(file, Wanted(rgb=WHOLE, at_least=0))
        return Image.frombuffer("RGB", found.rgb_size, found.rgb)

    def load_input(self, path: Path, size: tuple[int, int], letterbox: bool = False) -> np.ndarray:
        """A model's input, uint8 `[height, width, 3]`, resized to `(height, width)`; raises what `load_rgb` does."""
        found = self._decode(path, Wanted(size=size, letterbox=letterbox, at_least=0))
        return np.frombuffer(found.input, np.uint8).reshape(*size, 3)

    def _decode(self, file: Path | bytes, wanted: Wanted) -> Decoded:
        data = file if isinstance(file, bytes) else file.read_bytes()
        try:
            return self._decoders.decode(data, wanted)
        except ImageError as error:
            raise ValueError(str(error.__cause__ or error).rstrip(".")) from error
