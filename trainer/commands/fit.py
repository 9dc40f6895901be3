"""`manasight fit`: trains a classifier and tracks it in MLflow; `--resume` resumes an interrupted run.

Under `torchrun` every process is a worker of one training (DDP): the first one tracks it, and sends the others the run.
"""

import argparse
import errno
import warnings
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import mlflow
import torch
from jsonargparse import Namespace
from mlflow.exceptions import MlflowException

from trainer import config
from trainer.data.module import MultiLabelDataModule
from trainer.errors import UnavailableError, UserError
from trainer.files import reachable
from trainer.model.checkpoints import known_classes
from trainer.model.classifier import MultiLabelClassifier
from trainer.model.learning_rate import suggest
from trainer.model.training import build_trainer, train
from trainer.options import Parser
from trainer.paths import latest_run, make_home, program, run_folder
from trainer.stopping import RESUMABLE, Stopped
from trainer.tracking.logger import SteadyLogger
from trainer.tracking.mlflow import connect, experiment_id
from trainer.tracking.registry import fit_note
from trainer.tracking.runs import changed_since, find_run, get_run, record, remember_run

# Seconds to wait for an MLflow server that does not answer: after a finished training, and after an interrupted one.
FINISHED_SECONDS, INTERRUPTED_SECONDS = 300, 5


class Job(NamedTuple):
    """A training to do.

    Attributes:
        data: the images.
        options: as `config.build_parser` parses them.
        text: the same as YAML, kept with the run.
        resumed: ID of the run to resume.
        prog: the command, for messages.
        may_be_finished: whether a run that has finished may be resumed.
    """

    data: MultiLabelDataModule
    options: Namespace
    text: str
    resumed: str | None
    prog: str
    may_be_finished: bool


class Outcome(NamedTuple):
    """How a training ended: 0, or `RESUMABLE` if a signal ended it early; and its run, if this process knows it."""

    status: int
    run_id: str | None = None


def main(args: list[str], prog: str = "manasight fit") -> int:
    """Parse the arguments and train. Returns 0, or `RESUMABLE` if a signal ended the run early."""
    job = prepare(config.build_parser(prog), args)
    if job.options.check:
        print("the options are in order")
        return 0
    outcome = fit(job)
    if outcome.status == 0 and outcome.run_id:
        print(f"next: {program()} evaluate --run {outcome.run_id}")
    return outcome.status


def prepare(parser: Parser, args: list[str], may_be_finished: bool = False) -> Job:
    """Parse and check the arguments of a training.

    Args:
        parser: of `config.build_parser`.
        args: the arguments.
        may_be_finished: allow `--resume` of a run that has finished, as `--resume auto` does.

    Raises:
        UserError: for options that no run can be trained with.
    """
    resumed = _resumed_run(args)
    if resumed and not (run_folder(resumed) / config.FILE).is_file():
        resumed = None  # killed before it began
    if resumed:
        args = ["--config", str(run_folder(resumed) / config.FILE), *args]
    options = parser.parse_args(args)
    with quiet():
        config.check(options)
    if resumed:
        config.check_unchanged(parser, args, resumed)
    kept = options.clone()
    for name in ("force", "check"):
        kept.pop(name, None)
    text = parser.dump(kept, skip_none=True, skip_validation=True)
    may_be_finished |= options.resume == "auto"
    return Job(parser.instantiate(options).data, options, text, resumed, parser.prog, may_be_finished)


def quiet() -> AbstractContextManager:
    """Lightning's advice on workers, tensor cores and loggers is not for the user of this command."""
    return warnings.catch_warnings(action="ignore")


def _resumed_run(args: list[str]) -> str | None:
    """The run that `--resume` names: its own configuration is then the one to start from."""
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--resume", nargs="?", const="latest")
    named = early.parse_known_args(args)[0].resume
    if named == "auto" and not reachable(latest_run()).is_file():
        return None
    return find_run("latest" if named == "auto" else named) if named else None


def fit(job: Job) -> Outcome:
    """Train.

    Raises:
        UserError: for bad data, weights or addresses, before anything is tracked.
    """
    with quiet():
        return _fit(job)


