"""`manasight predict`: labels a folder of images with a `model.onnx`, into a CSV file."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from torchvision.datasets.folder import IMG_EXTENSIONS
from tqdm import tqdm

from trainer import tracking
from trainer.data.image import UNREADABLE, load_rgb, resize
from trainer.errors import UserError
from trainer.onnx_file import OnnxClassifier, batched, decided
from trainer.resources import cpu_cores


def predict(images: Path, model: str = "champion", out: Path = Path("predictions.csv")) -> None:
    """Label every image below a folder and write a table: file, labels, and the probability of each class.

    Args:
        images: a folder, searched with all its sub-folders, or one image.
        model: a model.onnx, or champion for the one that MLflow's registry names.
        out: the CSV file to write.
    """
    paths = find_images(images)
    classifier = load_model(model)
    unreadable: list[str] = []
    read: list[Path] = []

    def prepare() -> Iterator[np.ndarray]:
        with ThreadPoolExecutor(cpu_cores()) as pool:
            pixels = pool.map(lambda path: _read(path, classifier.metadata.input_size), paths)
            bar = tqdm(pixels, "predicting", len(paths), unit="image", disable=None)
            for path, image in zip(paths, bar, strict=True):
                if isinstance(image, str):
                    unreadable.append(f"  {path}: {image}")
                else:
                    read.append(path)
                    yield image

    classes = classifier.metadata.classes
    outputs = [classifier(batch) for batch in batched(prepare())]
    probabilities = np.concatenate(outputs) if outputs else np.empty((0, len(classes)), np.float32)
    labels = decided(probabilities, classifier.metadata.thresholds)
    table = pd.DataFrame(probabilities.round(4), columns=classes)
    table.insert(0, "labels", ["-".join(np.array(classes)[row]) for row in labels])
    table.insert(0, "file", [str(path) for path in read])
    temporary = out.with_name(f".{out.name}.new")
    try:
        table.to_csv(temporary, index=False)
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)
    if unreadable:
        print(f"left out {len(unreadable)} unreadable images:", *unreadable, sep="\n")
    print(f"{len(read)} images labelled by {classifier.metadata.run_id}\nresults: {out}")


def find_images(images: Path) -> list[Path]:
    """The image files below a folder, sorted, or the one file that is named.

    Raises:
        UserError: if there are none.
    """
    if images.is_file():
        return [images]
    found = sorted(path for path in images.rglob("*") if path.suffix.lower() in IMG_EXTENSIONS and path.is_file())
    if not found:
        raise UserError(f"there are no images below '{images}'; name a folder of {', '.join(IMG_EXTENSIONS)} files")
    return found


def load_model(model: str) -> OnnxClassifier:
    """A model by its file, or the registry's champion.

    Raises:
        UserError: if there is none.
    """
    if model != "champion":
        return OnnxClassifier(Path(model))
    from trainer.promote import fetch, find_champion

    version = find_champion(tracking.connect())
    if version is None:
        raise UserError("there is no champion yet; name a file with --model, as in --model models/starter/model.onnx")
    return fetch(version.version)


def _read(path: Path, size: tuple[int, int]) -> np.ndarray | str:
    try:
        return np.asarray(resize(load_rgb(path), size))
    except UNREADABLE as error:
        return str(error)
