"""Runs Lightning's training loop: checkpoints, early stopping, workers, signals."""

import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import lightning
import torch
from jsonargparse import Namespace
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException

from trainer import stopping
from trainer.data.module import MultiLabelDataModule
from trainer.errors import UserError
from trainer.model.callbacks import BestWeights, EpochLines, LastState, LeaveAtOnce, ProgressBar, StepLines
from trainer.model.checkpoints import WholeCheckpoints
from trainer.model.classifier import MultiLabelClassifier
from trainer.model.features import cached_loaders
from trainer.resources import fast_bfloat16
from trainer.stopping import Stopped

# Arguments of Lightning's Trainer that are set here, and so are no options.
OWN_ARGUMENTS = {"logger", "callbacks", "default_root_dir", "plugins", "enable_checkpointing"}


def lightning_trainer(options: Namespace, **own: Any) -> lightning.Trainer:
    """Lightning's trainer, with our defaults where an option was left out.

    Args:
        options: as `config.build_parser` parses them.
        own: arguments that are no options.

    Raises:
        UserError: if the options contradict each other.
    """
    arguments = options.trainer.as_dict()
    defaults = {
        "enable_progress_bar": sys.stderr.isatty(),  # in a log a moving bar is noise
        "precision": "bf16-mixed" if fast_bfloat16() else "32-true",
        "enable_model_summary": False,
    }
    arguments |= {name: value for name, value in defaults.items() if arguments[name] is None}
    if "callbacks" in own:
        own["callbacks"].append(ProgressBar() if arguments["enable_progress_bar"] else StepLines())
    try:
        return lightning.Trainer(**arguments | own)
    except (MisconfigurationException, ValueError, TypeError) as error:
        raise UserError(f"the trainer options do not go together: {error}") from error


def build_trainer(options: Namespace, folder: Path, logger: Logger) -> lightning.Trainer:
    """A trainer that keeps the best weights and the last full state in `folder`.

    Args:
        options: as `config.build_parser` parses them.
        folder: of the run.
        logger: gets the metrics.
    """
    checkpoints = folder / "checkpoints"
    callbacks = [
        # Only weights: this file is kept and shared. Without the optimizer's state it is a third of the size.
        BestWeights(
            checkpoints,
            "best",
            monitor="val_macro_f1",
            mode="max",
            save_weights_only=True,
            enable_version_counter=False,
        ),
        LastState(checkpoints, "last", enable_version_counter=False, save_on_exception=True),
        LearningRateMonitor("step"),
        EpochLines(),
    ]
    if options.patience:
        callbacks.append(EarlyStopping("val_macro_f1", mode="max", patience=options.patience))
    own: dict[str, Any] = {"logger": logger, "plugins": [WholeCheckpoints()], "default_root_dir": folder}
    if torch.distributed.is_initialized():
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        own |= {"strategy": "ddp", "devices": local, "num_nodes": torch.distributed.get_world_size() // local}
        callbacks.append(LeaveAtOnce())
    return lightning_trainer(options, callbacks=callbacks, **own)


def train(
    trainer: lightning.Trainer,
    model: MultiLabelClassifier,
    data: MultiLabelDataModule,
    views: int,
    checkpoint: Path | None,
) -> float:
    """Train.

    Args:
        trainer: of `build_trainer`.
        model: what is trained, in place.
        data: the images.
        views: versions of each image that a frozen backbone sees, once, before the first epoch; 0 for none.
        checkpoint: where to start from.

    Returns:
        seconds of training, those of earlier processes of the run included.

    Raises:
        Stopped: after a signal, Ctrl-C too, at the end of a step; after a second one at once.
    """
    source: dict[str, Any] = {"datamodule": data}
    (lines,) = (call for call in trainer.callbacks if isinstance(call, EpochLines))
    if views:
        if checkpoint:
            model.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=False)["state_dict"])
        started = time.monotonic()
        source = cached_loaders(model, data, trainer, views)
        lines.seconds += time.monotonic() - started
    received: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        if received or signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:  # Lightning's handler is not there yet
            raise Stopped(number)
        received.append(number)
        os.kill(os.getpid(), signal.SIGTERM)

    # The command line's own handlers would interrupt a step; Lightning's for SIGTERM waits for the end of it.
    catching = dict.fromkeys(stopping.handled(), stop) | {signal.SIGTERM: signal.SIG_DFL}
    handlers = {number: signal.signal(number, handler) for number, handler in catching.items()}
    try:
        trainer.fit(model, ckpt_path=checkpoint, **source)
    except SIGTERMException:
        raise Stopped(received[0] if received else signal.SIGTERM) from None
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return lines.seconds
