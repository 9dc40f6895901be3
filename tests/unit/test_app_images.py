"""The decoder: every kind of image becomes upright RGB, and everything else one sentence."""

import io
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from app.decoding import decoders, pixels
from app.images import overlay
from app.page.grid import turn
from app.page.results import Result
from contract import images
from contract.decoding import WHOLE, Wanted
from contract.images import ImageError, Limits, TooLargeError, decode, edited, letterboxed, resize
from trainer.data.images import load_rgb

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
    ids=["gray", "bilevel", "palette", "clear gray", "clear", "translucent", "16 bit"],
)
def test_every_mode_becomes_rgb(image: Image.Image, expected: tuple[int, ...]) -> None:
    assert corner(decode(encoded(image))) == expected


def test_cmyk_becomes_rgb() -> None:
    found = decode(encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95))

    np.testing.assert_allclose(corner(found), (255, 0, 0), atol=6)


def test_a_palette_with_a_clear_color_lies_over_white() -> None:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([10, 20, 30])

    assert corner(decode(encoded(image, "GIF", transparency=0))) == (255, 255, 255)


def test_floating_point_is_scaled() -> None:
    assert corner(decode(encoded(Image.new("F", (4, 4), 0.5), "TIFF"))) == (128, 128, 128)


def test_an_animation_is_its_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]

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
        (b"\x00" * 100, "^Unsupported image format. Use JPEG, PNG, WebP, AVIF, HEIC, GIF, BMP, TIFF or PPM.$"),
        (b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", "^Unsupported image format SVG. Use JPEG"),
        (b"\x00\x00\x00\x18ftypheic" + b"\x00" * 30, "damaged or incomplete"),
        (b"\x00\x00\x00\x0cJXL \r\n\x87\n" + b"\x00" * 30, "^Unsupported image format JPEG XL. Use JPEG"),
        (b"\xff\x0a" + b"\x00" * 30, "^Unsupported image format JPEG XL. Use JPEG"),
        (b"\x00\x00\x00\x0cjP  \r\n\x87\n" + b"\x00" * 30, "^Unsupported image format JPEG 2000. Use JPEG"),
        (b"8BPS\x00\x01" + b"\x00" * 30, "^Unsupported image format PSD. Use JPEG"),
        (b"<!DOCTYPE html><p>hello", "^This is a web page, not an image. Use JPEG"),
        (b"%PDF-1.7", "^This is a PDF document, not an image. Use JPEG"),
        (b"\x00\x00\x00\x18ftypisom" + b"\x00" * 30, "^This is an MP4 or QuickTime video, not an image."),
        (encoded(Image.effect_noise((64, 64), 50), "JPEG")[:900], "damaged or incomplete"),
        (encoded(Image.effect_noise((64, 64), 50))[:900], "damaged or incomplete"),
    ],
    ids=[
        *("empty", "zeros", "svg", "broken heic", "jpeg xl", "jpeg xl stream", "jpeg 2000", "psd"),
        *("html", "pdf", "video", "cut jpeg", "cut png"),
    ],
)
def test_what_is_no_picture_gets_a_sentence(data: bytes, said: str) -> None:
    with pytest.raises(ImageError, match=said):
        decode(data)


@pytest.mark.parametrize(("side", "said"), [(12_000, "12000 × 12000 pixels"), (60_000, "larger than 50 megapixels")])
def test_a_decompression_bomb_is_not_decoded(bomb: Callable[[int, int], bytes], side: int, said: str) -> None:
    with pytest.raises(ImageError, match=said):
        decode(bomb(side, side))


def test_an_icon_is_not_decoded_either(bomb: Callable[[int, int], bytes]) -> None:
    """Pillow decodes the PNG in an icon while it opens it, up to 178 megapixels, before its size can be judged."""
    data = bomb(12_000, 12_000)
    head = struct.pack("<HHHBBBBHHII", 0, 1, 1, 0, 0, 0, 0, 1, 32, len(data), 22)

    with pytest.raises(ImageError, match=r"^Unsupported image format ICO\. "):
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


