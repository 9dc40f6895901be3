"""`manasight fit`: trains a classifier and tracks it in MLflow; `--resume` goes on where a killed run stopped.

Under `torchrun` every process is a worker of one training (DDP): the first one tracks it, and tells the others the run.
"""

import argparse
import errno
import math
import os
import signal
import sys
import time
import warnings
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import lightning
import mlflow
import torch
from jsonargparse import Namespace
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException
from mlflow.data.filesystem_dataset_source import FileSystemDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.exceptions import MlflowException

from trainer import recorded_data, stopping, tracking
from trainer.champion import fit_note
from trainer.checkpoints import WholeCheckpoints, known_classes
from trainer.classifier import MultiLabelClassifier
from trainer.data.module import MultiLabelDataModule
from trainer.data.splits import SPLITS
from trainer.delivery import SteadyLogger
from trainer.errors import UserError
from trainer.features import cached_loaders
from trainer.options import Parser
from trainer.resources import fast_bfloat16
from trainer.stopping import Stopped

# What the trainer's own set-up decides, so it is no option.
OWN_TRAINER_ARGUMENTS = {"logger", "callbacks", "default_root_dir", "plugins", "enable_checkpointing"}
# The exit status of a run that was told to stop and can be resumed (EX_TEMPFAIL of sysexits.h).
RESUMABLE = 75
NOTED_CLASSES = 20
# Seconds that a finished training waits for an MLflow server that is away, and one that was told to stop.
PATIENCE, HURRY = 300, 5
# The options with the least and the most that make sense.
RANGES: dict[str, tuple[float, float]] = {
    "trainer.max_epochs": (1, math.inf),
    "patience": (1, math.inf),
    "seed": (0, 2**32 - 1),
    "model.cached_views": (0, math.inf),
    "model.weight_decay": (0, math.inf),
    "model.warm_up": (0, 1),
    "model.dropout": (0, 0.99),
    **dict.fromkeys((f"data.augmentation.{name}" for name in ("degrees", "hue")), (0, 180)),
    **dict.fromkeys((f"data.augmentation.{name}" for name in ("translate", "scale", "perspective")), (0, 0.5)),
    **dict.fromkeys((f"data.augmentation.{name}" for name in ("brightness", "contrast", "saturation")), (0, 1)),
    **dict.fromkeys((f"data.augmentation.{name}" for name in ("blur", "flip")), (0, 1)),
}
# A resumed run keeps its data's and model's options, and of the others these; some only say where it runs.
RESUME_KEEPS = {"seed", "trainer.max_epochs", "trainer.max_steps", "trainer.accumulate_grad_batches"}
RESUME_CHANGES = {"data.root", "data.workers", "data.cache", "data.drop_unreadable", "model.weights"}
RESUME_HELP = (
    "go on with a run that was stopped; auto: with the latest if there is one, and it is no fault if it finished"
)


class SourceFolder(FileSystemDatasetSource):
    """MLflow's record of where images came from: a folder on this machine."""

    def __init__(self, path: str) -> None:
        """Name the folder; it need not be there any more."""
        self.path = path

    @property
    def uri(self) -> str:
        """The folder."""
        return self.path

    @staticmethod
    def _get_source_type() -> str:
        return "local"

    def load(self, dst_path: str | None = None) -> str:
        """The folder; nothing is copied."""
        return self.path

    @staticmethod
    def _can_resolve(raw_source: Any) -> bool:
        return False

    @classmethod
    def _resolve(cls, raw_source: Any) -> "SourceFolder":
        raise NotADirectoryError(raw_source)

    def to_dict(self) -> dict[str, str]:
        """The folder as MLflow stores it."""
        return {"uri": self.path}

    @classmethod
    def from_dict(cls, source_dict: dict[str, str]) -> "SourceFolder":
        """The folder as MLflow stored it."""
        return cls(source_dict["uri"])


