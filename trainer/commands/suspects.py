"""`manasight data suspects`: the labels of a dataset that are probably wrong, or the images to label next."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from contract.registry import model_name
from trainer.data.fingerprint import known_fingerprint
from trainer.data.images import UNREADABLE, load_rgb
from trainer.data.labeled import LabeledImages
from trainer.data.onnx_features import features
from trainer.data.samples import NO_LABEL, Format, Sample, check_training_split, find_images, find_splits
from trainer.data.suspects import FOLDS, Linear, doubts, label_next, out_of_fold
from trainer.errors import UserError
from trainer.files import readable, write_whole
from trainer.paths import STARTER, program

SHOWN = 24  # images on the page
TILE = (220, 280)  # pixels of one of them with its caption, width and height


def suspects(
    root: Path,
    model: str = "champion",
    out: Path = Path("suspects.csv"),
    html: Path | None = None,
    unlabeled: str = "",
    count: int = 100,
    separator: str = "-",
    negatives: str = NO_LABEL,
    nested: bool = False,
    follow_links: bool = False,
    images: str = "",
    drop_unreadable: bool = False,
) -> None:
    """List the images whose labels are probably wrong, the most doubtful first.

    A linear layer on the frozen features of a model is trained on four fifths of the images and judges the last one,
    five times over. The table has each image's file, its labels, the labels suggested instead, the label in doubt, how
    far that is beyond what is usual, and whether it counts as wrong.

    Args:
        root: a dataset: label folders, splits of them, or a table.
        model: a model.onnx whose backbone sees the images, which may know other labels; or champion for the one that
            MLflow's registry names, and the included starter if there is none.
        out: the table to write, a .csv file.
        html: a page with the first images, too.
        unlabeled: rank the images of this folder by how much labeling them would teach, and not those of `root`.
        count: of these, how many.
        separator: between labels in a folder's name or a table's column.
        negatives: the folder of images without any label.
        nested: every folder between `root`, or a split, and an image adds labels.
        follow_links: also links that leave `root`.
        images: the folder that the paths in a table are relative to; by default found by itself.
        drop_unreadable: leave out images that cannot be decoded.
    """
    if out.suffix.lower() != ".csv":
        raise UserError(f"'{out}' is not a .csv file; name the table so")
    for path in filter(None, (out, html)):
        if path.is_dir() or not path.parent.is_dir():
            raise UserError(f"'{path}' cannot be written; name a file in a folder that exists")
    if count < 1:
        raise UserError(f"--count {count} lists nothing; give 1 or more")
    parts = _labeled(root, Format(separator, negatives, nested, follow_links, images), drop_unreadable)
    samples = [sample for part in parts.values() for sample in part.images]
    classes = sorted({label for part in parts.values() for label in part.classes})
    if len(samples) < 2 * FOLDS:
        raise UserError(f"'{root}' has {len(samples)} images; at least {2 * FOLDS} are needed")
    with _found(model) as (file, called):
        seen = features([sample.path for sample in samples], file).astype(np.float32)
        sound = np.isfinite(seen).all(1)
        samples, seen = [sample for sample, good in zip(samples, sound, strict=True) if good], seen[sound]
        targets = np.array([[label in sample.labels for label in classes] for sample in samples])
        if unlabeled:
            table, paths = _to_label(unlabeled, file, Linear(seen, targets), classes, count)
        else:
            table, paths = _doubtful(samples, seen, targets, classes)
    fingerprint = known_fingerprint({split: (part.root, part.images) for split, part in parts.items()})
    write_whole(out, table.to_csv(index=False, float_format="%.4f").encode())
    if left_out := int((~sound).sum()) + sum(len(part.dropped) for part in parts.values()):
        print(f"left out {left_out} unreadable images; `{program()} data describe --check` lists them")
    if html is not None:
        _write_page(html, f"{root} (fingerprint {fingerprint})", table, paths)
    print(f"fingerprint: {fingerprint}\nseen by the backbone of {called}")
    if unlabeled:
        print(f"{len(table)} images worth labeling, the best first\nresults: {out}")
        return
    print(table[["file", "labels", "suggested", "doubt"]].head(10).to_string(index=False))
    print(f"{int(table['wrong'].sum())} of {len(table)} images probably have a wrong label\nresults: {out}")


@contextmanager
def _found(model: str) -> Iterator[tuple[Path, str]]:
    """A model's file while it is needed, and what messages call it.

    Raises:
        UserError: if there is none.
    """
    if model != "champion":
        yield Path(model), model
        return
    # MLflow takes seconds to import.
    from trainer.tracking import registry
    from trainer.tracking.mlflow import place

    if version := registry.present_champion():
        with registry.fetched(version) as (path, _):
            yield path, f"{model_name()} version {version.version} (champion)"
    elif STARTER.is_file():
        yield STARTER, f"the starter, {STARTER}"
    else:
        raise UserError(
            f"there is no champion in '{place()}' yet, and this copy of Manasight has no starter; name a "
            "model.onnx with --model"
        )


def _labeled(root: Path, form: Format, drop_unreadable: bool) -> dict[str, LabeledImages]:
    """The images of every split; the class lists of splits may differ."""
    found = find_splits(root)
    check_training_split(root, found)
    return {
        split: LabeledImages(part, form, drop_unreadable=drop_unreadable)
        for split, part in (found or {"all": root}).items()
    }


def _doubtful(
    samples: Sequence[Sample], seen: np.ndarray, targets: np.ndarray, classes: Sequence[str]
) -> tuple[pd.DataFrame, list[Path]]:
    probabilities = out_of_fold(seen, targets, [sample.labels for sample in samples])
    excess = doubts(probabilities, targets)
    worst, order = excess.argmax(1), np.argsort(-excess.max(1), kind="stable")
    names = np.array(classes)
    rows = [
        {
            "file": readable(samples[row].path),
            "labels": ";".join(samples[row].labels),
            "suggested": ";".join(names[targets[row] ^ (excess[row] >= 0)]),
            "in doubt": names[worst[row]],
            "doubt": excess[row].max(),
            "wrong": bool(excess[row].max() >= 0),
        }
        for row in order
    ]
    return pd.DataFrame(rows), [samples[row].path for row in order]


def _to_label(
    folder: str, model: Path, layer: Linear, classes: Sequence[str], count: int
) -> tuple[pd.DataFrame, list[Path]]:
    paths, _ = find_images(folder)
    seen = features(paths, model).astype(np.float32)
    sound = np.isfinite(seen).all(1)
    paths, seen = [path for path, good in zip(paths, sound, strict=True) if good], seen[sound]
    probabilities = layer(seen)
    chosen = label_next(seen, probabilities, count)
    rows = [
        {"file": readable(paths[row]), "suggested": ";".join(np.array(classes)[probabilities[row] >= 0.5])}
        for row in chosen
    ]
    return pd.DataFrame(rows, columns=["file", "suggested"]), [paths[row] for row in chosen]


def _write_page(html: Path, dataset: str, table: pd.DataFrame, paths: Sequence[Path]) -> None:
    """The first images with their labels, and the first hundred rows."""
    from trainer.report.html import Section, save_page

    rows = table.head(SHOWN).to_dict("records")
    with tempfile.TemporaryDirectory(prefix="manasight-") as folder:
        sheet = Path(folder) / "sheet.png"
        _sheet([(path, row) for path, row in zip(paths, rows, strict=False)]).save(sheet)
        first = Section("The first images", "Below each its labels, and in blue what is suggested.", pictures=[sheet])
        listing = Section("The first hundred", table=table.head(100).set_index("file"))
        save_page("Suspects", f"{len(table)} images of {dataset}", [first, listing], html)
    print(f"page: {html}")


def _sheet(shown: Sequence[tuple[Path, dict[str, str]]]) -> Image.Image:
    width, height = TILE
    columns = 4
    sheet = Image.new("RGB", (columns * width, height * -(-len(shown) // columns)), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(14)
    for place, (path, row) in enumerate(shown):
        left, top = width * (place % columns), height * (place // columns)
        try:
            image = load_rgb(path, TILE)
        except UNREADABLE:
            continue
        image.thumbnail((width - 20, height - 60))
        sheet.paste(image, (left + 10, top + 10))
        draw.text((left + 10, top + height - 44), row.get("labels", "") or "(no label)", "black", font)
        draw.text((left + 10, top + height - 26), row["suggested"] or "(no label)", "blue", font)
    return sheet
