"""Reading multipart/form-data: what many clients send is read, whatever else comes is one sentence, and soon."""

import contextlib
import re
import time

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from urllib3.filepost import encode_multipart_formdata

from app.api.forms import FormError, TooManyPartsError, boundary_of, read_files

thorough = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
BYTES = b"\xff\xd8 image \r\n--XXY \r\n-"


def form(*parts: bytes, line: bytes = b"\r\n", end: bytes = b"--XX--\r\n") -> bytes:
    """A body with the boundary XX."""
    return b"".join(b"--XX" + line + part + line for part in parts) + end


def part(disposition: bytes, data: bytes = BYTES, line: bytes = b"\r\n", more: bytes = b"") -> bytes:
    """One part of a form."""
    return b"Content-Disposition: form-data; " + disposition + line + more + line + data


def read(body: bytes) -> list[tuple[str, bytes]]:
    """Names and bytes of the files in a form with the boundary XX."""
    return [(file.name, file.data) for file in read_files(body, "XX", max_files=3, max_fields=2)]


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        (b'name="file"; filename="a.jpg"', "a.jpg"),
        (b"name=file; filename=a.jpg", "a.jpg"),
        ('name="file"; filename="猫 über.jpg"'.encode(), "猫 über.jpg"),
        (b'name="file"; filename="\xfcber.jpg"', "über.jpg"),
        (b"name=file; filename=\"=?utf-8?B?w7xiZXI=?=\"; filename*=utf-8''%C3%BCber.jpg", "über.jpg"),
        (b'name="file"; filename="C:\\Users\\me\\a.jpg"', "a.jpg"),
        (b'name="file"; filename="C:\\\\Users\\\\me\\\\a.jpg"', "a.jpg"),
        (b'name="file"; filename="say \\"cheese\\".jpg"', 'say "cheese".jpg'),
        (b'name="file"; filename="folder/a.jpg"', "folder/a.jpg"),
        (b'name="file"; filename="a;b.jpg"', "a;b.jpg"),
        (b'name="file"; filename=""', ""),
    ],
)
def test_names_are_read_however_clients_write_them(disposition: bytes, name: str) -> None:
    assert read(form(part(disposition))) == [(name, BYTES)]


def test_a_part_without_a_file_name_is_an_image_if_its_type_says_so() -> None:
    body = form(part(b'name="file"', more=b"Content-Type: image/jpeg\r\n"), part(b'name="note"', b"text"))

    assert read(body) == [("", BYTES)]


def test_text_before_and_after_the_form_is_ignored() -> None:
    body = b"This is a multi-part message.\r\n" + form(part(b"name=f; filename=a"), end=b"--XX--\r\nepilogue --XX")

    assert read(body) == [("a", BYTES)]


def test_lines_may_end_in_line_feeds() -> None:
    assert read(form(part(b"name=f; filename=a", b"data\n", b"\n"), line=b"\n", end=b"--XX--")) == [("a", b"data\n")]


def test_spaces_behind_a_boundary_are_allowed() -> None:
    assert read(b"--XX \t\r\n" + part(b"name=f; filename=a", b"data") + b"\r\n--XX-- ") == [("a", b"data")]


def test_empty_files_keep_their_places() -> None:
    body = form(part(b"name=f; filename=a", b""), part(b"name=f; filename=b", b"x"))

    assert read(body) == [("a", b""), ("b", b"x")]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "does not occur"),
        (b"nothing", "does not occur"),
        (b"--XX", "not at the end of its line"),
        (b"--XXY\r\n\r\nx\r\n--XX--", "not at the end of its line"),
        (b"--XX\r\nContent-Dispo", "cut off"),
        (b"--XX\r\n" + b"A: b\r\n" * 5000 + b"\r\nx\r\n--XX--", "larger than 16 KB"),
        (form(part(b"name=f; filename=a"), end=b""), "cut off before its end"),
        (form(*[part(b"name=f", b"x")] * 3), "Too many fields"),
        (form(part(b"name=f; filename=a", b"\r\n--XXY" * 1001)), "choose another"),
    ],
    ids=["empty", "no form", "lone", "longer", "cut head", "long head", "cut", "fields", "near misses"],
)
def test_a_broken_form_is_one_sentence(body: bytes, said: str) -> None:
    with pytest.raises(FormError, match=re.escape(said)):
        read(body)


