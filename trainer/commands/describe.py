"""`manasight data describe`: what is in a dataset, and what is wrong with it: as tables, as JSON, as a page."""

import base64
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

from PIL import Image

from trainer.data.describe import Looks, examine, tables
from trainer.data.images import load_rgb
from trainer.data.parallel import in_order
from trainer.data.samples import NO_LABEL, Format, relative
from trainer.errors import UserError
from trainer.files import write_whole
from trainer.resources import cpu_cores

THUMBNAIL = (150, 170)  # pixels, width and height at most
MAX_LISTED = 20  # groups of images on the page; JSON has all


def describe(
    root: Path,
    separator: str = "-",
    negatives: str = NO_LABEL,
    nested: bool = False,
    follow_links: bool = False,
    images: str = "",
    verbose: bool = False,
    check: bool = False,
    statistics: bool = False,
    as_json: bool = False,
    html: Path | None = None,
    pictures: int = 8,
    workers: int | None = None,
) -> None:
    """Print a dataset's images, sizes, label sets and classes, per split if `root` holds train, val and test.

    Args:
        root: a folder of label folders, or of splits that hold them; or a table (.csv, .tsv, .jsonl, .parquet, …).
        separator: between labels in a folder's name.
        negatives: the folder of images without any label.
        nested: every folder between `root`, or a split, and an image adds labels.
        follow_links: also links that leave `root`.
        images: the folder that the paths in a table are relative to; by default found by itself.
        verbose: list every file that is skipped.
        check: decode every image; list the broken ones, duplicates and look-alikes. With broken ones the exit status
            is 2.
        statistics: add the mean and standard deviation of each channel, from 0 to 1, over all pixels.
        as_json: print one JSON object instead of tables.
        html: write all of it, with images of every class, into one HTML page that needs no other file.
        pictures: images of each class on that page.
        workers: images read at the same time; one per core by default.
    """
    if workers is not None and workers < 1:
        raise UserError(f"--workers {workers} is too small; give 1 or more")
    if pictures < 0:
        raise UserError(f"--pictures {pictures} is too small; give 0 or more")
    if html is not None and html.is_dir():
        raise UserError(f"'{html}' is a folder; name a file with --html, as in --html {html / 'report.html'}")
    decode = check or statistics or html is not None
    report, looks = examine(root, Format(separator, negatives, nested, follow_links, images), decode, workers)
    if html is not None:
        write_whole(html, page(root, report, looks, pictures).encode())
    print(json.dumps(report, indent=2) if as_json else tables(report, verbose))
    if html is not None and not as_json:
        print(f"\nresults: {html}")
    broken = report["broken"]
    total = len(broken) + sum(part["images"] for part in report["splits"].values())
    if check and broken:
        listing = "\n".join(f"  {entry['file']}: {entry['problem']}" for entry in broken)
        raise UserError(f"{len(broken)} of {total} images are unreadable; repair or remove them:\n{listing}")
    if check and report["empty"]:
        raise UserError(f"there are no images in {', '.join(report['empty'])} of '{root}'; fill or remove the folders")
    if check and not as_json:
        print(f"\nall {total} images are readable")


def page(root: Path, report: dict[str, Any], looks: Looks, pictures: int) -> str:
    """The report as one HTML page, with so many images of every class, evenly taken."""
    from trainer.report.html import TEMPLATES

    rows = []
    for label in next(iter(report["splits"].values()))["classes"]:
        members = [(split, *item) for split, part in looks.items() for item in part if label in item[1].labels]
        step = max(1, len(members) / max(1, pictures))
        chosen = [members[int(place * step)] for place in range(min(pictures, len(members)))]
        rows.append((label, len(members), chosen))
    every = [look for *_, chosen in rows for _, look, _ in chosen]
    thumbnails = in_order(lambda look: _thumbnail(look.path), every, cpu_cores())
    gallery = [
        {
            "label": label,
            "images": count,
            "pictures": [
                {
                    "data": next(thumbnails),
                    "file": relative(look.path, root),
                    "split": split,
                    "labels": ", ".join(sample.labels),
                }
                for split, look, sample in chosen
            ],
        }
        for label, count, chosen in rows
    ]
    sizes = Counter((look.width, look.height) for part in looks.values() for look, _ in part)
    sets = sorted({name for part in report["splits"].values() for name in part["label_sets"]})
    return TEMPLATES.get_template("describe.html").render(
        title=root.resolve().name,
        report=report,
        gallery=gallery,
        sets=sets,
        sizes=sizes.most_common(8),
        listed=MAX_LISTED,
    )


def _thumbnail(path: Path) -> str:
    """A small JPEG as a data address."""
    image = load_rgb(path, THUMBNAIL[::-1])
    image.thumbnail(THUMBNAIL, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=82)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