def _fit(job: Job) -> Outcome:
    data, options, resumed = job.data, job.options, job.resumed
    lightning.seed_everything(options.seed, workers=True, verbose=False)
    data.setup("fit")
    if not len(data.loader("train", shuffle=True)):
        raise UserError(f"'{data.dataset('train').root}' has one image; batch normalization needs two: add images")
    # So that a small dataset, too, shows some figures.
    options.trainer.log_every_n_steps = min(options.trainer.log_every_n_steps, len(data.train_dataloader()))
    model = MultiLabelClassifier(classes=data.classes, **options.model.as_dict())
    if options.find_learning_rate:
        return _find_learning_rate(model, data, options)
    if torch.distributed.is_torchelastic_launched():
        torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        if torch.distributed.get_rank():
            return _join(data, model, options)
    client = connect()
    if resumed and get_run(client, resumed).info.status == "FINISHED":
        if not job.may_be_finished:
            raise UserError(f"run {resumed} has finished; there is nothing to resume")
        print(f"run {resumed} has finished; there is nothing left to train")
        _send_run(None, None)
        return Outcome(0, resumed)
    if resumed and (changed := changed_since(client, resumed, data)):
        if options.resume != "auto":
            raise UserError(f"{changed}; restore the images, or train a new run without --resume")
        print(f"{changed}; training a new run", flush=True)
        resumed = None
    checkpoint = _last_state(resumed) if resumed else None
    if checkpoint is None:
        model.prepare(data)
    experiment = experiment_id(client, options.experiment)

    with mlflow.start_run(resumed, experiment, options.name, log_system_metrics=True) as run:
        run_id = run.info.run_id
        folder = run_folder(run_id)
        folder.mkdir(parents=True, exist_ok=True)
        remember_run(run_id)
        print(f"run: {run_id}", flush=True)  # what resumes it if it is killed at once
        if not resumed:
            height, width = data.input_size
            print(f"images become {height}×{width} pixels (height × width); --data.input_size changes it", flush=True)
            record(data, options, job.text, folder)
            if note := fit_note(client, data.classes):
                print(note, flush=True)
        _send_run(run_id, checkpoint)
        logger = SteadyLogger(run_id, folder, bool(resumed))
        trainer = build_trainer(options, folder, logger)
        seconds = _tracked(trainer, logger, model, job, checkpoint, f"{job.prog} --resume {run_id}")
        if seconds is None:
            return Outcome(RESUMABLE, run_id)
        mlflow.log_metric("train_seconds", seconds)
        mlflow.log_artifact(str(folder / "checkpoints" / "best.ckpt"), "checkpoint")
    print(f"results: {folder}")
    return Outcome(0, run_id)


def _last_state(run_id: str) -> Path | None:
    """The checkpoint to resume from; None for a run that was killed in its first epoch, which starts again."""
    last = run_folder(run_id) / "checkpoints" / "last.ckpt"
    if not reachable(last).is_file():
        return None
    known_classes(last, f"delete it, and run {run_id} starts again", weights_only=False)
    return last


def _tracked(
    trainer: lightning.Trainer,
    logger: SteadyLogger,
    model: MultiLabelClassifier,
    job: Job,
    checkpoint: Path | None,
    again: str,
) -> float | None:
    """Train and deliver the metrics; the seconds that training took, or None if the run is to be resumed by `again`."""
    interrupted, seconds = "", 0.0
    try:
        seconds = train(trainer, model, job.data, _views(job.options), checkpoint)
        waiting = logger.flush(FINISHED_SECONDS)
    except (Stopped, KeyboardInterrupt) as error:
        interrupted = error.name if isinstance(error, Stopped) else "Ctrl-C"
        waiting = logger.flush(INTERRUPTED_SECONDS)
    except BaseException as error:
        logger.flush(INTERRUPTED_SECONDS)
        if not isinstance(error, OSError) or error.errno != errno.ENOSPC:
            raise
        with suppress(MlflowException):  # its database may be on the same disk
            mlflow.end_run("FAILED")
        full = trainer.default_root_dir
        raise UnavailableError(f"the disk of '{full}' is full; free some space and resume with: {again}") from error
    if not interrupted and not waiting:
        return seconds
    with suppress(MlflowException):
        mlflow.end_run("KILLED")
    why = f"stopped by {interrupted}" if interrupted else "trained, but MLflow does not answer"
    kept = f" ({waiting} metrics are not delivered yet{logger.trouble})" if waiting else ""
    with suppress(OSError):  # the terminal may be gone
        print(f"{why}{kept}; resume with: {again}", flush=True)
    return None


def _find_learning_rate(model: MultiLabelClassifier, data: MultiLabelDataModule, options: Namespace) -> Outcome:
    """Print a learning rate to start from, and save a figure of how it was found."""
    if torch.distributed.is_torchelastic_launched():
        raise UserError("one process finds the learning rate; call `manasight fit` without torchrun")
    model.prepare(data)
    figure = make_home() / "learning-rate.png"
    rate = suggest(model, data, options, figure)
    print(f"results: {figure}\nnext: --model.learning_rate {rate:.1g}")
    return Outcome(0)


def _views(options: Namespace) -> int:
    return options.model.cached_views if options.model.freeze_backbone else 0


def _send_run(run_id: str | None, checkpoint: Path | None) -> None:
    """Send the other workers, if there are any, the run and where it starts; no run means nothing to train."""
    if torch.distributed.is_initialized():
        torch.distributed.broadcast_object_list([run_id, checkpoint])


def _join(data: MultiLabelDataModule, model: MultiLabelClassifier, options: Namespace) -> Outcome:
    """Train as a worker that is not the first, with the run that the first one sends."""
    received: list[Any] = [None, None]
    torch.distributed.broadcast_object_list(received)
    run_id, checkpoint = received
    if run_id is None:
        return Outcome(0)
    if checkpoint is None:
        model.prepare(data)
    folder = run_folder(run_id)
    # It logs nothing, but Lightning asks for a logger.
    trainer = build_trainer(options, folder, SteadyLogger(run_id, folder, resumed=False))
    train(trainer, model, data, _views(options), checkpoint)
    return Outcome(0)
