"""The graph itself is looked at: its inputs and outputs, its operators, and whether anything lies outside the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from edge_agent.bundle.reader import read_bundle
from tests.bundle.crafted import refused, with_model
from tests.tiny_bundle import make_tiny_bundle, tiny_model


def _custom(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain = "evil.custom"
    model.opset_import.append(helper.make_opsetid("evil.custom", 1))


def _contributed(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain = "com.microsoft"
    model.graph.node[0].op_type = "EPContext"


def _nested(model: onnx.ModelProto) -> None:
    inner = helper.make_graph([helper.make_node("Steal", [], ["x"], domain="evil")], "inner", [], [])
    model.graph.node.append(helper.make_node("If", ["flag"], ["x"], then_branch=inner, else_branch=inner))


def _repeating(operator: str) -> Any:
    """The operator in a branch, where it is easily overlooked."""

    def change(model: onnx.ModelProto) -> None:
        inner = helper.make_graph([helper.make_node(operator, ["x"], ["y"])], "inner", [], [])
        model.graph.node.append(helper.make_node("If", ["flag"], ["y"], then_branch=inner, else_branch=inner))

    return change


def _function(model: onnx.ModelProto) -> None:
    made = helper.make_function(
        "evil", "F", ["x"], ["y"], [helper.make_node("Neg", ["x"], ["y"])], [helper.make_opsetid("", 18)]
    )
    model.functions.append(made)


def _function_body(model: onnx.ModelProto) -> None:
    body = [helper.make_node("Steal", ["x"], ["y"], domain="evil")]
    model.functions.append(helper.make_function("", "F", ["x"], ["y"], body, [helper.make_opsetid("", 18)]))


def _external(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


def _external_in_attribute(model: onnx.ModelProto) -> None:
    tensor = TensorProto(dims=[1], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="weights.bin")
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor))


def _external_in_sparse(model: onnx.ModelProto) -> None:
    model.graph.sparse_initializer.add().values.external_data.add(key="location", value="weights.bin")


def _training(model: onnx.ModelProto) -> None:
    model.training_info.add().algorithm.name = "adam"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (_custom, "operator"), (_contributed, "operator"), (_nested, "operator"), (_function, "operator"),
        (_function_body, "operator"), (_repeating("Loop"), "operator"), (_repeating("Scan"), "operator"),
        (_repeating("SequenceMap"), "operator"), (_external, "external-data"),
        (_external_in_attribute, "external-data"),
        (_external_in_sparse, "external-data"), (_training, "model"),
        (lambda m: setattr(m, "ir_version", 11), "opset"),
        (lambda m: setattr(m.opset_import[0], "version", 99), "opset"),
        (lambda m: m.ClearField("opset_import"), "opset"),
        (lambda m: m.graph.ClearField("output"), "graph"),
        (lambda m: m.graph.output.pop(), "graph"),
        (lambda m: setattr(m.graph.output[0], "name", "average"), "graph"),
        (lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", TensorProto.DOUBLE), "graph"),
        (lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", 1), "graph"),
        (lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[1], "dim_value", 96), "graph"),
        (lambda m: m.graph.input[0].type.tensor_type.shape.dim.pop(), "graph"),
        (lambda m: m.graph.input.append(helper.make_tensor_value_info("extra", TensorProto.FLOAT, ["S"])), "graph"),
        (lambda m: m.graph.input.append(m.graph.input[0]), "model"),
    ],
)  # fmt: skip
def test_a_graph_that_asks_for_more_or_differs_is_refused(tmp_path: Path, change: Any, word: str) -> None:
    assert refused(with_model(tmp_path / "a.bundle", change)).refused == word


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    for model in (b"", b"hello", b"\x00\x00\x00\x00ORTM" + bytes(100), tiny_model()[:-7]):
        assert refused(make_tiny_bundle(tmp_path / "a.bundle", model=model)).refused == "model"


def test_quantized_operators_of_the_runtime_are_allowed(tmp_path: Path) -> None:
    def quantized(model: onnx.ModelProto) -> None:
        model.graph.node.append(helper.make_node("DequantizeLinear", ["a", "b"], ["c"]))
        model.graph.node.append(helper.make_node("MatMulNBits", ["a", "b"], ["d"], domain="com.microsoft"))

    assert read_bundle(with_model(tmp_path / "a.bundle", quantized, precision="int8")).manifest.precision == "int8"
