"""The one model that the whole process serves: the file it starts with, then the registry's champion."""

import functools
import hashlib
import json
import logging
import math
import os
import threading
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from app.inference import Batcher
from app.model import Model, ModelError, Prediction
from app.registry import ALIAS, Champion, Registry, RegistryError

STARTER = Path(__file__).resolve().parent.parent / "models" / "starter" / "model.onnx"
log = logging.getLogger("manasight")


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
    """

    model: Path = STARTER
    tracking_uri: str = ""
    registered_name: str = "manasight"
    mlflow_page: str = ""
    poll_seconds: float = 30.0
    home: Path = Path(".manasight")

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


class Serving:
    """Holds the model in use, and follows the registry in a background thread.

    `served` is replaced as a whole, and who predicts holds on to what it read: a swap never mixes two models.
    """

    def __init__(self, settings: Settings) -> None:
        """Nothing is loaded before `start`."""
        self.settings = settings
        self.served: Served | None = None
        self.problem = ""  # why no model could be loaded at start
        self.note = ""  # what the last look at the registry found, if it was not the champion in use
        self.trouble = False  # whether somebody should look at it
        self.swaps = 0  # champions taken over since the start
        self.batcher = Batcher()
        self._refused: dict[tuple[str, int], str] = {}
        self._checking = threading.Lock()
        self._stop = threading.Event()
        self._watcher: threading.Thread | None = None
        self.registry: Registry | None = None
        uri = settings.tracking_uri
        if uri.startswith(("http://", "https://")):
            self.registry = Registry(uri, settings.registered_name, settings.mlflow_page)
        elif uri:
            self._report(f"MLFLOW_TRACKING_URI is {uri}; champions are fetched from http and https addresses only.")

    def start(self) -> None:
        """Load the champion kept from last time, else the file; then follow the registry. Needs no network."""
        self.served = self._read_kept() if self.registry else None
        if self.served is None:
            try:
                path = self.settings.model
                self.served = Served(Model.from_file(path), card=_read_card(path.with_name("README.md")))
            except ModelError as error:
                self.problem = str(error)
                log.error("%s", error)
        if self.registry:
            self._watcher = threading.Thread(target=self._watch, name="manasight-registry", daemon=True)
            self._watcher.start()

    def stop(self) -> None:
        """End the background threads; what is being downloaded is dropped, what waits for a prediction gets it."""
        self._stop.set()
        self.batcher.stop()

    def current(self) -> Served:
        """The model in use; hold on to it for everything that belongs to one answer.

        Raises:
            ModelError: if there is none.
        """
        if self.served is None:
            raise ModelError(self.problem or "The model is still loading.")
        return self.served

    def submit(self, served: Served, image: np.ndarray) -> Future[Prediction]:
        """Queue an image for a model: uint8 RGB pixels `[height, width, 3]` of its input size."""
        return self.batcher.submit(served.model, image)

    def check(self) -> bool:
        """Ask the registry now, and serve its champion if that is another one; True if the model was swapped."""
        if self.registry is None:
            return False
        with self._checking:
            try:
                return self._follow(self.registry)
            except RegistryError as error:
                self._report(str(error))
                return False

    def _watch(self) -> None:
        while not self._stop.is_set():
            try:
                self.check()
            except Exception:
                # The thread has to outlive whatever a server answers; the page keeps the model it has.
                log.exception("checking the registry failed")
                self._report("The registry's answer could not be understood; see the log.")
            self._stop.wait(self.settings.poll_seconds)

    def _report(self, note: str, *, trouble: bool = True) -> None:
        self.note, self.trouble = note, trouble

    def _follow(self, registry: Registry) -> bool:
        champion = registry.champion()
        current = self.served.champion if self.served else None
        if champion is None:
            note = f"MLflow has no version of “{registry.name}” with the alias “{ALIAS}”."
            self._report(note, trouble=current is not None)  # a new system has none yet; here one is gone
            return False
        key = (champion.version, champion.created)
        if current and (current.version, current.created) == key:
            self._report("", trouble=False)
            return False
        if key not in self._refused:
            champion = replace(champion, run_url=registry.run_url(champion.run_id))
            data = registry.download(champion)
            try:
                model = self._verify(data, champion)
            except ModelError as error:
                self._refused[key] = f"Version {champion.version} was refused: {error}"
                log.warning("%s", self._refused[key])
            else:
                self.served = Served(model, champion)
                self.swaps += 1
                self.problem = ""
                self._report("", trouble=False)
                log.info("now serving %s version %s", champion.name, champion.version)
                self._keep(data, champion)
                return True
        self._report(self._refused[key])
        return False

    def _verify(self, data: bytes, champion: Champion) -> Model:
        """Raises ModelError unless the bytes are the registered ones and a model that answers."""
        digest = hashlib.sha256(data).hexdigest()
        if champion.sha256 and champion.sha256 != digest:
            raise ModelError(f"its file has the checksum {digest[:12]}…, registered was {champion.sha256[:12]}…")
        return Model(data, f"{champion.name} version {champion.version}")

    def _kept_folder(self) -> Path:
        """One folder per registered model, so that two servers never serve each other's champions."""
        settings = self.settings
        key = hashlib.sha256(f"{settings.tracking_uri}\n{settings.registered_name}".encode()).hexdigest()[:16]
        return settings.home / "app" / key

    def _keep(self, data: bytes, champion: Champion) -> None:
        """Write the champion to disk for the next start; a folder that cannot be written to is no error."""
        folder = self._kept_folder()
        digest = hashlib.sha256(data).hexdigest()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _replace(folder / f"{digest}.onnx", data)
            # The description names its file: whoever reads one sees the other whole, also if this process dies now.
            _replace(folder / "champion.json", json.dumps({**champion.as_json(), "sha256": digest}).encode())
            for old in folder.glob("*.onnx"):
                if old.stem != digest:
                    old.unlink(missing_ok=True)
        except OSError as error:
            log.info("the champion is not kept for the next start: %s", error)

    def _read_kept(self) -> Served | None:
        """The champion that was kept, or None if there is none or it is damaged."""
        folder = self._kept_folder()
        try:
            champion = Champion(**json.loads((folder / "champion.json").read_text(encoding="utf-8")))
            data = (folder / f"{champion.sha256}.onnx").read_bytes()
            return Served(self._verify(data, champion), champion)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, ModelError) as error:
            log.warning("the kept champion in %s cannot be used: %s", folder, error)
            return None


def _read_card(path: Path) -> str:
    """A model card's text, or nothing: it is no part of the model."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _replace(path: Path, data: bytes) -> None:
    """Write a file so that nobody ever sees a part of it."""
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_bytes(data)
    temporary.replace(path)


@functools.cache
def serving() -> Serving:
    """The process's own, made from the environment and started at the first call; every user and request shares it."""
    shared = Serving(Settings.from_environment())
    shared.start()
    return shared
