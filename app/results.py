"""What the page knows of one picture, and the tables and archives that people download of many."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from app.archives import MAX_HELD, ArchiveError, is_zip, unpack
from app.images import ImageError, decode, overlay
from app.inference import decoding
from app.model import Model, Prediction
from app.serving import Served, Serving

# Longest side of a picture on the page, in pixels: sharp in its column, small enough to keep hundreds.
SHOWN = 720
FULL = f"One visit holds {MAX_HELD // 1024**2} MB of pictures; remove some first, then add this again."


@dataclass
class Result:
    """One picture of a person's: its file, how it is shown, and what the model says, or why it could not be read.

    Attributes:
        name: the file's own.
        data: the file's bytes, for the zip with corrected labels.
        problem: a sentence; if there is one, nothing below is set, and no bytes are kept.
        shown: JPEG of at most SHOWN pixels.
        size: width and height of the picture in pixels.
        prediction: of the model whose digest is `predicted_by`.
        corrected: the labels that the person chose, None for the model's.
    """

    name: str
    data: bytes
    problem: str = ""
    shown: bytes = b""
    size: tuple[int, int] = (0, 0)
    prediction: Prediction | None = None
    predicted_by: str = ""
    corrected: list[str] | None = None

    def labels(self, model: Model, shift: float) -> list[str]:
        """The corrected labels that this model knows, else the predicted ones."""
        if self.prediction is None:
            return []
        if self.corrected is not None:
            return [label for label in model.classes if label in self.corrected]
        return model.labels(self.prediction.probabilities, shift)

    def heat_map(self, model: Model, label: str) -> Image.Image:
        """The shown picture with a label's heat map over it; full colour is the strongest place of any label.

        Raises:
            ValueError: if nothing was predicted yet.
        """
        if self.prediction is None:
            raise ValueError(f"{self.name} has no prediction to draw")
        maps = self.prediction.activation_maps
        image = Image.open(io.BytesIO(self.shown))
        return overlay(image, maps[model.classes.index(label)], float(maps.max()))


def open_file(name: str, data: bytes, budget: int = MAX_HELD) -> list[Result]:
    """What one given file holds: itself, or everything in a zip; nothing is decoded yet.

    Args:
        name: the file's own.
        data: its bytes.
        budget: bytes that may be held of it.
    """
    if not is_zip(data):
        return [Result(name, data) if len(data) <= budget else Result(name, b"", problem=FULL)]
    found: list[Result] = []
    try:
        for member, content in unpack(data, budget):
            if isinstance(content, ImageError):
                found.append(Result(member, b"", problem=str(content)))
            else:
                found.append(Result(member, content))
    except ArchiveError as error:
        found.append(Result(name, b"", problem=str(error)))
    return found or [Result(name, b"", problem="The zip holds no files.")]


def read(result: Result) -> Image.Image | None:
    """Decode a result's file and note how it is shown; the full picture, or None if the problem was noted instead."""
    try:
        image = decode(result.data)
    except ImageError as error:
        result.problem, result.data = str(error), b""
        return None
    small = image if max(image.size) <= SHOWN else image.resize(_fit(image.size))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=90)
    result.shown, result.size = buffer.getvalue(), image.size
    return image


def predict(shared: Serving, served: Served, results: Sequence[Result]) -> None:
    """Decode and predict some pictures together; each result is filled in.

    Raises:
        Exception: what ONNX Runtime raises if the model fails.
    """
    waiting = [
        (result, shared.submit(served, image))
        for result, image in zip(results, decoding.map(read, results), strict=True)
        if image is not None
    ]
    for result, prediction in waiting:
        result.prediction, result.predicted_by = prediction.result(), served.model.sha256


def to_csv(served: Served, results: Sequence[Result], shift: float) -> bytes:
    """One row per picture: file, labels, whether they were corrected, each class's probability, the model, a problem.

    UTF-8 with the mark that spreadsheet programs look for.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    classes = served.model.classes
    writer.writerow(["file", "labels", "corrected", *(_cell(name) for name in classes), "model", "problem"])
    for result in results:
        values = [""] * len(classes)
        if result.prediction is not None:
            values = [f"{value:.6f}" for value in result.prediction.probabilities]
        labels = ";".join(result.labels(served.model, shift))
        corrected = "yes" if result.corrected is not None else "no"
        writer.writerow([_cell(result.name), _cell(labels), corrected, *values, _cell(served.title), result.problem])
    return buffer.getvalue().encode("utf-8-sig")


def _fit(size: tuple[int, int]) -> tuple[int, int]:
    scale = SHOWN / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _cell(text: str) -> str:
    """A spreadsheet runs a cell that begins like a formula; an apostrophe before it makes it text."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
