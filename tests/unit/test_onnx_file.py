"""model.onnx: the same answers as torch, everything a prediction needs inside, nothing of the machine that made it."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from trainer.errors import UserError
from trainer.model import weights
from trainer.model.network import ExportedGraph, MultiLabelNetwork
from trainer.model.onnx_file import Metadata, OnnxClassifier, batched, build, parse_metadata, read_metadata

METADATA = Metadata(
    classes=["blue", "red", "square"],
    input_size=(96, 64),
    thresholds=[0.5, 0.25, 0.75],
    run_id="0123",
    git_commit="4567",
    data_fingerprint="89ab",
    metrics={"test": {"macro_f1": 0.9}},
)


@pytest.fixture(scope="module")
def network() -> MultiLabelNetwork:
    torch.manual_seed(0)
    network = MultiLabelNetwork(3)
    for _ in range(3):  # statistics of its own, so that a forgotten batch normalisation would show
        network(torch.randint(0, 256, (8, 96, 64, 3), dtype=torch.uint8))
    network.mean.copy_(torch.tensor([0.4, 0.5, 0.6]))
    return network.eval()


@pytest.fixture(scope="module")
def path(network: MultiLabelNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    onnx.save(build(network, METADATA), path)
    return path


@pytest.mark.parametrize("count", [1, 5])
def test_it_answers_as_torch_does(network, path, count):
    images = np.random.default_rng(0).integers(0, 256, (count, 96, 64, 3), dtype=np.uint8)
    with torch.inference_mode():
        probabilities, maps = ExportedGraph(network)(torch.from_numpy(images))
    model = OnnxClassifier(path)
    np.testing.assert_allclose(model(images), probabilities, atol=1e-3)
    found = model.activation_maps(images)
    assert found.shape == (count, 3, 3, 2)
    np.testing.assert_allclose(found, maps, atol=0.01)


def test_it_carries_all_that_a_reader_needs(path):
    assert read_metadata(path) == METADATA
    model = onnx.load(path)
    assert [item.name for item in model.graph.input] == ["image"]
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    shape = [d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    assert shape == ["N", 96, 64, 3]  # height before width: portrait stays portrait
    assert [item.name for item in model.graph.output] == ["probabilities", "activation_maps"]


def test_it_is_compact_and_in_one_file(path):
    assert path.stat().st_size < 23e6
    assert [entry.name for entry in path.parent.iterdir()] == ["model.onnx"]


def test_it_names_nothing_of_the_machine_that_made_it(path):
    content = path.read_bytes()
    for word in (str(Path(__file__).resolve().parents[2]), str(Path(torch.__file__).parent), "site-packages"):
        assert word.encode() not in content


def test_training_can_start_from_it(network, path):
    state = weights.pretrained_state(str(path))
    other = MultiLabelNetwork(7)
    lacking, unknown = other.load_state_dict(state, strict=False)
    assert {name for name in lacking if "num_batches" not in name} == {"head.weight", "head.bias"}
    assert unknown == []
    images = torch.randint(0, 256, (2, 96, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        torch.testing.assert_close(other.eval().features(images), network.features(images), atol=0.02, rtol=0.02)


@pytest.mark.parametrize(
    ("properties", "message"),
    [({}, "has no manasight.format"), ({"manasight.format": "3"}, "format 3; this version reads formats 1 and 2")],
)
def test_an_unknown_format_is_refused(properties, message):
    with pytest.raises(UserError, match=message):
        parse_metadata(properties, Path("model.onnx"))


def test_a_file_that_is_no_model_is_refused(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"no model at all")
    with pytest.raises(UserError, match="is not an ONNX model"):
        OnnxClassifier(tmp_path / "model.onnx")


def test_batches_keep_order_and_size():
    images = [np.full((2, 2, 3), number, np.uint8) for number in range(7)]
    stacked = list(batched(images, 3))
    assert [len(batch) for batch in stacked] == [3, 3, 1]
    assert np.concatenate(stacked)[:, 0, 0, 0].tolist() == list(range(7))
