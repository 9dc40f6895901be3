"""Random and mutated bytes for the decoders: whatever comes in, a picture or one sentence comes out, and soon."""

import io
import os
import time
import zipfile
from contextlib import suppress
from functools import cache

import numpy as np
import pytest
from hostile_files import HEIC_TURNED
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from app.archives import ArchiveError, members, pack
from app.decoding import USUAL, batch_of, decoders
from contract.decoding import Batch, Wanted
from contract.images import ImageError, decode

# pytest undoes the filters that contract.images sets.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")

# One picture; generous, because other work may hold the machine's cores meanwhile.
SECONDS = 2.0
KINDS = (
    "JPEG",
    "PNG",
    "WEBP",
    "GIF",
    "BMP",
    "TIFF",
    "AVIF",
    "HEIC",
    "PPM",
    "progressive",
    "animation",
    "cmyk",
    "16 bit",
)
# More at night: MANASIGHT_FUZZ_EXAMPLES=20000.
EXAMPLES = int(os.environ.get("MANASIGHT_FUZZ_EXAMPLES", "250"))
thorough = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@cache
def sample(kind: str) -> bytes:
    """A small valid file of each kind."""
    noise = np.random.default_rng(1).integers(0, 255, (48, 32, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    buffer = io.BytesIO()
    match kind:
        case "progressive":
            image.save(buffer, "JPEG", progressive=True)
        case "animation":
            image.save(buffer, "GIF", save_all=True, append_images=[image.rotate(90), image.rotate(180)])
        case "cmyk":
            image.convert("CMYK").save(buffer, "TIFF", compression="tiff_lzw")
        case "HEIC":
            return HEIC_TURNED
        case "16 bit":
            Image.fromarray(noise[..., 0].astype(np.uint16) * 257).save(buffer, "PNG")
        case _:
            image.save(buffer, kind)
    return buffer.getvalue()


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A valid file with bytes changed, cut out, repeated or added."""
    data = bytearray(sample(draw(st.sampled_from(KINDS))))
    for _ in range(draw(st.integers(1, 8))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.sampled_from(["byte", "number", "cut", "drop", "repeat", "insert"])):
            case "byte":
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case "number":  # sizes and offsets are where decoders go wrong
                extremes = [b"\x00" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\x00\x00\xff\xff", b"\xff\xff\x00\x00"]
                data[at : at + 4] = draw(st.sampled_from(extremes))
            case "cut":
                del data[at:]
            case "drop":
                del data[at : at + draw(st.integers(1, 64))]
            case "repeat":
                piece = data[at : at + draw(st.integers(1, 64))]
                data[at:at] = piece * draw(st.integers(1, 16))
            case "insert":
                data[at:at] = draw(st.binary(max_size=64))
    return bytes(data)


def decodes_or_explains(data: bytes) -> None:
    """The property: an image within the limits, or one sentence; within the time, and without a worker that dies."""
    batch, deaths = Batch(10.0), decoders.counts["restarts"]
    found, sentence = None, ""
    try:
        found = decoders.decode(data, Wanted(size=(28, 20)), batch)
    except ImageError as error:
        sentence = str(error)
    assert 10.0 - batch.seconds < SECONDS
    assert decoders.counts["restarts"] == deaths
    if found is None:
        assert sentence.endswith(".")
        assert "\n" not in sentence
    else:
        assert len(found.input) == 28 * 20 * 3
        assert 0 < found.size[0] * found.size[1] <= USUAL.jpeg_pixels


@pytest.mark.parametrize("kind", KINDS)
def test_the_samples_themselves_are_read(kind: str) -> None:
    assert decode(sample(kind)).size == ((48, 64) if kind == "HEIC" else (32, 48))


@thorough
@given(mutated())
def test_mutated_pictures(data: bytes) -> None:
    decodes_or_explains(data)


@thorough
@given(st.binary(max_size=300))
@example(b"")
@example(b"\xff\xd8\xff")
def test_random_bytes(data: bytes) -> None:
    decodes_or_explains(data)


@thorough
@given(st.sampled_from(KINDS), st.binary(max_size=200))
def test_random_bytes_behind_a_true_beginning(kind: str, data: bytes) -> None:
    decodes_or_explains(sample(kind)[:32] + data)


@settings(parent=thorough, max_examples=100)
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "I;16"]),
    st.sampled_from(["PNG", "TIFF"]),
)
def test_every_size_and_mode_keeps_its_size(width: int, height: int, mode: str, kind: str) -> None:
    buffer = io.BytesIO()
    Image.new(mode, (width, height)).save(buffer, kind)

    assert decode(buffer.getvalue()).size == (width, height)


@cache
def sample_zip() -> bytes:
    """A zip with a packed, a stored and a nested file in it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.bmp", bytes(range(200)) * 9, zipfile.ZIP_DEFLATED)
        archive.writestr("folder/b.jpg", sample("JPEG"))
        archive.writestr("c.txt", b"text" * 100, zipfile.ZIP_LZMA)
    return buffer.getvalue()


@thorough
@given(st.lists(st.tuples(st.integers(0, 10**4), st.binary(min_size=1, max_size=8)), min_size=1, max_size=6))
def test_mutated_zips(changes: list[tuple[int, bytes]]) -> None:
    data = bytearray(sample_zip())
    for at, piece in changes:
        at %= len(data)
        data[at : at + len(piece)] = piece
    started = time.process_time()

    with suppress(ArchiveError):
        for member in members(bytes(data)):
            with suppress(ImageError):
                member.read()
    assert time.process_time() - started < SECONDS


names = st.text(max_size=30)


@thorough
@given(st.lists(st.tuples(names, st.lists(names.filter(bool), min_size=1, max_size=3, unique=True)), max_size=5))
@example([("..", [".."]), ("", ["/"]), ("a/../..\\b.png", ["con"]), ("B.png", ["con"])])
def test_packed_names_stay_inside_and_apart(pictures: list[tuple[str, list[str]]]) -> None:
    data = b"".join(pack([(name, lambda: sample("PNG"), labels) for name, labels in pictures], "-"))

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        found = archive.namelist()
        assert archive.testzip() is None
    assert len(found) == len(pictures)
    assert len({name.casefold() for name in found}) == len(found)
    for name in found:
        folder, _, file = name.partition("/")
        assert "/" not in file
        assert "\\" not in name
        assert folder not in ("", ".", "..")
        assert file not in ("", ".", "..")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "mode", "side", "options"),
    [
        ("PNG", "RGB", 5600, {}),
        ("PNG", "RGBA", 5600, {}),
        ("PNG", "P", 5600, {}),
        ("JPEG", "CMYK", 7000, {}),
        ("JPEG", "RGB", 7000, {"progressive": True}),
        ("TIFF", "F", 5600, {"compression": "tiff_lzw"}),
        ("WEBP", "RGB", 3600, {"lossless": True, "method": 0}),
        ("AVIF", "RGB", 3600, {"speed": 10}),
    ],
    ids=["png", "clear png", "palette png", "cmyk jpeg", "progressive jpeg", "float tiff", "webp", "avif"],
)
def test_the_largest_image_of_each_format_is_within_the_apps_limits(
    kind: str, mode: str, side: int, options: dict
) -> None:
    buffer = io.BytesIO()
    Image.new(mode, (side, side)).save(buffer, kind, **options)

    found = decoders.decode(buffer.getvalue(), Wanted(size=(224, 160), jpeg=720), batch_of(buffer.tell(), 1))

    assert min(found.size) >= min(side, 2048)
