"""What a manifest and a graph must say for this agent to run them. Every refusal names the thing refused.

Pure: bytes and structs in, nothing or a `BundleError` out. Files and zips belong to `reader`.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from typing import Literal

import msgspec

from edge_agent.bundle import station_task
from edge_agent.bundle.devices import DEVICES
from edge_agent.bundle.manifest import SCHEMA_VERSION, Axis, Device, Manifest, Tensor
from edge_agent.bundle.onnx_wire import ModelFacts, ValueType, read_model
from edge_agent.bundle.tflite_wire import TfliteFacts, read_tflite
from edge_agent.clock import parse_time
from edge_agent.errors import BundleError, DataError
from edge_agent.variables import VARIABLES

STANDARD_DOMAINS = ("", "ai.onnx")
# ONNX Runtime's own operators that quantized models need; everything else of its domain is refused.
CONTRIBUTED = frozenset({"DequantizeLinear", "MatMulNBits", "QGemm", "QuantizeLinear"})
REPEATING = frozenset({"Loop", "Scan", "SequenceMap"})  # refused: a run of the model has no time limit
MAX_LEADS, MAX_QUANTILES = 96, 99
TASKS = ("station",)
# The newest formats onnx_wire was written for; onnxruntime 1.20 runs them.
MAX_IR_VERSION, MAX_OPSET = 10, 21
ONNX: Literal["onnxruntime"] = "onnxruntime"
LITERT: Literal["ai-edge-litert"] = "ai-edge-litert"
_RUNTIME_PACKAGES = {ONNX: ("onnxruntime", "onnxruntime-gpu"), LITERT: (LITERT,)}
# Of LiteRT's builtin operators: calls of other graphs, custom code, delegates, loops; and all newer than those known.
TFLITE_REFUSED, TFLITE_LAST = frozenset({31, 32, 51, 118, 119, 129}), 161
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_VERSION = re.compile(r"\d{1,6}(\.\d{1,6}){0,3}")


class _Head(msgspec.Struct):
    """The two fields that say whether the rest can be understood."""

    schema: int
    task: str


def decode_manifest(raw: bytes) -> Manifest:
    """bundle.json as a struct.

    Raises:
        BundleError: `schema-version`, `task`, `unknown-key` (with the nearest known one) or `manifest`.
    """
    try:
        head = msgspec.json.decode(raw, type=_Head)
        if head.schema != SCHEMA_VERSION:
            raise BundleError(
                "schema-version",
                f"bundle.json has schema {head.schema}, this agent reads {SCHEMA_VERSION}: a newer agent may read it",
            )
        if head.task not in TASKS:
            raise BundleError("task", f'task "{head.task[:40]}" is not one of {", ".join(TASKS)}')
        return msgspec.json.decode(raw, type=Manifest, strict=True)
    except msgspec.ValidationError as error:
        raise _explained(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError("manifest", f"bundle.json is not JSON: {error}") from error


def check_manifest(manifest: Manifest, device: Device | None, model_bytes: int) -> None:
    """The manifest against itself, the task, and the device's limits.

    Raises:
        BundleError: see the words in docs/bundle.md.
    """
    _check_identity(manifest)
    _check_grid(manifest)
    _check_tensors(manifest)
    _check_tolerance(manifest)
    _check_runtime(manifest)
    _check_budgets(manifest, device, model_bytes)


def check_model(manifest: Manifest, model: bytes) -> None:
    """The graph against the manifest: same inputs and outputs, only known operators, nothing outside the file.

    Raises:
        BundleError: `model`, `oversize`, `opset`, `external-data`, `operator`, `graph` or `precision`.
    """
    if LITERT in manifest.runtime:
        return _check_tflite(manifest, read_tflite(model))
    facts = read_model(model)
    _check_format(facts)
    if facts.external:
        raise BundleError("external-data", f'tensor "{facts.external[0][:80]}" keeps its values outside the bundle')
    if facts.trains:
        raise BundleError("model", "model.onnx contains training graphs")
    _check_operators(facts)
    for declared, values, kind in (
        (manifest.inputs, facts.inputs, "input"),
        (manifest.outputs, facts.outputs, "output"),
    ):
        _check_values(declared, values, kind)
    quantized = {"int8": {"DequantizeLinear"}, "int4": {"DequantizeLinear", "MatMulNBits"}}.get(manifest.precision)
    if quantized and quantized.isdisjoint(operator for _, operator in facts.operators):
        raise BundleError("precision", f"bundle.json says {manifest.precision}, but nothing in the graph is quantized")


def _check_tflite(manifest: Manifest, facts: TfliteFacts) -> None:
    if facts.custom:
        raise BundleError("operator", f'operator "{facts.custom[0][:60]}" is not one of the runtime\'s own')
    refused = sorted(code for code in facts.operators if code in TFLITE_REFUSED or code > TFLITE_LAST)
    if refused:
        raise BundleError("operator", f"operator number {refused[0]} of LiteRT is not one this agent runs")
    for declared, names, kind in (
        (manifest.inputs, facts.inputs, "input"),
        (manifest.outputs, facts.outputs, "output"),
    ):
        if {tensor.name for tensor in declared} != set(names):
            raise BundleError("graph", f"the graph's {kind}s are {', '.join(names)[:200]}, not those of bundle.json")


def _explained(message: str) -> BundleError:
    """A msgspec message as a refusal; an unknown key gets the nearest known one."""
    unknown = re.search(r"unknown field `(.{0,80}?)`(?: - at|$)", message)
    if unknown is None:
        return BundleError("manifest", f"bundle.json: {message}")
    known = {field.name for part in _parts() for field in msgspec.structs.fields(part)}
    near = get_close_matches(unknown[1], sorted(known), n=1)
    hint = f' (did you mean "{near[0]}"?)' if near else ""
    return BundleError("unknown-key", f"bundle.json: {message}{hint}")


def _parts() -> list[type[msgspec.Struct]]:
    from edge_agent.bundle import manifest

    structs = (value for value in vars(manifest).values() if isinstance(value, type))
    return [part for part in structs if issubclass(part, msgspec.Struct)]


def _check_identity(manifest: Manifest) -> None:
    if not _NAME.fullmatch(manifest.name):
        raise BundleError("manifest", f"name {manifest.name[:40]!r}: write a-z, 0-9, . _ -, at most 64 of them")
    if manifest.counter < 1:
        raise BundleError("counter", f"release counter {manifest.counter}: it starts at 1 and grows with every release")
    try:
        parse_time(manifest.created)
    except DataError as error:
        raise BundleError("manifest", f"created: {error}") from error


def _check_grid(manifest: Manifest) -> None:
    """Steps, leads, quantile levels and events."""
    step, leads, levels = manifest.step_s, manifest.leads_s, manifest.quantiles
    if step != station_task.TASK_STEP_S:
        raise BundleError("leads", f"step_s is {step}, the station task has {station_task.TASK_STEP_S}")
    if not leads or leads[0] < 1 or any(b <= a for a, b in pairwise(leads)) or any(lead % step for lead in leads):
        raise BundleError("leads", f"leads_s must grow, from {step} s on, in whole steps")
    if any(lead % leads[0] for lead in leads):
        raise BundleError("leads", f"leads_s must be multiples of the first, {leads[0]} s")
    if len(leads) > MAX_LEADS:
        raise BundleError("leads", f"{len(leads)} leads, at most {MAX_LEADS} are allowed")
    if len(levels) > MAX_QUANTILES:
        raise BundleError("quantiles", f"{len(levels)} quantiles, at most {MAX_QUANTILES} are allowed")
    if any(b <= a for a, b in pairwise(levels)) or any(not 0 < level < 1 for level in levels):
        raise BundleError("quantiles", "quantiles must grow and lie between 0 and 1")
    lacking = [f"{level:g}" for level in station_task.REQUIRED_QUANTILES if level not in levels]
    if lacking:
        raise BundleError("quantiles", f"quantiles lack {', '.join(lacking)}")
    names = [event.name for event in manifest.events]
    if len(set(names)) != len(names):
        raise BundleError("events", "two events have the same name")
    for event in manifest.events:
        if event.variable not in station_task.OUTPUT_VARIABLES:
            raise BundleError(
                "events", f'event "{event.name[:40]}" is about "{event.variable[:40]}", which is not forecast'
            )
        if event.unit != VARIABLES[event.variable].unit:
            raise BundleError(
                "units", f'event "{event.name[:40]}" is in "{event.unit[:20]}", not in {_unit(event.variable)}'
            )


def _check_tensors(manifest: Manifest) -> None:
    expected = {tensor.name: tensor for tensor in station_task.INPUTS}
    optional = {"group": station_task.GROUP}
    guidance = next((tensor for tensor in manifest.inputs if tensor.name == "guidance"), None)
    if guidance is not None:
        optional["guidance"] = _guidance(guidance, len(manifest.leads_s))
    _check_declared(manifest.inputs, expected, optional, "input")
    outputs = station_task.outputs(len(manifest.leads_s), len(manifest.quantiles), manifest.events)
    _check_declared(manifest.outputs, {tensor.name: tensor for tensor in outputs}, {}, "output")


def _guidance(declared: Tensor, leads: int) -> Tensor:
    """What a guidance input must look like: any vocabulary variables, at the bundle's leads."""
    names = [axis.name for axis in declared.axis]
    for name in names:
        if name not in VARIABLES or names.count(name) > 1:
            raise BundleError(
                "tensor", f'input "guidance": "{name[:40]}" is not a variable of the vocabulary, or stands twice'
            )
    axis = tuple(Axis(name, _unit(name)) for name in names)
    return Tensor("guidance", "float32", ("S", leads, len(axis)), axis)


