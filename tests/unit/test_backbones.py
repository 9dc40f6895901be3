"""An architecture is one entry of a table: nothing else names it."""

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from captum.attr import LayerGradCam
from torchvision.models import get_model, get_model_weights

import trainer
from trainer.errors import UserError
from trainer.model.backbones import BACKBONES
from trainer.model.classifier import MultiLabelClassifier
from trainer.model.network import MultiLabelNetwork
from trainer.model.onnx_file import Metadata, OnnxClassifier, build
from trainer.model.weights import pretrained_state


@pytest.mark.parametrize("name", BACKBONES)
def test_every_architecture_can_be_trained_exported_explained_and_started_from(name, tmp_path):
    torch.manual_seed(0)
    model = MultiLabelClassifier(["a", "b", "c"], backbone=name, weights="none")
    images = torch.randint(0, 256, (4, 64, 48, 3), dtype=torch.uint8)
    model(images).sum().backward()
    assert all(weight.grad is not None for weight in model.parameters())

    model.eval()
    metadata = Metadata(["a", "b", "c"], (64, 48), [0.5] * 3, "run", "commit", "data", {}, name)
    path = tmp_path / "model.onnx"
    onnx.save(build(model.network, metadata), path)
    exported = OnnxClassifier(path)
    with torch.no_grad():
        expected = model(images).sigmoid()
    np.testing.assert_allclose(exported(images.numpy()), expected, atol=0.01)
    assert exported.metadata.architecture == name

    # The map's mean and the bias are the logit, and Grad-CAM of the explained layer is the same map up to a factor.
    maps = exported.activation_maps(images.numpy())
    logits = maps.mean((2, 3)) + model.network.head.bias.detach().numpy()
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), exported(images.numpy()), atol=0.01)
    layer = model.network.architecture.explained(model.network.backbone)
    grad_cam = LayerGradCam(model.network, layer).attribute(images[:1].float(), target=1)[0, 0].detach().numpy()
    assert np.corrcoef(grad_cam.ravel(), maps[0, 1].ravel())[0, 1] > 0.98

    again = MultiLabelNetwork(3, backbone=name)
    lacking, unknown = again.load_state_dict(pretrained_state(str(path), name), strict=False)
    assert [key for key in lacking if "num_batches" not in key] == ["head.weight", "head.bias"]
    assert unknown == []


@pytest.mark.parametrize("name", BACKBONES)
def test_torchvisions_file_fits(name, tmp_path):
    torch.manual_seed(1)
    theirs = get_model(name).state_dict()
    path = tmp_path / "weights.pth"
    torch.save(theirs, path)

    network = MultiLabelNetwork(3, backbone=name)
    lacking, unknown = network.load_state_dict(pretrained_state(str(path), name), strict=False)

    assert lacking == ["mean", "std", "head.weight", "head.bias"]
    assert unknown == []
    for key, tensor in network.backbone.state_dict().items():
        torch.testing.assert_close(tensor, theirs[key])


@pytest.mark.parametrize("name", BACKBONES)
def test_its_weights_are_those_that_torchvision_names(name):
    backbone = BACKBONES[name]
    assert backbone.url in {weights.url for weights in get_model_weights(name)}
    (short,) = re.findall(r"-([0-9a-f]{8})\.pth$", backbone.url)
    assert backbone.sha256.startswith(short)
    assert len(backbone.sha256) == 64


@pytest.mark.parametrize(
    ("file", "asked"), [("resnet34", "resnet18"), ("resnet18", "resnet34"), ("resnet50", "resnet18")]
)
def test_weights_of_another_architecture_are_named(file, asked, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(get_model(file).state_dict(), path)
    with pytest.raises(UserError, match=f"--model.backbone {asked}: it is a {file}: add --model.backbone {file}"):
        pretrained_state(str(path), asked)


def test_weights_of_no_architecture_are_named(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(torch.nn.Linear(2, 2).state_dict(), path)
    with pytest.raises(UserError, match="it is not a resnet18"):
        pretrained_state(str(path))


def test_a_backbone_that_there_is_not_is_refused():
    with pytest.raises(UserError, match="there is no backbone 'resnet99'; choose resnet18"):
        MultiLabelClassifier(["a", "b"], backbone="resnet99")


def test_only_the_table_names_an_architecture():
    folder = Path(trainer.__file__).parent
    names = re.compile("|".join(["resnet", *BACKBONES]), re.IGNORECASE)
    assert {path.name for path in folder.rglob("*.py") if names.search(path.read_text())} == {"backbones.py"}
