"""Turns the bytes of a picture, whatever they are, into an upright RGB image or one sentence that says why not."""

import io
import re
import threading
import warnings
from contextlib import nullcontext

import numpy as np
from PIL import Image, ImageOps

# One picture: enough for a phone's 50 megapixels, little enough that decoding it needs neither seconds nor gigabytes.
# Other formats than JPEG take up to 16 bytes of memory per pixel and have no quick way to a smaller picture.
MAX_BYTES = 32 * 1024**2
MAX_JPEG_PIXELS = 50_000_000
MAX_PIXELS = 32_000_000
# A picture above this takes up to half a gigabyte for a moment, so that only one of them is decoded at a time.
LARGE_PIXELS = 12_000_000
# A JPEG twice as large as this both ways is decoded at a half, quarter or eighth of its size, which saves most of the
# time and memory. No input size comes near it, so that the antialiased resize still sees more pixels than it needs.
ENOUGH = 2048
# An honest progressive JPEG has about ten scans; one with hundreds keeps a decoder busy for minutes.
MAX_JPEG_SCANS = 64

# What people keep pictures in: Pillow also reads formats that start other programs (EPS), decode very slowly, or decode
# before their size can be judged (ICO).
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")
EXTENSIONS = ("jpg", "jpeg", "png", "webp", "avif", "gif", "bmp", "tif", "tiff", "ppm", "pgm")

# Within a scan FF 00 stands for a byte FF, and FF D0 to FF D7 are marks of restart.
_MARKER = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")

_large = threading.Lock()

# Damaged tags and large sizes are judged here, not on the log.
warnings.filterwarnings("ignore", module=r"PIL\b")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class ImageError(Exception):
    """A picture that cannot be used; the message is a sentence for the person who sent it."""


def decode(data: bytes) -> Image.Image:
    """The first frame of a picture as an upright RGB image; transparency becomes white.

    Raises:
        ImageError: if the bytes are empty, too many, no picture, damaged, or would become too large.
    """
    if not data:
        raise ImageError("The file is empty.")
    if len(data) > MAX_BYTES:
        raise ImageError(f"The file has {len(data) / 1024**2:.0f} MB; at most {MAX_BYTES // 1024**2} MB are read.")
    if data.startswith(b"\xff\xd8") and _scans(data) > MAX_JPEG_SCANS:
        raise ImageError("This JPEG has too many scans to be read safely.")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        width, height = image.size
        limit = MAX_JPEG_PIXELS if image.format in ("JPEG", "MPO") else MAX_PIXELS
        if width * height > limit:
            raise ImageError(
                f"The picture has {width} × {height} pixels; at most {limit // 10**6} megapixels are read."
            )
        image.draft("RGB", (min(width, ENOUGH), min(height, ENOUGH)))
        with _large if image.width * image.height > LARGE_PIXELS else nullcontext():
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            return to_rgb(image)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(f"The picture is larger than {MAX_JPEG_PIXELS // 10**6} megapixels.") from error
    except Image.UnidentifiedImageError as error:
        raise ImageError(_describe_stranger(data)) from error
    except Exception as error:
        # Pillow's decoders raise anything for damaged bytes: OSError, ValueError, struct.error, OverflowError, …
        raise ImageError("The picture is damaged or incomplete.") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Any mode of Pillow as RGB: 16-bit and floating point scaled to 8 bit, transparency over white.

    `trainer/data/image.py` has the same lines: the model sees in the app what it was trained on.
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


def to_input(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """Resize an RGB image to `(height, width)` as the trainer does; uint8 `[height, width, 3]`.

    Pillow's bilinear filter widens with the scale, so that it antialiases; without that, probabilities move by 0.035.
    """
    height, width = size
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def overlay(image: Image.Image, activation_map: np.ndarray, top: float) -> Image.Image:
    """Lay a class activation map over a picture: bright where the model found the class, dimmed grey elsewhere.

    Args:
        image: RGB, any size; the result has the same size.
        activation_map: float32 `[h, w]`; only what is positive is shown.
        top: the value that gets the full colour, e.g. the largest over all classes of this picture.
    """
    strength = np.clip(activation_map / top, 0, 1) if top > 0 else np.zeros_like(activation_map)
    mask = Image.fromarray((strength * 255).astype(np.uint8)).resize(image.size, Image.Resampling.BICUBIC)
    level = np.asarray(mask, dtype=np.float32) / 255
    # From violet over orange to yellow: lightness rises with the value, so that it reads without colour too.
    stops = np.array([0.0, 0.35, 0.7, 1.0])
    ramp = np.array([[60, 20, 110], [190, 50, 90], [250, 140, 30], [255, 240, 120]], dtype=np.float32)
    colour = np.stack([np.interp(level, stops, channel) for channel in ramp.T], axis=-1)
    dimmed = 0.7 * np.asarray(image.convert("L").convert("RGB"), dtype=np.float32)
    weight = (0.85 * np.sqrt(level))[..., None]
    return Image.fromarray((dimmed * (1 - weight) + colour * weight).astype(np.uint8))


def _scans(data: bytes) -> int:
    """Scans of the JPEG that `data` begins with. Phones append a video, in which any bytes may stand."""
    scans, place = 0, 2
    while found := _MARKER.search(data, place):
        kind, place = found[0][-1], found.end()
        if kind == 0xD9:  # the end of the picture
            break
        if kind == 0xDA:
            scans += 1
        elif kind != 0x01 and not 0xD0 <= kind <= 0xD8:
            place += int.from_bytes(data[place : place + 2], "big")  # a segment: its thumbnail is not the picture
    return scans


def _describe_stranger(data: bytes) -> str:
    """What a file seems to be, when it is no picture that is read here."""
    start = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in start:
        return "This is an SVG drawing; save it as PNG first."
    if start.startswith((b"<!doctype html", b"<html")):
        return "This is a web page, not a picture."
    if data[4:8] == b"ftyp" and data[8:12] in (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"):
        return "HEIC pictures cannot be read here; save it as JPEG first."
    if start.startswith(b"%pdf"):
        return "This is a PDF, not a picture."
    return "This is not a picture in a format that is read here."
