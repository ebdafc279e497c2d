"""A small valid bundle for tests: its mean is the last value of each variable, its quantiles widen with the lead.

Nothing here is trained. What is NaN in the last step of the history is NaN in the forecast. With `near` the values are
the means over the rows of equal group and origin that have one.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_agent.bundle import station_task
from edge_agent.forecast import LEADS_S, QUANTILES
from edge_agent.grid import GRID_VARIABLES, HISTORY_STEPS

PROBABILITY = 0.1  # of rain, at every lead
SPREAD_1H = (
    1.0,
    5.0,
    0.5,
    1.0,
    1.5,
    30.0,
    0.2,
    50.0,
)  # half-width of the 5-95 % band after an hour
_LOW = (-math.inf, 0.0, -math.inf, 0.0, 0.0, -math.inf, 0.0, 0.0)
_HIGH = (math.inf, 100.0, math.inf, math.inf, math.inf, math.inf, math.inf, math.inf)
_KEEPS = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 1.0)  # rain: the mean is 0, or NaN where rain is


def make_tiny_bundle(
    path: Path,
    *,
    model: bytes | None = None,
    golden: bytes | None = None,
    card: str = "# tiny\n\nThe last value, for tests.\n",
    extra: dict[str, bytes] | None = None,
    compression: int = zipfile.ZIP_STORED,
    near: bool = False,
    **changes: Any,
) -> Path:
    """Write a bundle to `path` and return it. `near`: it looks at the rows of a group. `changes` replace fields of
    bundle.json (plain JSON values; unknown keys are written too); `extra` are more files, listed like the others."""
    model = tiny_model(near=near) if model is None else model
    golden = tiny_golden(near=near) if golden is None else golden
    files = {"model.onnx": model, "golden.npz": golden, "card.md": card.encode()} | (extra or {})
    if near:
        changes = {"inputs": msgspec.to_builtins((*station_task.INPUTS, station_task.GROUP))} | changes
    manifest = json.dumps(tiny_manifest(files) | changes).encode()
    write_zip(path, {"bundle.json": manifest} | files, compression)
    return path


def write_zip(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> None:
    """The members as a zip, in order."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name, (2024, 1, 1, 0, 0, 0)), content, compression)


