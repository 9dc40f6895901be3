"""Images with their labels: many in a grid, one with its heat map."""

import streamlit as st

from app.page.markup import bars, chips, named_chips
from app.page.results import Result
from app.serving.model import Model
from app.text import markdown

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
    widget = f"labels {key}"
    st.session_state[widget] = result.labels(model, shift)
    predicted = model.labels(result.prediction.probabilities, shift) if result.prediction else []
    st.multiselect(
        f"Labels of {markdown(result.name)}" + " (corrected)" * result.changed(model, shift),
        model.classes,
        key=widget,
        on_change=correct,
        args=(result, widget, predicted),
        placeholder="no label; choose some",
    )


@st.fragment
def show_closely(key: str, result: Result, model: Model, shift: float) -> None:
    """One image with the heat map of a label over it, its labels, and every confidence."""
    if result.prediction is None:
        return
    left, right = st.columns([2, 3], gap="large")
    with right:
        st.html(chips(result.labels(model, shift)))
        st.html(bars(model, result.prediction, shift))
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
def show_grid(results: dict[str, Result], model: Model, shift: float) -> None:
    """Many images, a page of them at a time, each with its labels, and a way to look closer."""
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
                    look_closer(key, result, model, shift)


@st.dialog("One image", width="large")
def look_closer(key: str, result: Result, model: Model, shift: float) -> None:
    """One image of many, in a window over the grid."""
    show_closely(key, result, model, shift)