def _check_declared(
    declared: tuple[Tensor, ...], required: dict[str, Tensor], optional: dict[str, Tensor], kind: str
) -> None:
    """Declared tensors against the task's, by name."""
    names = [tensor.name for tensor in declared]
    for name in required:
        if name not in names:
            raise BundleError("tensor-missing", f'{kind} "{name}" is not declared')
    known = required | optional
    for tensor in declared:
        expected = known.get(tensor.name)
        if expected is None:
            near = get_close_matches(tensor.name, known, n=1)
            hint = f' (did you mean "{near[0]}"?)' if near else ""
            raise BundleError("tensor", f'{kind} "{tensor.name[:40]}" is not one this agent knows{hint}')
        if names.count(tensor.name) > 1:
            raise BundleError("tensor", f'{kind} "{tensor.name}" is declared twice')
        _check_tensor(tensor, expected, kind)


def _check_tensor(tensor: Tensor, expected: Tensor, kind: str) -> None:
    what = f'{kind} "{tensor.name}"'
    if tensor.dtype != expected.dtype:
        raise BundleError("tensor", f"{what} is {tensor.dtype}, not {expected.dtype}")
    if tensor.shape != expected.shape:
        raise BundleError("tensor", f"{what} has shape {_shape(tensor.shape)}, not {_shape(expected.shape)}")
    names, right = [axis.name for axis in tensor.axis], [axis.name for axis in expected.axis]
    if names != right:
        if sorted(names) == sorted(right):
            raise BundleError("order", f"{what} has {', '.join(names)}; the order is {', '.join(right)}")
        odd = next((name for name in names if name not in right), "too few or too many")
        raise BundleError("tensor", f'{what}: its axis is {", ".join(right)}; found "{odd[:40]}"')
    for axis, wanted in zip(tensor.axis, expected.axis, strict=True):
        if axis.unit != wanted.unit:
            raise BundleError("units", f'{what}: {axis.name} is in "{axis.unit[:20]}", not in {wanted.unit}')


