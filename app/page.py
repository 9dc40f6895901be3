"""The page: a picture in, its labels, all confidences and a heat map out."""

import html
from pathlib import Path

import numpy as np
import streamlit as st
from PIL import Image

from app.images import EXTENSIONS, ImageError, decode, overlay
from app.model import Model, ModelError, Prediction
from app.serving import Served, serving

# A file of its own: a Material icon would be fetched from a font server by every browser.
ICON = Path(__file__).with_name("icon.png")

# Longest side of a picture on the page, in pixels: sharp in its column, small enough to send at once.
SHOWN = 720

STYLE = Path(__file__).with_name("page.css")


def show_model(served: Served, note: str) -> None:
    """Which model answers: its name, version, run, classes and test F1, and what is wrong with the registry."""
    model = served.model
    st.subheader("Model")
    rows = {"Name": served.title}
    if served.champion:
        rows["Alias"] = "champion"
    rows["Test F1"] = f"{model.test_f1:.3f} (macro)" if model.test_f1 is not None else "not recorded"
    rows["Input"] = f"{model.input_size[0]} × {model.input_size[1]} pixels (height × width)"
    rows["Run"] = model.run_id or "not recorded"
    rows["Commit"] = model.git_commit[:12] or "not recorded"
    rows["Data"] = model.data_fingerprint[:12] or "not recorded"
    rows[f"{len(model.classes)} classes"] = ", ".join(model.classes)
    st.html("<br>".join(f"<b>{html.escape(key)}</b> {html.escape(value)}" for key, value in rows.items()))
    if served.champion and served.champion.run_url:
        st.link_button("Open the run in MLflow", served.champion.run_url)
    if note:
        st.info(note, icon=":material/info:")


def bars(model: Model, probabilities: np.ndarray, shift: float) -> str:
    """All confidences as an HTML table, highest first, each with its bar and a mark at its threshold.

    A table and not Streamlit's grid: screen readers read it, phones fit it, and it needs neither pandas nor Arrow.
    """
    chosen = set(model.labels(probabilities, shift))
    rows = []
    for index in np.argsort(-probabilities, kind="stable"):
        name, value = model.classes[index], float(probabilities[index])
        threshold = min(max(float(model.thresholds[index]) + shift, 0.01), 0.99)
        track = (
            f'<div class="ms-track" title="threshold {threshold:.0%}">'
            f'<div class="ms-fill" style="width:{value:.1%}"></div>'
            f'<div class="ms-mark" style="left:{threshold:.1%}"></div></div>'
        )
        rows.append(
            f'<tr class="{"on" if name in chosen else "off"}"><th scope="row">{html.escape(name)}</th>'
            f'<td>{track}</td><td class="number">{value:.1%}</td></tr>'
        )
    caption = "<caption>Confidence per class; the line marks its threshold</caption>"
    return f'<table class="ms-bars">{caption}{"".join(rows)}</table>'


def show_picture(name: str, image: Image.Image, model: Model, prediction: Prediction, shift: float) -> None:
    """The picture with the heat map of one label over it, the labels as chips, and every confidence."""
    labels = model.labels(prediction.probabilities, shift)
    left, right = st.columns([2, 3], gap="large")
    with right:
        st.html(
            f'<ul class="ms-chips" aria-label="Labels">{"".join(f"<li>{html.escape(x)}</li>" for x in labels)}</ul>'
            if labels
            else "<p>No class reaches its threshold.</p>"
        )
        st.html(bars(model, prediction.probabilities, shift))
        ranked = [model.classes[i] for i in np.argsort(-prediction.probabilities, kind="stable")]
        looked = st.selectbox(
            "Show where the model saw", ["nothing: the picture itself", *ranked], index=0, key=f"heat map {name}"
        )
    shown = image.copy()
    shown.thumbnail((SHOWN, SHOWN))
    alt = f"{name}: {', '.join(labels) or 'no label'}"
    if looked in model.classes:
        maps = prediction.activation_maps
        shown = overlay(shown, maps[model.classes.index(looked)], float(maps.max()))
        alt = f"Heat map of {looked} over {name}"
    with left:
        st.image(shown, caption=name, width="stretch", alt=alt)


def main() -> None:
    """Draw the page; Streamlit calls this again at every interaction."""
    st.set_page_config(page_title="Manasight", page_icon=str(ICON), layout="wide")
    st.html(STYLE)
    st.title("Manasight")
    shared = serving()
    served = shared.served
    if served is None:
        st.error(f"There is no model to answer with: {shared.problem or 'it is still loading.'}")
        return
    with st.sidebar:
        st.subheader("Threshold")
        shift = st.slider(
            "Shift every class's threshold",
            -0.5,
            0.5,
            0.0,
            0.05,
            format="%+.2f",
            help="Each class has its own threshold, tuned on the validation split. To the right: fewer, surer labels.",
        )
        show_model(served, shared.note)
    uploads = st.file_uploader("Pictures", type=list(EXTENSIONS), accept_multiple_files=True)
    pictures = []
    for upload in uploads:
        try:
            pictures.append((upload.name, decode(upload.getvalue())))
        except ImageError as error:
            st.error(f"{upload.name}: {error}", icon=":material/broken_image:")
    if not pictures:
        return
    try:
        served, predictions = shared.predict([image for _, image in pictures])
    except ModelError as error:
        st.error(str(error))
        return
    for (name, image), prediction in zip(pictures, predictions, strict=True):
        show_picture(name, image, served.model, prediction, shift)


main()
