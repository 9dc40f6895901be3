"""The page: pictures in; labels, confidences, heat maps, and a labelled data set out."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import streamlit as st

from app.archives import Readable, separator_for
from app.decoding import batch_of
from app.images import EXTENSIONS
from app.inference import PredictionError
from app.labels import groups, is_color
from app.limits import MB, VISIT_BYTES
from app.model import Model, ModelError, Prediction
from app.results import Result, predict, to_csv
from app.serving import Served, Serving, serving
from app.text import markdown, markup
from app.uploads import take, visit
from contract.decoding import DecodingError
from contract.registry import ALIAS

STYLE = Path(__file__).with_name("page.css")
# A file of its own: a Material icon would be fetched from a font server by every browser.
ICON = Path(__file__).with_name("icon.png")
SAMPLES = sorted(Path(__file__).with_name("samples").glob("*.jpg"))

# Pictures of one visit: each keeps its file and a small JPEG in memory until the visit ends.
MAX_PICTURES = 1000
PER_PAGE = 24
# Megabytes of one upload, which Streamlit limits to what .streamlit/config.toml says.
MAX_UPLOAD_MB = min(200, VISIT_BYTES // MB)
# Decoded and predicted together, between two movements of the progress bar.
CHUNK = 8
# Seconds after which an open page notices that another model answers.
LOOK = 5
UNREAD, UNLABELLED = "could not be read", "no label"

# More classes than this are not all listed at once.
MANY = 40

Given = tuple[str, str, Callable[[], bytes]]


def gather(model: Model) -> tuple[list[Given], list[Given]]:
    """Key, name and reader of every file of the chosen source, and of the others, which keep theirs."""
    fitting = samples(model)
    sources = ["Files", "Folder", "Camera", *(["Samples"] if fitting else [])]
    st.session_state.setdefault("source", "Files")
    source = st.segmented_control("Pictures from", sources, required=True, key="source")
    # An uploader that is not drawn forgets its files: one that was chosen before is only hidden.
    seen = st.session_state.setdefault("seen", set())
    seen.add(source)
    uploads = {"Files": [], "Folder": [], "Camera": []}
    if "Files" in seen:
        with st.container(key="files"):
            uploads["Files"] = st.file_uploader(
                "Pictures, or a zip of them", accept_multiple_files=True, max_upload_size=MAX_UPLOAD_MB
            )
    if "Folder" in seen:
        with st.container(key="folder"):
            kinds = list(EXTENSIONS)
            uploads["Folder"] = st.file_uploader(
                "A folder of pictures", type=kinds, accept_multiple_files="directory", max_upload_size=MAX_UPLOAD_MB
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


def answer(shared: Serving, served: Served, given: list[Given], others: list[Given]) -> dict[str, Result]:
    """A result for every picture, kept from one drawing of the page to the next; what is new is predicted."""
    held = visit()
    for key in held.files.keys() - {key for key, _, _ in (*given, *others)}:
        del held.files[key]
    for key, name, load in given:
        if key not in held.files:
            held.open(key, name, load)
    results = {f"{key}/{index}": result for key, _, _ in given for index, result in enumerate(held.files[key].results)}
    if len(results) > MAX_PICTURES:
        st.warning(f"{len(results)} pictures were given; the first {MAX_PICTURES} are answered.")
        results = dict(list(results.items())[:MAX_PICTURES])
    pending = [r for r in results.values() if not r.problem and r.predicted_by != served.model.sha256]
    batch = batch_of(sum(result.size_in_bytes for result in pending), len(pending))
    bar = st.progress(0.0) if len(pending) > CHUNK else None
    for start in range(0, len(pending), CHUNK):
        try:
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
            bar.progress(done / len(pending), text=f"{done} of {len(pending)} pictures")
    if bar:
        bar.empty()
    return results


def chips(labels: list[str]) -> str:
    """Labels as an HTML list; names of colors have a dot."""
    if not labels:
        return '<p class="ms-none">No class reaches its threshold.</p>'
    items = ""
    for label in labels:
        dot = f'<span class="ms-dot" style="background:{label}"></span>' if is_color(label) else ""
        items += f"<li>{dot}{markup(label)}</li>"
    return f'<ul class="ms-chips" aria-label="Labels">{items}</ul>'


def bars(model: Model, prediction: Prediction, shift: float) -> str:
    """All confidences as HTML tables, one per group, highest first, each with its bar and a mark at its threshold.

    Tables and not Streamlit's grid: screen readers read them, phones fit them, and they need neither pandas nor Arrow.
    """
    chosen = set(model.labels(prediction.probabilities, shift))
    confidence = dict(zip(model.classes, map(float, prediction.probabilities), strict=True))
    thresholds = dict(zip(model.classes, model.shifted(shift).tolist(), strict=True))
    tables = ""
    for heading, names in groups(model.classes):
        rows = ""
        for name in sorted(names, key=lambda name: -confidence[name]):
            value, threshold = confidence[name], thresholds[name]
            rows += (
                f'<tr class="{"on" if name in chosen else "off"}"><th scope="row">{markup(name)}</th>'
                f'<td><div class="ms-track" title="threshold {threshold:.0%}">'
                f'<div class="ms-fill" style="width:{value:.1%}"></div>'
                f'<div class="ms-mark" style="left:{threshold:.1%}"></div></div></td>'
                f'<td class="number">{value:.1%}</td></tr>'
            )
        tables += f'<table class="ms-bars"><caption>{heading or "Confidence"}</caption>{rows}</table>'
    return f'{tables}<p class="ms-note">The line across a bar marks the class\'s threshold.</p>'


def correct(result: Result, widget: str, predicted: list[str]) -> None:
    """Take over what a person chose; the model's own labels are no correction."""
    chosen = st.session_state[widget]
    result.corrected = None if set(chosen) == set(predicted) else list(chosen)


