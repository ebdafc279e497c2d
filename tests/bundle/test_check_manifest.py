"""What bundle.json says is held against itself, the task, the device and the runtime; the nearest word helps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge_agent.bundle import check
from edge_agent.bundle.devices import DEVICES
from edge_agent.bundle.manifest import Device
from edge_agent.bundle.reader import read_bundle
from edge_agent.errors import BundleError
from tests.bundle.crafted import files, refused, with_manifest
from tests.tiny_bundle import make_tiny_bundle, tiny_manifest, tiny_model, write_zip


def test_an_unknown_schema_version_is_refused_before_its_unknown_keys(tmp_path: Path) -> None:
    error = refused(make_tiny_bundle(tmp_path / "a.bundle", schema=2, novelty=1))
    assert error.refused == "schema-version"
    assert "2" in str(error)


def test_an_unknown_key_is_named_with_the_nearest_one(tmp_path: Path) -> None:
    error = refused(make_tiny_bundle(tmp_path / "a.bundle", quantile=[0.5]))
    assert error.refused == "unknown-key"
    assert "`quantile`" in str(error) and '"quantiles"' in str(error)
    error = refused(with_manifest(tmp_path / "a.bundle", lambda m: m["inputs"][0].update(shap=[1])))
    assert error.refused == "unknown-key"
    assert '"shape"' in str(error) and "inputs" in str(error)


def test_an_unknown_task_is_refused(tmp_path: Path) -> None:
    assert refused(make_tiny_bundle(tmp_path / "a.bundle", task="grid")).refused == "task"


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"[]", b"\xff\xfe", b'{"schema":1,"task":"station"}', b'{"schema":"1","task":"station"}',
     b'{"a":' + b"[" * 200_000, b'{"schema":1e999,"task":"station"}'],
)  # fmt: skip
def test_a_broken_manifest_is_refused(tmp_path: Path, raw: bytes) -> None:
    write_zip(tmp_path / "a.bundle", {"bundle.json": raw} | files())
    assert refused(tmp_path / "a.bundle").refused == "manifest"


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"counter": 0}, "counter"),
        ({"counter": -3}, "counter"),
        ({"counter": "1"}, "manifest"),
        ({"name": "../evil"}, "manifest"),
        ({"name": "a/b"}, "manifest"),
        ({"created": "yesterday"}, "manifest"),
        ({"step_s": 600}, "leads"),
        ({"leads_s": [900] * 24}, "leads"),
        ({"leads_s": list(range(21_600, 0, -900))}, "leads"),
        ({"leads_s": list(range(0, 21_600, 900))}, "leads"),
        ({"leads_s": [1000 * i for i in range(1, 25)]}, "leads"),
        ({"leads_s": []}, "leads"),
        ({"leads_s": [1800, 2700]}, "leads"),
        ({"leads_s": list(range(900, 98 * 900, 900))}, "leads"),
        ({"leads_s": list(range(900, 97 * 900, 900))}, "tensor"),
        ({"leads_s": [900, 1800]}, "tensor"),
        ({"quantiles": [0.05, 0.1, 0.5, 0.9, 0.95]}, "tensor"),
        ({"quantiles": [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]}, "quantiles"),
        ({"quantiles": [0.05, 0.1, 0.2, 0.4, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95]}, "quantiles"),
        ({"quantiles": [0.0, 0.05, 0.1, 0.5, 0.9, 0.95]}, "quantiles"),
        ({"quantiles": [i / 120 for i in range(1, 120)]}, "quantiles"),
        ({"events": []}, "tensor"),
        ({"events": [{"name": "rain", "variable": "hail", "threshold": 0.2, "unit": "mm"}]}, "events"),
        ({"events": [{"name": "rain", "variable": "rain", "threshold": 0.2, "unit": "m"}]}, "units"),
        ({"events": [{"name": "rain", "variable": "rain", "threshold": 0.2, "unit": "mm"}] * 2}, "events"),
        ({"precision": "int8"}, "precision"),
        ({"precision": "fp8"}, "manifest"),
        ({"runtime": {"onnxruntime": "99.0"}}, "runtime"),
        ({"runtime": {"onnxruntime": "newest"}}, "runtime"),
        ({"runtime": {}}, "runtime"),
        ({"runtime": {"litert": "2.0"}}, "runtime"),
        ({"tolerance": {"temperature": 1.0}}, "tolerance"),
        ({"budgets": [{"device": "raspberry_pi_4", "basis": "measured", "model_bytes": 1}]}, "budget"),
        ({"budgets": [{"device": "toaster", "basis": "measured", "model_bytes": 1}]}, "manifest"),
        ({"files": []}, "unlisted-file"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(tmp_path: Path, changes: dict[str, Any], word: str) -> None:
    assert refused(make_tiny_bundle(tmp_path / "a.bundle", **changes)).refused == word


@pytest.mark.parametrize("kind", ["inputs", "outputs"])
def test_every_tensor_must_be_declared(tmp_path: Path, kind: str) -> None:
    for i, tensor in enumerate(tiny_manifest(files())[kind]):
        error = refused(with_manifest(tmp_path / "a.bundle", lambda m, i=i: m[kind].pop(i)))
        assert error.refused == "tensor-missing"
        assert tensor["name"] in str(error)


def _tensor(name: str, dtype: str, shape: list[int | str], axis: str, unit: str) -> dict[str, Any]:
    return {"name": name, "dtype": dtype, "shape": shape, "axis": [{"name": axis, "unit": unit}]}


def _swap_axis(tensor: dict[str, Any]) -> None:
    tensor["axis"][0], tensor["axis"][1] = tensor["axis"][1], tensor["axis"][0]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda m: m["inputs"][0]["axis"][0].update(unit="K"), "units"),
        (lambda m: m["outputs"][0]["axis"][2].update(unit="Pa"), "units"),
        (lambda m: _swap_axis(m["inputs"][0]), "order"),
        (lambda m: _swap_axis(m["outputs"][1]), "order"),
        (lambda m: _swap_axis(m["outputs"][2]), "order"),
        (lambda m: m["inputs"][0]["axis"][0].update(name="temp"), "tensor"),
        (lambda m: m["inputs"][0]["axis"].pop(), "tensor"),
        (lambda m: m["inputs"][0].update(dtype="int64"), "tensor"),
        (lambda m: m["inputs"][0].update(dtype="float16"), "manifest"),
        (lambda m: m["inputs"][0].update(shape=["S", 2880, 7]), "tensor"),
        (lambda m: m["inputs"][0].update(shape=[1, 2880, 8]), "tensor"),
        (lambda m: m["inputs"][0].update(shape=["T", 2880, 8]), "tensor"),
        (lambda m: m["inputs"].append(m["inputs"][0]), "tensor"),
        (lambda m: m["inputs"].append(m["inputs"][0] | {"name": "histori"}), "tensor"),
        (lambda m: m["inputs"].append(_tensor("group", "int64", ["S"], "group", "1")), "graph"),
        (lambda m: m["inputs"].append(_tensor("guidance", "float32", ["S", 24, 1], "temperature", "K")), "units"),
        (lambda m: m["inputs"].append(_tensor("guidance", "float32", ["S", 24, 1], "heat", "K")), "tensor"),
    ],
)  # fmt: skip
def test_tensors_that_differ_from_the_task_are_refused(tmp_path: Path, change: Any, word: str) -> None:
    assert refused(with_manifest(tmp_path / "a.bundle", change)).refused == word


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
VALUES = st.recursive(LEAVES, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=8), v, max_size=3))


@given(VALUES, st.sampled_from(sorted(tiny_manifest({"model.onnx": b""}))))
@example({"x": 1}, "provenance")
@settings(max_examples=200)
def test_any_value_in_any_field_is_read_or_refused(value: Any, key: str) -> None:
    raw = json.dumps(tiny_manifest({"model.onnx": b"x"}) | {key: value}).encode()
    try:
        check.check_manifest(check.decode_manifest(raw), "raspberry_pi_4", 1)
    except BundleError as error:
        assert error.refused


@pytest.mark.parametrize("device", ["raspberry_pi_4", "browser"])
def test_a_bundle_above_a_devices_limits_is_refused(
    tmp_path: Path, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"device": device, "basis": "measured", "model_bytes": len(tiny_model())}
    for figure in ({"peak_rss_mb": 5000.0}, {"p95_ms": 5000.0}):
        path = make_tiny_bundle(tmp_path / "a.bundle", budgets=[row | figure])
        assert refused(path, device=device).refused == "over-budget"
        assert read_bundle(path).manifest.budgets  # without a device there is nothing to hold it against
    limit = DEVICES[device]
    monkeypatch.setitem(DEVICES, device, type(limit)(1000, 1.0, 1.0))
    assert refused(make_tiny_bundle(tmp_path / "b.bundle"), device=device).refused == "over-budget"


def test_a_runtime_that_is_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "_RUNTIME_PACKAGES", ("no-such-runtime",))
    assert refused(make_tiny_bundle(tmp_path / "a.bundle")).refused == "runtime"


@pytest.mark.parametrize(
    ("here", "floor", "fine"), [("1.20.0", "1.20", True), ("1.9.1", "1.20", False), ("1.32.0", "1.32.1", False)]
)
def test_runtime_versions_are_compared_as_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: str, floor: str, fine: bool
) -> None:
    monkeypatch.setattr(check, "installed_runtime", lambda *_: here)
    path = make_tiny_bundle(tmp_path / "a.bundle", runtime={"onnxruntime": floor})
    if fine:
        assert read_bundle(path)
    else:
        assert here in str(refused(path))