def pictures() -> dict[str, bytes]:
    """A file of every mode and depth that can be stored."""
    ramp = np.linspace(0, 1, 32 * 32).reshape(32, 32)
    grays = {
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
    found = {name: encoded(Image.fromarray(values), "TIFF") for name, values in grays.items()}
    for name in ("16-bit", "16-bit dark"):
        found[f"{name} PNG"] = encoded(Image.fromarray(grays[name]))
        found[f"{name} PPM"] = encoded(Image.fromarray(grays[name]), "PPM")
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 4), np.uint8))
    for mode in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"):
        for kind in ("PNG", "TIFF", "WEBP", "GIF", "JPEG"):
            with suppress(OSError, ValueError):  # no format has all
                found[f"{mode} {kind}"] = encoded(noise.convert(mode), kind)
    found["RGB PNG with a clear color"] = encoded(noise.convert("RGB"), transparency=noise.getpixel((0, 0))[:3])
    found["16-bit PNG with a clear gray"] = encoded(Image.fromarray(grays["16-bit"]), transparency=0)
    return found


PICTURES = pictures()


@pytest.mark.parametrize("name", PICTURES)
def test_the_app_sees_what_the_trainer_sees(name: str) -> None:
    """Through a worker process, and at the size of the model's input."""
    seen = resize(load_rgb(io.BytesIO(PICTURES[name])), (28, 20))

    decoded = decoders.decode(PICTURES[name], Wanted(size=(28, 20), rgb=1000))

    np.testing.assert_array_equal(pixels(decoded, (28, 20)), np.asarray(seen))
    whole = Image.frombuffer("RGB", decoded.rgb_size, decoded.rgb)
    np.testing.assert_array_equal(np.asarray(whole), np.asarray(load_rgb(io.BytesIO(PICTURES[name]))))


@pytest.mark.parametrize("name", PICTURES)
def test_an_image_is_the_same_whatever_is_converted_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = np.asarray(decode(PICTURES[name]))
    monkeypatch.setattr(images, "STRIP_PIXELS", 200)

    np.testing.assert_array_equal(np.asarray(decode(PICTURES[name])), expected)


def exif(*tags: tuple[int, int, int, bytes]) -> bytes:
    """EXIF with some tags (number, type, count, value), some of them wrong."""
    head = b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(tags))
    at, entries, values = 8 + 2 + 12 * len(tags) + 4, b"", b""
    for number, kind, count, value in tags:
        if len(value) <= 4:
            entries += struct.pack("<HHI", number, kind, count) + value.ljust(4, b"\0")
        else:
            entries += struct.pack("<HHII", number, kind, count, at + len(values))
            values += value
    return head + entries + b"\0\0\0\0" + values