def edit_labels(key: str, result: Result, model: Model, shift: float) -> None:
    """The labels as removable chips, with the model's other classes to add."""
    widget = f"labels {key}"
    st.session_state[widget] = result.labels(model, shift)
    predicted = model.labels(result.prediction.probabilities, shift) if result.prediction else []
    st.multiselect(
        f"Labels of {markdown(result.name)}" + (" (corrected)" if result.corrected is not None else ""),
        model.classes,
        key=widget,
        on_change=correct,
        args=(result, widget, predicted),
        placeholder="no label; choose some",
    )


@st.fragment
def show_closely(key: str, result: Result, model: Model, shift: float) -> None:
    """One picture with the heat map of a label over it, its labels, and every confidence."""
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
            alt = f"{result.name}: {', '.join(result.labels(model, shift)) or UNLABELLED}"
            width, height = result.size
            place.image(result.shown, caption=f"{markdown(result.name)}, {width} × {height}", width="stretch", alt=alt)


def choose(results: dict[str, Result], model: Model, shift: float) -> dict[str, Result]:
    """The results that the filter lets through; without a choice all."""
    found: dict[str, set[str]] = {
        key: {UNREAD} if result.problem else set(result.labels(model, shift)) or {UNLABELLED}
        for key, result in results.items()
    }
    present = set().union(*found.values())
    options = [name for name in (*model.classes, UNLABELLED, UNREAD) if name in present]
    counts = {name: sum(name in labels for labels in found.values()) for name in options}
    wanted = st.pills(
        "Show only",
        options,
        selection_mode="multi",
        format_func=lambda name: f"{markdown(name)} · {counts[name]}",
        key="filter",
        help="Of several, a picture has to have all. Downloads hold every picture, whatever is shown.",
    )
    return {key: results[key] for key in results if set(wanted) <= found[key]}


def named_chips(result: Result, model: Model, shift: float) -> str:
    """A picture's name and its labels as HTML."""
    name = markup(result.name) + (" (corrected)" if result.corrected is not None else "")
    listed = chips(result.labels(model, shift))
    spoken = name.replace("&lt;", "‹").replace("&gt;", "›")  # Streamlit drops an attribute that has a tag in it
    return f'<div role="group" aria-label="Labels of {spoken}"><p class="ms-name">{name}</p>{listed}</div>'


