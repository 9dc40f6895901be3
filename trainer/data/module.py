"""Feeds a folder of splits to Lightning: decode once, keep what fits in memory, augment, batch."""

import mmap
import random
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, get_worker_info

from trainer.data.augment import Augmentation
from trainer.data.folder import SPLITS, MultiLabelImageFolder, label_folders
from trainer.data.image import load_rgb, resize
from trainer.data.survey import channel_statistics
from trainer.errors import UserError
from trainer.resources import cpu_cores, memory_available


class PreparedImages(Dataset):
    """A data set's images at one size, augmented: uint8 `[H, W, 3]` and its float32 target `[C]`.

    Each image is decoded once: the resized pixels stay in memory that the loader's worker processes share. Without
    worker processes a batch is made by one thread per core: Pillow works outside Python's lock.
    """

    def __init__(
        self,
        dataset: MultiLabelImageFolder,
        size: tuple[int, int],
        augmentation: Augmentation | None = None,
        cache: bool = False,
    ) -> None:
        """Nothing is decoded yet.

        Args:
            dataset: the images; its `loader` is replaced.
            size: height and width that they are resized to, in pixels.
            augmentation: random changes; with one, a JPEG may be decoded at a reduced size.
            cache: keep the resized pixels in memory, height × width × 3 bytes an image.
        """
        self.dataset = dataset
        self.size = size
        self.cache = cache
        self.augment = augmentation
        # An evaluated image is read as the app reads it, at full size.
        self.dataset.loader = lambda path: resize(load_rgb(path, size if augmentation else None), size)
        self._allocate()

    def _allocate(self) -> None:
        if self.cache:
            shape = (len(self.dataset), *self.size, 3)
            # Anonymous shared memory: forked workers see it, and unlike /dev/shm no container limits it separately.
            self.pixels = np.frombuffer(mmap.mmap(-1, int(np.prod(shape))), dtype=np.uint8).reshape(shape)
            self.filled = np.frombuffer(mmap.mmap(-1, len(self.dataset)), dtype=np.uint8)

    def __getstate__(self) -> dict[str, Any]:
        # Where workers are spawned instead of forked, each gets a cache of its own.
        return {name: value for name, value in vars(self).items() if name not in ("pixels", "filled", "_threads")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._allocate()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[np.ndarray, torch.Tensor]:
        return self._prepare(index, random.Random(random.getrandbits(64)))

    def __getitems__(self, indices: list[int]) -> list[tuple[np.ndarray, torch.Tensor]]:
        """A batch; random numbers are drawn in its order, so that threads do not change the result."""
        generators = [random.Random(random.getrandbits(64)) for _ in indices]
        apply = map if get_worker_info() else self._threads.map
        return list(apply(self._prepare, indices, generators))

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(cpu_cores())

    def _prepare(self, index: int, rng: random.Random) -> tuple[np.ndarray, torch.Tensor]:
        if self.cache and self.filled[index]:
            pixels, target = self.pixels[index], self.dataset.targets[index]
        else:
            image, target = self.dataset[index]
            pixels = np.array(image)
            if self.cache:
                self.pixels[index] = pixels
                self.filled[index] = 1
        if self.augment is not None:
            pixels = np.asarray(self.augment(Image.fromarray(pixels), rng))
        return pixels, target


class MultiLabelDataModule(lightning.LightningDataModule):
    """Train, validation and test images from `<root>/{train,val,test}/<label>-<label>/*`."""

    def __init__(
        self,
        root: Path,
        input_size: tuple[int, int] = (224, 160),
        batch_size: int = 32,
        augmentation: Augmentation = Augmentation(),  # noqa: B008 (a dataclass of defaults, never changed)
        separator: str = "-",
        drop_unreadable: bool = False,
        workers: int | None = None,
        cache: bool | None = None,
    ) -> None:
        """Name the data; nothing is read yet.

        Args:
            root: the folder of splits.
            input_size: height and width that every image is resized to, in pixels.
            batch_size: images per step and process.
            augmentation: random changes to training images.
            separator: what stands between labels in a folder's name.
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
        self.batch_size = batch_size
        self.augmentation = augmentation
        self.separator = separator
        self.drop_unreadable = drop_unreadable
        accelerated = torch.cuda.is_available() or torch.backends.mps.is_available()
        self.workers = workers if workers is not None else min(cpu_cores(), 16) if accelerated else 0
        self.cache = cache
        self._folders: dict[str, MultiLabelImageFolder] = {}
        self._prepared: dict[str, PreparedImages] = {}

    def folder(self, split: str) -> MultiLabelImageFolder:
        """A split's images and labels, scanned once; every split must have exactly the training split's classes.

        Raises:
            UserError: if the folder is missing or its images or labels are not in order.
        """
        if split not in self._folders:
            path = self.root / split
            if not self.root.is_dir():
                raise UserError(f"there is no folder '{self.root}'; name one that `manasight data split` made")
            if not path.is_dir():
                label_folders(self.root, self.separator)  # or there is nothing to split either
                raise UserError(
                    f"there is no '{path}'; data needs the folders {', '.join(SPLITS)}: make them with "
                    f"`manasight data split {self.root} <new folder>`"
                )
            self._folders[split] = MultiLabelImageFolder(
                path,
                separator=self.separator,
                classes=None if split == "train" else self.classes,
                drop_unreadable=self.drop_unreadable,
            )
        return self._folders[split]

    @property
    def classes(self) -> list[str]:
        """The training split's labels, sorted."""
        return self.folder("train").classes

    def prepared(self, split: str) -> PreparedImages:
        """A split's images as the model takes them; only training images are augmented."""
        if split not in self._prepared:
            folder = self.folder(split)
            size = len(folder) * self.input_size[0] * self.input_size[1] * 3
            cache = self.cache if self.cache is not None else size < memory_available() / 4
            augmentation = self.augmentation if split == "train" else None
            self._prepared[split] = PreparedImages(folder, self.input_size, augmentation, cache)
        return self._prepared[split]

    def setup(self, stage: str) -> None:
        """Scan all three splits, whatever the stage, so that a fault in the data shows before any training."""
        for split in SPLITS:
            self.folder(split)

    def statistics(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation per channel of the training split, float64 `[3]` each, on a scale from 0 to 1."""
        prepared = PreparedImages(self.folder("train"), self.input_size)
        return channel_statistics(prepared)

    def loader(self, split: str, shuffle: bool = False) -> DataLoader:
        """Batches of `(images uint8 [N, H, W, 3], targets float32 [N, C])`."""
        return DataLoader(
            self.prepared(split),
            batch_size=self.batch_size,
            shuffle=shuffle,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            collate_fn=_stack,
            pin_memory=torch.cuda.is_available(),
            # Batch normalisation cannot train on a single image.
            drop_last=shuffle and len(self.prepared(split)) % self.batch_size == 1,
        )

    def train_dataloader(self) -> DataLoader:
        """Training batches, shuffled."""
        return self.loader("train", shuffle=True)

    def val_dataloader(self) -> DataLoader:
        """Validation batches."""
        return self.loader("val")


def _stack(items: list[tuple[np.ndarray, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch of images and targets; PyTorch's own function takes five times as long for NumPy's arrays."""
    images, targets = zip(*items, strict=True)
    return torch.from_numpy(np.stack(images)), torch.stack(targets)
