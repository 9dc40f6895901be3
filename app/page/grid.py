"""Images with their labels: many in a grid, one with its heat map."""

import streamlit as st

from app.page.markup import bars, chips, named_chips
from app.page.results import Result, predict
from app.page.turns import turns
from app.page.uploads import visit
from app.serving.batching import PredictionError
from app.serving.model import Model
from app.serving.serving import Served, serving
from app.text import markdown
from contract.decoding import DecodingError

PER_PAGE = 24
UNREAD, UNLABELED = "could not be read", "no label"
# More classes than this are not all listed at once.
MANY = 40


def correct(result: Result, widget: str, predicted: list[str]) -> None:
    """Take over what a person chose; the model's own labels are no correction."""
    chosen = st.session_state[widget]
    kept = set(chosen) == set(predicted) and not result.reviewed
    result.corrected = None if kept else list(chosen)


def edit_labels(key: str, result: Result, model: Model, shift: float) -> None:
    """The labels as removable chips, with the model's other classes to add."""
    predicted = model.labels(result.prediction.probabilities, shift) if result.prediction else []
    # A browser that has not seen new labels yet sends the old ones with whatever else happens: of the same widget they
    # would be taken for a person's choice.
    widget = f"labels {key} {predicted}"
    st.session_state[widget] = result.labels(model, shift)
    st.multiselect(
        f"Labels of {markdown(result.name)}" + " (corrected)" * result.changed(model, shift),
        model.classes,
        key=widget,
        on_change=correct,
        args=(result, widget, predicted),
        placeholder="no label; choose some",
    )


def turn(key: str, result: Result, quarters: int) -> None:
    """Turn an image as it is shown: what was kept of it is turned with it."""
    left, top, right, bottom = result.crop
    for _ in range(quarters % 4):
        left, top, right, bottom = 1 - bottom, left, 1 - top, right
    result.edit(result.turn + quarters, (left, top, right, bottom))
    show_crop(key, result)


def show_crop(key: str, result: Result) -> None:
    """Set the sliders, in percent, to what is kept of an image."""
    left, top, right, bottom = (round(100 * share) for share in result.crop)
    st.session_state[f"across {key}"], st.session_state[f"down {key}"] = (left, right), (top, bottom)


def crop(key: str, result: Result) -> None:
    """Keep the part of an image that the sliders say."""
    (left, right), (top, bottom) = st.session_state[f"across {key}"], st.session_state[f"down {key}"]
    result.edit(result.turn, (left / 100, top / 100, max(right, left + 1) / 100, max(bottom, top + 1) / 100))


def edit_image(key: str, result: Result) -> None:
    """Buttons that turn the image, and sliders for what is kept of it."""
    if f"across {key}" not in st.session_state:
        show_crop(key, result)
    with st.container(horizontal=True, gap="small"):
        for name, quarters in (("left", 3), ("right", 1)):
            st.button(
                name.capitalize(),
                key=f"{name} {key}",
                icon=f":material/rotate_{name}:",
                help=f"Turn the image to the {name}",
                type="tertiary",
                on_click=turn,
                args=(key, result, quarters),
            )
        with st.popover("Crop", icon=":material/crop:", type="tertiary"):
            for name, side in (("From left to right", "across"), ("From top to bottom", "down")):
                st.slider(name, 0, 100, key=f"{side} {key}", format="%d %%", on_change=crop, args=(key, result))


