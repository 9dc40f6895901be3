"""A backbone with one linear layer, from uint8 images to logits and class activation maps."""

import torch
from torch import Tensor, nn

from trainer.model.backbones import DEFAULT, find_backbone

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class MultiLabelNetwork(nn.Module):
    """A backbone, global average pooling, dropout, one linear layer.

    It takes images as they are decoded: scaling and normalization are part of the network, so whoever runs it cannot
    get them wrong.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, classes: int, dropout: float = 0.2, backbone: str = DEFAULT) -> None:
        """Build the network with random weights and ImageNet's normalization.

        Args:
            classes: number of labels `C`.
            dropout: share of the pooled features that training drops.
            backbone: one of `BACKBONES`, with `K` channels in its last feature map.

        Raises:
            UserError: if there is no such backbone.
        """
        super().__init__()
        self.architecture = find_backbone(backbone)
        # Images come as [N, H, W, C]; weights in the same layout make small ones an eighth faster on a CPU.
        self.backbone = self.architecture.build().to(memory_format=torch.channels_last)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(self.architecture.width, classes)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN))
        self.register_buffer("std", torch.tensor(IMAGENET_STD))

    def features(self, images: Tensor) -> Tensor:
        """The last feature map, float32 `[N, K, h, w]`, of images uint8 `[N, H, W, 3]` in RGB."""
        x = (images.float() / 255 - self.mean) / self.std
        # The permuted view of [N, H, W, C] is what PyTorch calls channels_last: the fast layout, for free.
        return self.architecture.features(self.backbone, x.permute(0, 3, 1, 2))

    def pooled(self, images: Tensor) -> Tensor:
        """The feature map's mean, float32 `[N, K]`, of images uint8 `[N, H, W, 3]` in RGB."""
        return self.features(images).mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Logits, float32 `[N, C]`, of images uint8 `[N, H, W, 3]` in RGB, or of what `pooled` made of them."""
        pooled = images if images.ndim == 2 else self.pooled(images)
        return self.head(self.dropout(pooled)).float()  # not bfloat16 under autocast


class ExportedGraph(nn.Module):
    """What model.onnx computes: probabilities and class activation maps from one pass."""

    temperature: Tensor

    def __init__(self, network: MultiLabelNetwork, temperature: float = 1.0) -> None:
        """Wrap a network; its logits are divided by `temperature`, which calibrates the probabilities."""
        super().__init__()
        self.network = network
        self.register_buffer("temperature", torch.tensor(temperature))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Predict and explain.

        The class activation map is the feature map weighted by the class's row of the linear layer (Zhou et al. 2016,
        https://arxiv.org/abs/1512.04150). Averaging and the linear layer commute, so a map's mean plus the bias is
        exactly the logit.

        Args:
            image: uint8 `[N, H, W, 3]`, RGB.

        Returns:
            probabilities float32 `[N, C]` and activation maps float32 `[N, C, h, w]`.
        """
        head = self.network.head
        maps = torch.einsum("nkhw,ck->nchw", self.network.features(image), head.weight)
        return torch.sigmoid((maps.mean((2, 3)) + head.bias) / self.temperature), maps
