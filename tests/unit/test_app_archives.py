"""Zips that people send and get: hostile ones do no harm, and what goes out trains again."""

import io
import zipfile
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from hostile_files import HEIC_HALVES, encoded
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from app import archives
from app.archives import ArchiveError, is_zip, members, separator_for
from app.images import ImageError
from trainer.data.images import load_rgb
from trainer.data.walk import sort_out, walk

LIME = Image.new("RGB", (8, 8), "lime")


def png(color: str = "red") -> bytes:
    """A small picture."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), color).save(buffer, "PNG")
    return buffer.getvalue()


def zipped(members: Iterable[tuple[str | zipfile.ZipInfo, bytes]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip of some files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data, method)
    return buffer.getvalue()


def unpack(data: bytes) -> list[tuple[str, bytes | ImageError]]:
    """Name and content of every member of a zip, or why it is not read."""
    found: list[tuple[str, bytes | ImageError]] = []
    for member in members(data):
        try:
            found.append((member.name, member.read()))
        except ImageError as error:
            found.append((member.name, error))
    return found


def reasons(data: bytes) -> list[str]:
    """Why the members of a zip are not read."""
    return [str(content) for _, content in unpack(data) if isinstance(content, ImageError)]


def pack(images: Iterable[tuple[str, bytes, list[str]]], separator: str) -> bytes:
    """The zip of some images in memory."""
    readable = ((name, partial(bytes, data), labels) for name, data, labels in images)
    return b"".join(archives.pack(readable, separator))


def test_pictures_come_out_by_name() -> None:
    data = zipped([("a.png", png("red")), ("sub/b.png", png("blue"))])

    assert is_zip(data)
    assert unpack(data) == [("a.png", png("red")), ("sub/b.png", png("blue"))]


def test_hidden_files_and_folders_are_left_out() -> None:
    data = zipped([("__MACOSX/._a.png", b"x"), (".DS_Store", b"x"), ("sub/.hidden/a.png", b"x"), ("dir/", b"")])

    assert members(data) == []


def test_a_member_whose_name_begins_with_a_zero_byte_is_read() -> None:
    data = zipped([("a.png", png("red")), ("b.png", png("blue"))]).replace(b"a.png", b"\0.png")

    assert unpack(data) == [("unnamed", png("red")), ("b.png", png("blue"))]


def test_a_path_that_leads_out_is_only_a_name() -> None:
    ((name, content),) = unpack(zipped([("../../etc/passwd.png", png())]))

    assert (name, content) == ("../../etc/passwd.png", png())


def test_a_zip_within_a_zip_is_not_opened() -> None:
    assert reasons(zipped([("inner.zip", zipped([("a.png", png())]))])) == ["A zip within a zip is not opened."]


def test_an_encrypted_member_is_named() -> None:
    data = bytearray(zipped([("a.png", png())]))
    data[6] |= 1  # the local header's flag
    data[data.index(b"PK\x01\x02") + 8] |= 1  # the directory's flag

    (reason,) = reasons(bytes(data))

    assert "encrypted" in reason


def test_a_link_is_named() -> None:
    link = zipfile.ZipInfo("a.png")
    link.external_attr = 0o120777 << 16

    assert reasons(zipped([(link, b"/etc/passwd")])) == ["It is a link, not an image."]


def test_one_damaged_member_leaves_the_others() -> None:
    data = bytearray(zipped([("a.png", png("red")), ("b.png", png("blue"))], zipfile.ZIP_STORED))
    data[data.index(png("red")) + 40] ^= 0xFF

    (_, broken), (_, whole) = unpack(bytes(data))

    assert isinstance(broken, ImageError)
    assert whole == png("blue")


def test_a_bomb_is_refused_before_anything_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_UNPACKED", 3 * 1024**2)

    with pytest.raises(ArchiveError, match="more than 3 MB"):
        members(zipped((f"{i}.png", bytes(2 * 1024**2)) for i in range(2)))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_method_that_unpacks_without_a_limit_is_not_used(method: int) -> None:
    assert "unsupported method" in reasons(zipped([("a.png", bytes(50 * 1024**2))], method))[0]


@pytest.mark.parametrize("step", [0, 40])
def test_members_that_overlap_are_refused(step: int) -> None:
    """As zip bombs do: a thousand entries that all unpack the same bytes, or bytes within each other's."""
    data = bytearray(zipped([("a.png", bytes(200)), ("b.png", bytes(200))], zipfile.ZIP_STORED))
    second = data.rindex(b"PK\x01\x02")
    data[second + 42 : second + 46] = step.to_bytes(4, "little")

    with pytest.raises(ArchiveError, match="overlap"):
        members(bytes(data))


def test_a_member_that_lies_about_its_size_is_not_unpacked_further() -> None:
    data = bytearray(zipped([("a.png", bytes(30 * 1024**2))]))
    for place in (data.index(b"PK\x03\x04") + 22, data.index(b"PK\x01\x02") + 24):
        data[place : place + 4] = (100).to_bytes(4, "little")

    ((_, content),) = unpack(bytes(data))

    assert isinstance(content, ImageError) or len(content) <= 100


