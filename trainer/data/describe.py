"""Counts what a data set holds and finds what is wrong with it."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets.folder import IMG_EXTENSIONS
from tqdm import tqdm

from trainer.data.folder import SPLITS, MultiLabelImageFolder, label_folders, list_images
from trainer.data.image import unreadable_images
from trainer.errors import UserError


def describe(
    root: Path, separator: str = "-", check: bool = False, statistics: bool = False, as_json: bool = False
) -> None:
    """Print a data set's images, sizes, label sets and classes, per split if `root` holds train, val and test.

    Args:
        root: a folder of label folders, or of splits that hold them.
        separator: what stands between labels in a folder's name.
        check: decode every image and list those that fail; the exit status is then 1.
        statistics: add the mean and standard deviation of each channel, from 0 to 1.
        as_json: print one JSON object instead of tables.
    """
    folders = split_folders(root)
    if check:
        paths = [path for part in folders.values() for path in _all_images(part, separator)]
        bad = unreadable_images(paths)
        if bad:
            listing = "\n".join(f"  {path}: {reason}" for path, reason in bad)
            raise UserError(f"{len(bad)} of {len(paths)} images are unreadable; mend or remove them:\n{listing}")
        print(f"all {len(paths)} images are readable")
    report: dict[str, Any] = {}
    classes: Sequence[str] | None = None
    for name, folder in folders.items():
        dataset = MultiLabelImageFolder(folder, separator=separator, classes=classes)
        classes = dataset.classes
        report[name] = summary(dataset)
        if statistics:
            mean, deviation = channel_statistics(dataset)
            report[name]["mean"], report[name]["standard_deviation"] = mean.tolist(), deviation.tolist()
    print(json.dumps(report, indent=2) if as_json else _tables(report))


def split_folders(root: Path) -> dict[str, Path]:
    """`root`'s splits by name, or `root` itself as `all` if it holds none.

    Raises:
        UserError: if `root` holds some splits but no training split.
    """
    found = {name: root / name for name in SPLITS if (root / name).is_dir()}
    if found and "train" not in found:
        raise UserError(f"'{root}' holds {', '.join(found)} but no train; make splits with `manasight data split`")
    return found or {"all": root}


def summary(dataset: MultiLabelImageFolder) -> dict[str, Any]:
    """Counts of one split: images, classes and label sets with their shares, and image sizes in pixels."""
    sizes = []
    for path, _ in dataset.samples:
        with Image.open(path) as image:
            sizes.append(image.size)
    widths, heights = np.array(sizes).T
    total = len(dataset)
    per_class = dataset.targets.sum(0).int().tolist()
    return {
        "images": total,
        "classes": {
            label: {"images": count, "share": count / total}
            for label, count in zip(dataset.classes, per_class, strict=True)
        },
        "label_sets": {"-".join(labels): count for labels, count in sorted(Counter(dataset.label_sets).items())},
        "width": [int(widths.min()), float(np.median(widths)), int(widths.max())],
        "height": [int(heights.min()), float(np.median(heights)), int(heights.max())],
    }


def channel_statistics(dataset: MultiLabelImageFolder, workers: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel over all pixels of all images, exactly, image by image.

    Args:
        dataset: its items' images are PIL images or uint8 arrays `[H, W, 3]` of any size.
        workers: processes that decode.

    Returns:
        mean and standard deviation, float64 `[3]` each, on a scale from 0 to 1.
    """
    count, total, squares = 0, np.zeros(3), np.zeros(3)
    loader = DataLoader(dataset, batch_size=None, num_workers=workers)
    for image, _ in tqdm(loader, desc="channel statistics", unit="image", disable=None):
        pixels = np.asarray(image).reshape(-1, 3)
        histograms = np.stack([np.bincount(pixels[:, channel], minlength=256) for channel in range(3)])
        count += len(pixels)
        total += histograms @ np.arange(256.0)
        squares += histograms @ np.arange(256.0) ** 2
    mean = total / count
    return mean / 255, np.sqrt(squares / count - mean**2) / 255


def _all_images(folder: Path, separator: str) -> list[Path]:
    return [path for part in label_folders(folder, separator) for path in list_images(part, folder, IMG_EXTENSIONS)]


def _tables(report: dict[str, Any]) -> str:
    overview = pd.DataFrame(
        {
            name: {
                "images": part["images"],
                "label sets": len(part["label_sets"]),
                "width (min, median, max)": "{} {:.0f} {}".format(*part["width"]),
                "height (min, median, max)": "{} {:.0f} {}".format(*part["height"]),
            }
            | {key: " ".join(f"{value:.4f}" for value in part[key]) for key in part if key.startswith(("mean", "stan"))}
            for name, part in report.items()
        }
    )
    classes = {
        name: {label: f"{row['images']} ({row['share']:.1%})" for label, row in part["classes"].items()}
        for name, part in report.items()
    }
    label_sets = {name: part["label_sets"] for name, part in report.items()}
    tables = [overview, pd.DataFrame(classes), pd.DataFrame(label_sets).fillna(0).astype(int)]
    return "\n\n".join(
        f"{title}\n{table.to_string()}"
        for title, table in zip(("Images", "Classes", "Label sets"), tables, strict=True)
    )
