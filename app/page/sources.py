"""Where the page's images come from: files, folders, the camera, and samples."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import streamlit as st

from app.images import EXTENSIONS
from app.limits import MB, VISIT_BYTES
from app.page.uploads import take
from app.serving.model import Model

SAMPLES = sorted(Path(__file__).parents[1].joinpath("samples").glob("*.jpg"))
# Megabytes of one upload, which Streamlit limits to what .streamlit/config.toml says.
MAX_UPLOAD_MB = min(200, VISIT_BYTES // MB)
Given = tuple[str, str, Callable[[], bytes]]


def gather(model: Model) -> tuple[list[Given], list[Given]]:
    """Key, name and reader of every file of the chosen source, and of the others, which keep theirs."""
    fitting = samples(model)
    sources = ["Files", "Folder", "Camera", *(["Samples"] if fitting else [])]
    st.session_state.setdefault("source", "Files")
    source = st.segmented_control("Images from", sources, required=True, key="source")
    # An uploader that is not drawn forgets its files: one that was chosen before is only hidden.
    seen = st.session_state.setdefault("seen", set())
    seen.add(source)
    uploads = {"Files": [], "Folder": [], "Camera": []}
    if "Files" in seen:
        with st.container(key="files"):
            uploads["Files"] = st.file_uploader(
                "Images, or a zip of them", accept_multiple_files=True, max_upload_size=MAX_UPLOAD_MB
            )
    if "Folder" in seen:
        with st.container(key="folder"):
            kinds = list(EXTENSIONS)
            uploads["Folder"] = st.file_uploader(
                "A folder of images", type=kinds, accept_multiple_files="directory", max_upload_size=MAX_UPLOAD_MB
            )
    for name in {"Files", "Folder"} & seen - {source}:
        st.html(f"<style>.st-key-{name.lower()} {{ display: none; }}</style>")
    if source == "Camera":
        photo = st.camera_input("Take a photo of one thing, upright, filling the frame")
        uploads["Camera"] = [photo] if photo else []
    if source == "Samples":
        st.caption("Images drawn by this project's own code, free of rights. The file name is the right answer.")
    given = {
        name: [(file.file_id, file.name, partial(take, file)) for file in found] for name, found in uploads.items()
    }
    given["Samples"] = [(f"sample {path.name}", path.name, path.read_bytes) for path in fitting]
    return given[source], [file for name, found in given.items() if name != source for file in found]


def samples(model: Model) -> list[Path]:
    """The sample images whose labels, which are their file names, this model knows."""
    return [path for path in SAMPLES if set(path.stem.split("-")) <= set(model.classes)]


def show_samples(model: Model) -> None:
    """Offer a few sample images on an empty page."""
    fitting = samples(model)
    if not fitting or st.session_state.source != "Files":
        return
    st.markdown("No image at hand? Try these samples.")
    with st.container(horizontal=True):
        for path in fitting:
            st.image(str(path), width=105, alt=f"Sample {path.stem}")
    st.button("Try these samples", on_click=lambda: st.session_state.update(source="Samples"), type="primary")
