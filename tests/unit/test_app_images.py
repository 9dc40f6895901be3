"""The app's decoder: every kind of picture becomes upright RGB, and everything else one sentence."""

import io
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image

from app import images
from app.images import ImageError, decode, overlay, to_input
from trainer.data.image import load_rgb

# pytest undoes the filters that app.images sets for the app's own process.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """An image as the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def corner(image: Image.Image) -> tuple[int, ...]:
    """The top left pixel."""
    return image.getpixel((0, 0))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {"quality": 95}),
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("AVIF", {"quality": 95}),
        ("GIF", {}),
        ("BMP", {}),
        ("TIFF", {}),
        ("PPM", {}),
    ],
)
def test_every_format_is_read(kind: str, options: dict) -> None:
    found = decode(encoded(Image.new("RGB", (16, 16), (250, 10, 10)), kind, **options))

    assert found.mode == "RGB"
    assert found.size == (16, 16)
    np.testing.assert_allclose(corner(found), (250, 10, 10), atol=6)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("L", (4, 4), 200), (200, 200, 200)),
        (Image.new("1", (4, 4), 1), (255, 255, 255)),
        (Image.new("P", (4, 4), 0), (0, 0, 0)),
        (Image.new("LA", (4, 4), (0, 0)), (255, 255, 255)),
        (Image.new("RGBA", (4, 4), (255, 0, 0, 0)), (255, 255, 255)),
        (Image.new("RGBA", (4, 4), (255, 0, 0, 51)), (255, 204, 204)),
        (Image.fromarray(np.full((4, 4), 51400, np.uint16)), (200, 200, 200)),
    ],
    ids=["grey", "bilevel", "palette", "clear grey", "clear", "translucent", "16 bit"],
)
def test_every_mode_becomes_rgb(image: Image.Image, expected: tuple[int, ...]) -> None:
    assert corner(decode(encoded(image))) == expected


def test_cmyk_becomes_rgb() -> None:
    found = decode(encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95))

    np.testing.assert_allclose(corner(found), (255, 0, 0), atol=6)


def test_a_palette_with_a_clear_colour_lies_over_white() -> None:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([10, 20, 30])

    assert corner(decode(encoded(image, "GIF", transparency=0))) == (255, 255, 255)


def test_floating_point_is_scaled() -> None:
    assert corner(decode(encoded(Image.new("F", (4, 4), 0.5), "TIFF"))) == (128, 128, 128)


def test_an_animation_is_its_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]

    assert corner(decode(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))) == (255, 0, 0)


def test_a_picture_taken_sideways_is_turned_upright() -> None:
    image = Image.new("RGB", (20, 10), "blue")
    image.paste("red", (0, 0, 10, 10))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90° clockwise to view

    found = decode(encoded(image, "JPEG", exif=exif, quality=95))

    assert found.size == (10, 20)
    np.testing.assert_allclose(corner(found), (254, 0, 0), atol=6)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "The file is empty."),
        (b"\x00" * 100, "not a picture in a format"),
        (b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"<!DOCTYPE html><p>hello", "web page"),
        (b"%PDF-1.7", "PDF"),
        (b"\x00\x00\x00\x18ftypheic" + b"\x00" * 30, "HEIC"),
        (encoded(Image.effect_noise((64, 64), 50), "JPEG")[:900], "damaged or incomplete"),
        (encoded(Image.effect_noise((64, 64), 50))[:900], "damaged or incomplete"),
    ],
    ids=["empty", "zeros", "svg", "html", "pdf", "heic", "cut jpeg", "cut png"],
)
def test_what_is_no_picture_gets_a_sentence(data: bytes, said: str) -> None:
    with pytest.raises(ImageError, match=said):
        decode(data)


def test_a_file_with_too_many_bytes_is_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_BYTES", 1024**2)

    with pytest.raises(ImageError, match="at most 1 MB"):
        decode(encoded(Image.new("RGB", (8, 8))) + b"\x00" * 1024**2)


@pytest.mark.parametrize(("side", "said"), [(12_000, "12000 × 12000 pixels"), (60_000, "larger than 50 megapixels")])
def test_a_decompression_bomb_is_not_decoded(bomb: Callable[[int, int], bytes], side: int, said: str) -> None:
    with pytest.raises(ImageError, match=said):
        decode(bomb(side, side))


def test_an_icon_is_not_decoded_either(bomb: Callable[[int, int], bytes]) -> None:
    """Pillow decodes the PNG in an icon while it opens it, up to 178 megapixels, before its size can be judged."""
    data = bomb(12_000, 12_000)
    head = struct.pack("<HHHBBBBHHII", 0, 1, 1, 0, 0, 0, 0, 1, 32, len(data), 22)

    with pytest.raises(ImageError, match="not a picture in a format"):
        decode(head + data)


