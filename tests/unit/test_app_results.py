"""The table that people download."""

import csv
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.model import Model
from app.results import Result, open_file, predict, read, to_csv
from app.serving import Served, Serving, Settings


@pytest.fixture
def served(tiny_model: Callable) -> Served:
    """A tiny model in use."""
    return Served(Model(tiny_model(), "tiny.onnx"))


def picture(served: Served, name: str, colour: str) -> Result:
    """A picture with its prediction."""
    buffer = io.BytesIO()
    Image.new("RGB", (16, 24), colour).save(buffer, "PNG")
    result = Result(name, buffer.getvalue())
    image = read(result)
    (result.prediction,) = served.model.predict(np.asarray(image)[None])
    return result


def rows(data: bytes) -> list[dict[str, str]]:
    """A CSV as dictionaries."""
    return list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"))))


def test_every_picture_has_a_row(served: Served) -> None:
    corrected = picture(served, "b.png", "blue")
    corrected.corrected = ["green"]
    broken = Result("c.png", b"nothing")
    assert read(broken) is None

    found = rows(to_csv(served, [picture(served, "a.png", "red"), corrected, broken], 0.0))

    assert [row["file"] for row in found] == ["a.png", "b.png", "c.png"]
    assert [row["labels"] for row in found] == ["red", "green", ""]
    assert [row["corrected"] for row in found] == ["no", "yes", "no"]
    assert float(found[0]["red"]) > 0.99
    assert found[2]["problem"] == "This is not a picture in a format that is read here."


def test_a_name_is_never_a_formula(served: Served) -> None:
    (row,) = rows(to_csv(served, [picture(served, "=cmd|' /C calc'!A0.png", "red")], 0.0))

    assert row["file"].startswith("'=")


def test_corrected_labels_do_not_follow_the_threshold(served: Served) -> None:
    result = picture(served, "a.png", "#808080")

    assert result.labels(served.model, 0.2) == []
    result.corrected = ["blue", "of another model"]
    assert result.labels(served.model, 0.2) == ["blue"]


def test_what_is_shown_is_small_and_keeps_its_shape(served: Served) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (1000, 1400)).save(buffer, "PNG")

    result = Result("large.png", buffer.getvalue())
    image = read(result)

    assert image.size == result.size == (1000, 1400)
    assert Image.open(io.BytesIO(result.shown)).size == (514, 720)


def test_a_zip_is_opened_and_what_it_holds_is_predicted_together(tmp_path: Path, tiny_file: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for colour in ("red", "lime", "blue"):
            picture = io.BytesIO()
            Image.new("RGB", (16, 24), colour).save(picture, "PNG")
            archive.writestr(f"{colour}.png", picture.getvalue())
        archive.writestr("notes.txt", b"hello")
    serving = Serving(Settings(model=tiny_file, home=tmp_path))
    serving.start()

    results = open_file("cards.zip", buffer.getvalue())
    predict(serving, serving.current(), results)

    model = serving.current().model
    assert [result.labels(model, 0.0) for result in results] == [["red"], ["green"], ["blue"], []]
    assert results[3].problem == "This is not a picture in a format that is read here."


def test_everything_that_is_kept_of_an_image_is_counted(served: Served) -> None:
    result = picture(served, "a.png", "red")

    assert result.held >= len(result.data) + len(result.shown) + result.prediction.activation_maps.nbytes

    result.drop("no longer")

    assert result.held < 3000


def test_what_cannot_be_read_is_not_held(served: Served) -> None:
    result = Result("a.png", bytes(100))

    assert read(result) is None

    assert (result.problem, result.data) == ("This is not a picture in a format that is read here.", b"")


@pytest.mark.parametrize(("data", "said"), [(b"PK\x03\x04", "damaged"), (b"PK\x05\x06" + bytes(18), "no files")])
def test_a_zip_without_pictures_is_one_problem(data: bytes, said: str) -> None:
    (result,) = open_file("bad.zip", data)

    assert said in result.problem
