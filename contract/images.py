"""Turns an image file into the pixels that the model sees: an upright RGB image, or one sentence that says why not."""

import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from PIL import (
    BmpImagePlugin,  # noqa: F401 - importing a plugin registers it; Pillow would import all that it has
    GifImagePlugin,  # noqa: F401
    Image,
    JpegImagePlugin,  # noqa: F401
    MpoImagePlugin,  # noqa: F401
    PpmImagePlugin,  # noqa: F401
    WebPImagePlugin,  # noqa: F401
)

import contract.heif  # noqa: F401 - registers the format
from contract.color import to_srgb
from contract.formats import describe
from contract.metadata import LYING, turn

# Only these are opened, whatever a file is called: Pillow also reads formats that start other programs (EPS), decode
# very slowly, or decode before their size is known (ICO). An MPO is opened as JPEG.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "MANASIGHT-TIFF", "MANASIGHT-AVIF", "MANASIGHT-HEIF", "PPM")

# One file.
MAX_BYTES = 32 * 1024**2
# A JPEG at least twice as large as this both ways can be decoded at a half, quarter or eighth of its size, which saves
# most of the time and memory. No model's input comes near it, so the antialiased resize still sees more than it needs.
ENOUGH = 2048
# Rows that are converted at once, in pixels: a conversion of the whole image would hold it several times over.
STRIP_PIXELS = 250_000
# Color of a letterbox's bars, and of what an augmentation moves into view: nearly the mean of a normalized input.
BARS = (127, 127, 127)

# Damaged tags and large sizes are judged here and not reported on the log.
warnings.filterwarnings("ignore", module=r"PIL\b")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class ImageError(Exception):
    """A file that cannot be used; the message is a sentence for the person who sent it."""


class TooLargeError(ImageError):
    """An image that needs more memory than this process may use."""


@dataclass(frozen=True)
class Limits:
    """What an image may have and need.

    Attributes:
        jpeg_pixels: of a JPEG, which is decoded at a fraction of its size if it is large.
        pixels: of any other format.
        memory: bytes that decoding may take.
    """

    jpeg_pixels: int = 50_000_000
    pixels: int = 32_000_000
    memory: int = 1 << 62


def open_image(file: IO[bytes] | Path) -> Image.Image:
    """Open an image of the supported formats; nothing is decoded yet.

    Raises:
        Image.UnidentifiedImageError: for any other file.
        Exception: whatever Pillow raises for a damaged one.
    """
    return Image.open(file, formats=FORMATS)


