"""A model in use and where it came from."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from app.serving.model import Model
from app.serving.registry import Champion


@dataclass(frozen=True)
class Served:
    """A model in use and where it came from.

    Attributes:
        model: answers.
        champion: the registered version it is, None for a file.
        card: text of a README.md beside the file, empty if there is none.
    """

    model: Model
    champion: Champion | None = None
    card: str = ""

    @property
    def registered(self) -> str:
        """The day on which its version was registered, as 2026-11-23; empty for a file, which does not say."""
        if not self.champion or not self.champion.created:
            return ""
        return datetime.fromtimestamp(self.champion.created / 1000, UTC).date().isoformat()

    @property
    def title(self) -> str:
        """What people call it: the registered name and version, or the file's name."""
        if self.champion:
            return f"{self.champion.name}, version {self.champion.version}"
        path = Path(self.model.name)
        return path.parent.name if path.name == "model.onnx" and path.parent.name else path.name


def drawn(model: Model) -> np.ndarray:
    """A slope from black to white of the model's input size."""
    height, width = model.input_size
    return np.linspace(0, 255, height * width * 3).astype(np.uint8).reshape(height, width, 3)


def read_card(path: Path) -> str:
    """A model card's text, or nothing: it is not part of the model."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
