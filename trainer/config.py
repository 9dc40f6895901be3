"""The options of a training: parsed, checked, and compared with those of a run to resume."""

import math
from collections.abc import Collection
from pathlib import Path

import lightning
from jsonargparse import Namespace

from trainer.data.module import MultiLabelDataModule
from trainer.errors import UserError
from trainer.model.classifier import MultiLabelClassifier
from trainer.model.training import OWN_ARGUMENTS, lightning_trainer
from trainer.options import Parser
from trainer.paths import run_folder

FILE = "config.yaml"  # in a run's folder
# The least and the greatest value that makes sense.
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
# A resumed run keeps these options and those of its data and model, except for the ones that only say where it runs.
RESUME_KEEPS = {"seed", "trainer.max_epochs", "trainer.max_steps", "trainer.accumulate_grad_batches"}
RESUME_CHANGES = {"data.root", "data.workers", "data.cache", "data.drop_unreadable", "model.weights"}
FORCE_HELP = "make the model the champion in any case, for this reason; an empty one is ignored"
RESUME_HELP = "resume an interrupted run; auto: the latest one if there is one, and succeed if it has finished"


def build_parser(prog: str, promotes: bool = False) -> Parser:
    """The options of `manasight fit`: data, model, trainer, the run's name; or with `promotes` of `manasight train`."""
    what = "Train a multi-label classifier on <data.root>/{train,val,test}"
    parser = Parser(prog=prog, description=f"{what}, evaluate, export and promote it." if promotes else f"{what}.")
    parser.add_argument("--config", action="config", help="a YAML file with any of these options; later ones win")
    parser.add_argument("--resume", nargs="?", const="latest", metavar="RUN", help=RESUME_HELP)
    parser.add_argument("--experiment", type=str, default="manasight", help="MLflow experiment")
    parser.add_argument("--name", type=str | None, default=None, help="name of the run in MLflow")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, order and augmentation")
    parser.add_argument("--patience", type=int | None, default=None, help="stop after so many epochs without a gain")
    parser.add_argument("--find_learning_rate", action="store_true", help="only suggest a learning rate; train no run")
    parser.add_argument("--check", action="store_true", help=f"only check the options{' and labels' * promotes}")
    if promotes:
        parser.add_argument("--force", type=str | None, default=None, metavar="REASON", help=FORCE_HELP)
    parser.add_class_arguments(MultiLabelDataModule, "data", instantiate=True)
    parser.add_class_arguments(MultiLabelClassifier, "model", skip={"classes"}, instantiate=False)
    parser.add_class_arguments(lightning.Trainer, "trainer", skip=OWN_ARGUMENTS, instantiate=False)
    parser.set_defaults({"trainer.max_epochs": 10, "trainer.log_every_n_steps": 10})
    return parser


def read_data(run_id: str, root: Path | None = None) -> MultiLabelDataModule:
    """The data of a run as its options say.

    Args:
        run_id: the run.
        root: another dataset than the run's own.
    """
    parser = build_parser("manasight")
    config = parser.parse_path(run_folder(run_id) / FILE)
    if root is not None:
        config.data.root = root
    return parser.instantiate(config).data


def check(config: Namespace) -> None:
    """Refuse options that no run could be trained with, before there is a run.

    Raises:
        UserError: naming the option.
    """
    for name in ("data", "model", "trainer"):
        if not isinstance(config[name], Namespace):
            raise UserError(f"--{name} {config[name]} is a group of options; write --{name}.NAME VALUE")
    if not config.data.root:
        raise UserError("name the folder of splits: --data.root FOLDER")
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
    lightning_trainer(config, logger=False, enable_checkpointing=False)


def check_unchanged(parser: Parser, args: list[str], run_id: str, changes: Collection[str] = RESUME_CHANGES) -> None:
    """Refuse to resume a run with other options than it began with; where it runs may change.

    Args:
        parser: of `build_parser`.
        args: what was asked for.
        run_id: the run.
        changes: options of data and model that may differ.

    Raises:
        UserError: naming the first option that differs.
    """
    began = ["--config", str(run_folder(run_id) / FILE)]
    before = vars(parser.parse_args(began).as_flat())
    for name, value in vars(parser.parse_args([*began, *args]).as_flat()).items():
        fixed = name in RESUME_KEEPS or name.startswith(("data.", "model."))
        if fixed and name not in changes and value != before.get(name):
            raise UserError(
                f"run {run_id} began with --{name} {before.get(name)}, not {value}, and is resumed as it began; leave "
                "the option out, or train a new run without --resume"
            )
