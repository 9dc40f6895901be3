"""Metadata of a model file: what the API and the page could not show is refused, and nothing makes the reader fail."""

import html
import json
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from contract.model import KEYS, ModelError, macro_f1, printable, read_metadata

GOOD = {"format": "1", "classes": '["a", "b"]', "input_size": "[8, 8]", "thresholds": "[0.5, 0.5]"}


def read(**texts: str) -> dict:
    """The metadata of a file in which some properties are replaced."""
    return read_metadata({f"manasight.{key}": text for key, text in (GOOD | texts).items()}, "file")


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ({"classes": r'["\ud800", "b"]'}, "cannot be shown"),
        ({"classes": r'["a\u0000", "b"]'}, "cannot be shown"),
        ({"classes": r'["a\u202eb", "b"]'}, "cannot be shown"),
        ({"classes": r'["a\u2028b", "b"]'}, "cannot be shown"),
        ({"classes": r'["\u00e9", "e\u0301"]'}, "different names"),
        ({"classes": json.dumps(["x" * 201, "b"])}, "more than 200 characters"),
        ({"classes": json.dumps([str(number) for number in range(5001)])}, "at most 5000"),
        ({"classes": json.dumps(["x" * 5_000_000, "b"])}, "larger than 4 MB"),
        ({"thresholds": "[NaN, 0.5]"}, "manasight.thresholds"),
        ({"thresholds": "[1e999, 0.5]"}, "manasight.thresholds"),
        ({"thresholds": "[1" + "0" * 400 + ", 0.5]"}, "manasight.thresholds"),
        ({"input_size": "[1" + "0" * 5000 + ", 8]"}, "manasight.input_size"),
        ({"metrics": "[" * 200_000}, "is not JSON"),
        ({"metrics": '{"a":' + "[" * 900 + "]" * 900 + "}"}, "levels"),
        ({"metrics": '{"a": 1, "a": 2}'}, "is not JSON"),
        ({"metrics": r'{"a": "\udfff"}'}, "cannot be shown"),
        ({"metrics": r'{"\udfff": 1}'}, "cannot be shown"),
        ({"metrics": json.dumps({"a": [0] * 30_000})}, "20000 values"),
        ({"run_id": json.dumps("x" * 300)}, "run_id"),
        ({"git_commit": r'"a\u200fb"'}, "invisible"),
        ({"format": "true"}, "has format true"),
        ({"format": "3"}, "reads formats 1 and 2"),
        ({"letterbox": "1"}, "must be true or false"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value,
)
def test_what_could_not_be_shown_is_refused(texts: dict[str, str], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        read(**texts)


@pytest.mark.parametrize("value", ["1e999", "NaN", "-Infinity", "1" + "0" * 400, "true", '"0.9"', "null"])
def test_a_score_that_is_not_a_number_counts_as_not_measured(value: str) -> None:
    found = read(metrics='{"test": {"macro_f1": ' + value + "}}")

    assert macro_f1(found["metrics"]) is None
    json.dumps(found, allow_nan=False)


def test_an_unknown_property_is_ignored() -> None:
    assert "added_later" not in read(added_later="not JSON")


def test_a_message_has_one_bounded_line() -> None:
    assert printable("a\n\x1b[31m\u202eb" + "x" * 1000, 20) == "a [31m b" + "x" * 11 + "…"


texts = st.text(st.characters(), max_size=6)
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
).map(json.dumps)
broken = st.text(st.sampled_from('[]{}",:0123456789eE+-.\\udTrueNaN'), max_size=30)


@settings(max_examples=400, deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), documents | broken, max_size=4))
@example({"classes": '["\\udc80", "a"]'})
@example({"classes": '["\\u001f\\ud823\\udcd6"]'})  # a character that this Python does not know yet
def test_any_metadata_is_refused_with_a_sentence_or_can_be_shown(texts: dict[str, str]) -> None:
    started = time.process_time()
    sentence, found = "", {}
    try:
        found = read(**texts)
    except ModelError as error:
        sentence = str(error)
    assert time.process_time() - started < 1
    if sentence:
        assert sentence.startswith("file")
        assert sentence.isprintable()
        return
    json.dumps(found, ensure_ascii=False, allow_nan=False).encode()
    html.escape("".join(found["classes"])).encode()
    score = macro_f1(found.get("metrics") or {})
    assert score is None or f"{score:.3f}"
