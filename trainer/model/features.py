"""A frozen backbone's features, computed once: training then runs the linear layer only."""

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from trainer.data.module import MultiLabelDataModule
from trainer.model.classifier import MultiLabelClassifier
from trainer.progress import progress


class CachedFeatures(Dataset):
    """Pooled features float16 `[V, N, K]` of V versions of N images; an item is one of its versions, by chance."""

    def __init__(self, features: Tensor, targets: Tensor) -> None:
        """Keep the features, float16 `[V, N, K]`, and the targets, float32 `[N, C]`."""
        self.features = features
        self.targets = targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        """A batch, stacked: features float32 `[N, K]` and targets float32 `[N, C]`."""
        versions = torch.randint(len(self.features), (len(indices),))
        return self.features[versions, indices].float(), self.targets[indices]


def cached_loaders(
    model: MultiLabelClassifier, data: MultiLabelDataModule, trainer: lightning.Trainer, views: int
) -> dict[str, DataLoader]:
    """Loaders of features instead of images, as arguments of `trainer.commands.fit`.

    Args:
        model: its backbone holds the weights that it keeps.
        data: the images.
        trainer: says on which device and with which precision the backbone runs.
        views: augmented versions of each training image; validation images are not augmented.
    """
    loaders = {}
    for name, split, count in (("train_dataloaders", "train", views), ("val_dataloaders", "val", 1)):
        features = torch.stack(
            [_features(model, data, split, trainer, f"{split} {k + 1}/{count}") for k in range(count)]
        )
        dataset = CachedFeatures(features, data.dataset(split).targets)
        loaders[name] = DataLoader(
            dataset,
            batch_size=data.batch_size,
            shuffle=split == "train",
            collate_fn=_as_it_is,
        )
    return loaders


@torch.no_grad()
def _features(
    model: MultiLabelClassifier, data: MultiLabelDataModule, split: str, trainer: lightning.Trainer, title: str
) -> Tensor:
    """float16 `[N, K]`, in the order of the split. Workers of a distributed training share the images."""
    rank, world = trainer.global_rank, trainer.world_size
    like = data.loader(split)
    count = len(data.dataset(split))
    loader = DataLoader(
        like.dataset,
        batch_size=like.batch_size,
        sampler=range(rank, count, world),
        num_workers=like.num_workers,
        collate_fn=like.collate_fn,
        worker_init_fn=like.worker_init_fn,
        pin_memory=like.pin_memory,
    )
    device = trainer.strategy.root_device
    model.to(device).eval()
    parts = []
    # None: no bar in a log.
    for images, _ in progress(loader, f"features {title}", unit="batch", disable=rank > 0):
        with trainer.precision_plugin.forward_context():
            parts.append(model.network.pooled(images.to(device)).half().cpu())
    model.train()
    own = torch.cat(parts) if parts else torch.empty(0, model.network.architecture.width, dtype=torch.float16)
    if world == 1:
        return own
    every: list[Tensor] = [torch.empty(0)] * world
    torch.distributed.all_gather_object(every, own)
    whole = torch.empty(count, model.network.architecture.width, dtype=torch.float16)
    for place, part in enumerate(every):
        whole[place::world] = part
    return whole


def _as_it_is(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return batch
