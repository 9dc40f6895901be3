"""The walk through a model file's bytes: linear, and never more trusting than the protobuf library."""

import time
from contextlib import suppress

import hostile_models as hostile
import onnx
import pytest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from app.serving.onnx_wire import MAX_FIELDS, walk
from app.settings import STARTER
from contract.model import ModelError

SAMPLES = [
    model.SerializeToString()
    for model in (
        hostile.good(),
        hostile.external_data("secret.txt"),
        hostile.external_constant(),
        hostile.other_domain(),
        hostile.function(),
        hostile.loop(),
        hostile.sequence(),
    )
]


def dangerous(model: onnx.ModelProto) -> bool:
    """Whether a parsed model has what must never reach ONNX Runtime."""
    tensors = list(model.graph.initializer)
    attributes = [attribute for node in model.graph.node for attribute in node.attribute]
    tensors += [attribute.t for attribute in attributes] + [t for a in attributes for t in a.tensors]
    return bool(
        any(tensor.data_location or tensor.external_data for tensor in tensors)
        or any(attribute.HasField("g") or attribute.graphs for attribute in attributes)
        or any(node.domain not in ("", "ai.onnx") or node.op_type == "Loop" for node in model.graph.node)
        or model.functions
        or model.training_info
        or model.graph.sparse_initializer
    )


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A model file with bytes changed, cut out, repeated or taken from another file."""
    data = bytearray(draw(st.sampled_from(SAMPLES)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.sampled_from(["byte", "cut", "drop", "repeat", "insert", "other"])):
            case "byte":
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case "cut":
                del data[at:]
            case "drop":
                del data[at : at + draw(st.integers(1, 32))]
            case "repeat":
                data[at:at] = data[at : at + draw(st.integers(1, 64))] * draw(st.integers(1, 8))
            case "insert":
                data[at:at] = draw(st.binary(max_size=16))
            case "other":  # of a repeated message protobuf merges the parts
                data += draw(st.sampled_from(SAMPLES))
    return bytes(data)


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mutated() | st.binary(max_size=60))
@example(SAMPLES[0] + SAMPLES[1])
@example(b"\x3a\x80\x80\x80\x80\x80\x00")
def test_what_the_walk_lets_through_is_harmless_however_protobuf_reads_it(data: bytes) -> None:
    started = time.process_time()
    accepted = False
    with suppress(ModelError):
        walk(data)
        accepted = True
    assert time.process_time() - started < 1
    if accepted:
        with suppress(DecodeError):
            assert not dangerous(onnx.ModelProto.FromString(data))


@pytest.mark.parametrize("index", range(1, len(SAMPLES)))
def test_what_is_dangerous_is_refused(index: int) -> None:
    assert dangerous(onnx.ModelProto.FromString(SAMPLES[index])) or "Sequence" in str(SAMPLES[index])
    with pytest.raises(ModelError):
        walk(SAMPLES[index])


def test_an_honest_file_is_walked_in_no_time_and_its_properties_are_found() -> None:
    data = STARTER.read_bytes()
    started = time.process_time()

    found = walk(data)

    assert time.process_time() - started < 0.2
    assert found.properties["manasight.format"] == "1"
    assert found.nodes > 50


@pytest.mark.parametrize("piece", [b"\x08\x00", b"\x3a\x00", b"\x3a\x02\x0a\x00"], ids=["numbers", "graphs", "nodes"])
def test_a_file_of_countless_fields_is_given_up(piece: bytes) -> None:
    data = piece * (MAX_FIELDS + 1)
    started = time.process_time()

    with pytest.raises(ModelError, match="more than"):
        walk(data)
    assert time.process_time() - started < 3


def test_a_shape_that_promises_more_than_the_file_holds_is_refused() -> None:
    model = hostile.good()
    model.graph.initializer[0].dims.extend([100_000, 100_000])

    with pytest.raises(ModelError, match="shape does not fit"):
        walk(model.SerializeToString())


def test_a_property_given_twice_is_refused() -> None:
    model = hostile.good()
    model.metadata_props.add(key="manasight.format", value="1")

    with pytest.raises(ModelError, match=r"manasight\.format twice"):
        walk(model.SerializeToString())


def test_a_size_that_depends_on_what_an_image_shows_is_refused() -> None:
    for model in (hostile.hanging_on(7), hostile.growing_on(7), hostile.counting()):
        with pytest.raises(ModelError, match="depends on what an image shows"):
            walk(model.SerializeToString())


def test_sizes_that_depend_on_the_size_of_the_batch_are_allowed() -> None:
    walk(hostile.failing_alone().SerializeToString())
    walk(hostile.large_maps(30).SerializeToString())
