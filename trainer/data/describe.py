"""Says what a data set holds and what is wrong with it: as tables, as JSON, as a page with pictures."""

import base64
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from torchvision.datasets.folder import IMG_EXTENSIONS

from trainer.data.folder import label_folders, list_images
from trainer.data.image import load_rgb
from trainer.data.parallel import in_order
from trainer.data.splits import check_training_split, find_splits
from trainer.data.survey import Look, look_alikes, moments, same_files, survey
from trainer.errors import UserError
from trainer.files import write_whole
from trainer.resources import cpu_cores

THUMBNAIL = (150, 170)  # pixels, width and height at most
LISTED = 20  # groups of images in a table; JSON has all


def describe(
    root: Path,
    separator: str = "-",
    check: bool = False,
    statistics: bool = False,
    as_json: bool = False,
    html: Path | None = None,
    pictures: int = 8,
    workers: int | None = None,
) -> None:
    """Print a data set's images, sizes, label sets and classes, per split if `root` holds train, val and test.

    Args:
        root: a folder of label folders, or of splits that hold them.
        separator: what stands between labels in a folder's name.
        check: decode every image; list the broken ones, duplicates and look-alikes. With broken ones the exit status
            is 1.
        statistics: add the mean and standard deviation of each channel, from 0 to 1, over all pixels.
        as_json: print one JSON object instead of tables.
        html: write all of it, with pictures of every class, into one HTML page that needs no other file.
        pictures: of each class on that page.
        workers: images looked at at the same time; one per core by default.
    """
    if workers is not None and workers < 1:
        raise UserError(f"--workers {workers} looks at nothing; give 1 or more")
    if pictures < 0:
        raise UserError(f"--pictures {pictures} cannot be shown; give 0 or more")
    if html is not None and html.is_dir():
        raise UserError(f"'{html}' is a folder; name a file with --html, as in --html {html / 'report.html'}")
    report, looks = examine(root, separator, check or statistics or html is not None, workers)
    if html is not None:
        write_whole(html, page(root, report, looks, pictures).encode())
    print(json.dumps(report, indent=2) if as_json else tables(report))
    if html is not None and not as_json:
        print(f"\nresults: {html}")
    broken = report["broken"]
    total = len(broken) + sum(part["images"] for part in report["splits"].values())
    if check and broken:
        listing = "\n".join(f"  {entry['file']}: {entry['problem']}" for entry in broken)
        raise UserError(f"{len(broken)} of {total} images are unreadable; mend or remove them:\n{listing}")
    if check and report["empty"]:
        raise UserError(f"there are no images in {', '.join(report['empty'])} of '{root}'; fill or remove the folders")
    if check and not as_json:
        print(f"\nall {total} images are readable")


Looks = dict[str, list[tuple[Look, tuple[str, ...]]]]


def examine(
    root: Path, separator: str = "-", decode: bool = True, workers: int | None = None
) -> tuple[dict[str, Any], Looks]:
    """Look at every image of a data set once.

    Returns:
        what can be said of it, ready for JSON: `splits` with counts, sizes and, if decoded, `mean` and
        `standard_deviation`; `broken` images and `empty` label folders; and if decoded `duplicates` and `look_alikes`,
        in groups of files.
        And per split every readable image with its labels.

    Raises:
        UserError: if the folders are no data set.
    """
    found: Looks = {}
    report: dict[str, Any] = {"splits": {}, "broken": [], "empty": []}
    spellings: dict[tuple[str, ...], tuple[str, ...]] = {}
    labelled = {name: _labelled(folder, separator, spellings) for name, folder in split_folders(root).items()}
    for folder in split_folders(root).values():
        parts = label_folders(folder, separator)
        report["empty"] += [_name(part, root) for part in parts if not list_images(part, folder, IMG_EXTENSIONS)]
    classes = sorted({label for images in labelled.values() for labels in images.values() for label in labels})
    for name, images in labelled.items():
        counts = np.zeros((3, 256), np.int64)
        found[name] = []
        for look in survey(list(images), decode, workers):
            if look.problem:
                report["broken"].append({"file": _name(look.path, root), "problem": look.problem})
                continue
            if look.histogram is not None:
                counts += look.histogram
            found[name].append((look._replace(histogram=None), images[look.path]))
        if not found[name]:
            raise UserError(f"no image in '{root}' can be read{f' as {name}' if name != 'all' else ''}")
        report["splits"][name] = summary(found[name], classes, separator)
        if decode:
            mean, deviation = moments(counts)
            report["splits"][name] |= {"mean": mean.tolist(), "standard_deviation": deviation.tolist()}
    if decode:
        looks = [look for part in found.values() for look, _ in part]
        for key, groups in (("duplicates", same_files(looks)), ("look_alikes", look_alikes(looks))):
            report[key] = [[_name(path, root) for path in group] for group in groups]
    return report, found


