"""ResNet18 with one linear layer, from uint8 images to logits and class activation maps."""

import torch
from torch import Tensor, nn
from torchvision.models import resnet18

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class MultiLabelResNet(nn.Module):
    """ResNet18, global average pooling, dropout, one linear layer (He et al. 2015, https://arxiv.org/abs/1512.03385).

    It takes images as they are decoded: scaling and normalisation are part of the network, so whoever runs it cannot
    get them wrong.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, classes: int, dropout: float = 0.2) -> None:
        """Build the network with random weights and ImageNet's normalisation.

        Args:
            classes: number of labels `C`.
            dropout: share of the 512 pooled features that training drops.
        """
        super().__init__()
        # Images come as [N, H, W, C]; weights in the same layout make small ones an eighth faster on a CPU.
        self.backbone = resnet18(weights=None).to(memory_format=torch.channels_last)
        self.backbone.fc = nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(512, classes)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN))
        self.register_buffer("std", torch.tensor(IMAGENET_STD))

    def features(self, images: Tensor) -> Tensor:
        """The last feature map, float32 `[N, 512, ⌈H/32⌉, ⌈W/32⌉]`, of images uint8 `[N, H, W, 3]` in RGB."""
        net = self.backbone
        x = (images.float() / 255 - self.mean) / self.std
        # The permuted view of [N, H, W, C] is what PyTorch calls channels_last: the fast layout, for free.
        x = net.maxpool(net.relu(net.bn1(net.conv1(x.permute(0, 3, 1, 2)))))
        return net.layer4(net.layer3(net.layer2(net.layer1(x))))

    def pooled(self, images: Tensor) -> Tensor:
        """The feature map's mean, float32 `[N, 512]`, of images uint8 `[N, H, W, 3]` in RGB."""
        return self.features(images).mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Logits, float32 `[N, C]`, of images uint8 `[N, H, W, 3]` in RGB, or of what `pooled` made of them."""
        pooled = images if images.ndim == 2 else self.pooled(images)
        return self.head(self.dropout(pooled)).float()  # not bfloat16 under autocast


class ExportedGraph(nn.Module):
    """What model.onnx computes: probabilities and class activation maps from one pass."""

    temperature: Tensor

    def __init__(self, network: MultiLabelResNet, temperature: float = 1.0) -> None:
        """Wrap a network; its logits are divided by `temperature`, which makes probabilities mean what they say."""
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
