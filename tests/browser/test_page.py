"""What a person does with the page, in a real browser against the real app process."""

import csv
import io
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image
from playwright.sync_api import Error, Locator, Page, expect

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.browser

CARD_CLASSES = ("red", "green", "blue", "white", "black", "artifact", "creature", "mana", "planeswalker", "special")
# Writes down what Python opens for writing, named or not.
AUDIT = """
import os, sys
out = os.open(os.environ["OPENED"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def hook(event, args):
    if event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR):
        os.write(out, f"{args[0]}\\n".encode())
sys.addaudithook(hook)
"""
PROBLEM = "Unsupported image format"


def file(name: str, data: bytes) -> dict[str, object]:
    """A file as playwright uploads it."""
    return {"name": name, "mimeType": "application/octet-stream", "buffer": data}


def picture(color: str, size: tuple[int, int] = (160, 224)) -> dict[str, object]:
    """A PNG of one color."""
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, "PNG")
    return file(f"{color}.png", buffer.getvalue())


def upload(page: Page, *files: dict[str, object]) -> None:
    """Give files to the page's uploader."""
    page.locator(".st-key-files input[type=file]").set_input_files(list(files))


def labels(page: Page) -> Locator:
    """The chips of the one picture that is looked at."""
    return page.get_by_role("list", name="Labels").get_by_role("listitem")


def cells(page: Page) -> Locator:
    """The labels of the pictures in the grid."""
    return page.get_by_role("group", name="Labels of")


def cell(page: Page, name: str) -> Locator:
    """The labels of one picture in the grid."""
    return page.get_by_role("group", name=f"Labels of {name}")


def chooser(page: Page, name: str) -> Locator:
    """The labels of one picture while labels are corrected."""
    return page.get_by_test_id("stMultiSelect").filter(has_text=f"Labels of {name}")


def add_label(page: Page, name: str, label: str) -> None:
    """Add a label to a picture while labels are corrected."""
    # A list that opens while the page is redrawn after the last change is closed by it: open it again. The label is
    # typed, since a long list holds only the options that are in view.
    for _ in range(10):
        chooser(page, name).get_by_role("combobox").click()
        with suppress(Error):
            chooser(page, name).get_by_role("combobox").fill(label, timeout=3000)
            page.get_by_role("option", name=label).click(timeout=3000)
            break
    page.keyboard.press("Escape")
    expect(chooser(page, f"{name} (corrected)")).to_be_visible()