def _check_tolerance(manifest: Manifest) -> None:
    for name in tolerated(manifest):
        if manifest.tolerance.get(name, 0.0) <= 0.0:
            raise BundleError("tolerance", f'tolerance of "{name}" is missing or not above 0')


def tolerated(manifest: Manifest) -> tuple[str, ...]:
    """Names a tolerance is needed for: every output variable, the wind components, and `event:<name>`."""
    names = dict.fromkeys(axis.name for t in manifest.outputs if t.name != "probability" for axis in t.axis)
    return (*names, *(f"event:{event.name}" for event in manifest.events))


def _check_runtime(manifest: Manifest) -> None:
    for name, floor in manifest.runtime.items():
        if name not in _RUNTIME_PACKAGES or not _VERSION.fullmatch(floor):
            known = " and ".join(_RUNTIME_PACKAGES)
            raise BundleError(
                "runtime", f'it needs "{name[:40]}" {floor[:20]!r}; this agent runs {known}, floors like "1.20"'
            )
    if len(manifest.runtime) != 1:
        raise BundleError("runtime", "it names no version of onnxruntime or ai-edge-litert that it needs, or both")
    ((name, floor),) = manifest.runtime.items()
    if name == LITERT and manifest.looks_around:
        raise BundleError("runtime", f'{name} runs one station at a time: the input "group" needs {ONNX}')
    here = installed_runtime(name)
    if _parsed(here) < _parsed(floor):
        raise BundleError("runtime", f"it needs {name} >= {floor}, this device has {here}")


