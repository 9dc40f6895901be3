"""A labeled dataset as PyTorch reads it: images and multi-hot targets."""

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from trainer.data.images import UNREADABLE, load_rgb
from trainer.data.labeled import LabeledImages
from trainer.data.samples import Format
from trainer.errors import UserError


class MultiLabelImageFolder(LabeledImages, Dataset):
    """Images with their labels.

    Items are `(image, target)`: the image as `loader` returns it (by default a PIL image in RGB), the target a float32
    tensor of shape `[C]` of ones and zeros, all zeros for an image without a label.

    Attributes:
        classes: the label names, sorted; the order of the columns of every target.
        targets: float32 tensor `[N, C]`.
    """

    def __init__(
        self,
        root: str | Path,
        loader: Callable[[Path], Any] = load_rgb,
        form: Format = Format(),  # noqa: B008 (immutable)
        classes: Sequence[str] | None = None,
        drop_unreadable: bool = False,
    ) -> None:
        """Scan `root`.

        Args:
            root: the labeled images.
            loader: path → image.
            form: how labels are written.
            classes: as for `LabeledImages`.
            drop_unreadable: as for `LabeledImages`.

        Raises:
            UserError: as `LabeledImages`.
        """
        super().__init__(root, form, classes, drop_unreadable)
        self.loader = loader
        columns = {label: index for index, label in enumerate(self.classes)}
        self.targets = torch.zeros(len(self.images), len(self.classes))
        for row, sample in enumerate(self.images):
            for label in sample.labels:
                self.targets[row, columns[label]] = 1.0

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """The image and the target at `index`.

        Raises:
            UserError: if the image cannot be decoded.
        """
        path = self.images[index].path
        try:
            image = self.loader(path)
        except UNREADABLE as error:
            find = f"`manasight data describe {shlex.quote(str(self.root))} --check`"
            raise UserError(
                f"cannot read image '{path}' ({error}); remove it and all others that {find} lists"
            ) from error
        return image, self.targets[index]
