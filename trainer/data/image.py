"""Decodes image files to RGB, and finds those that cannot be decoded."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from trainer.errors import UserError

# What Pillow raises for a file that it cannot decode.
UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


def to_rgb(image: Image.Image) -> Image.Image:
    """Any mode of Pillow as RGB: 16-bit and floating point scaled to 8 bit, transparency over white.

    `app/images.py` has the same lines: the model sees in the app what it was trained on.
    """
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        values = np.array(image, dtype=np.float32)
        np.nan_to_num(values, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
        # Integers hold 8 or 16 bits; floats are 0..1 by convention unless they say otherwise.
        top = float(values.max(initial=0.0))
        is_16_bit = image.mode.startswith("I;") or top > 255
        white = 1.0 if image.mode == "F" and top <= 1 else 65535.0 if is_16_bit else 255.0
        # In place: a large picture would otherwise be held four times over.
        np.clip(values, 0, white, out=values)
        values *= 255 / white
        values += 0.5
        image = Image.fromarray(values.astype(np.uint8))
    if image.has_transparency_data:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image.getchannel("A"))
        return white
    return image if image.mode == "RGB" else image.convert("RGB")


def load_rgb(path: Path, at_least: tuple[int, int] | None = None) -> Image.Image:
    """Decode an image file to RGB, upright by its EXIF orientation.

    Args:
        path: the file.
        at_least: `(height, width)`. A JPEG may then be decoded at a half, quarter or eighth of its size, as long as it
            stays at least this large; that skips most of the work for a large picture.

    Raises:
        one of UNREADABLE: if the file is no image that Pillow can decode.
    """
    with Image.open(path) as image:
        if at_least is not None:
            # The picture may lie on its side until EXIF turns it: ask for the larger edge both ways.
            edge = max(at_least)
            image.draft("RGB", (edge, edge))
        return to_rgb(ImageOps.exif_transpose(image))


def load_named(path: Path) -> Image.Image:
    """`load_rgb` for images that have to be there.

    Raises:
        UserError: naming the file if it cannot be decoded.
    """
    try:
        return load_rgb(path)
    except UNREADABLE as error:
        raise UserError(
            f"cannot read image '{path}' ({error}); see `manasight data describe --check`, mend or remove it, or set "
            "drop_unreadable"
        ) from error


def reason(path: Path, error: Exception) -> str:
    """Why an image file cannot be decoded, given what was raised: without its name, which is told beside it."""
    try:
        if not path.stat().st_size:
            return "the file is empty"
        # Pillow names what it was given, which may be an object in memory.
        return "cannot identify image file" if isinstance(error, UnidentifiedImageError) else str(error)
    except OSError as problem:
        return problem.strerror or str(problem)


def resize(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resize to `(height, width)`, bilinear and antialiased, as every reader of model.onnx has to."""
    height, width = size
    return image if image.size == (width, height) else image.resize((width, height), Image.Resampling.BILINEAR)


def unreadable_images(paths: Iterable[Path], decode: bool = True) -> list[tuple[Path, str]]:
    """The files that are no images, with the reason. Threads suffice: Pillow decodes without the GIL.

    Args:
        paths: the files.
        decode: decode every pixel, which finds truncated files too; else only look at size and header.
    """
    paths = list(paths)

    def problem(path: Path) -> str | None:
        try:
            if decode:
                load_rgb(path)
            else:
                Image.open(path).close()
        except UNREADABLE as error:
            return reason(path, error)
        return None

    with ThreadPoolExecutor() as pool:
        hidden = None if decode else True  # None: no bar in a log
        problems = tqdm(pool.map(problem, paths), "checking", len(paths), unit="image", disable=hidden)
        return [(path, text) for path, text in zip(paths, problems, strict=True) if text]
