"""The second runtime: a `.tflite` bundle is held to the same rules and gives the same forecasts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.bundle import station_task
from edge_agent.bundle.golden import pack_golden, verify_golden
from edge_agent.bundle.reader import read_bundle
from edge_agent.bundle.tflite_wire import read_tflite
from edge_agent.cli import main
from edge_agent.errors import BundleError
from edge_agent.forecast import QUANTILES
from edge_agent.inference.litert import LitertSession, Runner
from edge_agent.inference.opening import open_session
from model_factory.bundles import budget
from model_factory.bundles.build import build_bundle
from tests.factory.test_bundle_build import fill
from tests.tiny_bundle import tiny_inputs, tiny_manifest, write_zip

TINY = Path(__file__).with_name("tiny.tflite").read_bytes()
STATIONS = 3


def inputs() -> dict[str, np.ndarray]:
    given = tiny_inputs(STATIONS)
    return {name: given[name] for name in ("history", "site", "origin")} | {"site": np.ones((STATIONS, 4), np.float32)}


def outputs() -> dict[str, np.ndarray]:
    """What the last value comes to."""
    runner = Runner(TINY)
    rows = [runner.run({name: value[i : i + 1] for name, value in inputs().items()}) for i in range(STATIONS)]
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def make(path: Path, model: bytes = TINY, name: str = "model.tflite", **changes: Any) -> Path:
    files = {name: model, "golden.npz": pack_golden(inputs(), outputs()), "card.md": b"# tiny\n"}
    manifest = tiny_manifest(files) | {"runtime": {"ai-edge-litert": "2.0"}} | changes
    write_zip(path, {"bundle.json": json.dumps(manifest).encode()} | files)
    return path


def test_a_bundle_of_the_second_runtime_forecasts_every_station(tmp_path: Path) -> None:
    path = make(tmp_path / "a.bundle")
    bundle = read_bundle(path)
    verify_golden(path, bundle.digest)
    session = open_session(bundle)
    assert isinstance(session, LitertSession)
    found = session.run(inputs())
    last = inputs()["history"][:, -1]
    np.testing.assert_allclose(found["mean"], np.repeat(last[:, None], 24, axis=1), atol=1e-4)
    np.testing.assert_allclose(found["quantiles"][0, 0, 0] - last[0, 0], np.array(QUANTILES) - 0.5, atol=1e-4)
    assert session.run({name: value[:0] for name, value in inputs().items()})["mean"].shape == (0, 24, 8)


def test_wrong_inputs_are_refused_as_by_the_first_runtime(tmp_path: Path) -> None:
    session = LitertSession(read_bundle(make(tmp_path / "a.bundle")))
    with pytest.raises(BundleError, match='"site" must be float32'):
        session.run(inputs() | {"site": np.ones((STATIONS, 3), np.float32)})
    with pytest.raises(BundleError, match="2038"):
        session.run(inputs() | {"origin": np.full(STATIONS, 2**31, np.int64)})


def test_a_model_of_the_other_runtime_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="its one model is not that of the runtime"):
        read_bundle(make(tmp_path / "a.bundle", name="model.onnx"))
    with pytest.raises(BundleError, match="needs ai-edge-litert >= 99"):
        read_bundle(make(tmp_path / "b.bundle", runtime={"ai-edge-litert": "99"}))
    with pytest.raises(BundleError, match="or both"):
        read_bundle(make(tmp_path / "c.bundle", runtime={"ai-edge-litert": "2.0", "onnxruntime": "1.20"}))


def test_neighbours_need_a_runtime_that_takes_several_stations_at_a_time(tmp_path: Path) -> None:
    tensors = msgspec.to_builtins((*station_task.INPUTS, station_task.GROUP))
    with pytest.raises(BundleError, match='one station at a time: the input "group" needs onnxruntime'):
        read_bundle(make(tmp_path / "a.bundle", inputs=tensors))


def test_operators_and_names_are_read_without_running_it() -> None:
    facts = read_tflite(TINY)
    assert set(facts.inputs) == {"history", "site", "origin"} and not facts.custom
    assert set(facts.outputs) == {"mean", "quantiles", "wind_uv", "probability"}
    assert facts.operators and max(facts.operators) < 162


@given(st.data())
def test_a_damaged_model_is_refused_or_read_and_never_more(data: st.DataObject) -> None:
    raw = bytearray(TINY[: data.draw(st.integers(0, len(TINY)))])
    for _ in range(data.draw(st.integers(0, 4))):
        if raw:
            raw[data.draw(st.integers(0, min(len(raw), 600) - 1))] = data.draw(st.integers(0, 255))
    try:
        read_tflite(bytes(raw))
    except BundleError as error:
        assert error.refused in ("model", "oversize")


def test_the_factory_builds_it_and_the_device_measures_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "MEASURED", ((1, 1, 5),))
    run = fill(tmp_path / "run")
    (run / "model.tflite").write_bytes(TINY)
    np.savez(run / "golden_inputs.npz", **inputs())
    out = run / "out.bundle"
    bundle = build_bundle(run, out, name="tiny", counter=1, runtime="ai-edge-litert")
    assert bundle.manifest.runtime == {"ai-edge-litert": "2.0"} and bundle.model == TINY
    assert "ai-edge-litert 2" in bundle.card
    done = CliRunner().invoke(main, ["benchmark", str(out), "--runs", "5", "--json"])
    assert done.exit_code == 0 and '"runtime": "ai-edge-litert' in done.output
