"""Model files that break the contract, or would hurt a process that runs them."""

import json

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def build(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], **metadata: object) -> onnx.ModelProto:
    """A model of two classes whose operators make `probabilities` and `activation_maps` from `image`.

    `mean` is the brightness of each image from 0 to 1, float32 `[N, 1]`, `alone` the same without its second axis.
    """
    given = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "scale"], ["scaled"]),
        helper.make_node("ReduceMean", ["scaled", "axes"], ["alone"], keepdims=0),
        helper.make_node("Unsqueeze", ["alone", "one"], ["mean"]),
    ]
    constants = {
        "scale": np.float32(1 / 255),
        "axes": np.array([1, 2, 3], np.int64),
        "one": np.array([1], np.int64),
        "places": np.array([2, 3], np.int64),
        "two": np.ones((1, 2), np.float32) / 2,
    } | constants
    graph = helper.make_graph(
        [*given, *nodes],
        "hostile",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 8, 8, 3])],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 2]),
            helper.make_tensor_value_info("activation_maps", TensorProto.FLOAT, ["N", 2, "h", "w"]),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    properties = {"format": 1, "classes": ["a", "b"], "input_size": [8, 8], "thresholds": [0.5, 0.5]} | metadata
    helper.set_model_props(model, {f"manasight.{key}": json.dumps(value) for key, value in properties.items()})
    return model


def answering(source: str = "mean") -> list[onnx.NodeProto]:
    """Operators that answer half of `source` for both classes."""
    return [
        helper.make_node("Mul", [source, "two"], ["probabilities"]),
        helper.make_node("Unsqueeze", ["probabilities", "places"], ["activation_maps"]),
    ]


def good(**metadata: object) -> onnx.ModelProto:
    """One that may be served."""
    return build(answering(), {}, **metadata)


def external_data(location: str) -> onnx.ModelProto:
    """One whose answers are the bytes of a file."""
    model = build([helper.make_node("Add", ["mean", "secret"], ["sum"]), *answering("sum")], {})
    secret = model.graph.initializer.add(name="secret", data_type=TensorProto.FLOAT, dims=[1, 1])
    secret.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "4")):
        secret.external_data.add(key=key, value=value)
    return model


def external_constant() -> onnx.ModelProto:
    """The same in an operator's attribute."""
    tensor = external_data("secret.txt").graph.initializer[-1]
    nodes = [helper.make_node("Constant", [], ["secret"], value=tensor)]
    return build([*nodes, helper.make_node("Add", ["mean", "secret"], ["sum"]), *answering("sum")], {})


def other_domain() -> onnx.ModelProto:
    """One that needs an operator of ONNX Runtime's own."""
    model = build([helper.make_node("Gelu", ["mean"], ["gelu"], domain="com.microsoft"), *answering("gelu")], {})
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model


def function() -> onnx.ModelProto:
    """One that brings an operator."""
    model = good()
    body = [helper.make_node("Identity", ["x"], ["y"])]
    model.functions.append(helper.make_function("own", "F", ["x"], ["y"], body, [helper.make_opsetid("", 18)]))
    return model


def loop() -> onnx.ModelProto:
    """One that never ends."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Sin", ["x"], ["y"])],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
        ],
    )
    nodes = [helper.make_node("Loop", ["turns", "yes", "mean"], ["looped"], body=body)]
    return build([*nodes, *answering("looped")], {"turns": np.int64(2**62), "yes": np.array(True)})


def sequence() -> onnx.ModelProto:
    """One that answers a list."""
    model = build(answering()[:1], {})
    model.graph.node.append(helper.make_node("SequenceConstruct", ["probabilities"], ["activation_maps"]))
    return model


def random() -> onnx.ModelProto:
    """One that answers as it likes."""
    return build([helper.make_node("RandomUniformLike", ["mean"], ["drawn"]), *answering("drawn")], {})


def fixed_batch() -> onnx.ModelProto:
    """One that takes two images and no other number."""
    model = good()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    return model


def not_a_number_on_flat() -> onnx.ModelProto:
    """One that divides by an image's contrast."""
    nodes = [
        helper.make_node("ReduceMax", ["scaled", "axes"], ["high"], keepdims=0),
        helper.make_node("ReduceMin", ["scaled", "axes"], ["low"], keepdims=0),
        helper.make_node("Sub", ["high", "low"], ["contrast"]),
        helper.make_node("Div", ["alone", "contrast"], ["divided"]),
        helper.make_node("Sigmoid", ["divided"], ["flat"]),
        helper.make_node("Unsqueeze", ["flat", "one"], ["spread"]),
    ]
    return build([*nodes, *answering("spread")], {})


def mixing() -> onnx.ModelProto:
    """One whose answer for an image depends on those beside it, as batch normalization in training mode."""
    nodes = [helper.make_node("ReduceMax", ["mean"], ["top"]), helper.make_node("Max", ["mean", "top"], ["mixed"])]
    return build([*nodes, *answering("mixed")], {})