def test_a_member_too_large_for_an_image_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_BYTES", 1024**2)

    assert reasons(zipped([("a.png", bytes(2 * 1024**2))])) == ["It has more than 1 MB."]


def test_names_of_any_length_are_not_kept() -> None:
    data = zipped((f"{'n' * 65_000}{i}.png", png()) for i in range(10))

    found = members(data)

    assert {len(member.name) for member in found} == {archives.MAX_NAME}
    assert reasons(data) == ["Its name is too long."] * 10


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_zip_raises_nothing_unexpected(found: st.DataObject) -> None:
    method = found.draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA]))
    data = bytearray(zipped([("a.png", b"1" * 500), ("b.png", b"2" * 50)], method))
    for place in found.draw(st.lists(st.integers(0, len(data) - 1), min_size=1, max_size=4)):
        data[place] = found.draw(st.integers(0, 255))

    with suppress(ArchiveError):
        unpack(bytes(data))


def test_too_many_members_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)

    with pytest.raises(ArchiveError, match="holds 4 files; at most 3"):
        members(zipped((f"{i}.png", b"x") for i in range(4)))


@pytest.mark.parametrize("data", [b"PK\x03\x04", b"PK\x03\x04" + b"\x00" * 100, zipped([("a.png", png())])[:-10]])
def test_a_damaged_zip_gets_a_sentence(data: bytes) -> None:
    with pytest.raises(ArchiveError, match="damaged"):
        members(data)


def test_labeled_pictures_go_into_the_folders_of_their_labels() -> None:
    data = pack([("x/card.png", png(), ["red", "creature"]), ("none.png", png(), [])], "-")

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.namelist() == ["creature-red/card.png", "_none/none.png"]
        assert archive.read("creature-red/card.png") == png()


def test_equal_names_are_kept_apart() -> None:
    pictures = [("a/card.png", png("red"), ["red"]), ("b/Card.png", png("blue"), ["red"])]

    with zipfile.ZipFile(io.BytesIO(pack(pictures, "-"))) as archive:
        assert archive.namelist() == ["red/card.png", "red/Card-2.png"]


def test_thousands_of_equal_names_are_numbered_at_once() -> None:
    """Looking each number up from the start again would take minutes."""
    data = pack([("card.png", b"", ["red"])] * 20_000, "-")

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.namelist()[-1] == "red/card-20000.png"


def test_the_trainer_reads_what_the_app_reads_as_it_was_sent(tmp_path: Path) -> None:
    sent = {
        "a.heic": HEIC_HALVES,
        "b.avif": encoded(LIME, "AVIF"),
        "c.gif": encoded(LIME, "GIF"),
        "d": encoded(LIME, "WEBP"),
        "e.jpg_large": encoded(LIME, "JPEG"),
    }
    data = pack([(name, content, ["green"]) for name, content in sent.items()], "-")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        archive.extractall(tmp_path)

    images, skipped = sort_out(walk(tmp_path))

    assert {path.name: path.read_bytes() for path in images} == sent
    assert not skipped
    assert {load_rgb(path).size for path in images} == {LIME.size, (64, 48)}


def test_names_cannot_lead_out_of_the_folder() -> None:
    with zipfile.ZipFile(io.BytesIO(pack([("..\\..\\evil.png", png(), ["../up", "a/b"])], "+"))) as archive:
        (name,) = archive.namelist()

    assert name == "_up+a_b/evil.png"


@pytest.mark.parametrize(
    ("labels", "sign"), [(["red", "blue"], "-"), (["non-land", "red"], "+"), (["-+_~", "a"], "--")]
)
def test_the_separator_is_in_no_label(labels: list[str], sign: str) -> None:
    assert separator_for(labels) == sign


def test_a_list_of_contents_that_would_take_seconds_is_not_read() -> None:
    data = zipped([("a.png", b"")], zipfile.ZIP_STORED)
    start, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
    many = data[start:end] * 100_000
    tail = bytearray(data[end:])
    tail[12:16] = len(many).to_bytes(4, "little")

    with pytest.raises(ArchiveError, match="list of contents is too long"):
        members(data[:start] + many + bytes(tail))


def unflagged(name: bytes) -> bytes:
    """A zip of one file whose name is given as bytes, without the flag that says UTF-8."""
    place = b"x" * len(name)
    return zipped([(place.decode(), b"data")]).replace(place, name)


@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        ("猫/写真1.jpg", "utf-8"),
        ("café/größe.jpg", "utf-8"),
        ("猫/写真1.jpg", "cp932"),
        ("ネコ/表示.jpg", "cp932"),
        ("Übung/größe.jpg", "cp437"),
        ("Übung/größe.jpg", "cp850"),
    ],
)
def test_names_without_a_flag_are_decoded_as_they_were_written(name: str, encoding: str) -> None:
    (member,) = members(unflagged(name.encode(encoding)))

    assert member.name == name
    assert member.read() == b"data"
