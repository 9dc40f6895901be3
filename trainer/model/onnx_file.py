"""Writes and reads `model.onnx`, the one file that the trainer and everything that predicts share."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import onnxscript
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxscript import ir

from contract.model import FORMAT, PREFIX, ModelError
from contract.model import read_metadata as read_properties
from trainer.errors import UserError
from trainer.model.backbones import DEFAULT
from trainer.model.network import ExportedGraph, MultiLabelNetwork
from trainer.resources import cpu_cores


@dataclass
class Metadata:
    """What `model.onnx` says about itself; each field is stored as JSON under `manasight.<field>`.

    Attributes:
        classes: label names in output order.
        input_size: height and width of the input in pixels.
        thresholds: per class the probability from which it counts as a label.
        run_id: MLflow run that trained it.
        git_commit: code that trained it.
        data_fingerprint: hash of the data it was trained and tested on.
        metrics: split → figure → value.
        architecture: the backbone's name; not in files of older versions, which knew one.
        letterbox: whether images keep their proportions within the input; older files stretch them.
        separator: what joins labels in tables that are written with the model; in none of its classes.
        format: version of this contract.
    """

    classes: list[str]
    input_size: tuple[int, int]
    thresholds: list[float]
    run_id: str
    git_commit: str
    data_fingerprint: str
    metrics: dict[str, dict[str, float]]
    architecture: str = DEFAULT
    letterbox: bool = False
    separator: str = "-"
    format: int = FORMAT


def build(network: MultiLabelNetwork, metadata: Metadata, temperature: float = 1.0) -> onnx.ModelProto:
    """Turn a network into `model.onnx`'s graph: float16 weights, float32 arithmetic, metadata.

    Batch normalization is left as it was trained, so that training can start from the file; ONNX Runtime folds it into
    the convolutions when it loads.

    Args:
        network: the trained network.
        metadata: the file's metadata.
        temperature: what its logits are divided by.
    """
    example = torch.zeros(2, *metadata.input_size, 3, dtype=torch.uint8)
    program = torch.onnx.export(
        ExportedGraph(network, temperature).eval(),
        (example,),
        dynamo=True,
        optimize=False,
        verbose=False,
        input_names=["image"],
        output_names=["probabilities", "activation_maps"],
        dynamic_shapes={"image": {0: torch.export.Dim("N", min=1)}},
    )
    # Only these two steps of the optimizer: the whole of it folds batch normalization away.
    onnxscript.optimizer.fold_constants(program.model, should_fold=_keeps_weights)
    onnxscript.optimizer.remove_unused_nodes(program.model)
    model = program.model_proto
    _store_in_half(model.graph)
    _strip(model)
    helper.set_model_props(model, {PREFIX + name: json.dumps(value) for name, value in asdict(metadata).items()})
    onnx.checker.check_model(model, full_check=True)
    return model


def _keeps_weights(node: ir.Node) -> bool | None:
    """False for what would replace a weight, e.g. by its transpose: training starts from weights found by name."""
    return (
        False if any(value is not None and (value.name or "").startswith("network.") for value in node.inputs) else None
    )


def _store_in_half(graph: onnx.GraphProto) -> None:
    """Store matrices and kernels as float16 behind a Cast to float32. ONNX Runtime evaluates the Cast once, at load."""
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) < 2:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), name))
        for node in graph.node:
            for index, used in enumerate(node.input):
                if used == name:
                    node.input[index] = f"{name}.float32"
        casts.append(helper.make_node("Cast", [name], [f"{name}.float32"], f"{name}.cast", to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    # What the exporter knew of the renamed values no longer holds; the checker infers it again.
    del graph.value_info[:]


def _strip(model: onnx.ModelProto) -> None:
    """Drop the exporter's notes: they hold stack traces with paths of the machine that trained."""
    for part in (model, model.graph, *model.graph.node, *model.graph.input, *model.graph.output):
        del part.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""


def separator_for(classes: Sequence[str], wanted: str) -> str:
    """What joins labels in a table: `wanted`, or if a class contains it, another sign that none has."""
    signs = (wanted, "-", ";", "|", "+", "~")
    return next((sign for sign in signs if sign and not any(sign in name for name in classes)), "; ")