def test_more_files_than_allowed_have_an_error_of_their_own() -> None:
    with pytest.raises(TooManyPartsError, match="At most 3 images"):
        read(form(*[part(b"name=f; filename=a", b"x")] * 4))


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=XX", "XX"),
        ('multipart/form-data; charset=undefined; BOUNDARY="8d9 x"; x=y', "8d9 x"),
        ("multipart/form-data;boundary=----WebKitFormBoundary7MA", "----WebKitFormBoundary7MA"),
    ],
)
def test_the_boundary_is_found(content_type: str, boundary: str) -> None:
    assert boundary_of(content_type) == boundary


@pytest.mark.parametrize("rest", ["", "; boundary=", '; boundary=""', "; boundary=é", f"; boundary={'B' * 201}"])
def test_a_boundary_that_cannot_be_used_is_one_sentence(rest: str) -> None:
    with pytest.raises(FormError, match=r"boundary .*\.$"):
        boundary_of("multipart/form-data" + rest)


@pytest.mark.parametrize(
    "filler", [b"\r", b"\r\n", b"\r\n--X", b"\r\n--", b"-", b"--XX", b'\\"', b";", b"filename=", b'"\\']
)
def test_repeated_bytes_take_linear_time(filler: bytes) -> None:
    """Four megabytes of what the parser looks for, as data, as a head and as a preamble."""
    many = filler * (4 * 1024**2 // len(filler))
    started = time.process_time()

    for body in (form(part(b"name=f; filename=a", many)), form(part(b"name=f; " + many)), many + b"\r\n--XX--"):
        with contextlib.suppress(FormError):
            read(body)

    assert time.process_time() - started < 1


names = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters='"\\'), min_size=1, max_size=30)


@thorough
@given(st.lists(st.tuples(names, st.binary(max_size=300)), min_size=1, max_size=3))
def test_what_urllib3_writes_is_read_back(files: list[tuple[str, bytes]]) -> None:
    body, content_type = encode_multipart_formdata([("f", (name, data, "image/png")) for name, data in files])

    found = read_files(body, boundary_of(content_type), max_files=3, max_fields=0)

    assert [(file.name, file.data) for file in found] == files


tokens = st.sampled_from(
    [
        b"--XX",
        b"--XX--",
        b"\r\n",
        b"\n",
        b"\r",
        b"--",
        b"Content-Disposition: form-data; ",
        b'filename="',
        b'"',
        b"\\",
        b"filename*=utf-8''%",
        b"name=",
        b";",
        b":",
        b"Content-Type: image/png",
        b"\x00",
        b"\xff\xfe",
        b" \t",
    ]
)


@thorough
@given(st.lists(tokens | st.binary(max_size=8), max_size=40).map(b"".join))
@example(b"--XX\r\n\r\n--XX--")
@example(b"--XX\n--XX--")
def test_any_bytes_are_files_or_one_sentence(body: bytes) -> None:
    sentence = "."
    found = []
    try:
        found = read(body)
    except FormError as error:
        sentence = str(error)
    assert re.fullmatch(r"[^\n]*\.", sentence)
    assert sum(len(data) for _, data in found) <= len(body)
    assert all(name.encode() is not None for name, _ in found)


@thorough
@given(st.text(max_size=80))
@example(";boundary=\\")
def test_any_content_type_has_a_boundary_or_one_sentence(rest: str) -> None:
    sentence, boundary = ".", "none"
    try:
        boundary = boundary_of("multipart/form-data;" + rest)
    except FormError as error:
        sentence = str(error)
    assert sentence.endswith(".")
    assert re.fullmatch("[ -~]+", boundary)
