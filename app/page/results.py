"""What the page knows of one image."""

import io
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace

from PIL import Image

from app.archives import MAX_NAME, ArchiveError, Member, is_zip, members
from app.decoding import WORKERS, batch_of, decoders, pixels
from app.images import ImageError, overlay
from app.limits import VISIT_BYTES
from app.serving.model import Model, Prediction
from app.serving.serving import Served, Serving
from app.text import one_line
from contract.decoding import WHOLE, Batch, Decoded, Wanted

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
        reviewed: whether the person accepted the labels in a review.
        turn: quarter turns, clockwise, that the person gave it.
        crop: what the person kept of it then: left, top, right, bottom, as shares.
    """

    name: str
    data: bytes | Member
    problem: str = ""
    shown: bytes = b""
    size: tuple[int, int] = (0, 0)
    prediction: Prediction | None = None
    predicted_by: str = ""
    corrected: list[str] | None = None
    reviewed: bool = False
    turn: int = 0
    crop: tuple[float, float, float, float] = WHOLE

    @property
    def held(self) -> int:
        """Bytes kept of it; those of a zip that it is in are counted with the zip."""
        found = OVERHEAD + 4 * len(self.name) + 2 * len(self.shown)  # Streamlit keeps what is shown once more
        if isinstance(self.data, bytes):
            found += len(self.data)
        if self.prediction is not None:
            found += self.prediction.probabilities.nbytes + self.prediction.activation_maps.nbytes
        return found

    @property
    def size_in_bytes(self) -> int:
        """Bytes of the file, or of what it takes in its zip."""
        if isinstance(self.data, bytes):
            return len(self.data)
        return self.data.info.compress_size if self.data.info else 0

    def load(self) -> bytes:
        """The file's bytes.

        Raises:
            ImageError: if it is in a zip and damaged there.
        """
        return self.data if isinstance(self.data, bytes) else self.data.read()

    def drop(self, problem: str) -> None:
        """Keep nothing of it but the reason."""
        self.problem, self.data, self.shown, self.prediction = problem, b"", b"", None

    def edit(self, turn: int, crop: tuple[float, float, float, float]) -> None:
        """Turn it and cut it; it has to be predicted again. The file stays as it is."""
        self.turn, self.crop, self.predicted_by = turn % 4, crop, ""

    def labels(self, model: Model, shift: float) -> list[str]:
        """The corrected labels that this model knows, else the predicted ones."""
        if self.prediction is None:
            return []
        if self.corrected is not None:
            return [label for label in model.classes if label in self.corrected]
        return model.labels(self.prediction.probabilities, shift)

    def changed(self, model: Model, shift: float) -> bool:
        """Whether the person chose other labels than the model."""
        if self.prediction is None or self.corrected is None:
            return False
        return self.labels(model, shift) != model.labels(self.prediction.probabilities, shift)

    def heat_map(self, model: Model, label: str) -> Image.Image:
        """The shown image with a label's heat map over it; full color is the strongest place of any label.

        Raises:
            ValueError: if nothing was predicted yet.
        """
        if self.prediction is None:
            raise ValueError(f"{self.name} has no prediction to draw")
        maps = self.prediction.activation_maps
        image = Image.open(io.BytesIO(self.shown))
        return overlay(image, model, maps, label)


def open_file(name: str, data: bytes) -> list[Result]:
    """The content of a given file: itself, or everything in a zip; nothing is unpacked or decoded yet."""
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


def predict(shared: Serving, served: Served, results: Sequence[Result], batch: Batch | None = None) -> None:
    """Decode and predict some images together; each result is filled in.

    Args:
        shared: where they wait for the model.
        served: the model.
        results: the images.
        batch: what they belong to; themselves by default.

    Raises:
        DecodingError: if nothing can be decoded now.
        PredictionError: if the model fails, takes too long or was withdrawn.
    """
    size, letterbox = served.model.input_size, served.model.letterbox
    wanted = Wanted(size=size, letterbox=letterbox, jpeg=SHOWN)
    batch = batch or batch_of(sum(result.size_in_bytes for result in results), len(results))
    waiting = [
        (result, shared.submit(served, pixels(found, size))) for result, found in _decode(results, wanted, batch)
    ]
    for result, prediction in waiting:
        result.prediction, result.predicted_by = prediction.result(), served.model.sha256


def _decode(results: Sequence[Result], wanted: Wanted, batch: Batch) -> Iterator[tuple[Result, Decoded]]:
    """Decode images and note how they are shown, or why they cannot be read; those that were decoded come out."""
    waiting: deque[tuple[Result, Future[Decoded]]] = deque()

    def next_one() -> Iterator[tuple[Result, Decoded]]:
        result, future = waiting.popleft()
        try:
            found = future.result()
        except ImageError as error:
            result.drop(str(error))
        else:
            result.shown, result.size = found.jpeg, found.size
            yield result, found

    for result in results:
        try:
            data = result.load()
        except ImageError as error:
            result.drop(str(error))
            continue
        own = replace(wanted, turn=result.turn, crop=result.crop)
        waiting.append((result, decoders.submit(data, own, batch)))
        if len(waiting) > WORKERS:  # what is in a zip is held unpacked until then
            yield from next_one()
    while waiting:
        yield from next_one()