def read_metadata(path: Path) -> Metadata:
    """The metadata of a `model.onnx`.

    Raises:
        UserError: if it is not an ONNX file, not Manasight's, or of a format that this version does not know.
    """
    try:
        properties = {item.key: item.value for item in onnx.load(path, load_external_data=False).metadata_props}
    except FileNotFoundError as error:
        raise UserError(f"there is no model at '{path}'; export one with `manasight export`") from error
    except Exception as error:  # protobuf's DecodeError has no public name
        raise UserError(f"'{path}' is not an ONNX model; give one that `manasight export` wrote") from error
    return parse_metadata(properties, path)


def parse_metadata(properties: dict[str, str], path: Path) -> Metadata:
    """Metadata from an ONNX file's properties.

    Raises:
        UserError: if they are not Manasight's, of a format that this version does not know, or cannot be served.
    """
    try:
        values = read_properties(properties, f"'{path}'")
    except ModelError as error:
        raise UserError(str(error)) from error
    values["input_size"] = tuple(values["input_size"])
    unknown = {"run_id": "", "git_commit": "", "data_fingerprint": "", "metrics": {}}
    return Metadata(**unknown | values)


class OnnxClassifier:
    """A `model.onnx`, ready to predict.

    Attributes:
        metadata: the file's metadata.
    """

    def __init__(self, path: Path) -> None:
        """Load a file.

        Raises:
            UserError: if it is not a model of Manasight's.
        """
        self.metadata = read_metadata(path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = cpu_cores()
        options.log_severity_level = 4  # what goes wrong is raised; ONNX Runtime need not print it as well
        try:
            self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime raises many unrelated classes
            reason = str(error).splitlines()[0]
            raise UserError(f"'{path}' cannot be run: {reason}; export the model again") from error

    def check(self) -> None:
        """Try the file on one gray image.

        Raises:
            UserError: if it does not answer as the format says.
        """
        classes = len(self.metadata.classes)
        image = np.full((1, *self.metadata.input_size, 3), 127, np.uint8)
        try:
            probabilities, maps = self.session.run(["probabilities", "activation_maps"], {"image": image})
        except Exception as error:  # ONNX Runtime raises many unrelated classes
            raise UserError(f"a test inference failed: {str(error).splitlines()[0]}") from error
        if probabilities.shape != (1, classes) or maps.ndim != 4 or maps.shape[:2] != (1, classes):
            found = f"{list(probabilities.shape)} and {list(maps.shape)}"
            raise UserError(f"a test inference gave shapes {found}, which do not fit {classes} classes")
        if not ((probabilities >= 0) & (probabilities <= 1)).all() or not np.isfinite(maps).all():
            raise UserError("a test inference gave numbers that are not probabilities")

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Probabilities float32 `[N, C]` of images uint8 `[N, H, W, 3]` of the file's input size."""
        return self.session.run(["probabilities"], {"image": images})[0]

    def activation_maps(self, images: np.ndarray) -> np.ndarray:
        """Class activation maps float32 `[N, C, h, w]` of images uint8 `[N, H, W, 3]`."""
        return self.session.run(["activation_maps"], {"image": images})[0]

    def predict(self, batches: Iterable[np.ndarray]) -> np.ndarray:
        """Probabilities float32 `[N, C]` of all images of several batches."""
        return np.concatenate([self(batch) for batch in batches])


def batched(images: Iterable[np.ndarray], size: int = 16) -> Iterable[np.ndarray]:
    """Stack images uint8 `[H, W, 3]` into batches `[n, H, W, 3]` of at most `size`."""
    batch: list[np.ndarray] = []
    for image in images:
        batch.append(image)
        if len(batch) == size:
            yield np.stack(batch)
            batch = []
    if batch:
        yield np.stack(batch)


def decided(probabilities: np.ndarray, thresholds: Sequence[float]) -> np.ndarray:
    """bool `[N, C]`: which labels hold, given probabilities `[N, C]` and thresholds `[C]`."""
    return probabilities >= np.asarray(thresholds, dtype=np.float32)