class ProgressBar(TQDMProgressBar):
    """Lightning's bar without the run's number, which is printed once above it."""

    def get_metrics(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> dict[str, Any]:
        """The figures beside the bar."""
        figures = super().get_metrics(trainer, pl_module)
        return {name: value for name, value in figures.items() if name != "v_num" and not name.endswith("_epoch")}


class EpochLines(lightning.Callback):
    """Prints one line per epoch, which stays when the bar has moved on and is all that a log needs.

    Attributes:
        seconds: what training took up to now, validation and earlier processes of the run included.
    """

    seconds = 0.0

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run goes on from."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Add what earlier processes of the run spent."""
        self.seconds += state_dict["seconds"]

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock: for an epoch that is resumed in its middle, Lightning announces no start."""
        self.started = time.monotonic()

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock anew."""
        self.started = time.monotonic()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Print the epoch's figures.

        Raises:
            UserError: if the loss is not a number any more; no later epoch would change that.
        """
        seconds = time.monotonic() - self.started
        self.seconds += seconds
        figures = trainer.callback_metrics
        shown = " ".join(
            f"{name} {figures[key]:.4f}"
            for name, key in {
                "loss": "train_loss_epoch",
                "val_loss": "val_loss",
                "val_macro_f1": "val_macro_f1",
            }.items()
            if key in figures
        )
        if trainer.is_global_zero:
            print(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}: {shown} in {seconds:.0f} s", flush=True)
        if not math.isfinite(figures.get("train_loss_epoch", 0.0)):
            raise UserError("the loss is not a number any more; train with a smaller --model.learning_rate")


class BestWeights(ModelCheckpoint):
    """Keeps the weights with the best validation figure; of a training that ended before any, the last ones."""

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Save what there is if nothing was validated."""
        super().on_train_end(trainer, pl_module)
        if not self.best_model_path:
            trainer.save_checkpoint(Path(self.dirpath) / f"{self.filename}.ckpt", weights_only=True)


class LastState(ModelCheckpoint):
    """Keeps the full state of the last epoch, and of the step at which a single process was told to stop."""

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Save at SIGTERM, which Lightning answers between two steps; workers would first have to agree on one."""
        if isinstance(exception, SIGTERMException) and trainer.world_size == 1:
            super().on_exception(trainer, pl_module, exception)


class LeaveAtOnce(lightning.Callback):
    """Ends a worker at SIGTERM: the others notice, meet again and go on from the last epoch's state.

    Lightning's own handler would start a collective operation that the other workers do not expect.
    """

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Replace Lightning's handler, which is there by now."""

        def leave(*_: object) -> None:
            mlflow.end_run("KILLED")  # nothing in a worker that does not track
            os._exit(RESUMABLE)

        signal.signal(signal.SIGTERM, leave)


def build_parser(prog: str) -> Parser:
    """The options of `manasight fit`: data, model, trainer, and how the run is called."""
    parser = Parser(prog=prog, description="Train a multi-label classifier on <data.root>/{train,val,test}.")
    parser.add_argument("--config", action="config", help="a YAML file with any of these options; later ones win")
    parser.add_argument("--resume", nargs="?", const="latest", metavar="RUN", help=RESUME_HELP)
    parser.add_argument("--experiment", type=str, default="manasight", help="MLflow experiment")
    parser.add_argument("--name", type=str | None, default=None, help="name of the run in MLflow")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, order and augmentation")
    parser.add_argument("--patience", type=int | None, default=None, help="stop after so many epochs without a gain")
    parser.add_argument("--find_learning_rate", action="store_true", help="only suggest a learning rate; train no run")
    parser.add_class_arguments(MultiLabelDataModule, "data", instantiate=True)
    parser.add_class_arguments(MultiLabelClassifier, "model", skip={"classes"}, instantiate=False)
    parser.add_class_arguments(lightning.Trainer, "trainer", skip=OWN_TRAINER_ARGUMENTS, instantiate=False)
    parser.set_defaults({"trainer.max_epochs": 10, "trainer.log_every_n_steps": 10})
    return parser


def main(args: list[str], prog: str = "manasight fit") -> int:
    """Parse the arguments and train. Returns 0, or `RESUMABLE` if a signal ended the run early."""
    resumed = _resumed_run(args)
    if resumed and not (tracking.run_folder(resumed) / "config.yaml").is_file():
        resumed = None  # killed before it began
    if resumed:
        args = ["--config", str(tracking.run_folder(resumed) / "config.yaml"), *args]
    parser = build_parser(prog)
    config = parser.parse_args(args)
    for name in ("data", "model", "trainer"):
        if not isinstance(config[name], Namespace):
            raise UserError(f"--{name} {config[name]} is no group of options; write --{name}.NAME VALUE")
    if resumed:
        check_unchanged(parser, args, resumed)
    text = parser.dump(config.clone(), skip_none=True)
    if not config.data.root:
        raise UserError("name the folder of splits: --data.root FOLDER")
    with warnings.catch_warnings():
        # Lightning's advice on workers, tensor cores and loggers is not for the user of this command.
        warnings.simplefilter("ignore")
        data = parser.instantiate(config).data
        return fit(data, config, text, resumed)


def _resumed_run(args: list[str]) -> str | None:
    """The run that `--resume` names: its own configuration is then the one to start from."""
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--resume", nargs="?", const="latest")
    named = early.parse_known_args(args)[0].resume
    if named == "auto" and not (tracking.home() / "runs" / "latest").is_file():
        return None
    return tracking.find_run("latest" if named == "auto" else named) if named else None


def fit(data: MultiLabelDataModule, config: Namespace, config_text: str, resumed: str | None = None) -> int:
    """Train as the configuration says.

    Args:
        data: the images.
        config: all options of `build_parser`.
        config_text: the same as YAML, kept with the run.
        resumed: id of the run to go on with.

    Raises:
        UserError: for faults in data, weights or addresses, before anything is tracked.
    """
    check(config)
    lightning.seed_everything(config.seed, workers=True, verbose=False)
    data.setup("fit")
    if not len(data.loader("train", shuffle=True)):
        raise UserError(f"'{data.folder('train').root}' has one image; batch normalisation needs two: add images")
    # Of a small data set too there is something to see.
    config.trainer.log_every_n_steps = min(config.trainer.log_every_n_steps, len(data.train_dataloader()))
    model = MultiLabelClassifier(classes=data.classes, **config.model.as_dict())
    if config.find_learning_rate:
        return _find_learning_rate(model, data, config)
    if torch.distributed.is_torchelastic_launched():
        torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        if torch.distributed.get_rank():
            return _join(data, model, config)
    client = tracking.connect()
    if resumed and tracking.get_run(client, resumed).info.status == "FINISHED":
        if config.resume != "auto":
            raise UserError(f"run {resumed} has finished; there is nothing to resume")
        print(f"run {resumed} has finished; there is nothing left to train")
        _tell_workers(None, None)
        return 0
    if resumed and (changed := changed_since(client, resumed, data)):
        if config.resume != "auto":
            raise UserError(f"{changed}; restore the images, or train a new run without --resume")
        print(f"{changed}; training a new run", flush=True)
        resumed = None
    checkpoint = None
    if resumed:
        last = tracking.run_folder(resumed) / "checkpoints" / "last.ckpt"
        checkpoint = last if last.is_file() else None  # killed in its first epoch: it starts again
        if checkpoint:
            known_classes(checkpoint, f"delete it, and run {resumed} starts again", weights_only=False)
    if checkpoint is None:
        model.prepare(data)
    experiment = tracking.experiment_id(client, config.experiment)

    with mlflow.start_run(resumed, experiment, config.name, log_system_metrics=True) as run:
        folder = tracking.run_folder(run.info.run_id)
        folder.mkdir(parents=True, exist_ok=True)
        tracking.remember_run(run.info.run_id)
        print(f"run: {run.info.run_id}", flush=True)  # what resumes it if it is killed at once
        if not resumed:
            height, width = data.input_size
            print(f"images become {height}×{width} pixels (height × width); --data.input_size changes it", flush=True)
            _record(data, config, config_text, folder)
            if note := fit_note(client, data.classes):
                print(note, flush=True)
        _tell_workers(run.info.run_id, checkpoint)
        trainer = build_trainer(config, folder, run.info.run_id, bool(resumed))
        again = f"manasight fit --resume {run.info.run_id}"
        interrupted = None
        try:
            train(trainer, model, data, config, checkpoint)
            waiting = trainer.logger.flush(PATIENCE)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            with suppress(MlflowException):  # its database may lie on the same disk
                mlflow.end_run("FAILED")
            raise UserError(f"the disk of '{folder}' is full; free some space and go on with: {again}") from error
        except Stopped as stopped:
            interrupted = stopped.name
        except KeyboardInterrupt:
            interrupted = "Ctrl-C"
        if interrupted:
            waiting = trainer.logger.flush(HURRY)
        if interrupted or waiting:
            with suppress(MlflowException):
                mlflow.end_run("KILLED")
            why = f"stopped by {interrupted}" if interrupted else "trained, but MLflow is away"
            kept = f" ({waiting} metrics wait to be delivered{trainer.logger.trouble})" if waiting else ""
            with suppress(OSError):  # the terminal may be gone
                print(f"{why}{kept}; go on with: {again}", flush=True)
            return RESUMABLE
        (lines,) = (call for call in trainer.callbacks if isinstance(call, EpochLines))
        mlflow.log_metric("train_seconds", lines.seconds)
        mlflow.log_artifact(str(folder / "checkpoints" / "best.ckpt"), "checkpoint")
    print(f"results: {folder}\nnext: manasight evaluate --run {run.info.run_id}")
    return 0


def changed_since(client: mlflow.MlflowClient, run_id: str, data: MultiLabelDataModule) -> str | None:
    """What is different from the images with which a run began, as the beginning of a sentence; None if nothing is.

    Its checkpoint counts their steps, and its record in MLflow goes into the exported model.
    """
    run = tracking.get_run(client, run_id)
    recorded = run.data.tags.get("manasight.classes")
    if recorded is not None and recorded != ", ".join(data.classes):
        return f"run {run_id} knows the classes {recorded}, '{data.root}' has {', '.join(data.classes)}"
    change = recorded_data.change(run, data)
    return f"the images in '{data.root}' changed since run {run_id} began ({change})" if change else None


def _find_learning_rate(model: MultiLabelClassifier, data: MultiLabelDataModule, config: Namespace) -> int:
    """Print a learning rate to start from, and leave a picture of how it was found."""
    from trainer.rate import suggest

    if torch.distributed.is_torchelastic_launched():
        raise UserError("one process finds the learning rate; call `manasight fit` without torchrun")
    model.prepare(data)
    picture = tracking.home() / "learning-rate.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    rate = suggest(model, data, _trainer_options(config), picture)
    print(f"results: {picture}\nnext: --model.learning_rate {rate:.1g}")
    return 0


def check(config: Namespace) -> None:
    """Refuse options that no run could be trained with, before there is a run.

    Raises:
        UserError: naming the option.
    """
    for name, (least, most) in RANGES.items():
        value = config.get(name)
        if value is not None and not least <= value <= most:
            within = f"at least {least}" if most == math.inf else f"{least} to {most}"
            raise UserError(f"--{name} {value} is out of range; give {within}")
    for name in ("model.learning_rate", "model.backbone_rate"):
        if not 0 < config[name] < math.inf:
            raise UserError(f"--{name} must be above 0, not {config[name]}")
    if config.data.batch_size == 1 and not config.model.freeze_backbone and max(config.data.input_size) <= 32:
        # The last layer's features are one value per channel: a variance needs two.
        raise UserError("--data.batch_size 1 is too small for images of 32x32; give 2 or larger images")
    if config.trainer.fast_dev_run or config.trainer.barebones:
        option = "fast_dev_run" if config.trainer.fast_dev_run else "barebones"
        raise UserError(f"{option} keeps no checkpoint; for a quick try give --trainer.limit_train_batches 2")
    try:
        lightning.Trainer(logger=False, enable_checkpointing=False, **_trainer_options(config))
    except (MisconfigurationException, ValueError, TypeError) as error:
        raise UserError(f"the trainer options do not go together: {error}") from error


def check_unchanged(parser: Parser, args: list[str], run_id: str, changes: Collection[str] = RESUME_CHANGES) -> None:
    """Refuse to go on with a run under other options than it began with; where it runs may change.

    Args:
        parser: of `build_parser`.
        args: what was asked for.
        run_id: the run.
        changes: options of data and model that may differ.

    Raises:
        UserError: naming the first option that differs.
    """
    began = ["--config", str(tracking.run_folder(run_id) / "config.yaml")]
    before = vars(parser.parse_args(began).as_flat())
    for name, value in vars(parser.parse_args([*began, *args]).as_flat()).items():
        fixed = name in RESUME_KEEPS or name.startswith(("data.", "model."))
        if fixed and name not in changes and value != before.get(name):
            raise UserError(
                f"run {run_id} began with --{name} {before.get(name)}, not {value}, and goes on as it began; "
                "leave the option out, or train a new run without --resume"
            )


def _tell_workers(run_id: str | None, checkpoint: Path | None) -> None:
    """Tell the other workers, if there are any, which run they train in, and from where; no run is nothing to train."""
    if torch.distributed.is_initialized():
        torch.distributed.broadcast_object_list([run_id, checkpoint])


def _join(data: MultiLabelDataModule, model: MultiLabelClassifier, config: Namespace) -> int:
    """Train as a worker that is not the first, as the first one says."""
    told: list[Any] = [None, None]
    torch.distributed.broadcast_object_list(told)
    run_id, checkpoint = told
    if run_id is None:
        return 0
    if checkpoint is None:
        model.prepare(data)
    # It logs nothing, but Lightning asks for a logger.
    train(build_trainer(config, tracking.run_folder(run_id), run_id), model, data, config, checkpoint)
    return 0


def train(
    trainer: lightning.Trainer,
    model: MultiLabelClassifier,
    data: MultiLabelDataModule,
    config: Namespace,
    checkpoint: Path | None,
) -> None:
    """Train, from a checkpoint if there is one; a frozen backbone runs once, before the first epoch.

    Raises:
        Stopped: after a signal, Ctrl-C too, at the end of a step; after a second one at once.
    """
    views = config.model.cached_views if config.model.freeze_backbone else 0
    source: dict[str, Any] = {"datamodule": data}
    if views:
        if checkpoint:
            model.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=False)["state_dict"])
        started = time.monotonic()
        source = cached_loaders(model, data, trainer, views)
        for call in trainer.callbacks:
            if isinstance(call, EpochLines):
                call.seconds += time.monotonic() - started
    received: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        if received or signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:  # Lightning's handler is not there yet
            raise Stopped(number)
        received.append(number)
        os.kill(os.getpid(), signal.SIGTERM)

    # The command line's own handlers would end a step in its middle; Lightning's for SIGTERM waits for the end of it.
    catching = dict.fromkeys(stopping.handled(), stop) | {signal.SIGTERM: signal.SIG_DFL}
    handlers = {number: signal.signal(number, handler) for number, handler in catching.items()}
    try:
        trainer.fit(model, ckpt_path=checkpoint, **source)
    except SIGTERMException:
        raise Stopped(received[0] if received else signal.SIGTERM) from None
    finally:
        for sign, handler in handlers.items():
            signal.signal(sign, handler)
        trainer.logger.flush(HURRY)


