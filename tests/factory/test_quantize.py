"""Quantization makes the network small, leaves the rest of the graph alone and changes answers little."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from edge_agent.bundle.check import CONTRIBUTED, STANDARD_DOMAINS
from edge_agent.bundle.onnx_wire import read_model
from edge_agent.errors import DataError
from edge_agent.inference.onnx import open_model
from model_factory.bundles.graph import without_notes
from model_factory.cli import main
from model_factory.quantize.int4 import quantize_int4
from model_factory.quantize.int8 import batches, load_calibration, quantize_command, quantize_int8
from model_factory.quantize.measure import Comparison, compare_models

RNG = np.random.default_rng(0)
WIDE = 128


def weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)

    def matrix(*shape: int) -> np.ndarray:
        return np.asarray(rng.standard_normal(shape) / np.sqrt(shape[-1]), np.float32)

    return {
        "front.kernel": matrix(16, 16),
        "core.inward.weight": matrix(WIDE, 16),
        "core.inward.bias": matrix(WIDE),
        "core.block.weight": matrix(WIDE, WIDE),
        "core.outward.weight": matrix(WIDE, 8),
        "zero": np.zeros(1, np.float32),
    }


def make_model(path: Path) -> Path:
    """NaN-masking front, a fixed matrix, three linear layers of the core (two Gemm, one MatMul)."""
    node = helper.make_node
    nodes = [
        node("IsNaN", ["x"], ["gone"], "mask"),
        node("Where", ["gone", "zero", "x"], ["there"], "fill"),
        node("MatMul", ["there", "front.kernel"], ["features"], "front_matmul"),
        node("Gemm", ["features", "core.inward.weight", "core.inward.bias"], ["h0"], "node_linear", transB=1),
        node("Relu", ["h0"], ["h1"], "relu"),
        node("Gemm", ["h1", "core.block.weight"], ["h2"], "node_linear_1", transB=1),
        node("Add", ["h1", "h2"], ["h3"], "residual"),
        node("MatMul", ["h3", "core.outward.weight"], ["y"], "node_linear_2"),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "net",
        [value("x", TensorProto.FLOAT, ["S", 16])],
        [value("y", TensorProto.FLOAT, ["S", 8])],
        [numpy_helper.from_array(array, name) for name, array in weights().items()],
    )
    graph.node[0].doc_string = "File /home/someone/model.py, line 7"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    path.write_bytes(model.SerializeToString())
    return path


def inputs(count: int) -> dict[str, Any]:
    x = RNG.standard_normal((count, 16)).astype(np.float32)
    x[::5, 3] = np.nan
    return {"x": x}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    folder = tmp_path_factory.mktemp("models")
    fp32, int8 = make_model(folder / "fp32.onnx"), folder / "int8.onnx"
    quantize_int8(fp32, int8, batches(inputs(256)))
    yield fp32, int8


def run(path: Path, feed: dict[str, np.ndarray]) -> np.ndarray:
    return np.asarray(open_model(path.read_bytes()).run(None, feed)[0])


def quantized_weights(path: Path) -> set[str]:
    """Names of initializers in INT8, as they were called before."""
    tensors = onnx.load(path).graph.initializer
    return {t.name.removesuffix("_quantized") for t in tensors if t.data_type == TensorProto.INT8 and t.dims}


def test_the_answer_changes_by_little(pair: tuple[Path, Path]) -> None:
    feed = inputs(500)
    before, after = run(pair[0], feed), run(pair[1], feed)
    assert np.isfinite(after).all()
    assert np.sqrt(np.mean((after - before) ** 2)) < 0.06 * before.std()


def test_only_the_core_is_quantized(pair: tuple[Path, Path]) -> None:
    large = {name for name in quantized_weights(pair[1]) if "weight" in name or "kernel" in name}
    assert {name for name in large if name.endswith(("weight", "kernel"))} == {
        "core.inward.weight",
        "core.block.weight",
        "core.outward.weight",
    }


def test_weights_have_a_scale_for_each_output(pair: tuple[Path, Path]) -> None:
    scales = {t.name: tuple(t.dims) for t in onnx.load(pair[1]).graph.initializer if t.name.endswith("_scale")}
    assert scales["core.block.weight_scale"] == (WIDE,)
    assert scales["core.outward.weight_scale"] == (8,)


def test_outputs_of_layers_stay_in_float(pair: tuple[Path, Path]) -> None:
    """What is rounded are the inputs of the layers, neither the sums that the residual carries on nor what enters the
    network."""
    graph = onnx.load(pair[1]).graph
    assert {node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"} == {"h1", "h3"}
    assert "features" in next(node for node in graph.node if node.name == "node_linear").input


def test_an_agent_may_run_what_comes_out(pair: tuple[Path, Path]) -> None:
    for domain, operator in read_model(pair[1].read_bytes()).operators:
        assert domain in STANDARD_DOMAINS or operator in CONTRIBUTED


def test_the_file_is_smaller_and_tells_nothing_of_the_machine(pair: tuple[Path, Path]) -> None:
    raw = pair[1].read_bytes()
    assert len(raw) < 0.5 * len(pair[0].read_bytes())
    assert b"/home/someone" not in raw


def test_names_in_exclude_stay_in_float(pair: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    done = quantize_int8(pair[0], out, batches(inputs(64)), exclude=["node_linear", "core.outward.weight"])
    assert done.nodes == ("node_linear_1",)
    assert done.excluded == ("node_linear", "node_linear_2")
    assert "core.inward.weight" not in quantized_weights(out)


@pytest.mark.parametrize(
    ("options", "words"), [({"part": "nothing"}, "nothing to quantize"), ({"exclude": ["relu"]}, "relu")]
)
def test_asking_for_what_is_not_there_is_an_error(
    pair: tuple[Path, Path], tmp_path: Path, options: Any, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        quantize_int8(pair[0], tmp_path / "out.onnx", batches(inputs(64)), **options)


def test_no_calibration_is_an_error(pair: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="calibration"):
        quantize_int8(pair[0], tmp_path / "out.onnx", [])


def test_the_command_writes_the_model_and_says_size_speed_and_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_model(tmp_path / "model_fp32.onnx")
    np.savez(tmp_path / "calibration.npz", **inputs(100))
    monkeypatch.setattr("model_factory.quantize.int8.compare_models", quickly)
    quantize_command(tmp_path, calibration=80)
    said = capsys.readouterr().out
    assert (tmp_path / "model_int8.onnx").exists()
    for words in ("80 samples", "3 layers in INT8", "ratio 0.", "times as fast", "largest"):
        assert words in said


def quickly(fp32: Path, int8: Path, samples: dict[str, np.ndarray]) -> Comparison:
    return compare_models(fp32, int8, samples, seconds=0.01)


@pytest.mark.parametrize("arrays", [None, {}, {"x": np.zeros((0, 16))}, {"x": np.zeros((3, 1)), "y": np.zeros((2, 1))}])
def test_calibration_that_cannot_be_used_is_an_error(tmp_path: Path, arrays: dict[str, Any] | None) -> None:
    path = tmp_path / "calibration.npz"
    if arrays is not None:
        np.savez(path, **arrays)
    with pytest.raises(DataError, match="calibration"):
        load_calibration(path, 10)
    path.write_bytes(b"not an archive")
    with pytest.raises(DataError, match="cannot be read"):
        load_calibration(path, 10)


def test_notes_of_the_exporter_are_removed_and_nothing_else(pair: tuple[Path, Path]) -> None:
    raw = pair[0].read_bytes()
    bare = without_notes(raw)
    feed = inputs(20)
    assert b"/home/someone" in raw and b"/home/someone" not in bare
    before, after = (np.asarray(open_model(m).run(None, feed)[0]) for m in (raw, bare))
    np.testing.assert_array_equal(before, after)


def test_int4_packs_the_core_and_leaves_the_rest_alone(tmp_path: Path) -> None:
    fp32 = make_model(tmp_path / "fp32.onnx")
    done = quantize_int4(fp32, tmp_path / "int4.onnx")
    assert done.nodes == ("node_linear", "node_linear_1", "node_linear_2")
    model = onnx.load(tmp_path / "int4.onnx")
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("MatMulNBits") == 3 and kinds.count("MatMul") == 1  # the front's kernel
    settings = {
        a.name: helper.get_attribute_value(a)
        for n in model.graph.node
        if n.op_type == "MatMulNBits"
        for a in n.attribute
    }
    assert (settings["bits"], settings["block_size"], settings["accuracy_level"]) == (4, 128, 4)
    facts = read_model((tmp_path / "int4.onnx").read_bytes())
    assert all(domain in STANDARD_DOMAINS or kind in CONTRIBUTED for domain, kind in facts.operators)
    x = RNG.standard_normal((40, 16)).astype(np.float32)
    before, after = (
        open_model((tmp_path / f"{name}.onnx").read_bytes()).run(None, {"x": x})[0] for name in ("fp32", "int4")
    )
    assert np.sqrt(np.mean((after - before) ** 2)) < 0.15 * before.std()


def test_int4_keeps_what_is_excluded_in_float(tmp_path: Path) -> None:
    done = quantize_int4(make_model(tmp_path / "fp32.onnx"), tmp_path / "int4.onnx", exclude=["core.block.weight"])
    assert done.excluded == ("node_linear_1",)
    kinds = [node.op_type for node in onnx.load(tmp_path / "int4.onnx").graph.node]
    assert kinds.count("MatMulNBits") == 2 and kinds.count("Gemm") == 1


def test_convolutions_are_stored_in_int4_and_run_in_float(tmp_path: Path) -> None:
    weight = np.random.default_rng(2).standard_normal((32, 16, 5)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "core.conv.weight"], ["y"], "node_conv")],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["S", 16, 50])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["S", 32, 46])],
        [numpy_helper.from_array(weight, "core.conv.weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, tmp_path / "fp32.onnx")
    quantize_int4(tmp_path / "fp32.onnx", tmp_path / "int4.onnx")
    sizes = [(tmp_path / f"{name}.onnx").stat().st_size for name in ("fp32", "int4")]
    assert sizes[1] < 0.25 * sizes[0]
    read_model((tmp_path / "int4.onnx").read_bytes())
    x = RNG.standard_normal((3, 16, 50)).astype(np.float32)
    before, after = (
        open_model((tmp_path / f"{name}.onnx").read_bytes()).run(None, {"x": x})[0] for name in ("fp32", "int4")
    )
    assert np.sqrt(np.mean((after - before) ** 2)) < 0.15 * before.std()


@pytest.mark.parametrize("bits", ["8", "4"])
@pytest.mark.parametrize("name", ["model_fp32.onnx", "calibration.npz"])
@pytest.mark.parametrize("cut", [0.0, 0.4, 0.9])
def test_a_damaged_file_is_named_with_the_command_that_makes_it(
    tmp_path: Path, name: str, cut: float, bits: str
) -> None:
    make_model(tmp_path / "model_fp32.onnx")
    np.savez_compressed(tmp_path / "calibration.npz", **inputs(20))
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(cut * len(whole))])
    done = CliRunner().invoke(main, ["quantize", str(tmp_path), "--bits", bits])
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit), done.exception
    assert f"{tmp_path}/{name}" in done.output and f"model-factory export {tmp_path} DATA/" in done.output
