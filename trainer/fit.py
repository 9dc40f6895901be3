"""`manasight fit`: trains a classifier and tracks it in MLflow; `--resume` goes on where a killed run stopped."""

import argparse
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import lightning
import mlflow
import torch
from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import MLFlowLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException
from mlflow.data.filesystem_dataset_source import FileSystemDatasetSource
from mlflow.data.meta_dataset import MetaDataset

from trainer import tracking
from trainer.classifier import MultiLabelClassifier
from trainer.data.folder import SPLITS
from trainer.data.module import MultiLabelDataModule
from trainer.errors import UserError
from trainer.resources import fast_bfloat16

# What the trainer's own set-up decides, so it is no option.
OWN_TRAINER_ARGUMENTS = {"logger", "callbacks", "default_root_dir", "plugins", "enable_checkpointing"}
# The exit status of a run that was told to stop and can be resumed (EX_TEMPFAIL of sysexits.h).
RESUMABLE = 75


class SourceFolder(FileSystemDatasetSource):
    """MLflow's record of where images came from: a folder on this machine."""

    def __init__(self, path: str) -> None:
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
    """Prints one line per epoch, which stays when the bar has moved on and is all that a log needs."""

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock."""
        self.started = time.monotonic()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Print the epoch's figures."""
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
            seconds = time.monotonic() - self.started
            print(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}: {shown} in {seconds:.0f} s", flush=True)


def build_parser(prog: str) -> ArgumentParser:
    """The options of `manasight fit`: data, model, trainer, and how the run is called."""
    parser = ArgumentParser(prog=prog, description="Train a multi-label classifier on <data.root>/{train,val,test}.")
    parser.add_argument("--config", action="config", help="a YAML file with any of these options; later ones win")
    parser.add_argument("--resume", nargs="?", const="latest", metavar="RUN", help="go on with a run that was stopped")
    parser.add_argument("--experiment", type=str, default="manasight", help="MLflow experiment")
    parser.add_argument("--name", type=str | None, default=None, help="name of the run in MLflow")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, order and augmentation")
    parser.add_argument("--patience", type=int | None, default=None, help="stop after so many epochs without a gain")
    parser.add_class_arguments(MultiLabelDataModule, "data", instantiate=True)
    parser.add_class_arguments(MultiLabelClassifier, "model", skip={"classes"}, instantiate=False)
    parser.add_class_arguments(lightning.Trainer, "trainer", skip=OWN_TRAINER_ARGUMENTS, instantiate=False)
    parser.set_defaults({"trainer.max_epochs": 10, "trainer.log_every_n_steps": 10})
    return parser


def main(args: list[str], prog: str = "manasight fit") -> int:
    """Parse the arguments and train. Returns 0, or `RESUMABLE` if a signal ended the run early."""
    resumed = _resumed_run(args)
    if resumed:
        args = ["--config", str(tracking.run_folder(resumed) / "config.yaml"), *args]
    parser = build_parser(prog)
    config = parser.parse_args(args)
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
    return tracking.find_run(named) if named else None


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
    lightning.seed_everything(config.seed, workers=True, verbose=False)
    data.setup("fit")
    model = MultiLabelClassifier(classes=data.classes, **config.model.as_dict())
    checkpoint = None
    if resumed:
        last = tracking.run_folder(resumed) / "checkpoints" / "last.ckpt"
        checkpoint = last if last.is_file() else None  # killed in its first epoch: it starts again
    if checkpoint is None:
        model.prepare(data)
    client = tracking.connect()
    experiment = tracking.experiment_id(client, config.experiment)
    if resumed and client.get_run(resumed).info.status == "FINISHED":
        raise UserError(f"run {resumed} has finished; there is nothing to resume")

    with mlflow.start_run(resumed, experiment, config.name, log_system_metrics=True) as run:
        folder = tracking.run_folder(run.info.run_id)
        folder.mkdir(parents=True, exist_ok=True)
        tracking.remember_run(run.info.run_id)
        print(f"run: {run.info.run_id}")
        if not resumed:
            _record(data, config, config_text, folder)
        trainer = build_trainer(config, folder, run.info.run_id)
        interrupted = None
        try:
            trainer.fit(model, data, ckpt_path=checkpoint)
        except SIGTERMException:
            interrupted = "SIGTERM"
        except SystemExit as error:  # Lightning's answer to Ctrl-C
            interrupted = "Ctrl-C" if trainer.interrupted else None
            if interrupted is None:
                raise error
        if interrupted:
            mlflow.end_run("KILLED")
            print(f"stopped by {interrupted}; go on with: manasight fit --resume {run.info.run_id}")
            return RESUMABLE
        mlflow.log_artifact(str(folder / "checkpoints" / "best.ckpt"), "checkpoint")
    print(f"results: {folder}\nnext: manasight evaluate --run {run.info.run_id}")
    return 0


