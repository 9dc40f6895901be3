"""Keeps champions, and which ones were refused, on disk: for a start without MLflow, and for going back."""

import hashlib
import json
import logging
import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from app.serving.model import Model, ModelError
from app.serving.quarantine import Report, checker, remember
from app.serving.registry import Champion
from app.settings import Settings

# Refusals that are remembered, newest last.
MAX_REFUSALS = 64
# A version that this machine could not check or serve is tried again after this time, then after twice as long, …
RETRY_SECONDS, MAX_RETRY_SECONDS = 600.0, 86_400.0
# Starts that ended before the version had proved itself: then it is what ends them.
MAX_TRIALS = 3

log = logging.getLogger("manasight")


@dataclass(frozen=True)
class Refusal:
    """A version that is not served.

    Attributes:
        version, created: of the champion; created is 0 if unknown.
        sha256: of its file, empty if it could not be read.
        reason: a sentence.
        until: seconds since 1970 after which it is checked again, 0 for never.
        times: how often it was refused.
        checker: that refused it; another one checks it again.
    """

    version: str
    created: int
    sha256: str
    reason: str
    until: float = 0.0
    times: int = 1
    checker: str = ""


class Champions:
    """One folder for one registered model on one server. A folder that cannot be written to is only a warning."""

    def __init__(self, folder: Path) -> None:
        """Reads what was refused before."""
        self.folder = folder
        self._warned = False
        self._refusals = self._load_refusals()

    @classmethod
    def of(cls, settings: Settings) -> "Champions":
        """One folder for each registered model, so that two servers never serve each other's champions."""
        key = hashlib.sha256(f"{settings.tracking_uri}\n{settings.registered_name}".encode()).hexdigest()[:16]
        return cls(settings.home / "app" / key)

    # What is kept

    def keep(self, data: bytes, champion: Champion, report: Report) -> None:
        """Write a champion for the next start; the one before it stays, to go back to."""
        digest = hashlib.sha256(data).hexdigest()
        entries = [_entry(champion, digest, report), *(e for e in self._entries() if e["champion"]["sha256"] != digest)]
        self._write(f"{digest}.onnx", data)
        self._write_entries(entries[:2])

    def read(self, skip: str = "", *, trial: bool = False) -> tuple[Model, Champion] | None:
        """The newest champion that can be used; None without one.

        Args:
            skip: digest of one that is left out, as are refused ones.
            trial: note that it is on trial before it is loaded, and leave out one with which the app ended repeatedly.
        """
        for entry in self._entries():
            digest = entry["champion"]["sha256"]
            if digest == skip or self.refused(sha256=digest):
                continue
            try:
                champion = Champion(**entry["champion"])
                if trial and self.trials(digest) >= MAX_TRIALS:
                    why = f"withdrawn: the app ended {MAX_TRIALS} times before it had proved itself"
                    self.refuse(champion, digest, f"Version {champion.version} was {why}", temporary=True)
                    log.error("version %s was %s", champion.version, why)
                    continue
                if trial:
                    self.begin_trial(digest)
                data = (self.folder / f"{digest}.onnx").read_bytes()
                if hashlib.sha256(data).hexdigest() != digest:
                    raise ModelError("its file is damaged")
                if entry.get("checker") == checker():
                    remember(digest, Report(**entry["report"]))
                return Model(data, f"{champion.name} version {champion.version}"), champion
            except (OSError, ValueError, TypeError, KeyError, ModelError) as error:
                log.warning("the kept champion in %s cannot be used: %s", self.folder, error)
        return None

    def _entries(self) -> list[dict[str, Any]]:
        """What champion.json says, newest first; each has a champion with a digest."""
        try:
            found = json.loads((self.folder / "champion.json").read_text(encoding="utf-8"))
            entries = found.get("champions", [{"champion": found}])  # earlier versions kept one
            return [e for e in entries if len(e["champion"]["sha256"]) == 64 and e["champion"]["sha256"].isalnum()][:2]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            log.warning("the kept champion in %s cannot be used: %s", self.folder, error)
            return []

    def _write_entries(self, entries: list[dict[str, Any]]) -> None:
        # The description names its files: whoever reads one sees the others whole, also if this process dies now.
        self._write("champion.json", json.dumps({"champions": entries}).encode())
        named = {entry["champion"]["sha256"] for entry in entries}
        try:
            for old in self.folder.glob("*.onnx"):
                if old.stem not in named:
                    old.unlink(missing_ok=True)
        except OSError as error:
            self._warn(error)

    # What is refused

    def refused(self, version: str = "", created: int = 0, sha256: str = "") -> Refusal | None:
        """Why a version, or a file, is not served now; None if it may be."""
        for found in reversed(self._refusals):
            same = found.sha256 == sha256 if sha256 else (found.version, found.created) == (version, created)
            if same and found.checker == checker() and (not found.until or time.time() < found.until):
                return found
        return None

    def refuse(self, champion: Champion, sha256: str, reason: str, *, temporary: bool) -> Refusal:
        """Remember a version that is not served."""
        key = (champion.version, champion.created)
        earlier = [found for found in self._refusals if (found.version, found.created) == key]
        times = 1 + max((found.times for found in earlier), default=0)
        wait = min(MAX_RETRY_SECONDS, RETRY_SECONDS * 2 ** min(times - 1, 16))
        until = time.time() + wait if temporary else 0.0
        refusal = Refusal(*key, sha256, reason, until, times, checker())
        others = [found for found in self._refusals if found not in earlier]
        self._refusals = [*others[1 - MAX_REFUSALS :], refusal]
        self._write("refused.json", json.dumps([asdict(found) for found in self._refusals]).encode())
        return refusal

    def _load_refusals(self) -> list[Refusal]:
        try:
            found = json.loads((self.folder / "refused.json").read_text(encoding="utf-8"))
            kinds = {field.name: type(getattr(Refusal("", 0, "", ""), field.name)) for field in fields(Refusal)}
            kept = [Refusal(**{name: kind(entry[name]) for name, kind in kinds.items()}) for entry in found]
            return kept[-MAX_REFUSALS:]
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return []

    # What is on trial

    def begin_trial(self, sha256: str) -> int:
        """Note that a champion serves before it has proved itself; how often it did and was not heard of again."""
        starts = 1 + self.trials(sha256)
        self._write("trial.json", json.dumps({"sha256": sha256, "starts": starts}).encode())
        return starts

    def trials(self, sha256: str) -> int:
        """Starts of a champion since its trial began; 0 once it has ended."""
        try:
            found = json.loads((self.folder / "trial.json").read_text(encoding="utf-8"))
            return int(found["starts"]) if found["sha256"] == sha256 else 0
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return 0

    def end_trial(self) -> None:
        """The champion has proved itself, was withdrawn, or the process ends as it should."""
        try:
            (self.folder / "trial.json").unlink(missing_ok=True)
        except OSError as error:
            self._warn(error)

    def _write(self, name: str, data: bytes) -> None:
        """Write a file so that nobody ever sees a part of it."""
        path = self.folder / name
        temporary = path.with_name(f"{name}.{os.getpid()}.tmp")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(data)
            temporary.replace(path)
        except OSError as error:
            self._warn(error)
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    def _warn(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            log.warning(
                "%s cannot be written (%s): after a restart while MLflow is away the app serves the model that it came "
                "with. Mount a writable volume and set MANASIGHT_HOME to it.",
                self.folder,
                error.strerror or error,
            )


def _entry(champion: Champion, digest: str, report: Report) -> dict[str, Any]:
    return {
        "champion": {**champion.as_json(), "sha256": digest},
        "report": report.as_json(),
        "checker": checker(),
    }
