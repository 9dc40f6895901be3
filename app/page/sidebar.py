"""Which model answers, and what it cannot do."""

import streamlit as st

from app.page.grid import MANY
from app.page.turns import turns
from app.page.uploads import visit
from app.serving.registry import ALIAS
from app.serving.serving import Served, Serving
from app.text import markdown, markup

# Seconds after which an open page notices that another model answers.
LOOK = 5


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
    if shared.follower and st.button("Look for a newer champion", width="stretch"):
        with st.spinner("Asking MLflow"), turns.others_go_first():
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
            f"- It knows {len(served.model.classes)} classes and nothing else: any image, a cat too, gets answers in "
            "them.\n- Images unlike those it was trained on (other angles, lighting, crops) are answered less well "
            "than its test score says; that score is from images of the same source.\n- A confidence is no "
            "certainty; each class's threshold was chosen where it did best on the validation split.\n- The heat map "
            "says which places spoke for a class, not why."
        )
        if served.card:
            st.markdown(served.card)
