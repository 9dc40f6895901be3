"""Images as the model takes them: decoded once, resized, augmented. Light to import, as spawned workers do."""

import random
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset, get_worker_info

from contract.images import resize
from trainer.data.dataset import MultiLabelImageFolder
from trainer.data.images import load_rgb
from trainer.data.shared_pixels import SharedPixels
from trainer.data.transforms import Augmentation
from trainer.resources import cpu_cores

GRACE_SECONDS = 60  # for the main process to end its step after SIGTERM


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
        letterbox: bool = False,
    ) -> None:
        """Nothing is decoded yet.

        Args:
            dataset: the images; its `loader` is replaced.
            size: height and width that they are resized to, in pixels.
            augmentation: random changes; with one, a JPEG may be decoded at a reduced size.
            cache: keep the resized pixels in memory, height × width × 3 bytes an image.
            letterbox: keep each image's proportions; gray bars fill the rest.
        """
        self.dataset = dataset
        self.cache = cache
        self.augment = augmentation
        # An evaluated image is read as the app reads it, at full size.
        self.dataset.loader = partial(_load, size=size, letterbox=letterbox, reduced=augmentation is not None)
        if cache:
            self._pixels = SharedPixels((len(dataset), *size, 3))
            self._filled = SharedPixels((len(dataset),))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_threads"}

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
        if self.cache and self._filled.array[index]:
            pixels, target = self._pixels.array[index], self.dataset.targets[index]
        else:
            image, target = self.dataset[index]
            pixels = np.array(image)
            if self.cache:
                self._pixels.array[index] = pixels
                self._filled.array[index] = 1
        if self.augment is not None:
            pixels = np.asarray(self.augment(Image.fromarray(pixels), rng))
        return pixels, target


def stack(items: list[tuple[np.ndarray, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch of images and targets; PyTorch's own function takes five times as long for NumPy's arrays."""
    images, targets = zip(*items, strict=True)
    return torch.from_numpy(np.stack(images)), torch.stack(targets)


def worker_start(rank: int) -> Callable[[int], None]:
    """What a loader worker does first, given the rank of its process in a distributed training."""
    return partial(_start_worker, rank=rank)


def _start_worker(_worker: int, rank: int) -> None:
    """Draw other random numbers than workers of other ranks, and leave what a terminal sends to the main process.

    Lightning's own function, which it adds where there is none, would import all of Lightning into a spawned worker.
    """
    random.seed(f"{torch.initial_seed()} {rank}")  # PyTorch's seed: another one for every worker, not for every rank
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):  # its workers end with it
        signal.signal(number, signal.SIG_IGN)
    # Where a whole group is ended, as by Slurm and systemd, the main process still needs images to end its step.
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE_SECONDS))


def _load(path: Path, size: tuple[int, int], letterbox: bool, reduced: bool) -> Image.Image:
    return resize(load_rgb(path, size if reduced else None), size, letterbox)
