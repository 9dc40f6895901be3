"""Trained runs: found by ID, loaded with their model and data, recorded when they start."""

from dataclasses import dataclass
from pathlib import Path

import mlflow
import torch
from jsonargparse import Namespace
from mlflow.data.meta_dataset import MetaDataset
from mlflow.data.sources import LocalArtifactDatasetSource
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from trainer import config
from trainer.data import fingerprint
from trainer.data.module import MultiLabelDataModule
from trainer.data.samples import SPLITS
from trainer.errors import UserError, error_of_mlflow
from trainer.files import reachable, write_whole
from trainer.model.checkpoints import known_classes
from trainer.model.classifier import MultiLabelClassifier
from trainer.paths import home, latest_run, run_folder
from trainer.tracking.mlflow import connect, git_commit, place, run_tags

FINGERPRINT_TAG = "manasight.data_fingerprint"
CLASSES_TAG = "manasight.classes"
MAX_NOTED_CLASSES = 20
# Options that say what to do, not how a run is trained.
NOT_RECORDED = ("resume", "find_learning_rate", "force", "check")


@dataclass
class TrainedRun:
    """A trained run: its ID, its folder here, its best weights and its data."""

    run_id: str
    folder: Path
    model: MultiLabelClassifier
    data: MultiLabelDataModule

    @property
    def stamp(self) -> list[int | str]:
        """What an evaluation is of: these weights on these images."""
        weights = (self.folder / "checkpoints" / "best.ckpt").stat().st_mtime_ns
        return [weights, str(self.data.root), fingerprint.listing(self.data.parts)]

    @property
    def report(self) -> Path:
        """The folder of its evaluation."""
        return self.folder / "evaluation"


def remember_run(run_id: str) -> None:
    """Make a run the one that `latest` means."""
    write_whole(latest_run(), run_id.encode())


def find_run(run: str) -> str:
    """The ID of a run whose folder is here.

    Args:
        run: an ID, the beginning of one, or `latest`.

    Raises:
        UserError: if there is none, or several begin so.
    """
    runs = home() / "runs"
    if run == "latest":
        if not reachable(latest_run()).is_file():
            raise UserError(f"there is no run in '{runs}' yet; train one with `manasight fit`")
        run = latest_run().read_text().strip()
    folders = runs.iterdir() if reachable(runs).is_dir() else ()
    found = [folder.name for folder in folders if folder.name.startswith(run) and folder.is_dir()]
    if len(found) != 1:
        raise UserError(f"{len(found) or 'no'} runs in '{runs}' begin with '{run}'; name one of them")
    return found[0]


def get_run(client: mlflow.MlflowClient, run_id: str) -> Run:
    """A run as MLflow knows it.

    Raises:
        UserError: if it does not: it was tracked somewhere else; as UnavailableError if the server does not answer.
    """
    try:
        return client.get_run(run_id)
    except MlflowException as error:
        raise error_of_mlflow(
            f"MLflow at '{place()}' does not know run {run_id}; set MLFLOW_TRACKING_URI to what it was at its training",
            error,
        ) from error


def load_run(run: str, data: Path | None = None) -> TrainedRun:
    """Read a run's best checkpoint and name the data it was trained on.

    Args:
        run: a run's ID, the beginning of one, or `latest`.
        data: another dataset than the run's own.

    Raises:
        UserError: if MLflow does not know the run, it has no checkpoint yet, or the data's classes are not the model's.
    """
    run_id = find_run(run)
    known = get_run(connect(), run_id)
    folder = run_folder(run_id)
    checkpoint = folder / "checkpoints" / "best.ckpt"
    if not reachable(checkpoint).is_file():
        if known.info.status == "FINISHED":  # which `--resume` would refuse
            raise UserError(f"run {run_id} has finished, but '{checkpoint}' is gone; restore it, or train a new run")
        raise UserError(f"run {run_id} has no checkpoint yet; resume it with `manasight fit --resume {run_id}`")
    known_classes(checkpoint, "train a new run", weights_only=True)
    model = MultiLabelClassifier.load_from_checkpoint(checkpoint, map_location="cpu", weights_only=True).eval()
    module = config.read_data(run_id, data)
    if module.classes != model.classes:
        raise UserError(
            f"'{module.root}' has the classes {', '.join(module.classes)}, but run {run_id} knows "
            f"{', '.join(model.classes)}; name other data, or train a run on this"
        )
    if data is None and (change := _change(known, module)):
        print(
            f"note: the images in '{module.root}' changed since run {run_id} was trained ({change}); what follows is "
            "of the images as they are now, and test images that were training images would flatter the model",
            flush=True,
        )
    return TrainedRun(run_id, folder, model, module)


