"""What the whole process serves with: the model in use, and the follower that looks for a newer one."""

import functools
from concurrent.futures import Future

from app.serving.follower import Follower
from app.serving.holder import Holder
from app.serving.model import Prediction
from app.serving.served import Served
from app.settings import STARTER, Settings

__all__ = ["STARTER", "Served", "Serving", "Settings", "serving"]


class Serving(Holder):
    """Holds the model in use, and follows the registry if there is one."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is loaded before `start`."""
        super().__init__(settings)
        self.follower = Follower(self) if settings.follows else None
        if settings.tracking_uri and not self.follower:
            self.report(
                f"MLFLOW_TRACKING_URI is {settings.tracking_uri}; champions are fetched from http and https addresses "
                "only."
            )

    def start(self) -> None:
        """Load a model, which needs no network, and follow the registry."""
        super().start()
        if self.follower:
            self.follower.start()

    def stop(self) -> None:
        """End the background threads; what is being downloaded is dropped, what waits for a prediction gets it."""
        if self.follower:
            self.follower.stop()
        super().stop()

    def check(self) -> bool:
        """Ask the registry now, and serve its champion if that is another one; True if the model was swapped."""
        return self.follower is not None and self.follower.check()

    def _probe(self) -> Future[Prediction] | None:
        if self.follower and self.follower.is_stuck():
            self.report("The last question to MLflow has had no result for too long; restart the app.")
        return super()._probe()


@functools.cache
def serving() -> Serving:
    """The process's own, made from the environment and started at the first call; every user and request shares it."""
    shared = Serving(Settings.from_environment())
    shared.start()
    return shared
