"""Feeds a dataset to Lightning: decode once, keep what fits in memory, augment, batch."""

import os
import sys
from multiprocessing import set_forkserver_preload
from pathlib import Path

import lightning
import numpy as np
import torch
from torch.utils.data import DataLoader

from trainer.data.dataset import MultiLabelImageFolder
from trainer.data.fingerprint import Parts, check_form
from trainer.data.prepared import PreparedImages, stack, worker_start
from trainer.data.samples import NO_LABEL, SPLITS, Format, check_training_split, find_splits, missing_split
from trainer.data.scan import channel_statistics
from trainer.data.transforms import Augmentation
from trainer.errors import UserError
from trainer.files import reachable
from trainer.resources import cpu_cores, memory_available


class MultiLabelDataModule(lightning.LightningDataModule):
    """Train, validation and test images from `<root>/{train,val,test}/<label>-<label>/*`.

    Splits may have other names in common use, such as `valid` (see `trainer/data/samples.py`).
    """

    def __init__(
        self,
        root: Path,
        input_size: tuple[int, int] = (224, 160),
        letterbox: bool = False,
        batch_size: int = 32,
        augmentation: Augmentation = Augmentation(),  # noqa: B008 (a dataclass of defaults, never changed)
        separator: str = "-",
        negatives: str = NO_LABEL,
        nested: bool = False,
        follow_links: bool = False,
        images: str = "",
        drop_unreadable: bool = False,
        workers: int | None = None,
        cache: bool | None = None,
    ) -> None:
        """Name the data; nothing is read yet.

        Args:
            root: the folder of splits.
            input_size: height and width that every image is resized to, in pixels.
            letterbox: keep each image's proportions, with gray bars at two sides, instead of stretching it.
            batch_size: images per step and process.
            augmentation: random changes to training images.
            separator: between labels in a folder's name.
            negatives: the folder of images without any label.
            nested: every folder between a split and an image adds labels.
            follow_links: also links that leave a split.
            images: the folder that the paths in a table are relative to; by default found by itself.
            drop_unreadable: leave out images that cannot be decoded.
            workers: loader processes; by default one per core up to 16 beside an accelerator, else none: on the cores
                that also train, another process slows the step by more than its own work.
            cache: keep resized images in memory; by default if all fit into a quarter of what is free.
        """
        super().__init__()
        if batch_size < 1:
            raise UserError(f"batch_size {batch_size} is too small; give at least 1")
        if workers is not None and workers < 0:
            raise UserError(f"workers {workers} makes no sense; give 0 or more, or leave it out")
        if min(input_size) < 32:
            raise UserError(f"input_size {list(input_size)} is too small; give at least 32 pixels each way")
        self.root = Path(root)
        self.input_size = (input_size[0], input_size[1])
        self.letterbox = letterbox
        self.batch_size = batch_size
        self.augmentation = augmentation
        self.form = Format(separator, negatives, nested, follow_links, images)
        self.drop_unreadable = drop_unreadable
        accelerated = torch.cuda.is_available() or torch.backends.mps.is_available()
        self.workers = workers if workers is not None else min(cpu_cores(), 16) if accelerated else 0
        self.cache = cache
        self._datasets: dict[str, MultiLabelImageFolder] = {}
        self._prepared: dict[str, PreparedImages] = {}

    def dataset(self, split: str) -> MultiLabelImageFolder:
        """A split's images and labels, scanned once; every split must have exactly the training split's classes.

        Raises:
            UserError: if the folder is missing or its images or labels are not in order.
        """
        if split not in self._datasets:
            if not reachable(self.root).exists():
                raise UserError(f"there is no folder '{self.root}'; name one that holds {', '.join(SPLITS)}")
            check_form(self.root, self.form)
            found = find_splits(self.root)
            check_training_split(self.root, found)
            if split not in found:
                # Raises what would keep `data split` from working.
                MultiLabelImageFolder(found.get("train", self.root), form=self.form)
                raise missing_split(self.root, found, split, self.form)
            self._datasets[split] = MultiLabelImageFolder(
                found[split],
                form=self.form,
                classes=None if split == "train" else self.classes,
                drop_unreadable=self.drop_unreadable,
            )
            if os.environ.get("RANK", "0") == "0":
                for note in self._datasets[split].notes:
                    print(f"{split}: {note}", file=sys.stderr)
        return self._datasets[split]

    @property
    def classes(self) -> list[str]:
        """The training split's labels, sorted."""
        return self.dataset("train").classes

    @property
    def parts(self) -> Parts:
        """All splits, as `trainer/data/fingerprint.py` takes them."""
        return {split: (self.dataset(split).root, self.dataset(split).images) for split in SPLITS}

    def prepared(self, split: str) -> PreparedImages:
        """A split's images as the model takes them; only training images are augmented."""
        if split not in self._prepared:
            dataset = self.dataset(split)
            size = len(dataset) * self.input_size[0] * self.input_size[1] * 3
            cache = self.cache if self.cache is not None else size < memory_available() / 4
            augmentation = self.augmentation if split == "train" else None
            self._prepared[split] = PreparedImages(dataset, self.input_size, augmentation, cache, self.letterbox)
        return self._prepared[split]

    def setup(self, stage: str) -> None:
        """Scan all three splits, whatever the stage, so that bad data is reported before any training."""
        for split in SPLITS:
            self.dataset(split)

    def statistics(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation per channel of the training split, float64 `[3]` each, on a scale from 0 to 1."""
        prepared = PreparedImages(self.dataset("train"), self.input_size, letterbox=self.letterbox)
        return channel_statistics(prepared)

    def loader(self, split: str, shuffle: bool = False) -> DataLoader:
        """Batches of `(images uint8 [N, H, W, 3], targets float32 [N, C])`."""
        if self.workers:  # where they come from a fork server: import there once instead of in every worker
            set_forkserver_preload(["__main__", PreparedImages.__module__])
        return DataLoader(
            self.prepared(split),
            batch_size=self.batch_size,
            shuffle=shuffle,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            collate_fn=stack,
            worker_init_fn=worker_start(int(os.environ.get("RANK", 0))),
            pin_memory=torch.cuda.is_available(),
            # Batch normalization cannot train on a single image.
            drop_last=shuffle and len(self.prepared(split)) % self.batch_size == 1,
        )

    def train_dataloader(self) -> DataLoader:
        """Training batches, shuffled."""
        return self.loader("train", shuffle=True)

    def val_dataloader(self) -> DataLoader:
        """Validation batches."""
        return self.loader("val")