def build_trainer(config: Namespace, folder: Path, run_id: str) -> lightning.Trainer:
    """A Lightning trainer that logs to an MLflow run and keeps the best weights and the last full state in `folder`."""
    checkpoints = folder / "checkpoints"
    callbacks = [
        # Only weights: this file is kept and shared. Without the optimiser's state it is a third of the size.
        ModelCheckpoint(
            checkpoints,
            "best",
            monitor="val_macro_f1",
            mode="max",
            save_weights_only=True,
            enable_version_counter=False,
        ),
        ModelCheckpoint(checkpoints, "last", enable_version_counter=False),
        LearningRateMonitor("step"),
        EpochLines(),
    ]
    if config.trainer.enable_progress_bar is None:
        config.trainer.enable_progress_bar = sys.stderr.isatty()  # in a log a moving bar is noise
    if config.trainer.precision is None:
        config.trainer.precision = "bf16-mixed" if fast_bfloat16() else "32-true"
    if config.trainer.enable_progress_bar:
        callbacks.append(ProgressBar())
    if config.patience:
        callbacks.append(EarlyStopping("val_macro_f1", mode="max", patience=config.patience))
    options = config.trainer.as_dict()
    if options["enable_model_summary"] is None:
        options["enable_model_summary"] = False
    logger = MLFlowLogger(tracking_uri=mlflow.get_tracking_uri(), run_id=run_id)
    try:
        return lightning.Trainer(logger=logger, callbacks=callbacks, default_root_dir=folder, **options)
    except (MisconfigurationException, ValueError) as error:
        raise UserError(f"the trainer options do not go together: {error}") from error


def _record(data: MultiLabelDataModule, config: Namespace, config_text: str, folder: Path) -> None:
    """Log what a run is made of: options, code, data."""
    (folder / "config.yaml").write_text(config_text)
    mlflow.log_artifact(str(folder / "config.yaml"))
    options = {
        name: value
        for name, value in vars(config.as_flat()).items()
        if value is not None and not name.endswith("config") and name != "resume"
    }
    mlflow.log_params({name: str(value)[:500] for name, value in options.items()})
    digests = {}
    for split in SPLITS:
        images = data.folder(split)
        digests[split] = tracking.fingerprint(data.root, (Path(path) for path, _ in images.samples))
        source = SourceFolder(str((data.root / split).resolve()))
        context = {"train": "training", "val": "validation"}.get(split, "test")
        mlflow.log_input(MetaDataset(source, name=f"{data.root.name}/{split}", digest=digests[split]), context=context)
    whole = tracking.fingerprint(data.root, (Path(path) for split in SPLITS for path, _ in data.folder(split).samples))
    mlflow.log_params({f"images.{split}": len(data.folder(split)) for split in SPLITS})
    mlflow.set_tags(
        {
            "manasight.git_commit": tracking.git_commit(),
            "manasight.data_fingerprint": whole,
            "manasight.classes": ", ".join(data.classes),
            "manasight.torch": torch.__version__,
        }
    )
