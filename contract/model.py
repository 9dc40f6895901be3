"""The metadata of a model file, the `manasight.*` properties: read, and refused if it could not be served."""

import json
import math
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

PREFIX = "manasight."
# A file with a letterbox has the other number: a reader that knows the first alone would stretch its images.
FORMAT, LETTERBOXED = 1, 2
# Pixels of an input's longer side: larger ones would take gigabytes for one batch.
MAX_EDGE = 2048
# Every class is a row on the page and an entry of every answer.
MAX_CLASSES = 5000
# Characters of a class name, a run ID and the like, and of one property before it is parsed.
MAX_NAME = 200
MAX_PROPERTY = 4 * 1024**2
# Levels of nesting, and values, of the metrics: the API returns them as they are.
MAX_DEPTH = 16
MAX_METRICS = 20_000
# Others are ignored, so that a later trainer may add some.
TEXTS = ("run_id", "git_commit", "data_fingerprint", "architecture", "separator")
KEYS = ("format", "classes", "input_size", "letterbox", "thresholds", "metrics", *TEXTS)
# Invisible characters that emoji and some scripts need within words.
_JOINERS = "\u200c\u200d"


class ModelError(Exception):
    """A model that cannot be served; the message names it and says what is wrong with it.

    Attributes:
        temporary: whether the reason is this machine (its memory or speed), so that a later check may pass.
    """

    temporary = False


class TemporaryModelError(ModelError):
    """A model that this machine cannot serve now."""

    temporary = True


def printable(text: str, limit: int = 300) -> str:
    """Text of a file or library for a message: one line of bounded length, without invisible characters."""
    shown = " ".join("".join(sign if sign.isprintable() else " " for sign in text[: 2 * limit]).split())
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"


def read_metadata(properties: Mapping[str, str], name: str) -> dict[str, Any]:
    """The `manasight.*` properties of a file, parsed and checked; numbers that are not finite become None.

    Args:
        properties: key and text of each.
        name: what messages call the file.

    Raises:
        ModelError: if the format is unknown, what a prediction needs is missing or contradicts itself, or a value could
            not be shown.
    """
    found = {key: _parse(properties[PREFIX + key], key, name) for key in KEYS if PREFIX + key in properties}
    if "format" not in found:
        raise ModelError(f"{name} has no manasight.format: it was not written by `manasight export`")
    if found["format"] not in (FORMAT, LETTERBOXED) or isinstance(found["format"], bool):
        shown = printable(json.dumps(found["format"]), 40)
        raise ModelError(
            f"{name} has format {shown}; this version reads formats {FORMAT} and {LETTERBOXED}. Export the model again."
        )
    _check_classes(found.get("classes"), name)
    classes, size, thresholds = found["classes"], found.get("input_size"), found.get("thresholds")
    if not _list_of(size, int) or len(size) != 2 or min(size) < 1:
        raise ModelError(f"{name}: manasight.input_size must be [height, width] in pixels")
    if max(size) > MAX_EDGE:
        raise ModelError(f"{name}: manasight.input_size is {size}; at most {MAX_EDGE} pixels are served")
    if not isinstance(found.setdefault("letterbox", False), bool):
        raise ModelError(f"{name}: manasight.letterbox must be true or false")
    if not _list_of(thresholds, int | float) or len(thresholds) != len(classes):
        raise ModelError(f"{name}: manasight.thresholds must be a list of {len(classes)} numbers, one per class")
    if min(thresholds) < 0 or max(thresholds) > 1:
        raise ModelError(f"{name}: manasight.thresholds must be from 0 to 1")
    for key in TEXTS:
        text = found.get(key) or ""
        if not isinstance(text, str):
            raise ModelError(f"{name}: manasight.{key} must be a text")
        if len(text) > MAX_NAME or not all(map(_visible, text)):
            raise ModelError(f"{name}: manasight.{key} has more than {MAX_NAME} characters, or invisible ones")
    metrics = found.get("metrics") or {}
    if not isinstance(metrics, Mapping):
        raise ModelError(f"{name}: manasight.metrics must be an object")
    _check_metrics(metrics, name)
    return found


def macro_f1(metrics: Mapping[str, Any]) -> float | None:
    """Macro F1 on the test split as the trainer measured it, or None where the metrics do not say."""
    test = metrics.get("test")
    value = test.get("macro_f1") if isinstance(test, Mapping) else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _parse(text: str, key: str, name: str) -> Any:
    if len(text) > MAX_PROPERTY:
        raise ModelError(f"{name}: the metadata property manasight.{key} is larger than {MAX_PROPERTY // 1024**2} MB")
    try:
        return json.loads(
            text,
            parse_constant=lambda _: None,  # NaN is not JSON: a figure that could not be measured counts as none
            parse_float=_finite,
            parse_int=lambda digits: int(digits) if len(digits) < 19 else None,
            object_pairs_hook=_object,
        )
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{name}: the metadata property manasight.{key} is not JSON") from error


def _finite(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("the same key twice")
    return found


def _check_classes(classes: Any, name: str) -> None:
    if not _list_of(classes, str) or not classes or not all(map(str.strip, classes)):
        raise ModelError(f"{name}: manasight.classes must be a list of different names")
    if len(classes) > MAX_CLASSES:
        raise ModelError(f"{name} has {len(classes)} classes; at most {MAX_CLASSES} are served")
    for label in classes:
        if len(label) > MAX_NAME:
            raise ModelError(f"{name}: the class “{printable(label, 40)}” has more than {MAX_NAME} characters")
        if not all(map(_visible, label)):
            raise ModelError(f"{name}: the class “{printable(label, 40)}” has characters that cannot be shown")
    if len({unicodedata.normalize("NFC", label) for label in classes}) != len(classes):
        raise ModelError(f"{name}: manasight.classes must be a list of different names")


def _check_metrics(metrics: Mapping[str, Any], name: str) -> None:
    """Bounded in depth and number, and every text in it can be encoded."""
    level, count = [metrics], 0
    for _ in range(MAX_DEPTH):
        following: list[Any] = []
        for value in level:
            if isinstance(value, Mapping):
                following += [*value.keys(), *value.values()]
            elif isinstance(value, list):
                following += value
            elif isinstance(value, str) and any(unicodedata.category(sign) == "Cs" for sign in value):
                raise ModelError(f"{name}: manasight.metrics has characters that cannot be shown")
        count += len(following)
        if not following:
            return
        if count > MAX_METRICS:
            raise ModelError(f"{name}: manasight.metrics has more than {MAX_METRICS} values")
        level = following
    raise ModelError(f"{name}: manasight.metrics has more than {MAX_DEPTH} levels")


def _visible(sign: str) -> bool:
    """Not a control character, lone surrogate, line separator, private character, or one that changes the direction."""
    kind = unicodedata.category(sign)
    return kind not in ("Cc", "Cs", "Co", "Cf", "Zl", "Zp") or sign in _JOINERS


def _list_of(value: Any, kind: Any) -> bool:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and all(isinstance(item, kind) and not isinstance(item, bool) for item in value)
    )
