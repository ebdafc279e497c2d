"""The wire walker says what `onnx` says of a model, and any bytes at all are answered quickly or refused."""

from __future__ import annotations

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edge_agent.bundle.onnx_wire import ValueType, WireLimits, read_model
from edge_agent.errors import BundleError
from tests.tiny_bundle import tiny_model

MODEL = tiny_model()


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def message(number: int, body: bytes) -> bytes:
    """A length-delimited field."""
    return varint(number << 3 | 2) + varint(len(body)) + body


def test_facts_agree_with_the_onnx_library() -> None:
    model = onnx.load_from_string(MODEL)
    facts = read_model(MODEL)
    assert facts.ir_version == model.ir_version
    assert facts.opsets == {o.domain: o.version for o in model.opset_import}
    assert facts.operators == {(n.domain, n.op_type) for n in model.graph.node}
    assert facts.initializers == {t.name for t in model.graph.initializer}
    assert list(facts.outputs) and set(facts.outputs) == {v.name for v in model.graph.output}
    assert facts.inputs["history"] == ValueType("float32", ("S", 2880, 8))
    assert facts.inputs["origin"] == ValueType("int64", ("S",))
    assert not facts.external


def test_nested_graphs_and_function_bodies_are_seen() -> None:
    leaf = helper.make_graph([helper.make_node("Deep", [], ["x"], domain="d")], "leaf", [], [])
    branch = helper.make_graph([helper.make_node("If", ["c"], ["x"], then_branch=leaf, else_branch=leaf)], "b", [], [])
    graph = helper.make_graph([helper.make_node("Loop", ["n"], ["x"], body=branch)], "g", [], [])
    body = [helper.make_node("Inside", ["x"], ["y"], domain="f")]
    function = helper.make_function("own", "F", ["x"], ["y"], body, [helper.make_opsetid("", 18)])
    facts = read_model(helper.make_model(graph, functions=[function]).SerializeToString())
    assert facts.operators == {("", "Loop"), ("", "If"), ("d", "Deep"), ("f", "Inside")}
    assert facts.functions == {("own", "F")}


def test_inputs_with_an_initializer_are_constants() -> None:
    model = onnx.load_from_string(MODEL)
    model.graph.input.append(helper.make_tensor_value_info("keeps", TensorProto.FLOAT, [7]))
    assert set(read_model(model.SerializeToString()).inputs) == {"history", "site", "origin"}


def test_shapes_may_be_unknown_or_open() -> None:
    open_dimension = helper.make_tensor_value_info("a", TensorProto.FLOAT, [None, 3])
    no_shape = helper.make_tensor_value_info("b", TensorProto.DOUBLE, None)
    graph = helper.make_graph([], "g", [open_dimension, no_shape], [])
    facts = read_model(helper.make_model(graph).SerializeToString())
    assert facts.inputs["a"] == ValueType("float32", (None, 3))
    assert facts.inputs["b"] == ValueType("element type 11", None)


def test_a_field_that_would_silently_replace_another_is_refused() -> None:
    """Two domains in one node: a reader that takes the first sees another operator than one that takes the last."""
    node = message(4, b"Neg") + message(7, b"") + message(7, b"evil")
    with pytest.raises(BundleError, match="twice"):
        read_model(message(7, message(1, node)))
    with pytest.raises(BundleError, match="twice"):
        read_model(MODEL + message(7, b""))


def test_external_data_is_found_by_either_of_its_marks() -> None:
    for tensor in (message(13, message(1, b"location")), varint(14 << 3) + varint(1)):
        facts = read_model(message(7, message(5, message(8, b"w") + tensor)))
        assert facts.external == ["w"]


def test_endless_nesting_is_refused() -> None:
    graph = b""
    for _ in range(200):  # graph > node > attribute > graph
        graph = message(1, message(5, message(6, graph)))
    with pytest.raises(BundleError) as caught:
        read_model(message(7, graph))
    assert caught.value.refused == "oversize"


def test_more_fields_than_a_device_should_read_are_refused() -> None:
    with pytest.raises(BundleError) as caught:
        read_model(message(7, message(1, b"") * 2000), WireLimits(fields=1000))
    assert caught.value.refused == "oversize"


def test_a_very_long_name_is_refused() -> None:
    with pytest.raises(BundleError) as caught:
        read_model(message(7, message(1, message(4, b"A" * 100_000))))
    assert caught.value.refused == "oversize"


@pytest.mark.parametrize(
    "raw",
    [b"\x3a", b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x3a\x05abc", b"\x3b", b"\x80" * 20, b"\x02\x00",
     b"\x38\x01", message(7, message(1, b"\x20\x01")), message(7, message(1, message(4, b"\xff\xfe")))],
)  # fmt: skip
def test_malformed_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(BundleError) as caught:
        read_model(raw)
    assert caught.value.refused == "model"


def read_or_refuse(raw: bytes) -> None:
    try:
        read_model(raw, WireLimits(fields=50_000))
    except BundleError as error:
        assert error.refused in ("model", "oversize")


@given(st.binary(max_size=2000))
@settings(max_examples=300)
def test_random_bytes_are_read_or_refused(raw: bytes) -> None:
    read_or_refuse(raw)
    read_or_refuse(message(7, raw))
    read_or_refuse(message(7, message(1, raw) + message(11, raw)))


@given(st.lists(st.tuples(st.integers(0, len(MODEL) - 1), st.integers(0, 255)), min_size=1, max_size=8), st.data())
@settings(max_examples=300)
def test_mutated_models_are_read_or_refused(changes: list[tuple[int, int]], data: st.DataObject) -> None:
    raw = bytearray(MODEL)
    for at, value in changes:
        raw[at] = value
    cut = data.draw(st.one_of(st.just(len(raw)), st.integers(0, len(raw))))
    read_or_refuse(bytes(raw[:cut]))


@given(st.recursive(st.binary(max_size=12), lambda inner: st.builds(
    lambda parts: b"".join(message(n, body) for n, body in parts),
    st.lists(st.tuples(st.integers(1, 25), inner), max_size=4)), max_leaves=20))  # fmt: skip
@settings(max_examples=300)
def test_any_tree_of_messages_is_read_or_refused(raw: bytes) -> None:
    read_or_refuse(raw)
    read_or_refuse(message(7, raw))
