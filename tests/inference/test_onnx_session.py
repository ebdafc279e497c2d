"""A session runs a bundle's graph as the manifest says, whatever is handed to it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from edge_agent.bundle.reader import read_bundle
from edge_agent.errors import BundleError
from edge_agent.inference.onnx import CPU, OnnxSession, providers_for
from tests.tiny_bundle import make_tiny_bundle, tiny_expected, tiny_golden, tiny_inputs, tiny_manifest, tiny_model


@pytest.fixture
def session(tmp_path: Path) -> OnnxSession:
    return OnnxSession(read_bundle(make_tiny_bundle(tmp_path / "a.bundle")))


@pytest.mark.parametrize("stations", [1, 3, 70])
def test_any_number_of_stations_is_forecast(session: OnnxSession, stations: int) -> None:
    inputs = tiny_inputs(stations)
    results = session.run(inputs)
    for name, expected in tiny_expected(inputs).items():
        np.testing.assert_allclose(results[name], expected, atol=1e-5)
        assert results[name].dtype == np.float32


def test_no_station_gives_empty_forecasts(session: OnnxSession) -> None:
    results = session.run({name: value[:0] for name, value in tiny_inputs(1).items()})
    assert {name: value.shape for name, value in results.items()} == {
        "mean": (0, 24, 8), "quantiles": (0, 24, 8, 11), "wind_uv": (0, 24, 2), "probability": (0, 24, 1),
    }  # fmt: skip


def test_missing_stays_missing(session: OnnxSession) -> None:
    results = session.run(tiny_inputs(2))
    assert np.isfinite(results["mean"][0]).all()
    assert np.isfinite(results["mean"][1, :, 0]).all() and np.isnan(results["mean"][1, :, 1:]).all()
    assert np.isnan(results["probability"][1]).all()


def test_a_result_does_not_depend_on_its_neighbours_in_the_batch(session: OnnxSession) -> None:
    inputs = tiny_inputs(5)
    together = session.run(inputs)
    alone = session.run({name: value[2:3] for name, value in inputs.items()})
    np.testing.assert_array_equal(together["quantiles"][2], alone["quantiles"][0])


def test_other_number_types_and_layouts_are_taken(session: OnnxSession) -> None:
    inputs = tiny_inputs(2)
    history = np.asfortranarray(inputs["history"].astype(np.float64))
    other: dict[str, Any] = {
        "history": history,
        "site": inputs["site"].astype(np.float64),
        "origin": inputs["origin"].astype(np.int32),
    }
    np.testing.assert_array_equal(session.run(other)["mean"], session.run(inputs)["mean"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"history": None}, "history"),
        ({"site": None}, "site"),
        ({"site": np.zeros((3, 4), np.float32)}, "site"),
        ({"history": np.zeros((2, 2880, 7), np.float32)}, "history"),
        ({"origin": np.zeros((2, 1), np.int64)}, "origin"),
        ({"radar": np.zeros(2)}, "radar"),
    ],
)
def test_wrong_inputs_are_refused_by_name(session: OnnxSession, change: dict[str, Any], words: str) -> None:
    inputs = {name: value for name, value in (tiny_inputs(2) | change).items() if value is not None}
    with pytest.raises(BundleError, match=words) as caught:
        session.run(inputs)
    assert caught.value.refused == "input"


def test_optional_inputs_are_filled_in_where_nobody_gives_them(tmp_path: Path) -> None:
    model = onnx.load_from_string(tiny_model())
    model.graph.input.append(helper.make_tensor_value_info("group", TensorProto.INT64, ["S"]))
    model.graph.input.append(helper.make_tensor_value_info("guidance", TensorProto.FLOAT, ["S", 24, 1]))
    raw = model.SerializeToString()
    declared = tiny_manifest({"model.onnx": raw})["inputs"]
    group = {"name": "group", "dtype": "int64", "shape": ["S"], "axis": [{"name": "group", "unit": "1"}]}
    axis = [{"name": "temperature", "unit": "degC"}]
    guidance = {"name": "guidance", "dtype": "float32", "shape": ["S", 24, 1], "axis": axis}
    path = make_tiny_bundle(tmp_path / "a.bundle", model=raw, inputs=[*declared, group, guidance], golden=tiny_golden())
    session = OnnxSession(read_bundle(path))
    inputs = tiny_inputs(2)
    expected = session.run(inputs)["mean"]
    given: dict[str, Any] = {"group": np.zeros(2, np.int64), "guidance": np.ones((2, 24, 1), np.float32)}
    np.testing.assert_array_equal(session.run(inputs | given)["mean"], expected)


def test_optional_inputs_a_bundle_does_not_name_are_left_out(session: OnnxSession) -> None:
    assert session.run(tiny_inputs(2) | {"group": np.zeros(2, np.int64)})["mean"].shape == (2, 24, 8)


def test_a_model_the_runtime_cannot_load_is_a_bundle_error(tmp_path: Path) -> None:
    broken = tiny_model().replace(b"Unsqueeze", b"Unsqueezy")
    with pytest.raises(BundleError, match="cannot load") as caught:
        OnnxSession(read_bundle(make_tiny_bundle(tmp_path / "a.bundle", model=broken)))
    assert caught.value.refused == "runtime"


def with_node(tmp_path: Path, *nodes: onnx.NodeProto, **constants: np.ndarray) -> OnnxSession:
    """The tiny model with its probability made by other nodes from `dry` [S, 1, 1]."""
    model = onnx.load_from_string(tiny_model())
    del model.graph.node[-1]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in constants.items())
    return OnnxSession(read_bundle(make_tiny_bundle(tmp_path / "b.bundle", model=model.SerializeToString())))


def test_a_model_that_fails_while_running_is_a_bundle_error(tmp_path: Path) -> None:
    reshape = helper.make_node("Reshape", ["dry", "impossible"], ["probability"])
    session = with_node(tmp_path, reshape, impossible=np.array([7, 24, 1], np.int64))
    with pytest.raises(BundleError, match="the model failed") as caught:
        session.run(tiny_inputs(2))
    assert caught.value.refused == "runtime"


def test_an_answer_of_the_wrong_shape_is_a_bundle_error(tmp_path: Path) -> None:
    """The graph promises [S, 24, 1]; what comes only shows when it runs."""
    nodes = [
        helper.make_node("Add", ["dry", "odds"], ["full"]),
        helper.make_node("Reshape", ["full", "turned"], ["probability"]),
    ]
    session = with_node(tmp_path, *nodes, turned=np.array([24, -1, 1], np.int64))
    with pytest.raises(BundleError) as caught:
        session.run(tiny_inputs(2))
    assert caught.value.refused in ("output", "runtime")


def test_two_threads_give_the_same_answer(tmp_path: Path) -> None:
    bundle = read_bundle(make_tiny_bundle(tmp_path / "a.bundle"))
    inputs = tiny_inputs(8)
    one, two = OnnxSession(bundle).run(inputs), OnnxSession(bundle, threads=2).run(inputs)
    np.testing.assert_array_equal(one["quantiles"], two["quantiles"])


def test_a_jetson_tries_its_graphics_processor_first_and_every_device_ends_at_the_processor() -> None:
    all_of_them = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "ROCMExecutionProvider", CPU]
    tensorrt, cuda = all_of_them[:2]
    assert providers_for("jetson_nano", all_of_them) == [[tensorrt, CPU], [cuda, CPU], [CPU]]
    assert providers_for("jetson_nano", [cuda, CPU]) == [[cuda, CPU], [CPU]]
    for device in (None, "raspberry_pi_4", "mobile", "browser"):
        assert providers_for(device, all_of_them) == [[CPU]]


def test_where_the_graphics_processor_does_not_start_the_processor_forecasts_and_the_log_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The runtime here has no CUDA: it is told that it had, and what it then really does decides."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", CPU])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of onnxruntime: the provider is not there
        session = OnnxSession(read_bundle(make_tiny_bundle(tmp_path / "a.bundle")), device="jetson_nano")
    inputs = tiny_inputs(2)
    np.testing.assert_allclose(session.run(inputs)["mean"], tiny_expected(inputs)["mean"], atol=1e-5)
    assert "CUDAExecutionProvider does not start here" in caplog.text
