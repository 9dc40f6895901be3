"""Review: one image after the other, the least certain first; keys choose its labels."""

import numpy as np
import streamlit as st

from app.page.grid import edit_labels
from app.page.results import Result
from app.serving.model import Model
from app.text import markdown

# As many labels have a key; with more classes, those that the model finds most probable.
KEYS = "1234567890"


def certainty(result: Result, model: Model) -> float:
    """How far the probability of the most doubtful class is from that class's threshold: 0 to 1."""
    if result.prediction is None:
        return 1.0
    return float(np.abs(result.prediction.probabilities - model.shifted(0.0)).min())


def toggle(result: Result, label: str, model: Model, shift: float) -> None:
    """Give an image a label, or take it away."""
    labels = result.labels(model, shift)
    result.corrected = [name for name in model.classes if (name in labels) != (name == label)]


def accept(key: str, results: dict[str, Result], order: list[str], model: Model, shift: float) -> None:
    """An image's labels are right, whichever model answers later; the next one is the first that was not reviewed."""
    results[key].corrected = results[key].labels(model, shift)
    results[key].reviewed = True
    place = order.index(key)
    left = [other for other in order[place:] + order[:place] if not results[other].reviewed]
    go(left[0] if left else key)


def go(key: str) -> None:
    """Show another image."""
    st.session_state["in review"] = key


@st.fragment
def show_review(results: dict[str, Result], model: Model, shift: float) -> None:
    """One large image with its labels as buttons, each with a key, and how many images have been reviewed."""
    order = sorted(
        (key for key, result in results.items() if result.prediction is not None),
        key=lambda key: certainty(results[key], model),
    )
    if not order:
        st.info("There is no image to review.")
        return
    done = sum(results[key].reviewed for key in order)
    key = st.session_state.get("in review")
    if key not in order:
        key = next((key for key in order if not results[key].reviewed), order[0])
    place, result = order.index(key), results[key]
    labels = result.labels(model, shift)
    ended = ": download the table, and give it with the images to continue" if done == len(order) else ""
    st.progress(done / len(order), text=f"{done} of {len(order)} images reviewed{ended}")
    with st.container(key="review"):
        left, right = st.columns([3, 2], gap="large")
    with left:
        state = "reviewed" if result.reviewed else "not reviewed yet"
        alt = f"{result.name}: {', '.join(labels) or 'no label'}"
        st.image(result.shown, caption=f"{place + 1}. {markdown(result.name)}, {state}", width="stretch", alt=alt)
    with right:
        with st.container(horizontal=True, gap="xsmall"):
            before, after = order[place - 1], order[(place + 1) % len(order)]
            st.button("Previous", shortcut="Left", on_click=go, args=(before,))
            st.button(
                "Accept", shortcut="Enter", type="primary", on_click=accept, args=(key, results, order, model, shift)
            )
            st.button("Next", shortcut="Right", on_click=go, args=(after,))
        offered = model.classes
        if len(offered) > len(KEYS):
            ranked = np.argsort(-result.prediction.probabilities, kind="stable")[: len(KEYS)]
            offered = [model.classes[index] for index in sorted(ranked)]
        with st.container(horizontal=True, gap="small"):
            for sign, label in zip(KEYS, offered, strict=False):
                st.button(
                    f"{'✓ ' * (label in labels)}{markdown(label)}",
                    key=f"toggle {sign}",
                    shortcut=sign,
                    type="primary" if label in labels else "secondary",
                    on_click=toggle,
                    args=(result, label, model, shift),
                )
        if len(model.classes) > len(KEYS):
            edit_labels(key, result, model, shift)
