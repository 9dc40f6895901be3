"""Finds the weights that a network starts from: ImageNet's, a .pth file's of torchvision, or a model.onnx's."""

import hashlib
import os
from pathlib import Path
from urllib.error import URLError

import onnx
import torch
from torch import Tensor

from trainer.errors import UserError

IMAGENET_FILE = "resnet18-f37072fd.pth"
IMAGENET_URL = f"https://download.pytorch.org/models/{IMAGENET_FILE}"
IMAGENET_SHA256 = "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec"


def pretrained_state(weights: str) -> dict[str, Tensor]:
    """What `MultiLabelResNet` can load: the backbone's tensors and, if the file carries it, its normalisation.

    Args:
        weights: `imagenet`, a `.pth` file of torchvision's ResNet18, or a `model.onnx` that Manasight exported.

    Raises:
        UserError: if there is no such file, it is none of these, or it is not what its checksum promises.
    """
    if weights == "imagenet":
        state = _load(imagenet_file())
        return {f"backbone.{name}": tensor for name, tensor in state.items() if not name.startswith("fc.")}
    path = Path(weights)
    if not path.is_file():
        here = "" if path.is_absolute() else f" below '{Path.cwd()}'"
        raise UserError(f"there are no weights at '{path}'{here}; give imagenet, none, a .pth file or a model.onnx")
    if path.suffix == ".onnx":
        state = onnx_state(path)
        return {name: tensor for name, tensor in state.items() if not name.startswith("head.")}
    return {f"backbone.{name}": tensor for name, tensor in _load(path).items() if not name.startswith("fc.")}


def imagenet_file() -> Path:
    """The file of torchvision's ImageNet weights, its SHA-256 checked.

    It is looked for where `MANASIGHT_WEIGHTS` says (a file or a folder that holds it), else in torch's cache, else
    downloaded into that cache.

    Raises:
        UserError: if it cannot be had or is damaged.
    """
    named = os.environ.get("MANASIGHT_WEIGHTS")
    if named:
        path = Path(named) / IMAGENET_FILE if Path(named).is_dir() else Path(named)
        if not path.is_file():
            raise UserError(f"MANASIGHT_WEIGHTS names '{path}', which does not exist; put {IMAGENET_FILE} there")
    else:
        path = Path(torch.hub.get_dir()) / "checkpoints" / IMAGENET_FILE
        if not path.is_file():
            _download(path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != IMAGENET_SHA256:
        raise UserError(f"'{path}' is not {IMAGENET_FILE}: its SHA-256 is {digest[:12]}…; remove it and try again")
    return path


def onnx_state(path: Path) -> dict[str, Tensor]:
    """The network's tensors inside a `model.onnx`, in float32, by their names in `MultiLabelResNet`.

    Raises:
        UserError: if the file is no such model.
    """
    try:
        model = onnx.load(path)
    except (OSError, MemoryError):
        raise  # it may well be a model
    except Exception as error:  # protobuf's DecodeError has no public name
        raise UserError(f"'{path}' is no ONNX model; give one that `manasight export` wrote") from error
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    state = {
        name.removeprefix("network."): torch.from_numpy(array.astype("float32"))
        for name, array in tensors.items()
        if name.startswith("network.")
    }
    if "backbone.conv1.weight" not in state:
        raise UserError(f"'{path}' holds no ResNet18 of Manasight's; give a model.onnx that `manasight export` wrote")
    return state


def _download(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(IMAGENET_URL, str(path), hash_prefix=IMAGENET_SHA256)
    except (URLError, OSError, RuntimeError) as error:
        reason = getattr(error, "reason", error)
        starter = " or models/starter/model.onnx" * Path("models/starter/model.onnx").is_file()  # in a checkout
        raise UserError(
            f"cannot download the ImageNet weights ({reason}); set MANASIGHT_WEIGHTS to a copy "
            f"of {IMAGENET_URL}, or start without: --model.weights none{starter}"
        ) from error


def _load(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, MemoryError):
        raise  # it may well be a file of weights
    except Exception as error:  # zip, pickle and tar readers each raise their own
        raise UserError(f"'{path}' is no file of PyTorch weights; give torchvision's ResNet18 as .pth") from error
    if not isinstance(state, dict) or "conv1.weight" not in state:
        raise UserError(f"'{path}' does not hold a ResNet18; give torchvision's ResNet18 as .pth")
    return state
