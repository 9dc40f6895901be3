"""`manasight predict`: labels images with a `model.onnx`, into a table."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

from contract.registry import model_name
from trainer.data.images import UNREADABLE, LimitedReader, reason
from trainer.data.parallel import in_order
from trainer.data.s3 import copy
from trainer.data.samples import find_images
from trainer.data.walk import Skipped, skipped_note
from trainer.errors import UserError
from trainer.files import reachable, readable, write_whole
from trainer.model.onnx_file import Metadata, OnnxClassifier, batched, decided, separator_for
from trainer.paths import STARTER
from trainer.progress import progress
from trainer.resources import cpu_cores
from trainer.tracking import registry
from trainer.tracking.mlflow import place

FORMATS: dict[str, Callable[[pd.DataFrame], bytes]] = {
    ".csv": lambda table: table.to_csv(index=False, float_format="%.4f").encode(),
    ".parquet": lambda table: table.to_parquet(index=False),
}


def predict(
    images: str,
    model: str = "champion",
    out: Path = Path("predictions.csv"),
    workers: int | None = None,
    verbose: bool = False,
) -> None:
    """Label images and write a table: file, labels in one column, joined by the model's own separator, and the
    probability of each class.

    Labels are those whose calibrated probability reaches the model's own threshold. Images that cannot be read are
    listed and left out.

    Args:
        images: a folder, searched with all its sub-folders but hidden ones; one image; a pattern such as
            'photos/**/*.jpg'; or s3://bucket/prefix, which is first copied to the system's temporary folder.
        model: a model.onnx, or champion for the one that MLflow's registry names.
        out: the file to write, .csv or .parquet.
        workers: images decoded at the same time while the model works; one per core by default.
        verbose: list every file that is skipped.
    """
    if out.suffix.lower() not in FORMATS:
        raise UserError(f"'{out}' is neither .csv nor .parquet; name the table so")
    if not reachable(out.parent).is_dir():
        raise UserError(f"there is no folder '{out.parent}' to write '{out.name}' into; make it, or name another --out")
    if out.is_dir():
        raise UserError(f"'{out}' is a folder; name a file with --out")
    if workers is not None and workers < 1:
        raise UserError(f"--workers {workers} decodes nothing; give 1 or more")
    with found_images(images) as (named, skipped):
        classifier, called = load_model(model)
        table, unreadable = label(named, classifier, workers or cpu_cores())
    if table.empty:
        raise UserError(f"none of the {len(named)} images at '{images}' can be read; the first is {unreadable[0]}")
    write_whole(out, FORMATS[out.suffix.lower()](table))
    if unreadable:
        print(f"left out {len(unreadable)} unreadable images:", *(f"  {line}" for line in unreadable), sep="\n")
    if skipped:
        print(skipped_note(skipped, verbose=verbose))
    print(f"{len(table)} images labeled by {called}\nresults: {out}")


def label(named: dict[str, Path], classifier: OnnxClassifier, workers: int) -> tuple[pd.DataFrame, list[str]]:
    """Label images; the next ones are decoded while the model works.

    Args:
        named: what the table calls an image → its file.
        classifier: the model.
        workers: processes that decode.

    Returns:
        the table, and a line about each image that cannot be read.
    """
    metadata, classes = classifier.metadata, classifier.metadata.classes
    unreadable: list[str] = []
    read: list[str] = []

    def prepared() -> Iterator[np.ndarray]:
        pixels = in_order(lambda path: _read(reader, path, metadata), named.values(), workers)
        bar = progress(pixels, "predicting", len(named), unit="image")
        for name, image in zip(named, bar, strict=True):
            if isinstance(image, str):
                unreadable.append(f"{name}: {image}")
            else:
                read.append(name)
                yield image

    with LimitedReader(workers) as reader:
        outputs = [classifier(batch) for batch in batched(prepared())]
    probabilities = np.concatenate(outputs) if outputs else np.empty((0, len(classes)), np.float32)
    labels = decided(probabilities, metadata.thresholds)
    # A class may be called as a column of ours is.
    columns = [f"class {name}" if name in ("file", "labels") else name for name in classes]
    table = pd.DataFrame(probabilities.round(4), columns=columns)
    separator = separator_for(classes, metadata.separator)  # older files have none
    table.insert(0, "labels", [separator.join(np.array(classes)[row]) for row in labels])
    table.insert(0, "file", read)
    return table, unreadable


@contextmanager
def found_images(images: str) -> Iterator[tuple[dict[str, Path], list[Skipped]]]:
    """Yield what the table calls each image → its file, and what is left out; copies from S3 are gone afterwards."""
    if not images.startswith("s3://"):
        files, skipped = find_images(images)
        yield {readable(path): path for path in files}, skipped
        return
    with tempfile.TemporaryDirectory(prefix="manasight-") as folder:
        copy(images, Path(folder))
        base = images.rstrip("/")
        files, skipped = find_images(folder, images)
        yield {f"{base}/{readable(path.relative_to(folder))}": path for path in files}, skipped


def load_model(model: str) -> tuple[OnnxClassifier, str]:
    """A model by its file, or the registry's champion, and what messages call it.

    Raises:
        UserError: if there is none.
    """
    if model != "champion":
        return OnnxClassifier(Path(model)), model
    version = registry.present_champion()
    if version is None:
        example = f", as in --model {STARTER}" if STARTER.is_file() else ""
        raise UserError(f"there is no champion in '{place()}' yet; name a model.onnx with --model{example}")
    return registry.fetch(version), f"{model_name()} version {version.version} (champion)"


def _read(reader: LimitedReader, path: Path, metadata: Metadata) -> np.ndarray | str:
    try:
        return reader.load_input(path, metadata.input_size, metadata.letterbox)
    except UNREADABLE as error:
        return reason(path, error)
