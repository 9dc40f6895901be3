"""What a person does with the page, in a real browser against the real app process."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser


def picture(colour: str, size: tuple[int, int] = (160, 224)) -> dict[str, object]:
    """A PNG of one colour as playwright uploads it."""
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return {"name": f"{colour}.png", "mimeType": "image/png", "buffer": buffer.getvalue()}


@pytest.fixture(scope="module")
def address(start_app: Callable, tiny_model: Callable, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An app that serves the tiny model."""
    folder = tmp_path_factory.mktemp("app")
    (folder / "model.onnx").write_bytes(tiny_model())
    with start_app(folder, MANASIGHT_MODEL=str(folder / "model.onnx")) as (url, _):
        yield url


def test_an_uploaded_picture_gets_its_labels(page: Page, address: str, tmp_path: Path) -> None:
    page.goto(address)
    expect(page.get_by_role("heading", name="Manasight")).to_be_visible()

    page.locator("input[type=file]").first.set_input_files([picture("red")])

    expect(page.get_by_role("list", name="Labels").get_by_role("listitem")).to_have_text(["red"])
    expect(page.get_by_role("row", name="red")).to_contain_text("99.8%")
    expect(page.get_by_role("row", name="blue")).to_contain_text("0.2%")
    expect(page.get_by_alt_text("red.png: red")).to_be_visible()
    page.screenshot(path=tmp_path / "upload.png", full_page=True)


def test_the_page_says_which_model_answers(page: Page, address: str) -> None:
    page.goto(address)

    sidebar = page.get_by_test_id("stSidebar")

    expect(sidebar).to_contain_text("Test F1 0.875")
    expect(sidebar).to_contain_text("24 × 16 pixels")
    expect(sidebar).to_contain_text("0123456789abcdef")
    expect(sidebar).to_contain_text("red, green, blue")


def test_the_threshold_slider_changes_the_labels(page: Page, address: str) -> None:
    page.goto(address)
    # Half brightness: each channel is at 0.501, a little over its threshold of 0.5.
    page.locator("input[type=file]").first.set_input_files([picture("#808080")])
    labels = page.get_by_role("list", name="Labels").get_by_role("listitem")
    expect(labels).to_have_text(["red", "green", "blue"])

    page.get_by_role("slider").press("ArrowRight")

    expect(page.get_by_text("No class reaches its threshold.")).to_be_visible()


def test_a_heat_map_is_laid_over_the_picture(page: Page, address: str) -> None:
    page.goto(address)
    page.locator("input[type=file]").first.set_input_files([picture("red")])
    page.get_by_alt_text("red.png: red").wait_for()

    page.get_by_role("combobox", name="Show where the model saw").click()
    page.get_by_role("option", name="red", exact=True).click()

    expect(page.get_by_alt_text("Heat map of red over red.png")).to_be_visible()


def test_the_page_loads_nothing_from_elsewhere(page: Page, address: str) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))

    page.goto(address)
    page.locator("input[type=file]").first.set_input_files([picture("red")])
    expect(page.get_by_role("list", name="Labels")).to_be_visible()

    foreign = [url for url in asked if not url.startswith((address, "data:", "blob:"))]
    assert not foreign
