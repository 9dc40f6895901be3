"""Asks the registry for its champion in a background thread, checks what it finds, and hands it on to be served."""

import hashlib
import logging
import threading
import time
from dataclasses import replace

from app.serving.holder import Holder
from app.serving.model import Model, ModelError
from app.serving.registry import Champion, Registry, RegistryError
from app.serving.served import Served
from app.serving.session import reason
from contract.model import TemporaryModelError
from contract.registry import ALIAS

# Beyond the usual time between two looks at the registry: a download and a check take minutes at most.
MAX_LOOK_SECONDS = 1200.0

log = logging.getLogger("manasight")


class Follower:
    """One registered model on one MLflow server, and the holder that gets its champions."""

    def __init__(self, holder: Holder) -> None:
        """Nothing is asked before `start` or `check`."""
        self.holder = holder
        settings = holder.settings
        self.registry = Registry(settings.tracking_uri, settings.registered_name, settings.mlflow_page)
        self.poll_seconds = settings.poll_seconds
        self._checking = threading.Lock()
        self._looked = time.monotonic()
        self._stop = threading.Event()

    def start(self) -> None:
        """Ask from now on, every `poll_seconds`."""
        threading.Thread(target=self._watch, name="manasight-registry", daemon=True).start()

    def stop(self) -> None:
        """End the thread; what is being downloaded is dropped."""
        self._stop.set()

    def is_stuck(self) -> bool:
        """Whether a question to the registry has had no result for far too long."""
        return time.monotonic() - self._looked > self.poll_seconds + MAX_LOOK_SECONDS

    def check(self) -> bool:
        """Ask the registry now, and serve its champion if that is another one; True if the model was swapped."""
        with self._checking:
            try:
                return self._follow()
            except RegistryError as error:
                self.holder.report(str(error))
            except Exception:
                # Whatever a server answers: the thread and the page that ask continue with the model they have.
                log.exception("checking the registry failed")
                self.holder.report("The registry's answer could not be understood; see the log.")
            return False

    def _watch(self) -> None:
        while not self._stop.is_set():
            self._looked = time.monotonic()
            self.check()
            self._stop.wait(self.poll_seconds)

    def _follow(self) -> bool:
        champion = self.registry.champion()
        current = self.holder.served.champion if self.holder.served else None
        if champion is None:
            note = f"MLflow has no version of “{self.registry.name}” with the alias “{ALIAS}”"
            if current:  # somebody took the alias away
                self.holder.report(f"{note}.")
            else:
                note += " yet. Until a training promotes one, the model that the app started with answers."
                self.holder.report(note, trouble=False)
            return False
        if current and (current.version, current.created) == (champion.version, champion.created):
            self.holder.report("", trouble=False)
            return False
        refused = self.holder.champions.refused
        refusal = refused(champion.version, champion.created)
        if refusal is None and champion.sha256:
            refusal = refused(sha256=champion.sha256)
        if refusal is None:
            champion = replace(champion, run_url=self.registry.run_url(champion.run_id))
            digest = ""
            try:
                data = self.registry.download(champion)
                digest = hashlib.sha256(data).hexdigest()
                model = self._verify(data, digest, champion)
            except RegistryError:
                raise
            except Exception as error:  # whatever a file makes any library raise: it is not tried again
                temporary = isinstance(error, TemporaryModelError | MemoryError | OSError)
                sentence = str(error) if isinstance(error, ModelError) else reason(error)
                refusal = self.holder.refuse(champion, digest, f"refused: {sentence}", temporary=temporary)
            else:
                self.holder.take_over(data, Served(model, champion))
                return True
        self.holder.report(refusal.reason)
        return False

    def _verify(self, data: bytes, digest: str, champion: Champion) -> Model:
        """Raises ModelError unless the bytes are the registered ones, pass the check and answer once here."""
        if champion.sha256 and champion.sha256 != digest:
            raise TemporaryModelError(
                f"its file has the checksum {digest[:12]}…, registered was {champion.sha256[:12]}…"
            )
        if refusal := self.holder.champions.refused(sha256=digest):
            raise ModelError(refusal.reason)
        model = Model(data, f"{champion.name} version {champion.version}")
        self.holder.predict_first(model)
        return model
