"""Where a network starts: ImageNet's file with its checksum, a model.onnx, and every file that is neither."""

import hashlib
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from torchvision.models import resnet18

from trainer.errors import UserError
from trainer.model import weights
from trainer.model.backbones import BACKBONES
from trainer.model.network import MultiLabelNetwork


@pytest.fixture
def imagenet_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A made-up file in the place and of the form of ImageNet's weights, its checksum the expected one."""
    path = tmp_path / "resnet18-f37072fd.pth"
    torch.manual_seed(1)
    torch.save(resnet18(weights=None).state_dict(), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setitem(BACKBONES, "resnet18", BACKBONES["resnet18"]._replace(sha256=digest))
    return path


@pytest.mark.parametrize("named", ["file", "folder"])
def test_imagenet_weights_are_found_where_the_variable_says(imagenet_copy, monkeypatch, named):
    monkeypatch.setenv("MANASIGHT_WEIGHTS", str(imagenet_copy if named == "file" else imagenet_copy.parent))
    state = weights.pretrained_state("imagenet")
    network = MultiLabelNetwork(3)
    lacking, unknown = network.load_state_dict(state, strict=False)
    assert sorted(lacking) == ["head.bias", "head.weight", "mean", "std"]
    assert unknown == []
    expected = torch.load(imagenet_copy)["layer4.1.conv2.weight"]
    torch.testing.assert_close(network.backbone.layer4[1].conv2.weight.data, expected)


def test_imagenet_weights_are_found_in_torchs_cache(imagenet_copy, monkeypatch, tmp_path):
    monkeypatch.delenv("MANASIGHT_WEIGHTS", raising=False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    cached = tmp_path / "hub" / "checkpoints" / imagenet_copy.name
    cached.parent.mkdir(parents=True)
    imagenet_copy.rename(cached)
    assert weights.imagenet_file(BACKBONES["resnet18"]) == cached


def test_a_damaged_file_is_refused(imagenet_copy, monkeypatch):
    damaged = bytearray(imagenet_copy.read_bytes())
    damaged[1000] ^= 1
    imagenet_copy.write_bytes(damaged)
    monkeypatch.setenv("MANASIGHT_WEIGHTS", str(imagenet_copy))
    with pytest.raises(UserError, match="its SHA-256 is"):
        weights.pretrained_state("imagenet")


def test_without_network_the_sentence_says_what_to_set(monkeypatch, tmp_path):
    monkeypatch.delenv("MANASIGHT_WEIGHTS", raising=False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def unreachable(*_: object, **__: object) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    with pytest.raises(UserError, match=r"Name or service not known.*set MANASIGHT_WEIGHTS"):
        weights.pretrained_state("imagenet")


def test_a_variable_that_names_nothing_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("MANASIGHT_WEIGHTS", str(tmp_path / "nothing.pth"))
    with pytest.raises(UserError, match="MANASIGHT_WEIGHTS names"):
        weights.imagenet_file(BACKBONES["resnet18"])


@pytest.mark.parametrize("name", ["notes.pth", "notes.onnx"])
def test_a_file_that_holds_no_weights_is_refused(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"no weights at all")
    with pytest.raises(UserError, match="is not a"):
        weights.pretrained_state(str(path))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="there are no weights at"):
        weights.pretrained_state(str(tmp_path / "none.onnx"))