@st.fragment
def show_closely(key: str, result: Result, served: Served, shift: float, alone: bool = True) -> None:
    """One image with the heat map of a label over it, its labels, and every confidence.

    Args:
        key: of the image.
        result: the image.
        served: the model.
        shift: of the thresholds.
        alone: whether nothing else of the page shows its labels, which then can be corrected here.
    """
    model = served.model
    turned_or_cut = not result.predicted_by
    if (turned_or_cut and not again(result, served)) or result.prediction is None:
        return
    left, right = st.columns([2, 3], gap="large")
    with right:
        st.html(chips(result.labels(model, shift)))
        st.html(bars(model, result.prediction, shift))
        if alone:
            edit_labels(key, result, model, shift)
    with left:
        place = st.empty()
        ordered = sorted(model.classes, key=lambda name: -result.prediction.probabilities[model.classes.index(name)])
        asked = {"label": "Show where the model saw", "options": ordered, "key": f"heat map {key}"}
        if len(ordered) > MANY:
            looked = st.selectbox(**asked, index=None, placeholder="choose a label")
        else:
            looked = st.pills(**asked, format_func=markdown, wrap=True)
        if looked:
            alt = f"Heat map of {looked} over {result.name}"
            if result.prediction.activation_maps[model.classes.index(looked)].max() <= 0:
                alt += ": no place spoke for it"
            place.image(result.heat_map(model, looked), caption=markdown(alt), width="stretch", alt=alt)
        else:
            alt = f"{result.name}: {', '.join(result.labels(model, shift)) or UNLABELED}"
            width, height = result.size
            place.image(result.shown, caption=f"{markdown(result.name)}, {width} × {height}", width="stretch", alt=alt)
        edit_image(key, result)


def again(result: Result, served: Served) -> bool:
    """Predict an image that was turned or cut; whether that worked."""
    try:
        with turns.others_go_first():
            predict(serving(), served, [result])
            visit().trim([result])
    except (DecodingError, PredictionError) as error:
        st.error(str(error))
        return False
    return True


def choose(results: dict[str, Result], model: Model, shift: float) -> dict[str, Result]:
    """The results that the filter lets through; without a choice all."""
    found: dict[str, set[str]] = {
        key: {UNREAD} if result.problem else set(result.labels(model, shift)) or {UNLABELED}
        for key, result in results.items()
    }
    present = set().union(*found.values())
    options = [name for name in (*model.classes, UNLABELED, UNREAD) if name in present]
    counts = {name: sum(name in labels for labels in found.values()) for name in options}
    wanted = st.pills(
        "Show only",
        options,
        selection_mode="multi",
        format_func=lambda name: f"{markdown(name)} · {counts[name]}",
        key="filter",
        help="Of several, an image has to have all. Downloads hold every image, whatever is shown.",
    )
    return {key: results[key] for key in results if set(wanted) <= found[key]}


@st.fragment
def show_grid(results: dict[str, Result], served: Served, shift: float) -> None:
    """Many images, a page of them at a time, each with its labels, and a way to look closer."""
    model = served.model
    chosen = choose(results, model, shift)
    if not chosen:
        st.info("No image has all of these; take one away.")
        return
    # A browser draws chips in half the time that it takes for lists to choose from.
    correcting = st.toggle("Correct labels", key="correcting")
    pages = max(1, -(-len(chosen) // PER_PAGE))
    page = st.pagination(pages, key=f"page of {pages}") if pages > 1 else 1
    with st.container(horizontal=True, gap="medium", key="grid"):
        for key, result in list(chosen.items())[(page - 1) * PER_PAGE : page * PER_PAGE]:
            with st.container(border=True, width=250):
                if result.problem:
                    st.error(f"**{markdown(result.name)}**: {markdown(result.problem)}", icon=":material/broken_image:")
                    continue
                alt = f"{result.name}: {', '.join(result.labels(model, shift)) or UNLABELED}"
                st.image(result.shown, width="stretch", alt=alt)
                if correcting:
                    edit_labels(key, result, model, shift)
                else:
                    st.html(named_chips(result, model, shift))
                if st.button("Look closer", key=f"open {key}", icon=":material/zoom_in:", width="stretch"):
                    look_closer(key, result, served, shift)


@st.dialog("One image", width="large", on_dismiss="rerun")
def look_closer(key: str, result: Result, served: Served, shift: float) -> None:
    """One image of many, in a window over the grid."""
    show_closely(key, result, served, shift, alone=False)