def split_folders(root: Path) -> dict[str, Path]:
    """`root`'s splits by name, or `root` itself as `all` if it holds none.

    Raises:
        UserError: if `root` holds some splits but no training split.
    """
    found = find_splits(root)
    check_training_split(root, found)
    return found or {"all": root}


def summary(looks: list[tuple[Look, tuple[str, ...]]], classes: list[str], separator: str = "-") -> dict[str, Any]:
    """Counts of one split: images, classes and label sets with their shares, and image sizes in pixels."""
    total = len(looks)
    per_class = Counter(label for _, labels in looks for label in labels)
    sets = Counter(separator.join(labels) for _, labels in looks)
    widths, heights = np.array([(look.width, look.height) for look, _ in looks]).T
    return {
        "images": total,
        "classes": {label: {"images": per_class[label], "share": per_class[label] / total} for label in classes},
        "label_sets": dict(sorted(sets.items())),
        "width": [int(widths.min()), float(np.median(widths)), int(widths.max())],
        "height": [int(heights.min()), float(np.median(heights)), int(heights.max())],
    }


def tables(report: dict[str, Any]) -> str:
    """The report as text."""
    splits = report["splits"]
    overview = {
        name: {
            "images": part["images"],
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
    if report["broken"]:
        lines = [f"{entry['file']}: {entry['problem']}" for entry in report["broken"]]
        texts.append("\n".join([f"Broken: {len(lines)}", *lines[:LISTED], *["…"][: len(lines) > LISTED]]))
    for key, title in (("duplicates", "The same file more than once"), ("look_alikes", "Images that look alike")):
        if groups := report.get(key):
            lines = [" = ".join(group[:5]) + " …" * (len(group) > 5) for group in groups[:LISTED]]
            texts.append("\n".join([f"{title}: {len(groups)}", *lines, *["…"][: len(groups) > LISTED]]))
    return "\n\n".join(texts)


def page(root: Path, report: dict[str, Any], looks: Looks, pictures: int) -> str:
    """The report as one HTML page, with so many pictures of every class, evenly taken from its images."""
    from trainer.page import TEMPLATES

    rows = []
    for label in next(iter(report["splits"].values()))["classes"]:
        members = [(split, look, labels) for split, part in looks.items() for look, labels in part if label in labels]
        step = max(1, len(members) / max(1, pictures))
        chosen = [members[int(place * step)] for place in range(min(pictures, len(members)))]
        rows.append((label, len(members), chosen))
    thumbnails = in_order(
        lambda item: _thumbnail(item[1].path), [item for *_, chosen in rows for item in chosen], cpu_cores()
    )
    gallery = [
        {
            "label": label,
            "images": count,
            "pictures": [
                {"data": next(thumbnails), "file": _name(look.path, root), "split": split, "labels": ", ".join(labels)}
                for split, look, labels in chosen
            ],
        }
        for label, count, chosen in rows
    ]
    sizes = Counter((look.width, look.height) for part in looks.values() for look, _ in part)
    sets = sorted({name for part in report["splits"].values() for name in part["label_sets"]})
    return TEMPLATES.get_template("data/describe.html").render(
        title=root.resolve().name, report=report, gallery=gallery, sets=sets, sizes=sizes.most_common(8), listed=LISTED
    )


def _labelled(
    folder: Path, separator: str, spellings: dict[tuple[str, ...], tuple[str, ...]]
) -> dict[Path, tuple[str, ...]]:
    """Every image with its labels, in the order of the first folder that names this set of them."""
    found = {}
    for part, labels in label_folders(folder, separator).items():
        spelling = spellings.setdefault(labels, tuple(part.name.split(separator) if separator else [part.name]))
        for path in list_images(part, folder, IMG_EXTENSIONS):
            found[path] = spelling
    if not found:
        raise UserError(f"there are no images in the label folders of '{folder}'")
    return found


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _thumbnail(path: Path) -> str:
    """A small JPEG as a data address."""
    image = load_rgb(path, THUMBNAIL[::-1])
    image.thumbnail(THUMBNAIL, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=82)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
