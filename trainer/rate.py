"""A learning rate to start from: a short training whose rate rises with every step (Smith 2015)."""

import tempfile
from pathlib import Path

import lightning
from lightning.pytorch.tuner import Tuner
from matplotlib.figure import Figure

from trainer.classifier import MultiLabelClassifier
from trainer.data.module import MultiLabelDataModule
from trainer.errors import UserError

STEPS = 100
LOWEST, HIGHEST = 1e-6, 1.0


def suggest(model: MultiLabelClassifier, data: MultiLabelDataModule, options: dict, picture: Path) -> float:
    """The rate at which the loss falls fastest, by the range test of https://arxiv.org/abs/1506.01186.

    The whole network gets one rate; `backbone_rate` plays no part. The model's weights are afterwards what they were.

    Args:
        model: what would be trained, with the weights to start from.
        data: the images, set up.
        options: of Lightning's Trainer.
        picture: the PNG file to write, loss against rate.

    Raises:
        UserError: if the loss never fell.
    """
    with tempfile.TemporaryDirectory() as folder:
        own = {"logger": False, "enable_checkpointing": False, "default_root_dir": folder}
        # Enough steps for one test, however few batches an epoch has; without validation.
        trainer = lightning.Trainer(**options | own | {"max_epochs": -1, "max_steps": STEPS})
        found = Tuner(trainer).lr_find(
            model, train_dataloaders=data.train_dataloader(), min_lr=LOWEST, max_lr=HIGHEST, num_training=STEPS
        )
    rate = found.suggestion()
    if rate is None:
        raise UserError("no learning rate stood out: the loss was no number; try other weights or more images")
    figure = Figure(figsize=(6, 4), layout="constrained")
    found.plot(ax=figure.add_subplot())
    figure.axes[0].axvline(rate, linestyle="--", label=f"suggested: {rate:.2g}")
    figure.axes[0].legend()
    new = picture.with_name(picture.name + ".new")
    figure.savefig(new, format="png", dpi=120)
    new.replace(picture)
    return rate