@pytest.fixture
def bomb() -> Callable[[int, int], bytes]:
    """Makes a PNG of a few bytes whose header promises any size."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    def make(width: int, height: int) -> bytes:
        header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")

    return make


def test_a_jpeg_with_hundreds_of_scans_is_not_decoded() -> None:
    data = encoded(Image.effect_noise((64, 64), 50), "JPEG", progressive=True)
    scan = data[data.index(b"\xff\xda") :].removesuffix(b"\xff\xd9")

    with pytest.raises(ImageError, match="too many scans"):
        decode(data[:-2] + scan * 100 + b"\xff\xd9")


def pictures() -> dict[str, bytes]:
    """A file of every mode and depth that can be stored."""
    ramp = np.linspace(0, 1, 32 * 32).reshape(32, 32)
    greys = {
        "16-bit": (ramp * 65535).astype(np.uint16),
        "16-bit dark": (ramp * 200).astype(np.uint16),
        "16-bit big-endian": (ramp * 200).astype(">u2"),
        "integers": (ramp * 200).astype(np.int32),
        "integers below 0": (ramp * 60000 - 10000).astype(np.int32),
        "floats to 1": ramp.astype(np.float32),
        "floats to 255": (ramp * 255).astype(np.float32),
        "floats to 65535": (ramp * 65535).astype(np.float32),
        "floats with holes": np.where(ramp > 0.5, np.nan, ramp).astype(np.float32),
    }
    found = {name: encoded(Image.fromarray(values), "TIFF") for name, values in greys.items()}
    for name in ("16-bit", "16-bit dark"):
        found[f"{name} PNG"] = encoded(Image.fromarray(greys[name]))
        found[f"{name} PPM"] = encoded(Image.fromarray(greys[name]), "PPM")
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 4), np.uint8))
    for mode in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"):
        for kind in ("PNG", "TIFF", "WEBP", "GIF", "JPEG"):
            with suppress(OSError, ValueError):  # no format has all
                found[f"{mode} {kind}"] = encoded(noise.convert(mode), kind)
    found["RGB PNG with a clear colour"] = encoded(noise.convert("RGB"), transparency=noise.getpixel((0, 0))[:3])
    found["16-bit PNG with a clear grey"] = encoded(Image.fromarray(greys["16-bit"]), transparency=0)
    return found


PICTURES = pictures()


@pytest.mark.parametrize("name", PICTURES)
def test_the_app_sees_what_the_trainer_sees(name: str) -> None:
    """They share no code, so each has its own lines for this."""
    seen = load_rgb(io.BytesIO(PICTURES[name]))

    np.testing.assert_array_equal(np.asarray(decode(PICTURES[name])), np.asarray(seen))


def test_the_models_size_is_height_by_width() -> None:
    assert to_input(Image.new("RGB", (100, 300)), (28, 20)).shape == (28, 20, 3)


def test_resizing_antialiases() -> None:
    """A fine chequerboard becomes its mean; picking single pixels of it would give stripes of black and white."""
    board = Image.fromarray((np.indices((256, 256)).sum(0) % 2 * 255).astype(np.uint8)).convert("RGB")

    small = to_input(board, (16, 16))

    np.testing.assert_allclose(small, 127.5, atol=2)


def test_a_heat_map_is_bright_where_the_class_was_found() -> None:
    found = np.zeros((4, 4), np.float32)
    found[:, 2:] = 5

    shown = np.asarray(overlay(Image.new("RGB", (80, 80), "grey"), found, 5.0).convert("L"), dtype=float)

    assert shown.shape == (80, 80)
    assert shown[:, 60:].mean() > 2 * shown[:, :20].mean()


def test_a_class_that_was_not_found_has_no_heat() -> None:
    plain = overlay(Image.new("RGB", (80, 80), "grey"), np.full((4, 4), -1, np.float32), 0.0)

    assert len(plain.getcolors()) == 1


def test_a_very_large_jpeg_is_decoded_smaller_and_looks_the_same_to_the_model() -> None:
    small = Image.effect_noise((42, 42), 80).convert("RGB")
    large = small.resize((4200, 4200), Image.Resampling.BICUBIC)
    data = encoded(large, "JPEG", quality=95)

    found = decode(data)

    assert found.size == (2100, 2100)
    whole = to_input(Image.open(io.BytesIO(data)).convert("RGB"), (224, 160))
    np.testing.assert_allclose(to_input(found, (224, 160)).astype(int), whole.astype(int), atol=2)


def test_a_photo_with_a_video_behind_it_is_read():
    """Phones append seconds of video to a JPEG; its bytes look like markers at times."""
    buffer = io.BytesIO()
    Image.effect_noise((300, 200), 60).save(buffer, "JPEG")
    assert decode(buffer.getvalue() + b"\xff\xda" * 100).size == (300, 200)
