"""Labels and confidences as HTML."""

from app.page.labels import groups, is_color
from app.page.results import Result
from app.serving.model import Model, Prediction
from app.text import markup


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


def named_chips(result: Result, model: Model, shift: float) -> str:
    """An image's name and its labels as HTML."""
    name = markup(result.name) + " (corrected)" * result.changed(model, shift)
    listed = chips(result.labels(model, shift))
    spoken = name.replace("&lt;", "‹").replace("&gt;", "›")  # Streamlit drops an attribute that has a tag in it
    return f'<div role="group" aria-label="Labels of {spoken}"><p class="ms-name">{name}</p>{listed}</div>'
