"""The table that people download."""

import csv
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from app.page.results import Result, open_file, predict
from app.page.table import MAX_BYTES, read_table, restore, to_csv, waiting
from app.serving.model import Model
from app.serving.serving import Served, Serving, Settings
from trainer.data.samples import read_samples


@pytest.fixture
def served(tiny_model: Callable) -> Served:
    """A tiny model in use."""
    return Served(Model(tiny_model(), "tiny.onnx"))


@pytest.fixture
def serving(tmp_path: Path, tiny_file: Path) -> Serving:
    """What predicts."""
    return Serving(Settings(model=tiny_file, home=tmp_path))


@pytest.fixture
def picture(serving: Serving, served: Served) -> Callable[[str, str], Result]:
    """Makes an image of one color, with its prediction."""

    def make(name: str, color: str) -> Result:
        result = Result(name, png(color))
        predict(serving, served, [result])
        return result

    return make


def png(color: str = "red", size: tuple[int, int] = (16, 24)) -> bytes:
    """An image of one color."""
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, "PNG")
    return buffer.getvalue()


def rows(data: bytes) -> list[dict[str, str]]:
    """A CSV as dictionaries."""
    return list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"))))


def test_every_picture_has_a_row(serving: Serving, served: Served, picture: Callable) -> None:
    corrected = picture("b.png", "blue")
    corrected.corrected = ["green"]
    broken = Result("c.png", b"nothing")
    predict(serving, served, [broken])

    found = rows(to_csv(served, [picture("a.png", "red"), corrected, broken], 0.0))

    assert [row["file"] for row in found] == ["a.png", "b.png", "c.png"]
    assert [row["labels"] for row in found] == ["red", "green", ""]
    assert [row["corrected"] for row in found] == ["no", "yes", "no"]
    assert float(found[0]["red"]) > 0.99
    assert found[2]["problem"].startswith("Unsupported image format.")


def test_the_trainer_reads_the_table(served: Served, serving: Serving, picture: Callable, tmp_path: Path) -> None:
    """Images without a label are negatives; those that could not be read are none."""
    results = [picture("a.png", "red"), picture("b.png", "blue"), picture("c.png", "blue"), Result("d.png", b"nothing")]
    results[1].corrected, results[2].corrected = ["green", "red"], []
    predict(serving, served, results[3:])
    for result in results:
        (tmp_path / result.name).write_bytes(png("red"))
    (tmp_path / "manasight.csv").write_bytes(to_csv(served, results, 0.0))

    found = read_samples(tmp_path / "manasight.csv")

    assert {sample.path.name: sample.labels for sample in found.images} == {
        "a.png": ("red",),
        "b.png": ("green", "red"),
        "c.png": (),
    }
    assert "'manasight.csv': rows left out because they name a problem: 1" in found.hints


@pytest.mark.parametrize("saved", ["as it is", "Excel", "UTF-16"])
def test_a_table_brings_back_what_was_decided(served: Served, picture: Callable, saved: str) -> None:
    def given() -> list[Result]:
        colors = {"=x": "red", "b": "blue", "none": "blue", "same": "red", "same ": "red", "z": "red"}
        return [picture(name.strip(), color) for name, color in colors.items()]

    before = given()
    before[0].corrected, before[2].corrected = ["green", "blue"], []
    before[4].corrected, before[4].reviewed = ["red"], True  # accepted as it was
    data = to_csv(served, before, 0.0)
    if saved == "Excel":
        data = data.replace(b",", b";").replace(b"green;blue", b'"green;blue"')
    if saved == "UTF-16":
        data = data.decode("utf-8-sig").encode("utf-16")
    after = given()

    found = read_table(data)
    assert waiting(found) == 3
    restore(found, after[:3], served.model)

    assert [result.corrected for result in after[:3]] == [["green", "blue"], None, []]
    restore(found, after, served.model)
    assert (after[4].corrected, after[4].reviewed, after[4].changed(served.model, 0.0)) == (["red"], True, False)
    assert [(after[place].corrected, after[place].reviewed) for place in (3, 5)] == [(None, False)] * 2
    assert waiting(found) == 0


@pytest.mark.parametrize(
    "data", [b"", b"name,labels\nx,y\n", b"\xff\xff\xff", b"file,labels\n" + b"x" * 200_000, bytes(MAX_BYTES + 1)]
)
def test_another_table_is_one_sentence(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"no columns “file” and “labels”|A table may have 4 MB"):
        read_table(data)


def test_a_name_is_never_a_formula(served: Served, picture: Callable) -> None:
    (row,) = rows(to_csv(served, [picture("=cmd|' /C calc'!A0.png", "red")], 0.0))

    assert row["file"].startswith("'=")


def test_corrected_labels_do_not_follow_the_threshold(served: Served, picture: Callable) -> None:
    result = picture("a.png", "#808080")

    assert result.labels(served.model, 0.2) == []
    result.corrected = ["blue", "of another model"]
    assert result.labels(served.model, 0.2) == ["blue"]


def test_what_is_shown_is_small_and_keeps_its_shape(serving: Serving, served: Served) -> None:
    result = Result("large.png", png(size=(1000, 1400)))
    predict(serving, served, [result])

    assert result.size == (1000, 1400)
    assert Image.open(io.BytesIO(result.shown)).size == (514, 720)


def test_a_zip_is_opened_and_what_it_holds_is_predicted_together(tmp_path: Path, tiny_file: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for color in ("red", "lime", "blue"):
            picture = io.BytesIO()
            Image.new("RGB", (16, 24), color).save(picture, "PNG")
            archive.writestr(f"{color}.png", picture.getvalue())
        archive.writestr("notes.txt", b"hello")
    serving = Serving(Settings(model=tiny_file, home=tmp_path))
    serving.start()

    results = open_file("cards.zip", buffer.getvalue())
    predict(serving, serving.current(), results)

    model = serving.current().model
    assert [result.labels(model, 0.0) for result in results] == [["red"], ["green"], ["blue"], []]
    assert results[3].problem.startswith("Unsupported image format.")


def test_everything_that_is_kept_of_an_image_is_counted(picture: Callable) -> None:
    result = picture("a.png", "red")

    assert result.held >= len(result.data) + len(result.shown) + result.prediction.activation_maps.nbytes

    result.drop("no longer")

    assert result.held < 3000


def test_what_cannot_be_read_is_not_held(serving: Serving, served: Served) -> None:
    result = Result("a.png", bytes(100))

    predict(serving, served, [result])

    assert result.problem.startswith("Unsupported image format.")
    assert result.data == b""


@pytest.mark.parametrize(("data", "said"), [(b"PK\x03\x04", "damaged"), (b"PK\x05\x06" + bytes(18), "no files")])
def test_a_zip_without_pictures_is_one_problem(data: bytes, said: str) -> None:
    (result,) = open_file("bad.zip", data)

    assert said in result.problem
