"""A learning rate to start from: a short training whose rate rises with every step (Smith 2015)."""

import io
import tempfile
from pathlib import Path

import lightning
import numpy as np
from lightning.pytorch.tuner import Tuner
from matplotlib.figure import Figure

from trainer.classifier import MultiLabelClassifier
from trainer.data.module import MultiLabelDataModule
from trainer.errors import UserError
from trainer.files import write_whole

STEPS = 100
LOWEST, HIGHEST = 1e-6, 1.0
# Steps after which Lightning's smoothed loss says something.
SETTLED = 20


def suggest(model: MultiLabelClassifier, data: MultiLabelDataModule, options: dict, picture: Path) -> float:
    """The rate at which the loss falls fastest (over its logarithm), by the range test of arxiv.org/abs/1506.01186.

    The whole network gets one rate; `backbone_rate` plays no part. The model's weights are afterwards what they were.

    Args:
        model: what would be trained, with the weights to start from.
        data: the images, set up.
        options: of Lightning's Trainer.
        picture: the PNG file to write, loss against rate.

    Raises:
        UserError: if the loss could not be followed.
    """
    with tempfile.TemporaryDirectory() as folder:
        own = {"logger": False, "enable_checkpointing": False, "default_root_dir": folder}
        # Enough steps for one test, however few batches an epoch has; without validation.
        trainer = lightning.Trainer(**options | own | {"max_epochs": -1, "max_steps": STEPS})
        found = Tuner(trainer).lr_find(
            model, train_dataloaders=data.train_dataloader(), min_lr=LOWEST, max_lr=HIGHEST, num_training=STEPS
        )
    rates, losses = (np.array(found.results[name][SETTLED:]) for name in ("lr", "loss"))
    if len(losses) < 2 or not np.isfinite(losses).all():
        raise UserError("no learning rate stood out: the loss grew at once, or was no number; try other weights")
    # Not Lightning's own suggestion: it takes the slope over the rate itself, which is always steepest at tiny rates.
    rate = float(rates[np.gradient(losses, np.log(rates)).argmin()])
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.semilogx(rates, losses)
    axes.axvline(rate, linestyle="--", label=f"falls fastest at {rate:.1g}")
    axes.set(xlabel="learning rate", ylabel="loss, smoothed")
    axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    write_whole(picture, buffer.getvalue())
    return rate