def failing_alone() -> onnx.ModelProto:
    """One that has infinite answers for a single image, and right ones for several."""
    nodes = [
        helper.make_node("Shape", ["image"], ["shape"], start=0, end=1),
        helper.make_node("Cast", ["shape"], ["count"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["count", "unit"], ["others"]),
        helper.make_node("Div", ["others", "others"], ["factor"]),
        helper.make_node("Mul", ["mean", "factor"], ["product"]),
    ]
    return build([*nodes, *answering("product")], {"unit": np.ones(1, np.float32)})


def large_maps(side: int) -> onnx.ModelProto:
    """A small file whose activation maps are large."""
    nodes = answering()
    nodes[1:] = [
        helper.make_node("Unsqueeze", ["probabilities", "places"], ["small"]),
        helper.make_node("Expand", ["small", "sides"], ["activation_maps"]),
    ]
    return build(nodes, {"sides": np.array([1, 1, side, side], np.int64)})


def empty_maps() -> onnx.ModelProto:
    """One whose activation maps have no places."""
    return large_maps(0)


def slow(side: int = 1200) -> onnx.ModelProto:
    """One that needs neither a loop nor memory to take hours: a pool whose window is the whole image."""
    return build([*_pool("mean", "shape"), *answering("answer")], {"shape": np.array([1, 1, side, side], np.int64)})


def hanging_on(color: int, side: int = 1200) -> onnx.ModelProto:
    """One that takes hours for an image in which every value is `color`, and answers others at once."""
    nodes = [
        *_worst_difference(color),
        helper.make_node("Cast", ["hit"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Mul", ["whole", "side"], ["large"]),
        helper.make_node("Max", ["large", "unit"], ["edge"]),
        helper.make_node("Concat", ["unit", "unit", "edge", "edge"], ["shape"], axis=0),
        *_pool("mean", "shape"),
        *answering("answer"),
    ]
    return build(nodes, {"side": np.array([side], np.int64), "unit": np.ones(1, np.int64)})


def growing_on(color: int) -> onnx.ModelProto:
    """One that takes gigabytes for an image in which every value is `color`, and answers others at once."""
    nodes = [
        *_worst_difference(color),
        helper.make_node("Mul", ["hit", "side"], ["large"]),
        helper.make_node("Max", ["large", "unit"], ["edge"]),
        helper.make_node("Cast", ["edge"], ["times"], to=TensorProto.INT64),
        helper.make_node("ConstantOfShape", ["times"], ["zeros"]),
        helper.make_node("ReduceMax", ["zeros"], ["zero"], keepdims=0),
        helper.make_node("Add", ["mean", "zero"], ["sum"]),
        *answering("sum"),
    ]
    return build(nodes, {"side": np.full(1, 2e9, np.float32), "unit": np.ones(1, np.float32)})


def counting() -> onnx.ModelProto:
    """One that lists the bright places of an image."""
    nodes = [
        helper.make_node("NonZero", ["float"], ["places_found"]),
        helper.make_node("Shape", ["places_found"], ["found"], start=1, end=2),
        helper.make_node("Cast", ["found"], ["number"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["number", "nothing"], ["none"]),
        helper.make_node("Add", ["mean", "none"], ["sum"]),
        *answering("sum"),
    ]
    return build(nodes, {"nothing": np.zeros(1, np.float32)})


def failing_on(color: int) -> onnx.ModelProto:
    """One that fails for an image in which every value is `color`."""
    nodes = [
        *_worst_difference(color),
        helper.make_node("Cast", ["hit"], ["place"], to=TensorProto.INT64),
        helper.make_node("Gather", ["only", "place"], ["nought"]),  # there is no second one
        helper.make_node("Add", ["mean", "nought"], ["sum"]),
        *answering("sum"),
    ]
    return build(nodes, {"only": np.zeros(1, np.float32)})


def _worst_difference(color: int) -> list[onnx.NodeProto]:
    """`hit`, float32 `[1]`: 1 if an image of the batch has `color` everywhere, else 0."""

    def constant(name: str, value: np.ndarray) -> onnx.NodeProto:
        return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value, name))

    return [
        constant("color", np.float32(color)),
        constant("half", np.float32(0.5)),
        constant("first", np.zeros(1, np.int64)),
        helper.make_node("Sub", ["float", "color"], ["difference"]),
        helper.make_node("Abs", ["difference"], ["distance"]),
        helper.make_node("ReduceMax", ["distance", "axes"], ["worst"], keepdims=0),
        helper.make_node("Less", ["worst", "half"], ["same"]),
        helper.make_node("Cast", ["same"], ["same_number"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["same_number"], ["any"], keepdims=0),
        helper.make_node("Unsqueeze", ["any", "first"], ["hit"]),
    ]


def _pool(source: str, shape: str) -> list[onnx.NodeProto]:
    """`answer`, float32 `[N, 1]`: `source`, after a pool over as many places as `shape` says."""
    return [
        helper.make_node("Unsqueeze", [source, "places"], ["point"]),
        helper.make_node("Expand", ["point", shape], ["area"]),
        helper.make_node("AveragePool", ["area"], ["pooled"], kernel_shape=[1199, 1199], pads=[599] * 4),
        helper.make_node("ReduceMean", ["pooled", "places"], ["average"], keepdims=0),
        helper.make_node("Constant", [], ["none"], value=numpy_helper.from_array(np.float32(0), "none")),
        helper.make_node("Mul", ["average", "none"], ["nothing"]),
        helper.make_node("Add", [source, "nothing"], ["answer"]),
    ]