def tiny_manifest(files: dict[str, bytes]) -> dict[str, Any]:
    """bundle.json of the tiny bundle as plain values, listing `files`."""
    names = [*station_task.OUTPUT_VARIABLES, *(axis.name for axis in station_task.WIND_AXIS), "event:rain"]
    return {
        "schema": 1,
        "name": "tiny",
        "version": "0.0.1",
        "counter": 1,
        "task": "station",
        "created": "2024-01-01T00:00:00Z",
        "inputs": msgspec.to_builtins(station_task.INPUTS),
        "outputs": msgspec.to_builtins(station_task.outputs()),
        "step_s": station_task.TASK_STEP_S,
        "leads_s": list(LEADS_S),
        "quantiles": list(QUANTILES),
        "events": [msgspec.to_builtins(station_task.RAIN_EVENT)],
        "precision": "fp32",
        "runtime": {"onnxruntime": "1.20"},
        "files": [
            {"name": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in files.items()
        ],
        "budgets": [
            {
                "device": "raspberry_pi_4",
                "basis": "estimated",
                "model_bytes": len(next(content for name, content in files.items() if name.startswith("model."))),
                "note": "a test",
            }
        ],
        "tolerance": dict.fromkeys(names, 0.001),
        "skill": [],
        "provenance": {"data": [], "code": {"version": "test"}, "training": {"recipe": "none"}},
        "licence": "Apache-2.0",
    }


def tiny_arrays() -> dict[str, np.ndarray]:
    """Initializers of the tiny model: `width` [1, 24, 8, 11] is what the quantiles add to the mean."""
    normal = np.interp(QUANTILES, (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95),
                       (-1, -0.78, -0.51, -0.32, -0.154, 0, 0.154, 0.32, 0.51, 0.78, 1))  # fmt: skip
    growth = np.sqrt(np.asarray(LEADS_S) / 3600)
    width = growth[None, :, None, None] * np.asarray(SPREAD_1H)[None, None, :, None] * normal[None, None, None, :]
    return {
        "last": np.array([HISTORY_STEPS - 1], np.int64),
        "outputs": np.array([GRID_VARIABLES.index(name) for name in station_task.OUTPUT_VARIABLES], np.int64),
        "keeps": np.asarray(_KEEPS, np.float32),
        "no_change": np.zeros((1, len(LEADS_S), len(_KEEPS)), np.float32),
        "last_axis": np.array([3], np.int64),
        "width": width.astype(np.float32),
        "low": np.asarray(_LOW, np.float32)[:, None],
        "high": np.asarray(_HIGH, np.float32)[:, None],
        "speed_at": np.array([3], np.int64),
        "direction_at": np.array([5], np.int64),
        "rain_at": np.array([6], np.int64),
        "radians": np.array(math.pi / 180, np.float32),
        "odds": np.full((1, len(LEADS_S), 1), PROBABILITY, np.float32),
    }


def tiny_model(opset: int = 18, *, near: bool = False) -> bytes:
    """The tiny graph as ONNX bytes (IR 9, opset 18: any onnxruntime from 1.20 runs it)."""
    node = helper.make_node
    nodes = [
        node("Gather", ["history", "last"], ["newest"], axis=1),  # [S, 1, 8]
        node("Gather", ["newest", "outputs"], ["own" if near else "now"], axis=2),  # [S, 1, 8]
        *(_around() if near else ()),
        node("Mul", ["now", "keeps"], ["kept"]),
        node("Add", ["kept", "no_change"], ["mean"]),  # [S, 24, 8]
        node("Unsqueeze", ["mean", "last_axis"], ["centre"]),
        node("Add", ["centre", "width"], ["wide"]),  # [S, 24, 8, 11]
        node("Less", ["wide", "low"], ["too_low"]),  # comparing and choosing keeps NaN; Clip may not
        node("Where", ["too_low", "low", "wide"], ["raised"]),
        node("Greater", ["raised", "high"], ["too_high"]),
        node("Where", ["too_high", "high", "raised"], ["quantiles"]),
        node("Gather", ["mean", "speed_at"], ["speed"], axis=2),
        node("Gather", ["mean", "direction_at"], ["from"], axis=2),
        node("Mul", ["from", "radians"], ["angle"]),
        node("Sin", ["angle"], ["sine"]),
        node("Cos", ["angle"], ["cosine"]),
        node("Concat", ["sine", "cosine"], ["towards_origin"], axis=2),
        node("Mul", ["speed", "towards_origin"], ["upwind"]),
        node("Neg", ["upwind"], ["wind_uv"]),  # direction is where the wind comes from
        node("Gather", ["mean", "rain_at"], ["dry"], axis=2),  # 0, or NaN where rain is not measured
        node("Add", ["dry", "odds"], ["probability"]),
    ]
    kinds = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}

    def values(tensors: Any) -> list[onnx.ValueInfoProto]:
        return [helper.make_tensor_value_info(t.name, kinds[t.dtype], t.shape) for t in tensors]

    graph = helper.make_graph(
        nodes,
        "tiny",
        values((*station_task.INPUTS, station_task.GROUP) if near else station_task.INPUTS),
        values(station_task.outputs()),
        [numpy_helper.from_array(array, name) for name, array in (tiny_arrays() | (_PLACES if near else {})).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


_PLACES = {"first_axis": np.array([0], np.int64), "second_axis": np.array([1], np.int64), "nothing": np.float32(0)}


def _around() -> list[onnx.NodeProto]:
    """From `own` [S, 1, 7] to `now`, the mean over the rows of equal group and origin that have a value."""
    node = helper.make_node
    pairs = []
    for name in ("group", "origin"):
        pairs += [
            node("Unsqueeze", [name, "second_axis"], [f"{name}_of"]),
            node("Unsqueeze", [name, "first_axis"], [f"{name}_seen"]),
            node("Equal", [f"{name}_of", f"{name}_seen"], [f"{name}_same"]),
        ]
    return [
        *pairs,
        node("And", ["group_same", "origin_same"], ["sees"]),
        node("Cast", ["sees"], ["weight"], to=TensorProto.FLOAT),  # [S, S]
        node("Squeeze", ["own", "second_axis"], ["value"]),  # [S, 7]
        node("IsNaN", ["value"], ["missing"]),
        node("Where", ["missing", "nothing", "value"], ["filled"]),
        node("Not", ["missing"], ["there"]),
        node("Cast", ["there"], ["counts"], to=TensorProto.FLOAT),
        node("MatMul", ["weight", "filled"], ["total"]),
        node("MatMul", ["weight", "counts"], ["count"]),
        node("Div", ["total", "count"], ["mean_around"]),  # 0 / 0 is NaN: nobody has a value
        node("Unsqueeze", ["mean_around", "second_axis"], ["now"]),
    ]


def tiny_inputs(stations: int = 2, seed: int = 0, *, near: bool = False) -> dict[str, np.ndarray]:
    """Plausible inputs; the last station measures only temperature. `near`: all are of one group but the first."""
    rng = np.random.default_rng(seed)
    typical = np.array([12.0, 70.0, 1005.0, 3.0, 5.0, 200.0, 0.0, 150.0])
    noise = np.array([3.0, 8.0, 4.0, 1.0, 2.0, 40.0, 0.0, 50.0])
    history = typical + noise * rng.uniform(-1, 1, (stations, HISTORY_STEPS, len(GRID_VARIABLES)))
    history[-1, :, 1:] = np.nan
    return {
        "history": history.astype(np.float32),
        "site": np.tile(np.array([51.0, 3.7, 10.0, np.nan], np.float32), (stations, 1)),
        "origin": np.full(stations, 1_700_000_100, np.int64) // 900 * 900,
    } | ({"group": np.minimum(np.arange(stations), 1)} if near else {})


def tiny_expected(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the tiny model answers, in numpy."""
    arrays = tiny_arrays()
    now = inputs["history"][:, -1:, arrays["outputs"]]
    if "group" in inputs:
        at = np.stack([inputs["group"], inputs["origin"]], axis=1)
        sees = (at[:, None] == at).all(axis=2)
        counts = sees @ (~np.isnan(now[:, 0])).astype(np.float64)
        with np.errstate(invalid="ignore"):
            now = (sees @ np.nan_to_num(now[:, 0]) / counts)[:, None]
    now = now * arrays["keeps"]
    mean = (now + arrays["no_change"]).astype(np.float32)
    wide = mean[..., None] + arrays["width"]
    angle = mean[..., 5] * arrays["radians"]
    raised = np.where(wide < arrays["low"], arrays["low"], wide)
    wind = -mean[..., 3, None] * np.stack([np.sin(angle), np.cos(angle)], -1)
    return {
        "mean": mean,
        "quantiles": np.where(raised > arrays["high"], arrays["high"], raised),
        "wind_uv": wind.astype(np.float32),
        "probability": (mean[..., 6:7] + arrays["odds"]).astype(np.float32),
    }


def tiny_golden(stations: int = 2, *, near: bool = False) -> bytes:
    """golden.npz of the tiny model."""
    inputs = tiny_inputs(stations + near, near=near)
    named: dict[str, Any] = {f"in_{k}": v for k, v in inputs.items()} | {
        f"out_{k}": v for k, v in tiny_expected(inputs).items()
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **named)
    return buffer.getvalue()
