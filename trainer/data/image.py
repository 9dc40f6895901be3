"""Decodes image files to RGB, and finds those that cannot be decoded."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from trainer.errors import UserError

# What Pillow raises for a file that it cannot decode.
UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


def to_rgb(image: Image.Image) -> Image.Image:
    """An image in any mode as 8-bit RGB: transparency over white, 16-bit grey scaled to 8."""
    if image.mode.startswith("I") or image.mode == "F":
        pixels = np.asarray(image, dtype=np.float32)
        top = 65535.0 if pixels.max(initial=0) > 255 else 255.0
        image = Image.fromarray((pixels.clip(0, top) * (255.0 / top)).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


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


def load_named(path: Path, at_least: tuple[int, int] | None = None) -> Image.Image:
    """`load_rgb` for images that have to be there.

    Raises:
        UserError: naming the file if it cannot be decoded.
    """
    try:
        return load_rgb(path, at_least)
    except UNREADABLE as error:
        raise UserError(
            f"cannot read image '{path}' ({error}); see `manasight data describe --check`, mend or remove it, or set "
            "drop_unreadable"
        ) from error


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
            if path.stat().st_size == 0:
                return "the file is empty"
            if decode:
                load_rgb(path)
            else:
                Image.open(path).close()
        except UNREADABLE as error:
            return str(error)
        return None

    with ThreadPoolExecutor() as pool:
        hidden = None if decode else True  # None: no bar in a log
        problems = tqdm(pool.map(problem, paths), "checking", len(paths), unit="image", disable=hidden)
        return [(path, text) for path, text in zip(paths, problems, strict=True) if text]