@pytest.fixture(scope="module")
def address(start_app: Callable, tiny_model: Callable, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An app that serves the tiny model."""
    folder = tmp_path_factory.mktemp("app")
    (folder / "model.onnx").write_bytes(tiny_model())
    with start_app(folder, MANASIGHT_MODEL=str(folder / "model.onnx")) as (url, _):
        yield url


@pytest.fixture(scope="module")
def card_address(start_app: Callable, tiny_model: Callable, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An app whose model has the classes of cards."""
    folder = tmp_path_factory.mktemp("cards")
    (folder / "model.onnx").write_bytes(tiny_model(classes=CARD_CLASSES))
    with start_app(folder, MANASIGHT_MODEL=str(folder / "model.onnx")) as (url, _):
        yield url


def test_an_uploaded_picture_gets_its_labels(page: Page, address: str) -> None:
    page.goto(address)
    expect(page.get_by_role("heading", name="Manasight")).to_be_visible()

    upload(page, picture("red"))

    expect(labels(page)).to_have_text(["red"])
    expect(page.get_by_role("row", name="red")).to_contain_text("99.8%")
    expect(page.get_by_role("row", name="blue")).to_contain_text("0.2%")
    expect(page.get_by_alt_text("red.png: red")).to_be_visible()


def test_one_picture_is_corrected_and_downloaded(page: Page, address: str) -> None:
    page.goto(address)
    upload(page, picture("red"))
    expect(labels(page)).to_have_text(["red"])

    add_label(page, "red.png", "green")
    with page.expect_download() as sorted_pictures:
        page.get_by_role("link", name="Images in label folders").click()

    with zipfile.ZipFile(sorted_pictures.value.path()) as archive:
        assert archive.namelist() == ["green-red/red.png"]


def test_an_image_is_turned_and_cropped_before_it_is_labeled(page: Page, address: str) -> None:
    both = Image.new("RGB", (160, 224), "lime")
    both.paste("red", (0, 0, 40, 224))
    buffer = io.BytesIO()
    both.save(buffer, "PNG")
    page.goto(address)
    upload(page, file("both.png", buffer.getvalue()))
    expect(labels(page)).to_have_text(["green"])
    expect(page.get_by_text("both.png, 160 × 224")).to_be_visible()

    page.get_by_role("button", name="Right", exact=True).click()
    expect(page.get_by_text("both.png, 224 × 160")).to_be_visible()
    page.get_by_role("button", name="Crop").click()
    lower = page.get_by_test_id("stSlider").filter(has_text="From top to bottom").get_by_role("slider").last
    lower.focus()
    for _ in range(76):
        lower.press("ArrowLeft")

    expect(labels(page)).to_have_text(["red"])


def test_another_source_and_back_loses_nothing(page: Page, card_address: str) -> None:
    page.goto(card_address)
    upload(page, picture("red"), picture("blue"))
    expect(cells(page)).to_have_count(2)
    page.get_by_text("Correct labels").click()
    add_label(page, "red.png", "mana")

    page.get_by_role("radio", name="Samples").click()
    expect(cell(page, "red.png")).to_have_count(0)
    expect(chooser(page, "white-creature.jpg")).to_be_visible()
    chooser(page, "white-creature.jpg").get_by_role("button", name="Clear all").click()
    expect(chooser(page, "white-creature.jpg (corrected)")).to_be_visible()
    page.get_by_role("radio", name="Files").click()

    expect(chooser(page, "red.png (corrected)")).to_contain_text("mana")
    expect(chooser(page, "blue.png")).to_be_visible()
    page.get_by_role("radio", name="Samples").click()
    expect(chooser(page, "white-creature.jpg (corrected)").get_by_role("button", name="Clear all")).to_have_count(0)


def test_the_page_says_which_model_answers(page: Page, address: str) -> None:
    page.goto(address)

    sidebar = page.get_by_test_id("stSidebar")

    expect(sidebar.get_by_role("definition").filter(has_text="0.875 (macro)")).to_be_visible()
    expect(sidebar).to_contain_text("24 × 16 pixels")
    expect(sidebar).to_contain_text("0123456789abcdef")
    expect(sidebar).to_contain_text("red, green, blue")


def test_the_threshold_slider_changes_the_labels(page: Page, address: str) -> None:
    page.goto(address)
    # Half brightness: each channel is at 0.501, a little over its threshold of 0.5.
    upload(page, picture("#808080"))
    expect(labels(page)).to_have_text(["red", "green", "blue"])

    page.get_by_role("slider").press("ArrowRight")

    expect(page.get_by_text("No class reaches its threshold.")).to_be_visible()


def test_a_heat_map_is_laid_over_the_picture(page: Page, address: str) -> None:
    page.goto(address)
    upload(page, picture("red"))
    page.get_by_alt_text("red.png: red").wait_for()

    places = page.get_by_role("radiogroup", name="Show where the model saw")
    places.get_by_role("radio", name="red").click()
    expect(page.get_by_alt_text("Heat map of red over red.png", exact=True)).to_be_visible()

    places.get_by_role("radio", name="blue").click()
    expect(page.get_by_alt_text("Heat map of blue over red.png: no place spoke for it")).to_be_visible()


def test_a_bad_file_gets_a_sentence_and_the_others_go_on(page: Page, address: str) -> None:
    page.goto(address)

    upload(page, picture("red"), file("notes.jpg", b"hello"), file("empty.png", b""), picture("blue"))

    expect(page.get_by_role("alert").filter(has_text="notes.jpg")).to_contain_text(PROBLEM)
    expect(page.get_by_role("alert").filter(has_text="empty.png")).to_contain_text("The file is empty.")
    expect(cell(page, "red.png")).to_contain_text("red")
    expect(cell(page, "blue.png")).to_contain_text("blue")


def test_a_zip_is_opened(page: Page, address: str) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for color in ("red", "lime"):
            archive.writestr(f"cards/{color}.png", picture(color)["buffer"])
        archive.writestr("cards/inner.zip", b"PK\x03\x04")
    page.goto(address)

    upload(page, file("cards.zip", buffer.getvalue()))

    expect(cell(page, "cards/lime.png")).to_contain_text("green")
    expect(page.get_by_role("alert")).to_contain_text("A zip within a zip is not opened.")


def packed(path: Path, count: int) -> Path:
    """A zip of so many pictures of 27 MB each, nearly all of it behind the picture: decoded it is small."""
    with zipfile.ZipFile(path, "w") as archive:
        for index in range(count):
            archive.writestr(f"{path.stem}{index}.png", picture("red")["buffer"] + bytes(27_000_000))
    return path


def test_one_visit_fills_no_memory(page: Page, start_app: Callable, tiny_file: Path, tmp_path: Path) -> None:
    """Streamlit limits one upload and not their sum, and keeps a zip beside the pictures that were in it."""
    chooser = page.locator(".st-key-files input[type=file]")
    answers: list[int] = []
    page.on("response", lambda answer: answers.append(answer.status) if answer.request.method == "PUT" else None)
    with start_app(tmp_path, MANASIGHT_MODEL=str(tiny_file)) as (url, process):
        page.goto(url)
        upload(page, picture("red"), file("nothing.jpg", b"nothing"))
        expect(cells(page)).to_have_count(1)
        before = psutil.Process(process.pid).memory_info().rss

        for index, name in enumerate("ab"):
            chooser.set_input_files(packed(tmp_path / f"{name}.zip", 7), timeout=180_000)
            expect(cells(page)).to_have_count(1 + 7 * (index + 1))
        chooser.set_input_files(packed(tmp_path / "c.zip", 2))

        expect(page.get_by_text("Some uploads were rejected: A visit can hold 400 MB")).to_be_visible()
        assert answers == [204, 204, 204, 204, 413]
        assert psutil.Process(process.pid).memory_info().rss - before < 450e6  # the pictures are 378 MB
        page.get_by_role("button", name="Remove a.zip").click()
        expect(cells(page)).to_have_count(8)
        chooser.set_input_files(packed(tmp_path / "d.zip", 2))
        expect(cells(page)).to_have_count(10)


def test_an_upload_reaches_no_disk(page: Page, start_app: Callable, tiny_file: Path, tmp_path: Path) -> None:
    """Starlette writes what is larger than a megabyte to a temporary file."""
    (tmp_path / "sitecustomize.py").write_text(AUDIT)
    opened = tmp_path / "opened"
    environment = {"PYTHONPATH": str(tmp_path), "OPENED": str(opened), "PYTHONDONTWRITEBYTECODE": "1"}
    with start_app(tmp_path, MANASIGHT_MODEL=str(tiny_file), **environment) as (url, _):
        page.goto(url)
        expect(page.get_by_role("heading", name="Manasight")).to_be_visible()
        opened.write_text("")

        upload(page, file("large.zip", packed(tmp_path / "large.zip", 1).read_bytes()))
        expect(labels(page)).to_have_text(["red"])

    assert opened.read_text() == ""


HOSTILE_NAMES = (
    "![b](http://127.0.0.1:9/b.png)",
    "see https://127.0.0.1:9/c",
    "www.evil.example",
    "me@evil.example",
    "<img src=http://127.0.0.1:9/d.png>",
    ":material/delete: $x^2$ :red[d]",
    "[e](javascript:alert)",
)


def test_names_are_only_text(page: Page, address: str) -> None:
    """Streamlit shows names as Markdown, in which one can be an image, a link or an icon of the sender's."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in HOSTILE_NAMES:
            archive.writestr(f"{name}.txt", b"text")
            archive.writestr(f"{name}.png", picture("red")["buffer"])
    page.goto(address)

    upload(page, file(f"{HOSTILE_NAMES[0]}.zip", packed.getvalue()))

    def seen() -> str:
        return page.get_by_test_id("stMain").inner_text().replace("\u2060", "")

    expect(cells(page)).to_have_count(len(HOSTILE_NAMES))
    for name in HOSTILE_NAMES:
        file_name = name.rpartition("/")[2]
        assert f"{file_name}.txt" in seen()  # in an error
        assert f"{file_name}.png" in seen()  # below an image
    page.get_by_text("Correct labels").click()
    expect(page.get_by_test_id("stMultiSelect")).to_have_count(len(HOSTILE_NAMES))
    page.get_by_role("button", name="Look closer").first.click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert page.locator("a[href*=evil], a[href*='127.0.0.1:9'], a[href^=mailto], a[href^=javascript]").count() == 0
    assert page.locator(".katex").count() == 0
    assert not [url for url in asked if ":9/" in url or "evil" in url]


def test_the_filter_leaves_only_pictures_with_the_label(page: Page, address: str) -> None:
    page.goto(address)
    upload(page, picture("red"), picture("blue"), picture("yellow"))
    expect(cells(page)).to_have_count(3)

    page.get_by_role("button", name="red · 2").click()

    expect(cells(page)).to_have_count(2)
    expect(cell(page, "blue.png")).to_have_count(0)

    page.get_by_role("button", name="blue · 1").click()

    expect(page.get_by_text("No image has all of these")).to_be_visible()


def test_many_pictures_come_in_pages(page: Page, address: str) -> None:
    page.goto(address)

    upload(page, *(picture(f"#{index:02x}0000") for index in range(200, 230)))

    expect(cells(page)).to_have_count(24)
    page.get_by_role("navigation", name="Pagination").get_by_role("button", name="Page 2").click()
    expect(cells(page)).to_have_count(6)


def test_one_of_many_can_be_looked_at_closely(page: Page, address: str) -> None:
    page.goto(address)
    upload(page, picture("red"), picture("blue"))

    page.get_by_role("button", name="Look closer").nth(1).click()

    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("list", name="Labels")).to_have_text("blue")
    expect(dialog.get_by_alt_text("blue.png: blue")).to_be_visible()


def test_corrected_labels_are_downloaded_as_folders_and_as_a_table(page: Page, address: str) -> None:
    page.goto(address)
    upload(page, picture("red"), picture("blue"))
    page.get_by_text("Correct labels").click()
    add_label(page, "red.png", "green")
    page.get_by_text("Correct labels").click()
    expect(cell(page, "red.png (corrected)").get_by_role("listitem")).to_have_text(["red", "green"])

    with page.expect_download() as sorted_pictures:
        page.get_by_role("link", name="Images in label folders").click()
    with page.expect_download() as table:
        page.get_by_role("button", name="Table (CSV)").click()

    with zipfile.ZipFile(sorted_pictures.value.path()) as archive:
        assert sorted(archive.namelist()) == ["blue/blue.png", "green-red/red.png"]
        assert archive.read("blue/blue.png") == picture("blue")["buffer"]
    rows = list(csv.DictReader(io.StringIO(Path(table.value.path()).read_text(encoding="utf-8-sig"))))
    assert [(row["labels"], row["corrected"]) for row in rows] == [("red;green", "yes"), ("blue", "no")]


def shown_in_review(page: Page, name: str, labels: str) -> None:
    """Wait for an image in the review, and for the buttons below it, whose keys are of no use before."""
    # While the page is drawn again, a slow browser may show an image twice.
    expect(page.get_by_alt_text(f"{name}: {labels}", exact=True).first).to_be_visible()
    expect(page.get_by_role("button", name="✓")).to_have_count(len(labels.split(", ")))


def test_a_review_goes_by_keys_and_survives_a_reload(page: Page, address: str) -> None:
    given = [picture("red"), picture("blue"), picture("#828282")]
    gray = "#828282.png"
    page.goto(address)
    upload(page, *given)
    page.get_by_role("button", name="Review", exact=True).click()
    shown_in_review(page, gray, "red, green, blue")  # just above each threshold

    page.keyboard.press("3")
    shown_in_review(page, gray, "red, green")
    page.get_by_role("button", name="✓ green").click()
    shown_in_review(page, gray, "red")
    page.keyboard.press("Enter")  # accepts, wherever the last click was
    shown_in_review(page, "red.png", "red")
    expect(page.get_by_text("1 of 3 images reviewed")).to_be_visible()
    page.keyboard.press("ArrowRight")
    shown_in_review(page, "blue.png", "blue")
    page.keyboard.press("ArrowRight")
    shown_in_review(page, gray, "red")
    page.keyboard.press("ArrowLeft")
    shown_in_review(page, "blue.png", "blue")
    page.keyboard.press("Enter")
    shown_in_review(page, "red.png", "red")
    with page.expect_download() as table:
        page.get_by_role("button", name="Table (CSV)").click()

    page.reload()
    upload(page, file("manasight.csv", Path(table.value.path()).read_bytes()))
    expect(page.get_by_text("corrections of 2 more images")).to_be_visible()
    upload(page, *given)
    expect(cell(page, f"{gray} (corrected)").get_by_role("listitem")).to_have_text(["red"])
    expect(cell(page, "blue.png").get_by_role("listitem")).to_have_text(["blue"])
    page.get_by_role("button", name="Review", exact=True).click()
    expect(page.get_by_text("2 of 3 images reviewed")).to_be_visible()
    shown_in_review(page, "red.png", "red")  # the one that is left


def test_corrected_pictures_train_a_model(page: Page, address: str, tmp_path: Path) -> None:
    """From the download to a trained model with nothing but the commands that the page names."""
    noise = np.random.default_rng(0).integers(0, 40, (24, 96, 64, 3), dtype=np.uint8)
    noise[:12, ..., 0] += 200
    noise[12:, ..., 2] += 200
    files = []
    for index, pixels in enumerate(noise):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        files.append(file(f"{index:02}.png", buffer.getvalue()))
    page.goto(address)
    upload(page, *files)
    expect(cell(page, "23.png")).to_contain_text("blue")
    page.get_by_text("Correct labels").click()
    for name in ("00.png", "01.png", "02.png", "03.png"):
        add_label(page, name, "green")
    with page.expect_download() as pictures:
        page.get_by_role("link", name="Images in label folders").click()

    with zipfile.ZipFile(pictures.value.path()) as archive:
        archive.extractall(tmp_path / "labeled")
    manasight = Path(sys.executable).with_name("manasight")
    small = ["--data.root=splits", "--data.input_size=[32,32]", "--trainer.max_epochs=1"]
    for command in (
        ["data", "split", "labeled", "splits"],
        ["fit", "--config", ROOT / "trainer/experiments/scratch.yaml", *small],
        ["evaluate"],
    ):
        done = subprocess.run(
            [manasight, *command],
            cwd=tmp_path,
            env=os.environ | {"MANASIGHT_HOME": str(tmp_path / "home")},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    for label in ("blue", "green", "red"):
        assert label in done.stdout


def test_a_photo_is_predicted(page: Page, address: str) -> None:
    page.context.grant_permissions(["camera"])
    page.goto(address)
    page.get_by_role("radio", name="Camera").click()

    # The button takes what the camera shows, and that is nothing before its first frame.
    page.wait_for_function("() => document.querySelector('video')?.readyState >= 2")
    page.get_by_role("button", name="Take Photo").click()

    expect(page.get_by_role("table")).to_contain_text("green")
    expect(page.get_by_alt_text(re.compile(r"^camera"))).to_be_visible()


def test_the_samples_are_offered_to_a_model_of_cards(page: Page, card_address: str) -> None:
    page.goto(card_address)

    page.get_by_role("button", name="Try these samples").click()

    expect(cells(page)).to_have_count(8)
    page.get_by_role("button", name="Look closer").first.click()
    expect(page.get_by_role("dialog").get_by_role("table", name="Color")).to_contain_text("red")
    expect(page.get_by_role("dialog").get_by_role("table", name="Other")).to_contain_text("creature")


def test_the_samples_are_not_offered_to_another_model(page: Page, address: str) -> None:
    page.goto(address)

    expect(page.get_by_text("Files", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Try these samples")).to_have_count(0)


def test_the_page_loads_nothing_from_elsewhere(page: Page, card_address: str) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))

    page.goto(card_address)
    page.get_by_role("button", name="Try these samples").click()
    expect(cells(page)).to_have_count(8)

    foreign = [url for url in asked if not url.startswith((card_address, "data:", "blob:"))]
    assert not foreign


def test_a_phone_needs_no_sideways_scrolling(page: Page, card_address: str) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(card_address)
    page.get_by_role("button", name="Try these samples").click()
    expect(cells(page)).to_have_count(8)

    main = page.get_by_test_id("stMain")

    assert main.evaluate("element => element.scrollWidth - element.clientWidth") <= 0
    assert cell(page, "artifact.jpg").bounding_box()["width"] > 250


def test_dark_and_light_follow_the_visitor(page: Page, address: str) -> None:
    page.goto(address)
    background = "() => getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor"
    page.get_by_text("Files", exact=True).wait_for()
    light = page.evaluate(background)

    page.emulate_media(color_scheme="dark")
    page.goto(address)
    page.get_by_text("Files", exact=True).wait_for()

    assert light == "rgb(255, 255, 255)"
    assert sum(map(int, re.findall(r"\d+", page.evaluate(background))[:3])) < 150


def test_the_app_stops_while_a_page_is_open(page: Page, start_app: Callable, tiny_file: Path, tmp_path: Path) -> None:
    with start_app(tmp_path, MANASIGHT_MODEL=str(tiny_file)) as (url, process):
        page.goto(url)
        page.get_by_text("Files", exact=True).wait_for()

        process.terminate()

        process.wait(30)


def test_an_open_page_changes_to_a_new_champion_and_keeps_its_pictures(
    page: Page, start_app: Callable, tiny_model: Callable, registry: Any, tiny_file: Path, tmp_path: Path
) -> None:
    environment = {"MLFLOW_TRACKING_URI": registry.url, "MANASIGHT_POLL_SECONDS": "0.5"}
    with start_app(tmp_path, MANASIGHT_MODEL=str(tiny_file), **environment) as (url, _):
        page.goto(url)
        upload(page, picture("red"))
        expect(labels(page)).to_have_text(["red"])
        note = page.get_by_test_id("stSidebar").get_by_role("status")
        expect(note).to_contain_text("no version of “manasight”")

        registry.publish(tiny_model(classes=("fire", "leaf", "sea")))

        expect(labels(page)).to_have_text(["fire"])
        expect(page.get_by_role("definition").filter(has_text="manasight, version 1")).to_be_visible()
        expect(note).to_have_count(0)

        registry.publish(b"garbage")

        expect(note).to_contain_text("Version 2 was refused")
        expect(labels(page)).to_have_text(["fire"])


def test_a_button_looks_for_a_newer_champion(
    page: Page, start_app: Callable, tiny_model: Callable, registry: Any, tiny_file: Path, tmp_path: Path
) -> None:
    registry.publish(tiny_model())
    environment = {"MLFLOW_TRACKING_URI": registry.url, "MANASIGHT_POLL_SECONDS": "3600"}
    with start_app(tmp_path, MANASIGHT_MODEL=str(tiny_file), **environment) as (url, _):
        page.goto(url)
        name = page.get_by_role("definition").filter(has_text="manasight, version")
        expect(name).to_have_text("manasight, version 1")
        registry.publish(tiny_model(gain=13.0))

        page.get_by_role("button", name="Look for a newer champion").click()

        expect(name).to_have_text("manasight, version 2")
