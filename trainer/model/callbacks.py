"""What happens around Lightning's training steps: progress, checkpoints, signals."""

import math
import os
import signal
import time
from pathlib import Path
from typing import Any

import lightning
import mlflow
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.utilities.exceptions import SIGTERMException

from trainer.errors import UserError
from trainer.stopping import RESUMABLE


class ProgressBar(TQDMProgressBar):
    """Lightning's bar without the run's number, which is printed once above it."""

    def get_metrics(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> dict[str, Any]:
        """The figures beside the bar."""
        figures = super().get_metrics(trainer, pl_module)
        return {name: value for name, value in figures.items() if name != "v_num" and not name.endswith("_epoch")}


class EpochLines(lightning.Callback):
    """Prints one line per epoch, which stays when the bar has moved on and is all that a log needs.

    Attributes:
        seconds: of training so far, with validation and earlier processes of the run.
    """

    seconds = 0.0

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run starts from."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Add what earlier processes of the run spent."""
        self.seconds += state_dict["seconds"]

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock: for an epoch that is resumed in its middle, Lightning announces no start."""
        self.started = time.monotonic()

    on_train_epoch_start = on_fit_start

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Print the epoch's figures.

        Raises:
            UserError: if the loss is not a number any more; no later epoch would change that.
        """
        seconds = time.monotonic() - self.started
        self.seconds += seconds
        figures = trainer.callback_metrics
        names = {"loss": "train_loss_epoch", "val_loss": "val_loss", "val_macro_f1": "val_macro_f1"}
        shown = " ".join(f"{name} {figures[key]:.4f}" for name, key in names.items() if key in figures)
        if trainer.is_global_zero:
            print(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}: {shown} in {seconds:.0f} s", flush=True)
        if not math.isfinite(figures.get("train_loss_epoch", 0.0)):
            raise UserError("the loss is no longer a number; train with a smaller --model.learning_rate")


class StepLines(lightning.Callback):
    """Prints in a log, where a bar cannot move, how far an epoch is: a line every half minute."""

    seconds = 30.0

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock: for an epoch that is resumed in its middle, Lightning announces no start."""
        self.printed = time.monotonic()

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Print the step."""
        if trainer.is_global_zero and time.monotonic() - self.printed >= self.seconds:
            self.printed = time.monotonic()
            steps = f"step {batch_idx + 1}/{trainer.num_training_batches}"
            print(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}: {steps}", flush=True)


class BestWeights(ModelCheckpoint):
    """Keeps the weights with the best validation figure; of a training that ended before any, the last ones."""

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Save what there is if nothing was validated."""
        super().on_train_end(trainer, pl_module)
        if not self.best_model_path:
            trainer.save_checkpoint(Path(self.dirpath) / f"{self.filename}.ckpt", weights_only=True)


class LastState(ModelCheckpoint):
    """Keeps the full state of the last epoch, and of the step at which a single process was stopped."""

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Save at SIGTERM, which Lightning answers between two steps; workers would first have to agree on one."""
        if isinstance(exception, SIGTERMException) and trainer.world_size == 1:
            super().on_exception(trainer, pl_module, exception)


class LeaveAtOnce(lightning.Callback):
    """Ends a worker at SIGTERM: the others notice, meet again and resume from the last epoch's state.

    Lightning's own handler would start a collective operation that the other workers do not expect.
    """

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Replace Lightning's handler, which is installed by now."""

        def leave(*_: object) -> None:
            mlflow.end_run("KILLED")  # does nothing in a worker that does not track
            os._exit(RESUMABLE)

        signal.signal(signal.SIGTERM, leave)
