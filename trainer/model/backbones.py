"""The architectures. Adding one takes an entry here."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models import (
    ResNet,
    convnext_tiny,
    efficientnet_v2_s,
    mobilenet_v3_large,
    resnet18,
    resnet34,
    resnet50,
)

from trainer.errors import UserError

URL = "https://download.pytorch.org/models/"


class Backbone(NamedTuple):
    """What has to be known about an architecture.

    Attributes:
        build: makes the network with random weights, without its classifier.
        features: the network and normalized images `[N, 3, H, W]` → the last feature map, `[N, width, h, w]`.
        width: channels of that feature map.
        explained: the network → the layer whose output is that feature map; Grad-CAM explains it.
        head: the beginning of the names of its classifier's tensors in torchvision's files.
        url: of torchvision's ImageNet weights.
        sha256: of that file.
    """

    build: Callable[[], nn.Module]
    features: Callable[[nn.Module, Tensor], Tensor]
    width: int
    explained: Callable[[nn.Module], nn.Module]
    head: str
    url: str
    sha256: str


def _without(part: str, build: Callable[..., nn.Module], kept: int = 0) -> Callable[[], nn.Module]:
    """A function that builds torchvision's network without what comes after its features, but for `kept` layers."""

    def made() -> nn.Module:
        net = build(weights=None)
        setattr(net, part, getattr(net, part)[:kept] if kept else nn.Identity())
        return net

    return made


def _resnet(build: Callable[..., ResNet], width: int, file: str, sha256: str) -> Backbone:
    """He et al. 2015, https://arxiv.org/abs/1512.03385."""
    return Backbone(
        build=_without("fc", build),
        features=_resnet_features,
        width=width,
        explained=lambda net: net.layer4,
        head="fc.",
        url=URL + file,
        sha256=sha256,
    )


def _resnet_features(net: nn.Module, images: Tensor) -> Tensor:
    x = net.maxpool(net.relu(net.bn1(net.conv1(images))))
    return net.layer4(net.layer3(net.layer2(net.layer1(x))))


def _convolutions(build: Callable[..., nn.Module], width: int, file: str, sha256: str) -> Backbone:
    """A network of torchvision's with the parts `features` and `classifier`."""
    return Backbone(
        build=_without("classifier", build),
        features=lambda net, images: net.features(images),
        width=width,
        explained=lambda net: net.features[-1],
        head="classifier.",
        url=URL + file,
        sha256=sha256,
    )


BACKBONES = {
    "resnet18": _resnet(
        resnet18,
        512,
        "resnet18-f37072fd.pth",
        "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
    ),
    "resnet34": _resnet(
        resnet34,
        512,
        "resnet34-b627a593.pth",
        "b627a593bcbe140c234610266fe4f8ae95ea42fc881d091c9b6052e6b1d0590f",
    ),
    "resnet50": _resnet(
        resnet50,
        2048,
        "resnet50-11ad3fa6.pth",
        "11ad3fa62ca79e40addfd354a8ec4b7c75143b3038b8d2a807fbc68deab379ca",
    ),
    # Howard et al. 2019, https://arxiv.org/abs/1905.02244, without the layer between pooling and classifier: with it,
    # activation maps would not add up to the logits.
    "mobilenet_v3_large": _convolutions(
        mobilenet_v3_large,
        960,
        "mobilenet_v3_large-5c1a4163.pth",
        "5c1a416349c4cf298f2a6a5e2600ed0ee55e604713578f5e74e6bc8bcaef7997",
    ),
    # Tan and Le 2021, https://arxiv.org/abs/2104.00298
    "efficientnet_v2_s": _convolutions(
        efficientnet_v2_s,
        1280,
        "efficientnet_v2_s-dd5fe13b.pth",
        "dd5fe13b1d60ec15317ccc8ca158186e134d3366c3dde9cb9a4e301f2dc66c74",
    ),
    # Liu et al. 2022, https://arxiv.org/abs/2201.03545. Its last normalization comes before the pooling here instead of
    # after it, which activation maps need to add up to the logits.
    "convnext_tiny": Backbone(
        build=_without("classifier", convnext_tiny, kept=1),
        features=lambda net, images: net.classifier(net.features(images)),
        width=768,
        explained=lambda net: net.classifier,
        head="classifier.2.",
        url=f"{URL}convnext_tiny-983f1562.pth",
        sha256="983f1562536e84ff750a1576fb08e54de751dbf2e17c0d8a4a13704341fdcd3d",
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


def misfit(name: str, state: Mapping[str, Tensor]) -> str:
    """Why tensors, by their names in torchvision's files, are not this architecture's; empty if they are.

    Running counts of batch normalization may be absent: model.onnx leaves them out.
    """
    if _holds(state, name):
        return ""
    fits = [other for other in BACKBONES if _holds(state, other)]
    return f"it is a {fits[0]}: add --model.backbone {fits[0]}" if fits else f"it is not a {name}"


def _holds(state: Mapping[str, Tensor], name: str) -> bool:
    backbone = find_backbone(name)
    with torch.device("meta"):
        wanted = backbone.build().state_dict()
    return _shapes(state, backbone.head) == _shapes(wanted, backbone.head)


def _shapes(state: Mapping[str, Tensor], head: str) -> dict[str, torch.Size]:
    return {
        name: tensor.shape
        for name, tensor in state.items()
        if not name.startswith(head) and not name.endswith("num_batches_tracked")
    }