@st.fragment
def show_grid(results: dict[str, Result], model: Model, shift: float) -> None:
    """Many pictures, a page of them at a time, each with its labels, and a way to look closer."""
    chosen = choose(results, model, shift)
    if not chosen:
        st.info("No picture has all of these; take one away.")
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
                alt = f"{result.name}: {', '.join(result.labels(model, shift)) or UNLABELLED}"
                st.image(result.shown, width="stretch", alt=alt)
                if correcting:
                    edit_labels(key, result, model, shift)
                else:
                    st.html(named_chips(result, model, shift))
                if st.button("Look closer", key=f"open {key}", icon=":material/zoom_in:", width="stretch"):
                    look_closer(key, result, model, shift)


@st.dialog("One picture", width="large")
def look_closer(key: str, result: Result, model: Model, shift: float) -> None:
    """One picture of many, in a window over the grid."""
    show_closely(key, result, model, shift)


def show_downloads(results: dict[str, Result], served: Served, shift: float) -> None:
    """A table of everything, and the pictures sorted into folders of their labels, ready to train on."""
    model = served.model
    separator = separator_for(model.classes)

    def labelled() -> tuple[Iterator[Readable], str]:
        good = [result for result in results.values() if not result.problem]
        return ((result.name, result.load, result.labels(model, shift)) for result in good), separator

    held = visit()
    held.download = labelled
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
        "Correct the labels first where they are wrong. To train on the zip: unpack it, `manasight data split`, "
        f"`manasight fit`. Labels are joined by “{markdown(separator)}”; images without a label are left out."
    )


@st.fragment(run_every=LOOK)
def show_model(shared: Serving, drawn: Served) -> None:
    """Which model answers and where it came from; draws the whole page again when another one took over."""
    served = shared.current()
    if served is not drawn:
        st.rerun()
    if refused := visit().refused:  # of itself the uploader shows only the status of a refusal
        visit().refused = ""
        st.toast(f"Some uploads were rejected: {refused}", icon=":material/warning:", duration="infinite")
    model = served.model
    st.subheader("Model")
    rows = {"Name": served.title}
    if served.champion:
        rows["Alias"] = ALIAS
    if served.registered:
        rows["Registered"] = served.registered
    rows["Test F1"] = f"{model.test_f1:.3f} (macro)" if model.test_f1 is not None else "not recorded"
    rows["Input"] = f"{model.input_size[0]} × {model.input_size[1]} pixels (height × width)"
    rows["Run"] = model.run_id or "not recorded"
    rows["Code"] = model.git_commit[:12] or "not recorded"
    rows["Data"] = model.data_fingerprint[:12] or "not recorded"
    more = f" and {len(model.classes) - MANY} more" if len(model.classes) > MANY else ""
    rows[f"{len(model.classes)} classes"] = ", ".join(model.classes[:MANY]) + more
    terms = "".join(f"<dt>{markup(key)}</dt><dd>{markup(value, 4000)}</dd>" for key, value in rows.items())
    st.html(f'<dl class="ms-model">{terms}</dl>')
    if served.champion and served.champion.run_url:
        st.link_button("Open the run in MLflow", served.champion.run_url, width="stretch")
    if shared.registry and st.button("Look for a newer champion", width="stretch"):
        with st.spinner("Asking MLflow"):
            swapped = shared.check()
        if swapped:
            st.rerun()
        st.toast(markdown(shared.note) or "This is the champion.")
    if shared.watchdog.problem:
        st.error(markdown(f"Predictions fail now: {shared.watchdog.problem}"), icon=":material/error:")
    if shared.note:
        st.info(markdown(shared.note), icon=":material/info:")


def show_limits(served: Served) -> None:
    """What a person must not expect, and the README beside the model's file, if there is one."""
    with st.expander("What it cannot do"):
        st.markdown(
            f"- It knows {len(served.model.classes)} classes and nothing else: any picture, a cat too, gets answers in "
            "them.\n- Pictures unlike those it was trained on (other angles, lighting, crops) are answered less well "
            "than its test score says; that score is from pictures of the same source.\n- A confidence is no "
            "certainty; each class's threshold was chosen where it did best on the validation split.\n- The heat map "
            "says which places spoke for a class, not why."
        )
        if served.card:
            st.markdown(served.card)


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
        show_closely(key, result, served.model, shift)
        edit_labels(key, result, served.model, shift)
        show_downloads(results, served, shift)
    else:
        if good:
            show_downloads(results, served, shift)
        show_grid(results, served.model, shift)


main()
