"""Colors and phones' formats: trainer and app see the same sRGB pixels, whatever profile and container a file has."""

import itertools
import struct

import numpy as np
import pytest
from hostile_files import HEIC_HALVES, HEIC_TURNED, HEIC_WHITE, encoded, heic_that_lies
from PIL import Image, ImageCms

from contract import color, images
from contract.decoding import Decoders, Lane, Wanted
from contract.images import ImageError, Limits, TooLargeError, decode
from contract.process import WorkerLimits
from trainer.cli import main
from trainer.data.images import header_size, load_rgb

# Columns: red, green and blue as XYZ under D50, as the profiles store them.
P3 = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])
ADOBE = np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]])
SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
WHITE = np.array([0.96420, 1.0, 0.82491])
INKS = np.array([[0.02, 0.6, 0.88], [0.89, 0.05, 0.48], [1, 0.93, 0.05], [0.12, 0.11, 0.11]])  # C, M, Y and K as RGB


def linear(values: np.ndarray) -> np.ndarray:
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def levels(light: np.ndarray) -> np.ndarray:
    light = np.clip(light, 0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def profile(space: bytes, pcs: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC profile of version 2 or 4."""
    kind = b"prtr" if space == b"CMYK" else b"mntr"
    tags = {b"desc": b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(79), **tags}
    body, entries, place = b"", b"", 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        entries += name + struct.pack(">II", place + len(body), len(data))
        body += data
    head = bytearray(128)
    struct.pack_into(">I4sI4s4s4s", head, 0, place + len(body), b"lcms", 0x04200000, kind, space, pcs)
    head[36:40] = b"acsp"
    struct.pack_into(">3i", head, 68, *(round(value * 65536) for value in WHITE))
    return bytes(head) + struct.pack(">I", len(tags)) + entries + body


def xyz(values: np.ndarray) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(value * 65536) for value in values))


def display(matrix: np.ndarray, curve: bytes) -> bytes:
    colors = {name: xyz(column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), matrix.T, strict=True)}
    return profile(
        b"RGB ", b"XYZ ", {b"wtpt": xyz(WHITE), **colors, **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)}
    )


def gamma(value: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(value * 256)) + bytes(2)


def srgb_curve() -> bytes:
    numbers = (round(value * 65536) for value in (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045))
    return b"para" + bytes(4) + struct.pack(">HH5i", 3, 0, *numbers)


def printer() -> bytes:
    """Inks that multiply: what Lab says at the 16 corners."""
    nodes = []
    for inks in itertools.product((0, 1), repeat=4):
        light = linear(np.prod(np.where(np.array(inks)[:, None], INKS, 1), axis=0))
        x, y, z = SRGB @ light / WHITE
        f = [v ** (1 / 3) if v > 216 / 24389 else (841 / 108) * v + 4 / 29 for v in (x, y, z)]
        lab = 116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])
        nodes.append([round(lab[0] * 2.55), round(lab[1] + 128), round(lab[2] + 128)])
    identity = bytes(range(256))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + struct.pack(">9i", *(65536 * np.eye(3, dtype=int)).ravel())
    table += identity * 4 + bytes(np.array(nodes, np.uint8).ravel()) + identity * 3
    return profile(b"CMYK", b"Lab ", {b"wtpt": xyz(WHITE), b"A2B0": table, b"A2B1": table})


PIXELS = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)


WIDE = {
    "Display P3": (P3, srgb_curve(), linear),
    "Adobe RGB": (ADOBE, gamma(2.19921875), lambda values: values**2.19921875),
}


def wide(name: str, kind: str) -> tuple[bytes, np.ndarray]:
    """An image with a profile of wide colors, and the sRGB pixels that the standard asks for."""
    matrix, curve, light = WIDE[name]
    image = Image.fromarray(PIXELS)
    options = {"lossless": True} if kind == "WEBP" else {}
    if kind == "RGBA":
        image.putalpha(255)
    data = encoded(image, "PNG" if kind == "RGBA" else kind, icc_profile=display(matrix, curve), **options)
    return data, levels(light(PIXELS / 255.0) @ matrix.T @ np.linalg.inv(SRGB).T)


def printed(kind: str) -> tuple[bytes, np.ndarray]:
    """An image of all 16 corners of CMYK, 8 pixels each, and the sRGB pixels that the profile asks for."""
    corners = np.array([*itertools.product((0, 255), repeat=4)], np.uint8)
    image = Image.fromarray(corners.repeat(64, 0).reshape(16, 8, 8, 4).transpose(1, 0, 2, 3).reshape(8, 128, 4), "CMYK")
    options = {"quality": 100} if kind == "JPEG" else {}
    expected = 255 * np.array([np.prod(np.where(corner[:, None], INKS, 1), axis=0) for corner in corners])
    return encoded(image, kind, icc_profile=printer(), **options), np.broadcast_to(expected.repeat(8, 0), (8, 128, 3))


@pytest.mark.parametrize("name", WIDE)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "RGBA"])
def test_wide_colors_are_converted_as_the_standard_says(name, kind, tmp_path):
    data, expected = wide(name, kind)
    (tmp_path / "x").write_bytes(data)
    found = np.asarray(decode(data), float)
    assert np.abs(found - expected).mean() <= 1
    assert np.abs(found - PIXELS).mean() > 5
    np.testing.assert_array_equal(load_rgb(tmp_path / "x"), found)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_printers_colors_are_converted(kind):
    data, expected = printed(kind)
    assert np.abs(np.asarray(decode(data), float) - expected).mean() <= 2


@pytest.mark.parametrize(
    "bad",
    [
        b"x",
        bytes(1000),
        printer(),
        display(P3, gamma(1.8))[:300],
        display(P3, b"none" + bytes(20)),
        b"\xff" * 5_000_000,
    ],
    ids=["one byte", "zeros", "of a printer", "cut", "without a curve", "5 MB"],
)
def test_a_profile_that_cannot_be_used_is_ignored(bad):
    found = decode(encoded(Image.fromarray(PIXELS), "TIFF", icc_profile=bad))
    np.testing.assert_array_equal(found, PIXELS)


def test_large_profiles_are_not_kept():
    """Eight of four megabytes would fill what a decoding process may use."""
    kept = color._kept.cache_info().currsize
    large = display(ADOBE, gamma(2.2)) + bytes(color.MAX_KEPT)
    found = decode(encoded(Image.fromarray(PIXELS), "TIFF", icc_profile=large))
    assert np.abs(np.asarray(found, int) - PIXELS).max() > 5  # it is used
    assert color._kept.cache_info().currsize == kept


def test_a_decoder_without_memory_does_not_call_an_image_damaged(monkeypatch):
    def fail(_image):
        raise OSError("could not create decoder object")  # libwebp

    monkeypatch.setattr(images, "upright_rgb", fail)
    with pytest.raises(MemoryError):
        decode(encoded(Image.fromarray(PIXELS), "WEBP"))


def test_the_usual_profile_changes_nothing():
    usual = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(PIXELS), "PNG", icc_profile=usual)), PIXELS)


def test_heic_is_read_upright_by_trainer_and_app(make_images, capsys):
    root = make_images("data", {"red": 2, "blue": 1})
    for name, data, size, upper in (("a.heic", HEIC_HALVES, (64, 48), 0), ("b.jpg", HEIC_TURNED, (48, 64), None)):
        (root / "red" / name).write_bytes(data)
        found = load_rgb(root / "red" / name)
        assert found.size == header_size(root / "red" / name) == size
        np.testing.assert_array_equal(found, decode(data))
        # Turned to the right, what was above is at the right.
        red, blue = ((5, 5), (5, 42)) if upper == 0 else ((42, 5), (5, 5))
        np.testing.assert_allclose(found.getpixel(red), (250, 10, 10), atol=12)
        np.testing.assert_allclose(found.getpixel(blue), (10, 10, 250), atol=12)
    assert main(["data", "describe", str(root), "--check"]) == 0
    assert "all 5 images are readable" in capsys.readouterr().out


def test_a_heic_obeys_the_limits():
    with pytest.raises(ImageError, match="at most 32 megapixels"):
        decode(heic_that_lies(6000))
    with pytest.raises(TooLargeError):
        decode(HEIC_WHITE, Limits(memory=50_000_000))
    with Decoders([Lane(1, WorkerLimits(memory=60 * 1024**2, seconds=5, wall_seconds=30))]) as decoders:
        with pytest.raises(ImageError, match=r"memory|damaged"):
            decoders.decode(heic_that_lies(64), Wanted(size=(32, 32)))
        assert decoders.decode(HEIC_HALVES, Wanted(size=(32, 32))).size == (64, 48)
