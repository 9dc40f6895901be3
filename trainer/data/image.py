"""Reads image files as RGB, and finds those that cannot be decoded."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from contract.images import open_image, resize, to_rgb, upright_rgb, upright_size
from trainer.data.limited import LimitedReader
from trainer.errors import UserError

__all__ = ["UNREADABLE", "header_size", "load_named", "load_rgb", "reason", "resize", "to_rgb", "unreadable_images"]

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

    with LimitedReader() if decode else nullcontext() as limited, ThreadPoolExecutor() as pool:
        hidden = None if decode else True  # None: no bar in a log
        problems = tqdm(pool.map(problem, paths), "checking", len(paths), unit="image", disable=hidden)
        return [(path, text) for path, text in zip(paths, problems, strict=True) if text]