SIDEWAYS = (0x112, 3, 1, struct.pack("<H", 6))
ODD_TAGS = {
    "resolution as text": (0x11A, 2, 8, b"72 dpi\0\0"),
    "resolution as a number": (0x11A, 3, 1, struct.pack("<H", 72)),
    "two resolutions": (0x11A, 5, 2, struct.pack("<4I", 72, 1, 72, 1)),
    "divided by zero": (0x11A, 10, 1, struct.pack("<ii", -1, 0)),
    "artist as a number": (0x13B, 12, 1, struct.pack("<d", 1.5)),
    "GPS far away": (0x8825, 13, 1, struct.pack("<I", 0xFFFFFFF0)),
    "EXIF as text": (0x8769, 2, 4, b"abc\0"),
    "maker note as a directory": (0x927C, 4, 1, struct.pack("<I", 8)),
    "unknown type": (0x10F, 77, 3, b"abc\0"),
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("tag", ODD_TAGS.values(), ids=ODD_TAGS)
def test_an_odd_tag_neither_damages_an_image_nor_leaves_it_on_its_side(tag: tuple, kind: str, tmp_path: Path) -> None:
    image = Image.new("RGB", (20, 10), "blue")
    image.paste("red", (0, 0, 10, 10))
    data = encoded(image, kind, exif=exif(SIDEWAYS, tag), quality=95)
    (tmp_path / "odd").write_bytes(data)

    for found in (decode(data), load_rgb(tmp_path / "odd")):
        assert found.size == (10, 20)
        np.testing.assert_allclose(corner(found), (254, 0, 0), atol=10)


def test_an_avif_with_an_odd_tag_is_turned_upright() -> None:
    data = encoded(Image.new("RGB", (20, 10)), "AVIF", exif=exif(SIDEWAYS, (0x13B, 2, 8, b"somebody")))
    text = struct.pack("<HHI", 0x13B, 2, 9)
    assert text in data

    assert decode(data.replace(text, struct.pack("<HHI", 0x13B, 12, 1))).size == (10, 20)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
@pytest.mark.parametrize("unit", [2, 3])
def test_a_tiff_with_an_odd_resolution_is_turned_upright(compression: str, unit: int) -> None:
    tags = {0x112: 6, 0x11A: 72, 296: unit}
    data = encoded(Image.new("RGB", (20, 10)), "TIFF", compression=compression, tiffinfo=tags)
    at = data.index(struct.pack("<HH", 0x11A, 5))
    data = data[:at] + struct.pack("<HHI4s", 0x11A, 2, 4, b"abc\0") + data[at + 12 :]

    assert decode(data).size == (10, 20)


@pytest.mark.parametrize("chunk", [b"zTXt", b"iTXt", b"iCCP", b"tEXt"])
def test_a_png_is_read_in_spite_of_a_text_that_unpacks_to_megabytes(chunk: bytes) -> None:
    packed = zlib.compress(bytes(100_000_000))
    body = {
        b"zTXt": b"Comment\0\0" + packed,
        b"iTXt": b"Comment\0\1\0\0\0" + packed,
        b"iCCP": b"Profile\0\0" + packed,
        b"tEXt": b"Comment\0" + bytes(5_000_000),
    }[chunk]
    data = encoded(Image.new("RGB", (8, 8), "red"))
    extra = struct.pack(">I", len(body)) + chunk + body + struct.pack(">I", zlib.crc32(chunk + body))

    assert corner(decode(data[:33] + extra + data[33:])) == (255, 0, 0)


@pytest.mark.parametrize("name", ["EPS", "PCX", "TGA", "SGI", "DIB", "ICO", "JPEG2000"])
def test_a_format_that_is_not_offered_is_not_opened(name: str) -> None:
    """Pillow has readers for them: some are slow, some start other programs, none is needed."""
    data = encoded(Image.new("RGB", (16, 16)), name)

    with pytest.raises(ImageError, match=r"^Unsupported image format"):
        decode(data)


def test_an_image_that_needs_too_much_memory_is_refused_by_its_header() -> None:
    data = encoded(Image.new("RGB", (2000, 2000)), "WEBP", lossless=True)

    with pytest.raises(TooLargeError, match="2000 × 2000 pixels, which takes 80 MB to decode; at most 50 MB"):
        decode(data, Limits(memory=50_000_000))


def test_the_models_size_is_height_by_width() -> None:
    assert resize(Image.new("RGB", (100, 300)), (28, 20)).size == (20, 28)


def test_resizing_antialiases() -> None:
    """A fine chequerboard becomes its mean; picking single pixels of it would give stripes of black and white."""
    board = Image.fromarray((np.indices((256, 256)).sum(0) % 2 * 255).astype(np.uint8)).convert("RGB")

    small = resize(board, (16, 16))

    np.testing.assert_allclose(np.asarray(small), 127.5, atol=2)


@pytest.mark.parametrize("quarters", range(4))
def test_an_image_is_turned_clockwise_and_then_cut(quarters: int) -> None:
    image = Image.new("RGB", (40, 20), "blue")
    image.paste("red", (0, 0, 10, 10))  # in the upper left corner
    corner = [(0, 0, 0.25, 0.5), (0.5, 0, 1, 0.25), (0.75, 0.5, 1, 1), (0, 0.75, 0.5, 1)][quarters]

    found = edited(image, quarters, corner)

    assert found.getcolors() == [(100, (255, 0, 0))]
    assert edited(image, quarters, WHOLE).size == ((40, 20), (20, 40))[quarters % 2]
    assert edited(image, quarters, (0.999, 0.999, 1, 1)).size == (1, 1)
    result = Result("", b"", crop=(0, 0, 0.25, 0.5))
    turn("", result, quarters)
    assert result.turn == quarters
    assert result.crop == pytest.approx(corner)


@pytest.mark.parametrize("size", [(80, 40), (30, 90), (64, 64), (1, 500)])
def test_a_letterbox_keeps_the_proportions_between_gray_bars(size: tuple[int, int]) -> None:
    found = np.asarray(resize(Image.new("RGB", size, "red"), (48, 32), letterbox=True))

    left, top, right, bottom = letterboxed(size, (48, 32))
    assert found.shape == (48, 32, 3)
    assert abs((right - left) / (bottom - top) - size[0] / size[1]) < 0.15
    assert (found[top:bottom, left:right] == (255, 0, 0)).all()
    assert (found == 127).all(2).sum() == 48 * 32 - (right - left) * (bottom - top)
    assert abs(top - (48 - bottom)) <= 1
    assert abs(left - (32 - right)) <= 1


def asked(letterbox: bool = False) -> SimpleNamespace:
    """What a heat map needs to know of a model."""
    return SimpleNamespace(classes=["a"], input_size=(16, 16), letterbox=letterbox)


def test_a_heat_map_is_bright_where_the_class_was_found() -> None:
    found = np.zeros((1, 4, 4), np.float32)
    found[:, :, 2:] = 5

    shown = np.asarray(overlay(Image.new("RGB", (80, 80), "gray"), asked(), found, "a").convert("L"), dtype=float)

    assert shown.shape == (80, 80)
    assert shown[:, 60:].mean() > 2 * shown[:, :20].mean()


def test_a_heat_map_of_a_letterbox_leaves_its_bars_out() -> None:
    found = np.zeros((1, 4, 4), np.float32)
    found[:, 1] = 5  # the upper half of an image that is twice as wide as high
    found[:, [0, 3]] = 9

    shown = overlay(Image.new("RGB", (160, 80), "gray"), asked(letterbox=True), np.minimum(found, 5), "a")

    heat = np.asarray(shown.convert("L"), dtype=float)
    assert heat[:30].mean() > 2 * heat[50:70].mean()


def test_a_class_that_was_not_found_has_no_heat() -> None:
    plain = overlay(Image.new("RGB", (80, 80), "gray"), asked(), np.full((1, 4, 4), -1, np.float32), "a")

    assert len(plain.getcolors()) == 1


def test_a_very_large_jpeg_is_decoded_smaller_and_looks_the_same_to_the_model() -> None:
    small = Image.effect_noise((42, 42), 80).convert("RGB")
    large = small.resize((4200, 4200), Image.Resampling.BICUBIC)
    data = encoded(large, "JPEG", quality=95)

    found = decode(data)

    assert found.size == (2100, 2100)
    whole = resize(Image.open(io.BytesIO(data)).convert("RGB"), (224, 160))
    np.testing.assert_allclose(np.asarray(resize(found, (224, 160)), int), np.asarray(whole, int), atol=2)


def test_a_photo_with_a_video_behind_it_is_read():
    """Phones append seconds of video to a JPEG; its bytes look like markers at times."""
    buffer = io.BytesIO()
    Image.effect_noise((300, 200), 60).save(buffer, "JPEG")
    assert decode(buffer.getvalue() + b"\xff\xda" * 100).size == (300, 200)
