"""An architecture is one entry of a table: nothing else names it."""

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torchvision.models.resnet import BasicBlock, ResNet

import trainer
from trainer.errors import UserError
from trainer.model.backbones import BACKBONES, _resnet
from trainer.model.classifier import MultiLabelClassifier
from trainer.model.network import MultiLabelNetwork
from trainer.model.onnx_file import Metadata, OnnxClassifier, build
from trainer.model.weights import pretrained_state


@pytest.fixture
def thin(monkeypatch):
    """A made-up architecture with half of ResNet18's layers and a quarter of its channels."""

    def thin(weights: None) -> ResNet:
        net = ResNet(BasicBlock, [1, 1, 1, 1])
        net.layer4 = torch.nn.Sequential(torch.nn.Conv2d(256, 128, 3, 2, 1))
        return net

    monkeypatch.setitem(BACKBONES, "thin", BACKBONES["resnet18"]._replace(build=_resnet(thin), width=128))


def test_another_entry_can_be_trained_exported_and_started_from(thin, tmp_path):
    model = MultiLabelClassifier(["a", "b", "c"], backbone="thin", weights="none").eval()
    metadata = Metadata(["a", "b", "c"], (64, 48), [0.5] * 3, "run", "commit", "data", {}, model.hparams["backbone"])
    path = tmp_path / "model.onnx"
    onnx.save(build(model.network, metadata), path)
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 48, 3), dtype=np.uint8)

    exported = OnnxClassifier(path)
    with torch.no_grad():
        expected = model(torch.from_numpy(images)).sigmoid()
    np.testing.assert_allclose(exported(images), expected, atol=0.01)
    assert exported.metadata.architecture == "thin"

    again = MultiLabelNetwork(3, backbone="thin")
    lacking, unknown = again.load_state_dict(pretrained_state(str(path), "thin"), strict=False)
    assert (sorted(name for name in lacking if "num_batches" not in name), unknown) == (
        ["head.bias", "head.weight"],
        [],
    )


def test_a_backbone_that_there_is_not_is_refused():
    with pytest.raises(UserError, match="there is no backbone 'resnet99'; choose resnet18"):
        MultiLabelClassifier(["a", "b"], backbone="resnet99")


def test_only_the_table_names_an_architecture():
    folder = Path(trainer.__file__).parent
    named = {path.name for path in folder.rglob("*.py") if re.search("resnet", path.read_text(), re.IGNORECASE)}
    assert named == {"backbones.py"}
