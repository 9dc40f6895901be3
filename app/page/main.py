"""The page: images in; labels, confidences, heat maps, and a labeled dataset out."""

from collections.abc import Iterator
from pathlib import Path

import streamlit as st

from app.archives import Readable, separator_for
from app.decoding import batch_of
from app.page.grid import show_closely, show_grid
from app.page.results import Result, predict
from app.page.review import show_review
from app.page.sidebar import show_limits, show_model
from app.page.sources import Given, gather, show_samples
from app.page.table import restore, to_csv, waiting
from app.page.turns import turns
from app.page.uploads import visit
from app.serving.batching import PredictionError
from app.serving.model import ModelError
from app.serving.serving import Served, Serving, serving
from app.text import markdown
from contract.decoding import DecodingError
from contract.labels import NO_LABEL

STYLE = Path(__file__).with_name("page.css")
# A file of its own: a Material icon would be fetched from a font server by every browser.
ICON = Path(__file__).with_name("icon.png")

# Images of one visit: each keeps its file and a small JPEG in memory until the visit ends.
MAX_IMAGES = 1000
# Decoded and predicted together, between two movements of the progress bar.
CHUNK = 8


def answer(shared: Serving, served: Served, given: list[Given], others: list[Given]) -> dict[str, Result]:
    """A result for every image, kept from one drawing of the page to the next; what is new is predicted."""
    held = visit()
    for key in held.files.keys() - {key for key, _, _ in (*given, *others)}:
        del held.files[key]
    for key, name, load in given:
        if key not in held.files:
            held.open(key, name, load)
    results = {f"{key}/{index}": result for key, _, _ in given for index, result in enumerate(held.files[key].results)}
    if len(results) > MAX_IMAGES:
        st.warning(f"{len(results)} images were given; the first {MAX_IMAGES} are answered.")
        results = dict(list(results.items())[:MAX_IMAGES])
    pending = [r for r in results.values() if not r.problem and r.predicted_by != served.model.sha256]
    batch = batch_of(sum(result.size_in_bytes for result in pending), len(pending))
    bar = st.progress(0.0) if len(pending) > CHUNK else None
    for start in range(0, len(pending), CHUNK):
        try:
            with turns.others_go_first():
                predict(shared, served, pending[start : start + CHUNK], batch)
        except DecodingError as error:
            st.error(f"{error} Reload the page to try again.")
            st.stop()
        except PredictionError as error:
            if shared.served is not served:
                st.rerun()  # the model was withdrawn, and another one answers
            st.error(str(error))
            st.stop()
        held.trim(pending[start : start + CHUNK])
        if bar:
            done = min(start + CHUNK, len(pending))
            bar.progress(done / len(pending), text=f"{done} of {len(pending)} images")
    if bar:
        bar.empty()
    for file in held.files.values():
        restore(file.rows, results.values(), served.model)
    if more := sum(waiting(file.rows) for file in held.files.values()):
        st.info(f"The table has corrections of {more} more images; add these images, too.")
    return results


def show_downloads(results: dict[str, Result], served: Served, shift: float) -> None:
    """A table of everything, and the images sorted into folders of their labels, ready to train on."""
    model = served.model
    separator = separator_for(model.classes)

    def labeled() -> tuple[Iterator[Readable], str]:
        good = [result for result in results.values() if not result.problem]
        return ((result.name, result.load, result.labels(model, shift)) for result in good), separator

    held = visit()
    held.download = labeled
    with st.container(horizontal=True, vertical_alignment="center"):
        st.download_button(
            "Table (CSV)",
            lambda: to_csv(served, list(results.values()), shift),
            "manasight.csv",
            "text/csv",
            on_click="ignore",
            icon=":material/table:",
        )
        # Not Streamlit's button, which needs all of the zip in memory; this one is made while it is sent.
        st.html(f'<a class="ms-button" href="download/{held.token}" download>Images in label folders (zip)</a>')
    st.caption(
        "Correct wrong labels first. To train, unpack the zip, then `manasight data split`, `manasight fit`. Or give "
        "`manasight data split` the table, and `--images` with the folder of your images. To continue later, add the "
        "table here, together with the images. In the zip, labels are "
        f"joined by “{markdown(separator)}”; images without labels are in `{NO_LABEL}`."
    )


def main() -> None:
    """Draw the page; Streamlit calls this again at every interaction."""
    st.set_page_config(page_title="Manasight", page_icon=str(ICON), layout="wide")
    st.html(STYLE)
    st.title("Manasight")
    visit()  # whatever is sent is counted, also where no model answers
    shared = serving()
    try:
        served = shared.current()
    except ModelError as error:
        st.error(f"There is no model to answer with: {markdown(str(error))}")
        return
    with st.sidebar:
        shift = st.slider(
            "Shift every class's threshold",
            -0.5,
            0.5,
            0.0,
            0.05,
            format="%+.2f",
            help="Each class has a threshold of its own. To the right: fewer, surer labels; to the left: more.",
        )
        show_model(shared, served)
        show_limits(served)
    results = answer(shared, served, *gather(served.model))
    if not results:
        show_samples(served.model)
        return
    good = {key: result for key, result in results.items() if not result.problem}
    if len(results) == 1 and good:
        ((key, result),) = good.items()
        show_closely(key, result, served, shift)
        show_downloads(results, served, shift)
    else:
        # A button, not a switch: Streamlit ignores keys while a field has the focus.
        reviewing = bool(good) and st.session_state.get("reviewing", False)
        if good and not reviewing:
            show_downloads(results, served, shift)
        if good:
            st.button(
                "All images" if reviewing else "Review",
                on_click=lambda: st.session_state.update(reviewing=not reviewing),
                help="One image after the other, the least certain first. Keys: 1 to 9 and 0, Enter, left and right.",
            )
        if reviewing:
            show_review(good, served.model, shift)
            show_downloads(results, served, shift)
        else:
            show_grid(results, served, shift)


main()