def installed_runtime(name: str = ONNX) -> str:
    """Version of a runtime installed here; not imported, that takes a second on a small device.

    Raises:
        BundleError: `runtime`, there is none.
    """
    for package in _RUNTIME_PACKAGES[name]:
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    raise BundleError("runtime", f"{name} is not installed: pip install {name}")


def _parsed(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


def _check_budgets(manifest: Manifest, device: Device | None, model_bytes: int) -> None:
    for row in manifest.budgets:
        if row.model_bytes != model_bytes:
            raise BundleError(
                "budget", f"the row for {row.device} says {row.model_bytes} bytes, model.onnx has {model_bytes}"
            )
    if device is None:
        return
    limit = DEVICES[device]
    if model_bytes > limit.model_bytes:
        raise BundleError("over-budget", f"model.onnx has {model_bytes} bytes, a {device} carries {limit.model_bytes}")
    for row in manifest.budgets:
        if row.device != device:
            continue
        if row.peak_rss_mb is not None and row.peak_rss_mb > limit.peak_rss_mb:
            raise BundleError(
                "over-budget", f"it takes {row.peak_rss_mb:g} MB, a {device} allows {limit.peak_rss_mb:g}"
            )
        if row.p95_ms is not None and row.p95_ms > limit.p95_ms:
            raise BundleError("over-budget", f"it takes {row.p95_ms:g} ms, a {device} allows {limit.p95_ms:g}")


def _check_format(facts: ModelFacts) -> None:
    opset = max((facts.opsets.get(domain, 0) for domain in STANDARD_DOMAINS), default=0)
    if not 1 <= facts.ir_version <= MAX_IR_VERSION or not 1 <= opset <= MAX_OPSET:
        found, newest = f"IR version {facts.ir_version} and opset {opset}", f"{MAX_IR_VERSION} and {MAX_OPSET}"
        raise BundleError("opset", f"model.onnx has {found}; this agent reads up to {newest}")


def _check_operators(facts: ModelFacts) -> None:
    for domain, name in sorted(facts.functions):
        if domain not in STANDARD_DOMAINS:
            raise BundleError(
                "operator", f'the model defines a function "{name[:60]}" in the foreign domain "{domain[:60]}"'
            )
    for domain, operator in sorted(facts.operators):
        if operator in REPEATING:
            raise BundleError("operator", f'operator "{operator}" may run for ever; this agent runs none that repeat')
        allowed = domain in STANDARD_DOMAINS or (domain == "com.microsoft" and operator in CONTRIBUTED)
        if not allowed:
            raise BundleError(
                "operator", f'operator "{operator[:60]}" of domain "{domain[:60]}" is not one this agent runs'
            )


def _check_values(declared: tuple[Tensor, ...], values: dict[str, ValueType], kind: str) -> None:
    for tensor in declared:
        value = values.get(tensor.name)
        if value is None:
            raise BundleError("graph", f'the graph has no {kind} "{tensor.name}"')
        if value.dtype != tensor.dtype:
            raise BundleError(
                "graph", f'{kind} "{tensor.name}" is {value.dtype} in the graph, bundle.json says {tensor.dtype}'
            )
        if value.shape is not None and not _fits(value.shape, tensor.shape):
            found, stated = _shape(value.shape), _shape(tensor.shape)
            raise BundleError("graph", f'{kind} "{tensor.name}" is {found} in the graph, bundle.json says {stated}')
    extra = set(values) - {tensor.name for tensor in declared}
    if extra:
        raise BundleError("graph", f'the graph has an {kind} "{min(extra)[:60]}" that bundle.json does not declare')


def _fits(found: tuple[int | str | None, ...], declared: tuple[int | str, ...]) -> bool:
    """The station axis must be free in the graph; a fixed length there is the declared one, or left open."""
    if len(found) != len(declared):
        return False
    return all(isinstance(a, str) or a is None if isinstance(b, str) else a == b or not isinstance(a, int)
               for a, b in zip(found, declared, strict=True))  # fmt: skip


def _shape(shape: tuple[int | str | None, ...]) -> str:
    return "[" + ", ".join("?" if length is None else str(length)[:20] for length in shape) + "]"


def _unit(name: str) -> str:
    return VARIABLES[name].unit
