"""How much of the machine training uses: images a second with real files, against ready tensors and a bare loop.

    python benchmarks/training.py [FOLDER OF SPLITS] [--size 224 160] [--batches 8] [--rounds 9]

Loops that train the same network on batches of the same size, in turns, so that other load on the machine meets all:

- decode: `manasight fit`'s own parts: JPEG files, the loader with augmentation, Lightning, MLflow; as in a first epoch,
          or with more images than memory holds.
- files:  the same from the second epoch on: decoded images come from the loader's cache and are augmented again.
- tensor: the same, on one batch that is in memory already. files / tensor says whether the loader starves the step.
- bare:   forward, loss, backward and step in plain PyTorch on that batch. tensor / bare is what Lightning and MLflow
          cost.

Those train all of the network, as `finetune` and `scratch` do. `frozen` runs its backbone once for each version of an
image, and then only trains on what it made of them:

- frozen files:  that run of the backbone, from the loader's cache, augmented.
- frozen tensor: the backbone alone in plain PyTorch, on the batch that is in memory.
- frozen head:   images a second of an epoch after that.

`busy` is measured within one loop: the share of its time that it does not wait for a batch.

Without a folder it draws cards. Prints medians over the rounds.
"""

import argparse
import logging
import os
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("TQDM_DISABLE", "1")

import lightning
import mlflow
import torch
from torch.utils.data import DataLoader, Dataset

from trainer.config import build_parser
from trainer.data.module import MultiLabelDataModule
from trainer.model.classifier import MultiLabelClassifier
from trainer.model.features import cached_loaders
from trainer.model.training import build_trainer
from trainer.resources import fast_bfloat16
from trainer.tracking.logger import SteadyLogger


class OneBatch(Dataset):
    """The same batch again and again."""

    def __init__(self, batch: tuple[torch.Tensor, torch.Tensor], times: int) -> None:
        self.batch, self.times = batch, times

    def __len__(self) -> int:
        return self.times

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.batch


class Stopwatch(lightning.Callback):
    """Times training batches from the end of the second one, when workers are warm, to the end of the last."""

    def on_train_batch_start(self, *_: object) -> None:
        """Note how long the batch was waited for."""
        if len(self.times) > 1:
            self.waited += time.perf_counter() - self.times[-1]

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: object) -> None:
        """Note the time."""
        self.times.append(time.perf_counter())

    def on_train_epoch_start(self, *_: object) -> None:
        """Start again."""
        self.times: list[float] = []
        self.waited = 0.0

    @property
    def busy(self) -> float:
        """The share of that time in which a step was made, and no batch waited for."""
        return 1 - self.waited / (self.times[-1] - self.times[1])

    @property
    def per_batch(self) -> float:
        """Seconds a batch took."""
        return (self.times[-1] - self.times[1]) / (len(self.times) - 2)


def with_lightning(
    module: MultiLabelDataModule, loader: DataLoader, batches: int, model: MultiLabelClassifier | None = None
) -> tuple[float, float]:
    """Seconds a batch takes in `manasight fit`'s own trainer, and the share of them that no batch is waited for."""
    parser = build_parser("benchmark")
    config = parser.parse_args([f"--data.root={module.root}", "--trainer.max_epochs=1"])
    config.trainer.limit_train_batches = batches
    config.trainer.limit_val_batches = 0
    config.trainer.num_sanity_val_steps = 0
    model = model or MultiLabelClassifier(module.classes, weights="none", backbone_rate=1.0)
    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as folder, mlflow.start_run(log_system_metrics=True) as run:
        trainer = build_trainer(config, Path(folder), SteadyLogger(run.info.run_id, Path(folder), resumed=False))
        trainer.callbacks = [call for call in trainer.callbacks if "Checkpoint" not in type(call).__name__] + [watch]
        trainer.fit(model, loader)
    return watch.per_batch, watch.busy


