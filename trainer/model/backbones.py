"""The architectures. Adding one takes an entry here and a file of options in `trainer/experiments/`."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn
from torchvision.models import ResNet, resnet18

from trainer.errors import UserError


class Backbone(NamedTuple):
    """What has to be known about an architecture.

    Attributes:
        build: makes the network with random weights, without its classifier.
        features: the network and normalized images `[N, 3, H, W]` → the last feature map, `[N, width, h, w]`.
        width: channels of that feature map.
        explained: the network → the layer whose output Grad-CAM explains.
        head: the beginning of the names of its classifier's tensors in torchvision's files.
        probe: the name of a tensor by which such a file is recognized.
        url: of torchvision's ImageNet weights.
        sha256: of that file.
    """

    build: Callable[[], nn.Module]
    features: Callable[[nn.Module, Tensor], Tensor]
    width: int
    explained: Callable[[nn.Module], nn.Module]
    head: str
    probe: str
    url: str
    sha256: str


def _resnet(build: Callable[..., ResNet]) -> Callable[[], nn.Module]:
    def made() -> nn.Module:
        net = build(weights=None)
        net.fc = nn.Identity()
        return net

    return made


def _resnet_features(net: nn.Module, images: Tensor) -> Tensor:
    x = net.maxpool(net.relu(net.bn1(net.conv1(images))))
    return net.layer4(net.layer3(net.layer2(net.layer1(x))))


BACKBONES = {
    # He et al. 2015, https://arxiv.org/abs/1512.03385
    "resnet18": Backbone(
        build=_resnet(resnet18),
        features=_resnet_features,
        width=512,
        explained=lambda net: net.layer4,
        head="fc.",
        probe="conv1.weight",
        url="https://download.pytorch.org/models/resnet18-f37072fd.pth",
        sha256="f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
    ),
}
DEFAULT = "resnet18"


def find_backbone(name: str) -> Backbone:
    """An architecture by its name.

    Raises:
        UserError: if there is none of that name.
    """
    if name not in BACKBONES:
        raise UserError(f"there is no backbone '{name}'; choose {' or '.join(BACKBONES)}: --model.backbone")
    return BACKBONES[name]
