"""Finds the weights that a network starts from: ImageNet's, a .pth file's of torchvision, or a model.onnx's."""

import hashlib
import os
from pathlib import Path
from urllib.error import URLError

import onnx
import torch
from torch import Tensor

from trainer.errors import UnavailableError, UserError
from trainer.files import reachable
from trainer.model.backbones import DEFAULT, Backbone, find_backbone, misfit
from trainer.paths import STARTER


def pretrained_state(weights: str, backbone: str = DEFAULT) -> dict[str, Tensor]:
    """What `MultiLabelNetwork` can load: the backbone's tensors and, if the file has it, its normalization.

    Args:
        weights: `imagenet`, a `.pth` file of torchvision's, or a `model.onnx` that Manasight exported.
        backbone: whose weights they are.

    Raises:
        UserError: if there is no such file, it is none of these, or its checksum is wrong.
    """
    architecture = find_backbone(backbone)
    path = imagenet_file(architecture) if weights == "imagenet" else Path(weights)
    if not reachable(path).is_file():
        here = "" if path.is_absolute() else f" below '{Path.cwd()}'"
        raise UserError(f"there are no weights at '{path}'{here}; give imagenet, none, a .pth file or a model.onnx")
    if path.suffix == ".onnx":
        state = onnx_state(path, backbone)
        return {name: tensor for name, tensor in state.items() if not name.startswith("head.")}
    state = _load(path, backbone)
    return {f"backbone.{name}": tensor for name, tensor in state.items() if not name.startswith(architecture.head)}


def imagenet_file(architecture: Backbone) -> Path:
    """The file of torchvision's ImageNet weights, its SHA-256 checked.

    It is looked for where `MANASIGHT_WEIGHTS` says (a file or a folder that contains it), else in torch's cache, else
    downloaded into that cache.

    Raises:
        UserError: if it cannot be found or downloaded, or is damaged.
    """
    name = architecture.url.rpartition("/")[2]
    named = os.environ.get("MANASIGHT_WEIGHTS")
    if named:
        path = Path(named) / name if Path(named).is_dir() else Path(named)
        if not reachable(path).is_file():
            raise UserError(f"MANASIGHT_WEIGHTS names '{path}', which does not exist; put {name} there")
    else:
        path = Path(torch.hub.get_dir()) / "checkpoints" / name
        if not reachable(path).is_file():
            _download(architecture, path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != architecture.sha256:
        raise UserError(f"'{path}' is not {name}: its SHA-256 is {digest[:12]}…; remove it and try again")
    return path


def onnx_state(path: Path, backbone: str = DEFAULT) -> dict[str, Tensor]:
    """The network's tensors inside a `model.onnx`, in float32, by their names in `MultiLabelNetwork`.

    Raises:
        UserError: if the file is not such a model.
    """
    try:
        model = onnx.load(path)
    except (OSError, MemoryError):
        raise  # it may well be a model
    except Exception as error:  # protobuf's DecodeError has no public name
        raise UserError(f"'{path}' is not an ONNX model; give one that `manasight export` wrote") from error
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    state = {
        name.removeprefix("network."): torch.from_numpy(array.astype("float32"))
        for name, array in tensors.items()
        if name.startswith("network.")
    }
    own = {name.removeprefix("backbone."): tensor for name, tensor in state.items() if name.startswith("backbone.")}
    if not own:
        raise UserError(f"'{path}' is not a model of Manasight's; give a model.onnx that `manasight export` wrote")
    if why := misfit(backbone, own):
        raise UserError(f"'{path}' does not fit --model.backbone {backbone}: {why}")
    return state


def _download(architecture: Backbone, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(architecture.url, str(path), hash_prefix=architecture.sha256)
    except (URLError, OSError, RuntimeError) as error:
        reason = getattr(error, "reason", error)
        starter = f" or {STARTER}" * STARTER.is_file()
        raise UnavailableError(
            f"cannot download the ImageNet weights ({reason}); set MANASIGHT_WEIGHTS to a copy of {architecture.url}, "
            f"or start without: --model.weights none{starter}"
        ) from error


def _load(path: Path, backbone: str) -> dict[str, Tensor]:
    remedy = f"give torchvision's {backbone} as .pth"
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, MemoryError):
        raise  # it may well be a file of weights
    except Exception as error:  # zip, pickle and tar readers each raise their own
        raise UserError(f"'{path}' is not a file of PyTorch weights; {remedy}") from error
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise UserError(f"'{path}' does not contain a network's tensors; {remedy}")
    if why := misfit(backbone, state):
        raise UserError(f"'{path}' does not fit --model.backbone {backbone}: {why}")
    return state