def frozen(module: MultiLabelDataModule, batch: tuple[torch.Tensor, torch.Tensor], batches: int) -> dict[str, float]:
    """Seconds that a batch takes with a frozen backbone: its run over files, over a ready tensor, and the head's."""
    model = MultiLabelClassifier(module.classes, weights="none", freeze_backbone=True)
    plain = lightning.Trainer(logger=False, enable_checkpointing=False, precision=precision())
    started = time.perf_counter()
    loader = cached_loaders(model, module, plain, views=1)["train_dataloaders"]
    took = {"frozen files": (time.perf_counter() - started) / images_of(module) * len(batch[0])}
    model.eval()
    started = time.perf_counter()
    with torch.no_grad(), plain.precision_plugin.forward_context():
        for _ in range(batches):
            model.network.pooled(batch[0])
    took["frozen tensor"] = (time.perf_counter() - started) / batches
    took["frozen head"], _ = with_lightning(module, loader, len(loader), model)
    return took


def images_of(module: MultiLabelDataModule) -> int:
    """The images that a frozen backbone runs over with one version of each: training and validation."""
    return len(module.dataset("train")) + len(module.dataset("val"))


def precision() -> Any:
    """What `manasight fit` takes where nothing is asked for."""
    return "bf16-mixed" if fast_bfloat16() else "32-true"


def bare(module: MultiLabelDataModule, batch: tuple[torch.Tensor, torch.Tensor], batches: int) -> float:
    """Seconds a batch takes in a plain PyTorch loop with the same network, loss and optimizer."""
    model = MultiLabelClassifier(module.classes, weights="none").train()
    optimizer = torch.optim.AdamW(model.network.parameters(), lr=1e-3, fused=True)
    times = []
    for _ in range(batches):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=fast_bfloat16()):
            loss = model.loss(model(batch[0]), batch[1])
        loss.backward()
        optimizer.step()
        times.append(time.perf_counter())
    return (times[-1] - times[1]) / (len(times) - 2)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="a folder of train, val and test")
    parser.add_argument("--size", nargs=2, type=int, default=(224, 160), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--batches", type=int, default=8, help="batches per measurement")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory() as folder:
        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        mlflow.create_experiment("benchmark", (Path(folder) / "artifacts").as_uri())
        mlflow.set_experiment("benchmark")
        if options.folder is None:
            from cards.drawn.demo import draw

            options.folder = Path(folder) / "cards"
            draw(options.folder, count=1080)
        module = MultiLabelDataModule(options.folder, tuple(options.size), options.batch, cache=True)
        module.setup("fit")
        uncached = MultiLabelDataModule(options.folder, tuple(options.size), options.batch, cache=False)
        loader = module.train_dataloader()
        if len(loader) < options.batches:
            raise SystemExit(f"'{options.folder}' has {len(loader)} training batches, fewer than {options.batches}")
        for _ in loader:  # fills the cache
            pass
        batch = next(iter(loader))
        ready = DataLoader(OneBatch(batch, options.batches), batch_size=None)
        seconds: dict[str, list[float]] = {"decode": [], "files": [], "tensor": [], "bare": []}
        busy: dict[str, list[float]] = {"decode": [], "files": [], "tensor": []}
        for _ in range(options.rounds):
            seconds["bare"].append(bare(module, batch, options.batches))
            for name, data, batches in (
                ("tensor", module, ready),
                ("files", module, loader),
                ("decode", uncached, uncached.train_dataloader()),
            ):
                per_batch, share = with_lightning(data, batches, options.batches)
                seconds[name].append(per_batch)
                busy[name].append(share)
            for name, value in frozen(module, batch, options.batches).items():
                seconds.setdefault(name, []).append(value)
    rate = {name: options.batch / statistics.median(values) for name, values in seconds.items()}
    pairs = (("decode", "tensor"), ("files", "tensor"), ("tensor", "bare"), ("files", "bare"))
    pairs += (("frozen files", "frozen tensor"),)
    ratios = {
        f"{one} / {other}": [slow / fast for fast, slow in zip(seconds[one], seconds[other], strict=True)]
        for one, other in pairs
    }
    kind = "bfloat16" if fast_bfloat16() else "float32"
    print(f"{options.size[0]}x{options.size[1]}, batch {options.batch}, {torch.get_num_threads()} threads, {kind}")
    for name, value in rate.items():
        print(f"{name:28}{value:8.2f} images/s")
    for name, values in (ratios | {f"{name}, busy": values for name, values in busy.items()}).items():
        print(f"{name:28}{statistics.median(values):8.3f}   (rounds: {', '.join(f'{value:.3f}' for value in values)})")


if __name__ == "__main__":
    main()
