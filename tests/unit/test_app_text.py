"""Text from elsewhere stays text wherever it is shown or written."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import text
from app.page.labels import groups

# Names that people and attackers give to files and labels.
NAMES = [
    "=1+1",
    "\t=1",
    "\n=1",
    "  =1",
    "＝1+1",
    "\ufeff=1",
    "\u00a0=1",
    "\u200d=1",
    "x;=cmd|' /C calc'!A0;.jpg",
    "x\t=1+1\t.jpg",
    "x,-2+3",
    "|=1",
    '"=1',
    'x;"=1',
    "@SUM(A1)",
    "x;\u200b+1",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_no_cell_is_a_formula_whichever_separator_is_used(name: str, delimiter: str) -> None:
    buffer = io.StringIO()
    csv.writer(buffer).writerow([text.csv_cell(name), text.csv_cell("plain")])

    for row in csv.reader(io.StringIO(buffer.getvalue()), delimiter=delimiter):
        for cell in row:
            assert cell.strip("\" '")[:1] not in tuple("=+-@＝＋－＠") or "'" in cell[:3], cell


@given(st.text())
def test_any_text_is_one_line_that_can_be_encoded(value: str) -> None:
    for made in (text.one_line(value), text.markdown(value), text.markup(value), text.csv_cell(value)):
        made.encode()
        assert not set(made) & set("\r\n\t\0\u202e\u2066\ufeff")


@given(st.text())
def test_any_text_becomes_a_file_name(value: str) -> None:
    name = text.file_name(value, "image")

    assert name
    assert len(name.encode()) <= 180
    assert not set(name) & set('/\\:*?"<>|\0\n')
    assert not name.startswith((".", " "))
    assert not name.endswith((".", " "))
    assert name.split(".")[0].upper() not in ("CON", "NUL", "COM1")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("con.png", "_con.png"),
        ("..", "image"),
        ("a/b\\c:d.png", "a_b_c_d.png"),
        ("photo\u202egpj.exe", "photogpj.exe"),
        ("猫 über.jpg", "猫 über.jpg"),
        ("n" * 500 + ".jpeg", "n" * 175 + ".jpeg"),
    ],
)
def test_file_names_keep_what_every_file_system_takes(given: str, expected: str) -> None:
    assert text.file_name(given, "image") == expected


def test_a_long_name_is_shortened() -> None:
    assert text.one_line("n" * 70_000) == "n" * 399 + "…"


def test_an_emoji_of_several_signs_stays_one() -> None:
    assert text.one_line("👩‍👧.jpg") == "👩‍👧.jpg"


def test_names_of_colors_are_a_group_of_their_own():
    assert groups(["cat", "red", "dog", "blue"]) == [("Color", ["red", "blue"]), ("Other", ["cat", "dog"])]
    assert groups(["cat", "red"]) == [("", ["cat", "red"])]
    assert groups(["red", "blue"]) == [("", ["red", "blue"])]