def decode(
    data: bytes,
    limits: Limits | None = None,
    at_least: int = ENOUGH,
    on_open: Callable[[Image.Image], None] = lambda _: None,
) -> Image.Image:
    """Decode the first frame as an upright RGB image; transparency becomes white.

    Args:
        data: the file.
        limits: of this image.
        at_least: a JPEG may be decoded smaller, as long as both edges keep at least this many pixels; 0 for never.
        on_open: called with the opened image, before its pixels are decoded.

    Raises:
        ImageError: if the file is empty, in another format, damaged or too large.
        MemoryError: if decoding takes more memory than the process may have.
    """
    limits = limits or Limits()
    if not data:
        raise ImageError("The file is empty.")
    try:
        image = open_image(io.BytesIO(data))
        _check(image, limits, at_least)
        if at_least:
            image.draft("RGB", (min(image.width, at_least), min(image.height, at_least)))
        on_open(image)
        return upright_rgb(image)
    except (ImageError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(f"The image is larger than {limits.jpeg_pixels // 10**6} megapixels.") from error
    except Image.UnidentifiedImageError as error:
        raise ImageError(describe(data[:1024])) from error
    except Exception as error:
        # Pillow's decoders raise anything for damaged bytes: OSError, ValueError, struct.error, OverflowError, …
        # What libtiff, libheif and libwebp say if they do not get their memory.
        if str(error) in ("decoder error -9", "could not create decoder object") or "emory alloc" in str(error):
            raise MemoryError from error
        raise ImageError("The image is damaged or incomplete.") from error


def upright_rgb(image: Image.Image) -> Image.Image:
    """Decode an opened image to RGB, upright by its EXIF orientation. The opened one is closed: two fill the memory."""
    image.load()
    method = turn(image)
    rgb = to_rgb(image)
    if rgb is not image:
        image.close()
    return rgb if method is None else rgb.transpose(method)


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of an opened image once it is upright."""
    width, height = image.size
    # A TIFF's size is that of the upright image from the start.
    lies = image.format != "TIFF" and turn(image) in LYING
    return (height, width) if lies else (width, height)


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any mode of Pillow to sRGB: 16-bit and floating point scaled to 8 bit, transparency over white."""
    if needs_numpy(image):
        return _to_8_bits(image)
    profile = image.info.get("icc_profile")
    clear = image.has_transparency_data
    if image.mode == "RGB" and not clear and not profile:
        return image
    mode = "RGBA" if clear else image.mode if image.mode in ("L", "CMYK") and profile else "RGB"
    if not profile and not clear:
        return image.convert(mode)
    result = Image.new("RGB", image.size, "white")
    for box in _strips(image.size):
        part = to_srgb(image.crop(box).convert(mode), profile)
        result.paste(part if part.mode == "RGBA" else part.convert("RGB"), box, part if clear else None)
    return result


def needs_numpy(image: Image.Image) -> bool:
    """Whether an image has more than 8 bits per channel, which takes NumPy to convert."""
    return image.mode in ("I", "F") or image.mode.startswith("I;")


def edited(image: Image.Image, turn: int, crop: Sequence[float]) -> Image.Image:
    """An image turned by quarters clockwise, then cut to `(left, top, right, bottom)`, shares of its size."""
    if turn % 4:
        image = image.transpose(
            (Image.Transpose.ROTATE_270, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_90)[turn % 4 - 1]
        )
    width, height = image.size
    left, top = min(int(crop[0] * width), width - 1), min(int(crop[1] * height), height - 1)
    right, bottom = max(round(crop[2] * width), left + 1), max(round(crop[3] * height), top + 1)
    whole = (left, top, right, bottom) == (0, 0, width, height)
    return image if whole else image.crop((left, top, right, bottom))


def resize(image: Image.Image, size: tuple[int, int], letterbox: bool = False) -> Image.Image:
    """Resize to `(height, width)`, bilinear and antialiased, as every reader of model.onnx has to.

    Without the antialiasing that Pillow's filters have, probabilities move by up to 0.035.

    Args:
        image: RGB.
        size: height and width of the result.
        letterbox: keep the image's proportions; gray bars fill the rest.
    """
    height, width = size
    if image.size == (width, height):
        return image
    if not letterbox:
        return image.resize((width, height), Image.Resampling.BILINEAR)
    left, top, right, bottom = letterboxed(image.size, size)
    result = Image.new("RGB", (width, height), BARS)
    result.paste(image.resize((right - left, bottom - top), Image.Resampling.BILINEAR), (left, top))
    return result


def letterboxed(image: tuple[int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Where an image of this width and height lies in a letterbox of `(height, width)`: left, top, right, bottom."""
    height, width = size
    scale = min(width / image[0], height / image[1])
    across, down = max(1, round(image[0] * scale)), max(1, round(image[1] * scale))
    left, top = (width - across) // 2, (height - down) // 2
    return left, top, left + across, top + down


def _to_8_bits(image: Image.Image) -> Image.Image:
    import numpy as np

    def values(box: tuple[int, int, int, int]) -> np.ndarray:
        found = np.array(image.crop(box), dtype=np.float32)
        return np.nan_to_num(found, copy=False, nan=0.0, posinf=0.0, neginf=0.0)

    boxes = list(_strips(image.size))
    # Integers hold 8 or 16 bits; floats are 0 to 1 by convention unless they say otherwise.
    top = max((float(values(box).max(initial=0.0)) for box in boxes), default=0.0)
    is_16_bit = image.mode.startswith("I;") or top > 255
    white = 1.0 if image.mode == "F" and top <= 1 else 65535.0 if is_16_bit else 255.0
    result = Image.new("RGB", image.size)
    for box in boxes:
        part = values(box)
        np.clip(part, 0, white, out=part)
        part *= 255 / white
        part += 0.5
        result.paste(Image.fromarray(part.astype(np.uint8)).convert("RGB"), box)
    return result


def _strips(size: tuple[int, int]) -> Iterator[tuple[int, int, int, int]]:
    """Boxes of whole rows that cover an image of this size."""
    width, height = size
    rows = max(1, STRIP_PIXELS // max(1, width))
    for top in range(0, height, rows):
        yield 0, top, width, min(height, top + rows)


def _check(image: Image.Image, limits: Limits, at_least: int) -> None:
    """Judge an image by what its header says.

    Raises:
        ImageError: if it has too many pixels.
        TooLargeError: if it would take too much memory.
    """
    is_jpeg = image.format in ("JPEG", "MPO")
    limit = limits.jpeg_pixels if is_jpeg else limits.pixels
    width, height = image.size
    if width * height > limit:
        raise ImageError(f"The image has {width} × {height} pixels; at most {limit // 10**6} megapixels are read.")
    across, down = _tile(image)
    if across * down > limit:
        sentence = f"The image has tiles of {across} × {down} pixels; at most {limit // 10**6} megapixels are read."
        raise ImageError(sentence)
    needed = _jpeg_memory(image, at_least) if is_jpeg else width * height * _BYTES_PER_PIXEL.get(image.format, 8)
    if needed > limits.memory:
        raise TooLargeError(
            f"The image has {width} × {height} pixels, which takes {needed // 10**6} MB to decode; "
            f"at most {limits.memory // 10**6} MB are allowed. Make it smaller."
        )


# Measured peaks; the others hold it twice at 4 bytes.
_BYTES_PER_PIXEL = {"WEBP": 20, "AVIF": 20, "HEIF": 10}


def _jpeg_memory(image: Image.Image, at_least: int) -> int:
    """Bytes: 8 for each pixel that comes out, and 2 for each coefficient of a progressive file."""
    width, height = image.size
    scale = 1
    if at_least:
        scale = next((n for n in (8, 4, 2) if min(width, height) >= n * at_least), 1)
    pixels = width * height
    coefficients = 0
    layers = getattr(image, "layer", None)
    if layers and image.info.get("progressive"):
        across, down = (max(layer[place] for layer in layers) for place in (1, 2))
        coefficients = sum(pixels * layer[1] * layer[2] // (across * down) for layer in layers)
    return 8 * pixels // scale**2 + 2 * coefficients


def _tile(image: Image.Image) -> tuple[int, int]:
    """Width and height of a TIFF's tiles, which may be larger than the image; else (0, 0)."""
    tags = getattr(image, "tag_v2", {})
    found = tags.get(322), tags.get(323)
    return found if all(isinstance(edge, int) for edge in found) else (0, 0)
