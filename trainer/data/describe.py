"""Examines a dataset: counts, sizes, broken images, duplicates and look-alikes."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from trainer.data.fingerprint import known_fingerprint, made_as
from trainer.data.near_duplicates import Fingerprints
from trainer.data.samples import (
    Format,
    Sample,
    beside_splits,
    check_training_split,
    find_splits,
    read_splits,
    relative,
)
from trainer.data.scan import Look, look_alikes, moments, same_files, survey
from trainer.data.walk import Skipped, skipped_note
from trainer.errors import UserError

MAX_LISTED = 20  # groups of images in a table; JSON has all

# Per split every readable image: what it looks like, and its labels.
Looks = dict[str, list[tuple[Look, Sample]]]


def examine(
    root: Path,
    form: Format = Format(),  # noqa: B008 (immutable)
    decode: bool = True,
    workers: int | None = None,
) -> tuple[dict[str, Any], Looks]:
    """Examine every image of a dataset once.

    Returns:
        a report, ready for JSON: `fingerprint` of all images there, readable or not, and `made_as`, the one that
        `data split` wrote, if it did; `splits` with counts, sizes and, if decoded, `mean` and `standard_deviation`;
        `broken` images, `empty` label folders, `skipped` files and `hints`; and if decoded `duplicates` and
        `look_alikes`, in groups of files.
        And per split every readable image with its labels.

    Raises:
        UserError: if `root` is not a dataset.
    """
    found: Looks = {}
    parts: dict[str, tuple[Path, list[Sample]]] = {}
    digests: dict[Path, str] = {}
    fingerprints = Fingerprints()
    report: dict[str, Any] = {"splits": {}, "broken": [], "empty": [], "skipped": [], "hints": []}
    folders = find_splits(root)
    check_training_split(root, folders)
    splits = read_splits(root, form)
    for samples in splits.values():
        if not samples.images:
            raise UserError(f"there are no images in the label folders of '{samples.root}'")
        report["empty"] += [relative(folder, root) for folder in samples.empty]
        report["skipped"] += [{"file": relative(path, root), "reason": reason} for path, reason in samples.skipped]
        report["hints"] += [hint for hint in samples.hints if hint not in report["hints"]]
    report["skipped"] += [{"file": path.name, "reason": "beside the splits"} for path in beside_splits(root, folders)]
    classes = sorted({label for samples in splits.values() for label in samples.labels})
    # A label set is called what the first folder that has it is called.
    names: dict[tuple[str, ...], str] = {}
    for samples in splits.values():
        for sample in samples.images:
            names.setdefault(sample.labels, sample.name)
    for name, samples in splits.items():
        counts = np.zeros((3, 256), np.int64)
        found[name] = []
        there = samples.there
        parts[name] = samples.root, there
        report["broken"] += [{"file": relative(path, root), "problem": why} for path, why in samples.lacking]
        looks = survey([sample.path for sample in there], decode, workers)
        for look, sample in zip(looks, there, strict=True):
            digests[look.path] = look.digest
            if look.problem:
                report["broken"].append({"file": relative(look.path, root), "problem": look.problem})
                continue
            if look.histogram is not None:
                counts += look.histogram
            if look.fingerprint is not None:
                fingerprints.add(look.fingerprint)
            slim = look._replace(histogram=None, fingerprint=None)
            found[name].append((slim, sample._replace(name=names[sample.labels])))
        if not found[name]:
            raise UserError(f"no image in '{root}' can be read{f' as {name}' if name != 'all' else ''}")
        report["splits"][name] = summary(found[name], classes)
        if decode:
            mean, deviation = moments(counts)
            report["splits"][name] |= {"mean": mean.tolist(), "standard_deviation": deviation.tolist()}
    report |= {"fingerprint": known_fingerprint(parts, digests), "made_as": made_as(root)}
    if decode:
        every = [look for part in found.values() for look, _ in part]
        for key, groups in (("duplicates", same_files(every)), ("look_alikes", look_alikes(every, fingerprints))):
            report[key] = [[relative(path, root) for path in group] for group in groups]
    return report, found


def summary(looks: list[tuple[Look, Sample]], classes: list[str]) -> dict[str, Any]:
    """Counts of one split: images, classes and label sets with their shares, and image sizes in pixels."""
    total = len(looks)
    per_class = Counter(label for _, sample in looks for label in sample.labels)
    sets = Counter(sample.name for _, sample in looks)
    widths, heights = np.array([(look.width, look.height) for look, _ in looks]).T
    return {
        "images": total,
        "without_label": sum(not sample.labels for _, sample in looks),
        "classes": {label: {"images": per_class[label], "share": per_class[label] / total} for label in classes},
        "label_sets": dict(sorted(sets.items())),
        "width": [int(widths.min()), float(np.median(widths)), int(widths.max())],
        "height": [int(heights.min()), float(np.median(heights)), int(heights.max())],
    }


def tables(report: dict[str, Any], verbose: bool = False) -> str:
    """The report as text; with `verbose` every skipped file."""
    splits = report["splits"]
    overview = {
        name: {
            "images": part["images"],
            "without label": part["without_label"],
            "label sets": len(part["label_sets"]),
            "width (min, median, max)": "{} {:.0f} {}".format(*part["width"]),
            "height (min, median, max)": "{} {:.0f} {}".format(*part["height"]),
        }
        | {
            key.replace("_", " "): " ".join(f"{value:.4f}" for value in part[key])
            for key in ("mean", "standard_deviation")
            if key in part
        }
        for name, part in splits.items()
    }
    classes = {
        name: {label: f"{row['images']} ({row['share']:.1%})" for label, row in part["classes"].items()}
        for name, part in splits.items()
    }
    label_sets = {name: part["label_sets"] for name, part in splits.items()}
    texts = [
        f"{title}\n{table.to_string()}"
        for title, table in (
            ("Images", pd.DataFrame(overview)),
            ("Classes", pd.DataFrame(classes)),
            ("Label sets", pd.DataFrame(label_sets).fillna(0).astype(int).sort_index()),
        )
    ]
    if report["empty"]:
        texts.append("Label folders without an image: " + ", ".join(report["empty"]))
    skipped = [Skipped(Path(entry["file"]), entry["reason"]) for entry in report["skipped"]]
    texts += [*filter(None, [skipped_note(skipped, verbose)]), *report["hints"]]
    if report["broken"]:
        lines = [f"{entry['file']}: {entry['problem']}" for entry in report["broken"]]
        texts.append("\n".join([f"Broken: {len(lines)}", *lines[:MAX_LISTED], *["…"][: len(lines) > MAX_LISTED]]))
    for key, title in (("duplicates", "The same file more than once"), ("look_alikes", "Images that look alike")):
        if groups := report.get(key):
            lines = [" = ".join(group[:5]) + " …" * (len(group) > 5) for group in groups[:MAX_LISTED]]
            texts.append("\n".join([f"{title}: {len(groups)}", *lines, *["…"][: len(groups) > MAX_LISTED]]))
    made = report["made_as"]
    changed = f" (it was {made} when it was made)" if made not in (None, report["fingerprint"]) else ""
    return "\n\n".join([*texts, f"fingerprint: {report['fingerprint']}{changed}"])