def changed_since(client: mlflow.MlflowClient, run_id: str, data: MultiLabelDataModule) -> str | None:
    """How a dataset differs from the one that a run began with, as the beginning of a sentence; None if it does not.

    The run's checkpoint counts steps over those images, and what it recorded of them goes into the exported model.
    """
    run = get_run(client, run_id)
    recorded = run.data.tags.get(CLASSES_TAG)
    if recorded is not None and recorded != ", ".join(data.classes):
        return f"run {run_id} knows the classes {recorded}, '{data.root}' has {', '.join(data.classes)}"
    change = _change(run, data)
    return f"the images in '{data.root}' changed since run {run_id} began ({change})" if change else None


def record(data: MultiLabelDataModule, options: Namespace, text: str, folder: Path) -> None:
    """Log to the active MLflow run what it is made of: options, code, data.

    Args:
        data: the images; every file is read.
        options: as `config.build_parser` parses them.
        text: the same as YAML, kept in `folder`.
        folder: of the run.
    """
    (folder / config.FILE).write_text(text)
    mlflow.log_artifact(str(folder / config.FILE))
    given = {
        name: str(value)[:500]
        for name, value in vars(options.as_flat()).items()
        if value is not None and not name.endswith("config") and name not in NOT_RECORDED
    }
    sizes = {split: len(data.dataset(split)) for split in SPLITS}
    mlflow.log_params(given | {f"images.{split}": size for split, size in sizes.items()})
    digests = fingerprint.fingerprints(data.parts)
    fingerprint.remember(data.parts, digests["all"])
    for split in SPLITS:
        source = LocalArtifactDatasetSource(str(Path(data.dataset(split).root).resolve()))
        context = {"train": "training", "val": "validation"}.get(split, "test")
        mlflow.log_input(MetaDataset(source, name=f"{data.root.name}/{split}", digest=digests[split]), context=context)
    tags = {
        "manasight.git_commit": git_commit(),
        FINGERPRINT_TAG: digests["all"],
        CLASSES_TAG: ", ".join(data.classes),
        "manasight.torch": torch.__version__,
    }
    mlflow.set_tags(tags | run_tags("manasight fit", _note(data, options.model.backbone)))


def _change(run: Run, data: MultiLabelDataModule) -> str | None:
    """How a dataset differs from what a run recorded, in a few words; None if it does not."""
    recorded = run.data.tags.get(FINGERPRINT_TAG)
    if recorded is None or recorded == fingerprint.known_fingerprint(data.parts):
        return None
    counts = {split: (run.data.params.get(f"images.{split}"), str(len(data.dataset(split)))) for split in SPLITS}
    changed = [f"{split} {before} → {now}" for split, (before, now) in counts.items() if before != now]
    return f"{', '.join(changed)} images" if changed else "as many images, but other names, labels or contents"


def _note(data: MultiLabelDataModule, backbone: str) -> str:
    """What MLflow's page says about a run, in Markdown."""
    names = ", ".join(f"`{name}`" for name in data.classes[:MAX_NOTED_CLASSES])
    more = len(data.classes) - MAX_NOTED_CLASSES
    rest = f" and {more} more" if more > 0 else ""
    counts = ", ".join(f"{len(data.dataset(split))} in {split}" for split in SPLITS)
    height, width = data.input_size
    return (
        f"{backbone} for {len(data.classes)} labels: {names}{rest}.\n\n"
        f"Images of `{data.root.name}`: {counts}, at {height}×{width} pixels."
    )
