"""The running agent and its bundle: damaged, unsigned or failing, there is a forecast that says why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_agent.clock import ManualClock
from edge_agent.forecast import Level
from tests.agents import RunAgent, fill, until, write_config
from tests.tiny_bundle import make_tiny_bundle, tiny_model

NOON = 1_700_049_600  # a whole hour


def corrupted(bundle: Path) -> Path:
    data = bytearray(bundle.read_bytes())
    data[len(data) // 2] ^= 0xFF
    bundle.write_bytes(data)
    return bundle


def test_a_damaged_bundle_leaves_the_shipped_one_and_the_forecast_says_why(
    tmp_path: Path, run_agent: RunAgent, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = corrupted(make_tiny_bundle(tmp_path / "mine.bundle", name="mine"))
    monkeypatch.setattr("edge_agent.bundle.trial.default_bundle", lambda: tiny)
    fill(tmp_path / "store.sqlite", NOON, hours=48)
    agent = run_agent(write_config(tmp_path, bundle=str(broken), allow_unsigned=True), ManualClock(NOON + 100))
    until(agent.forecasts, "a forecast")
    (forecast,) = agent.forecasts()
    assert (forecast.level, forecast.source) == (Level.NOWCAST_ONLY, "tiny")
    assert "mine.bundle: refused (" in forecast.why and "shipped bundle is used instead" in forecast.why
    status = agent.stop().status["home"]
    assert status["forecast"]["why"] == forecast.why


def test_without_any_good_bundle_it_is_persistence_and_says_why(
    tmp_path: Path, run_agent: RunAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = corrupted(make_tiny_bundle(tmp_path / "mine.bundle"))
    monkeypatch.setattr("edge_agent.bundle.trial.default_bundle", lambda: tmp_path / "shipped.bundle")
    fill(tmp_path / "store.sqlite", NOON, hours=48)
    agent = run_agent(write_config(tmp_path, bundle=str(broken), allow_unsigned=True), ManualClock(NOON + 100))
    until(agent.forecasts, "a forecast")
    (forecast,) = agent.forecasts()
    assert forecast.level is Level.PERSISTENCE and forecast.bundle == ""
    assert "mine.bundle: refused" in forecast.why and "shipped.bundle: refused (unreadable)" in forecast.why
    assert agent.stop().status["home"]["forecast"]["level"] == "persistence"


def test_a_bundle_nobody_signed_needs_the_configurations_consent(
    tmp_path: Path, run_agent: RunAgent, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.bundle.trial.default_bundle", lambda: tmp_path / "shipped.bundle")
    agent = run_agent(write_config(tmp_path, bundle=str(tiny)), ManualClock(NOON + 100))
    until(lambda: any("unsigned" in event.text for event in agent.events), "the refusal")


def test_a_runtime_that_cannot_be_loaded_leaves_persistence(
    tmp_path: Path, run_agent: RunAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_runtime(config: object) -> object:
        raise ImportError("libonnxruntime.so: wrong ELF class")

    monkeypatch.setattr("edge_agent.forecasting.load_session", no_runtime)
    fill(tmp_path / "store.sqlite", NOON, hours=48)
    agent = run_agent(write_config(tmp_path), ManualClock(NOON + 100))
    until(agent.forecasts, "a forecast")
    (forecast,) = agent.forecasts()
    assert forecast.level is Level.PERSISTENCE and "wrong ELF class" in forecast.why


def test_a_model_that_fails_while_running_leaves_persistence_and_says_why(tmp_path: Path, run_agent: RunAgent) -> None:
    later = 1_900_000_800
    bundle = make_tiny_bundle(tmp_path / "fails.bundle", model=model_that_fails_after(1_800_000_000))
    fill(tmp_path / "store.sqlite", later, hours=48)
    agent = run_agent(write_config(tmp_path, bundle=str(bundle), allow_unsigned=True), ManualClock(later + 100))
    until(agent.forecasts, "a forecast")
    (forecast,) = agent.forecasts()
    assert forecast.level is Level.PERSISTENCE and forecast.variables["temperature"].mean is not None
    assert "the model failed" in forecast.why
    assert agent.stop().status["home"]["lost"] == {}


def model_that_fails_after(t: int) -> bytes:
    """The tiny model, but it reads past the end of an array where `origin` is later than `t`."""
    model = onnx.load_model_from_string(tiny_model())
    graph, node = model.graph, helper.make_node
    added = next(n for n in graph.node if list(n.input) == ["kept", "no_change"])
    added.input[1] = "checked"
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(t, np.int64), "limit"),
            numpy_helper.from_array(np.zeros(1, np.float32), "one_value"),
        ]
    )
    before = [
        node("Greater", ["origin", "limit"], ["late"]),
        node("Cast", ["late"], ["index"], to=TensorProto.INT64),
        node("ReduceMax", ["index"], ["worst"], keepdims=0),
        node("Gather", ["one_value", "worst"], ["zero"]),
        node("Add", ["no_change", "zero"], ["checked"]),
    ]
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*before, *rest])
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
