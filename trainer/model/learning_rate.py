"""A learning rate to start from: a short training whose rate rises with every step (Smith 2015)."""

import io
import tempfile
from pathlib import Path

import numpy as np
from jsonargparse import Namespace
from lightning.pytorch.tuner import Tuner
from matplotlib.figure import Figure

from trainer.data.module import MultiLabelDataModule
from trainer.errors import UserError
from trainer.files import write_whole
from trainer.model.classifier import MultiLabelClassifier
from trainer.model.training import lightning_trainer

STEPS = 100
LOWEST, HIGHEST = 1e-6, 1.0
# Steps after which Lightning's smoothed loss is meaningful.
SETTLED = 20


def suggest(model: MultiLabelClassifier, data: MultiLabelDataModule, options: Namespace, path: Path) -> float:
    """The rate at which the loss falls fastest (over its logarithm), by the range test of arxiv.org/abs/1506.01186.

    The whole network gets one rate; `backbone_rate` is ignored. The model's weights are restored afterwards.

    Args:
        model: what would be trained, with the weights to start from.
        data: the images, set up.
        options: as `config.build_parser` parses them.
        path: the PNG file to write, loss against rate.

    Raises:
        UserError: if the loss could not be followed.
    """
    with tempfile.TemporaryDirectory() as folder:
        own = {"logger": False, "enable_checkpointing": False, "default_root_dir": folder}
        # Enough steps for one test, however few batches an epoch has; without validation.
        trainer = lightning_trainer(options, **own, max_epochs=-1, max_steps=STEPS)
        found = Tuner(trainer).lr_find(
            model, train_dataloaders=data.train_dataloader(), min_lr=LOWEST, max_lr=HIGHEST, num_training=STEPS
        )
    rates, losses = (np.array(found.results[name][SETTLED:]) for name in ("lr", "loss"))
    if len(losses) < 2 or not np.isfinite(losses).all():
        raise UserError("no learning rate stood out: the loss grew at once, or was not a number; try other weights")
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
    write_whole(path, buffer.getvalue())
    return rate