def _trainer_options(config: Namespace) -> dict[str, Any]:
    """What Lightning's Trainer gets, with our defaults where nothing was asked for."""
    options = config.trainer.as_dict()
    defaults = {
        "enable_progress_bar": sys.stderr.isatty(),  # in a log a moving bar is noise
        "precision": "bf16-mixed" if fast_bfloat16() else "32-true",
        "enable_model_summary": False,
    }
    return options | {name: value for name, value in defaults.items() if options[name] is None}


def build_trainer(config: Namespace, folder: Path, run_id: str, resumed: bool = False) -> lightning.Trainer:
    """A Lightning trainer that logs to an MLflow run and keeps the best weights and the last full state in `folder`."""
    checkpoints = folder / "checkpoints"
    callbacks = [
        # Only weights: this file is kept and shared. Without the optimiser's state it is a third of the size.
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
    options = _trainer_options(config)
    if options["enable_progress_bar"]:
        callbacks.append(ProgressBar())
    if config.patience:
        callbacks.append(EarlyStopping("val_macro_f1", mode="max", patience=config.patience))
    if torch.distributed.is_initialized():
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        options |= {"strategy": "ddp", "devices": local, "num_nodes": torch.distributed.get_world_size() // local}
        callbacks.append(LeaveAtOnce())
    own = {"logger": SteadyLogger(run_id, folder, resumed), "plugins": [WholeCheckpoints()]}
    try:
        return lightning.Trainer(**own, callbacks=callbacks, default_root_dir=folder, **options)
    except (MisconfigurationException, ValueError) as error:
        raise UserError(f"the trainer options do not go together: {error}") from error


def _record(data: MultiLabelDataModule, config: Namespace, config_text: str, folder: Path) -> None:
    """Log what a run is made of: options, code, data."""
    (folder / "config.yaml").write_text(config_text)
    mlflow.log_artifact(str(folder / "config.yaml"))
    options = {
        name: value
        for name, value in vars(config.as_flat()).items()
        if value is not None and not name.endswith("config") and name not in ("resume", "find_learning_rate")
    }
    mlflow.log_params({name: str(value)[:500] for name, value in options.items()})
    for split in SPLITS:
        source = SourceFolder(str(Path(data.folder(split).root).resolve()))
        context = {"train": "training", "val": "validation"}.get(split, "test")
        digest = recorded_data.split_fingerprint(data, split)
        mlflow.log_input(MetaDataset(source, name=f"{data.root.name}/{split}", digest=digest), context=context)
    whole = recorded_data.fingerprint(data)
    mlflow.log_params({f"images.{split}": len(data.folder(split)) for split in SPLITS})
    mlflow.set_tags(
        {
            "manasight.git_commit": tracking.git_commit(),
            recorded_data.FINGERPRINT_TAG: whole,
            "manasight.classes": ", ".join(data.classes),
            "manasight.torch": torch.__version__,
        }
        | tracking.run_tags("manasight fit", _note(data))
    )


def _note(data: MultiLabelDataModule) -> str:
    """What MLflow's page says about a run, in Markdown."""
    names = ", ".join(f"`{name}`" for name in data.classes[:NOTED_CLASSES])
    rest = f" and {len(data.classes) - NOTED_CLASSES} more" if len(data.classes) > NOTED_CLASSES else ""
    counts = ", ".join(f"{len(data.folder(split))} in {split}" for split in SPLITS)
    height, width = data.input_size
    return (
        f"ResNet18 for {len(data.classes)} labels: {names}{rest}.\n\n"
        f"Images of `{data.root.name}`: {counts}, at {height}×{width} pixels."
    )
