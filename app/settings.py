"""What the environment says, read once at the start."""

import math
import os
from dataclasses import dataclass
from pathlib import Path

STARTER = Path(__file__).resolve().parent.parent / "models" / "starter" / "model.onnx"


@dataclass(frozen=True)
class Settings:
    """What the environment says.

    Attributes:
        model: file to serve at start (MANASIGHT_MODEL).
        tracking_uri: MLflow server whose champion replaces it (MLFLOW_TRACKING_URI), empty for none.
        registered_name: of the model there (MANASIGHT_MODEL_NAME).
        mlflow_page: MLflow's address for a browser, if it differs (MANASIGHT_MLFLOW_PAGE).
        poll_seconds: between two questions to MLflow (MANASIGHT_POLL_SECONDS).
        home: folder where the champion is kept for the next start (MANASIGHT_HOME).
        watchdog_seconds: without a prediction after which the app makes one itself (MANASIGHT_WATCHDOG_SECONDS).
    """

    model: Path = STARTER
    tracking_uri: str = ""
    registered_name: str = "manasight"
    mlflow_page: str = ""
    poll_seconds: float = 30.0
    home: Path = Path(".manasight")
    watchdog_seconds: float = 10.0

    @property
    def follows(self) -> bool:
        """Whether there is a server to ask for champions."""
        return self.tracking_uri.startswith(("http://", "https://"))

    @classmethod
    def from_environment(cls) -> "Settings":
        """Read the environment once; an empty variable counts as not set."""
        get = os.environ.get
        return cls(
            model=Path(get("MANASIGHT_MODEL") or cls.model),
            tracking_uri=get("MLFLOW_TRACKING_URI") or "",
            registered_name=get("MANASIGHT_MODEL_NAME") or cls.registered_name,
            mlflow_page=get("MANASIGHT_MLFLOW_PAGE") or "",
            poll_seconds=_seconds("MANASIGHT_POLL_SECONDS", cls.poll_seconds),
            home=Path(get("MANASIGHT_HOME") or cls.home),
            watchdog_seconds=_seconds("MANASIGHT_WATCHDOG_SECONDS", cls.watchdog_seconds),
        )


def _seconds(name: str, default: float) -> float:
    """A variable's number of seconds.

    Raises:
        SystemExit: with a sentence, if it is none.
    """
    text = os.environ.get(name) or str(default)
    try:
        if (seconds := float(text)) > 0 and math.isfinite(seconds):
            return seconds
    except ValueError:
        pass
    raise SystemExit(f"{name} must be a number of seconds above 0, not '{text}'")
