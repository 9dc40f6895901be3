"""What the page knows of one image, and the table that people download of many."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from app.archives import MAX_NAME, ArchiveError, Member, is_zip, members
from app.images import ImageError, decode, overlay
from app.inference import decoding
from app.limits import VISIT_BYTES
from app.model import Model, Prediction
from app.serving import Served, Serving
from app.text import csv_cell, one_line

# Longest side of an image on the page, in pixels: sharp in its column, small enough to keep hundreds.
SHOWN = 720
# Bytes of everything else that is kept of an image: its objects, widgets and place in tables.
OVERHEAD = 2048
FULL = f"A visit can hold {VISIT_BYTES // 1024**2} MB of images; remove some, then add this again."


@dataclass
class Result:
    """One image of a person's: its file, how it is shown, and what the model says, or why it could not be read.

    Attributes:
        name: the file's own, on one line and shortened.
        data: the file's bytes, or its place in a zip, for the zip with corrected labels.
        problem: a sentence; if there is one, nothing below is set, and no bytes are kept.
        shown: JPEG of at most SHOWN pixels.
        size: width and height of the image in pixels.
        prediction: of the model whose digest is `predicted_by`.
        corrected: the labels that the person chose, None for the model's.
    """

    name: str
    data: bytes | Member
    problem: str = ""
    shown: bytes = b""
    size: tuple[int, int] = (0, 0)
    prediction: Prediction | None = None
    predicted_by: str = ""
    corrected: list[str] | None = None

    @property
    def held(self) -> int:
        """Bytes kept of it; those of a zip that it is in are counted with the zip."""
        found = OVERHEAD + 4 * len(self.name) + 2 * len(self.shown)  # Streamlit keeps what is shown once more
        if isinstance(self.data, bytes):
            found += len(self.data)
        if self.prediction is not None:
            found += self.prediction.probabilities.nbytes + self.prediction.activation_maps.nbytes
        return found

    def load(self) -> bytes:
        """The file's bytes.

        Raises:
            ImageError: if it is in a zip and damaged there.
        """
        return self.data if isinstance(self.data, bytes) else self.data.read()

    def drop(self, problem: str) -> None:
        """Keep nothing of it but the reason."""
        self.problem, self.data, self.shown, self.prediction = problem, b"", b"", None

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


def open_file(name: str, data: bytes) -> list[Result]:
    """What one given file holds: itself, or everything in a zip; nothing is unpacked or decoded yet."""
    name = one_line(name, MAX_NAME)
    if not is_zip(data):
        return [Result(name, data)]
    try:
        found = [
            Result(one_line(member.name, MAX_NAME), b"" if member.problem else member, problem=member.problem)
            for member in members(data)
        ]
    except ArchiveError as error:
        return [Result(name, b"", problem=str(error))]
    return found or [Result(name, b"", problem="The zip holds no files.")]


def read(result: Result) -> Image.Image | None:
    """Decode a result's file and note how it is shown; the full picture, or None if the problem was noted instead."""
    try:
        image = decode(result.load())
    except ImageError as error:
        result.drop(str(error))
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
    """One row per image: file, labels, whether they were corrected, each class's probability, the model, a problem.

    UTF-8 with the mark that spreadsheet programs look for.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    classes = served.model.classes
    writer.writerow(["file", "labels", "corrected", *map(csv_cell, classes), "model", "problem"])
    for result in results:
        values = [""] * len(classes)
        if result.prediction is not None:
            values = [f"{value:.6f}" for value in result.prediction.probabilities]
        labels = ";".join(result.labels(served.model, shift))
        corrected = "yes" if result.corrected is not None else "no"
        writer.writerow(
            [
                *map(csv_cell, (result.name, labels, corrected)),
                *values,
                csv_cell(served.title),
                csv_cell(result.problem),
            ]
        )
    return buffer.getvalue().encode("utf-8-sig")


def _fit(size: tuple[int, int]) -> tuple[int, int]:
    scale = SHOWN / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
