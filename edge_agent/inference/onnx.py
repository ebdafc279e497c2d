"""A bundle's graph on ONNX Runtime's CPU provider, set for a small device: little memory, few threads, no chatter.

Nothing is prepared or transformed here: physical units go in and come out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as native  # type: ignore[import-untyped]

from edge_agent.bundle.manifest import Manifest, Tensor
from edge_agent.bundle.reader import Bundle
from edge_agent.errors import BundleError
from edge_agent.inference import Array

OPTIONAL = ("guidance", "group")
_ERROR = 3  # ONNX Runtime's log severity: errors only

# The runtime's own exceptions have no common base: every one it defines, and what its binding raises.
_FAILURES: tuple[type[Exception], ...] = (
    *(value for value in vars(native).values() if isinstance(value, type) and issubclass(value, Exception)),
    RuntimeError,
    ValueError,
    TypeError,
    MemoryError,
)


class OnnxSession:
    """A loaded bundle (the `Session` protocol). Calls must not overlap. `threads`: how many cores one run may use.

    Raises:
        BundleError: `runtime`, ONNX Runtime cannot load the model.
    """

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:
        self.manifest: Manifest = bundle.manifest
        self._outputs = [tensor.name for tensor in bundle.manifest.outputs]
        self._session = open_model(bundle.model, threads, bundle.manifest.name)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, NDArray[np.float32]]:
        """Named tensors in, named tensors out; shapes as the manifest says, S = 0 included.

        Raises:
            BundleError: `input`, one is missing, unknown or has the wrong shape; `runtime`, the model failed;
                `output`, it answered with the wrong shape.
        """
        feed = self._feed(inputs)
        stations = len(feed["history"])
        if stations == 0:
            return {t.name: np.empty(_concrete(t, 0), np.float32) for t in self.manifest.outputs}
        try:
            results = self._session.run(self._outputs, feed)
        except _FAILURES as error:
            raise BundleError("runtime", f"{self.manifest.name}: the model failed: {_short(error)}") from error
        named = dict(zip(self._outputs, results, strict=True))
        for tensor in self.manifest.outputs:
            _check(tensor, named[tensor.name], stations, "output")
        return named

    def _feed(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The inputs in the declared types, with optional ones filled in."""
        known = {tensor.name for tensor in self.manifest.inputs}
        odd = set(inputs) - known - set(OPTIONAL)
        if odd or "history" not in inputs:
            raise BundleError("input", f'"{min(odd)}" is not an input' if odd else '"history" is missing')
        stations = len(inputs["history"])
        feed: dict[str, Array] = {}
        for tensor in self.manifest.inputs:
            given = inputs.get(tensor.name)
            value = _default(tensor, stations) if given is None else np.ascontiguousarray(given, tensor.dtype)
            _check(tensor, value, stations, "input")
            feed[tensor.name] = value
        return feed


def open_model(model: bytes, threads: int = 1, name: str = "model") -> Any:
    """An `onnxruntime.InferenceSession` with a small device's settings; the factory measures with the same.

    Raises:
        BundleError: `runtime`, ONNX Runtime cannot load it.
    """
    onnxruntime.disable_telemetry_events()
    onnxruntime.set_default_logger_severity(_ERROR)
    try:
        return onnxruntime.InferenceSession(model, _options(threads), providers=["CPUExecutionProvider"])
    except _FAILURES as error:
        raise BundleError("runtime", f"{name}: onnxruntime cannot load it: {_short(error)}") from error


def _options(threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.enable_cpu_mem_arena = False  # the arena never gives back what the largest batch took
    options.enable_mem_pattern = False
    options.log_severity_level = _ERROR
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads must not heat a Pi
    options.add_session_config_entry("session.load_model_format", "ONNX")
    return options


def _default(tensor: Tensor, stations: int) -> Array:
    """An optional input that nobody gave: no guidance; every row a group of its own."""
    if tensor.name == "guidance":
        return np.full(_concrete(tensor, stations), np.nan, np.float32)
    if tensor.name == "group":
        return np.arange(stations, dtype=np.int64)
    raise BundleError("input", f'"{tensor.name}" is missing')


def _check(tensor: Tensor, value: Any, stations: int, kind: str) -> None:
    expected = _concrete(tensor, stations)
    if not isinstance(value, np.ndarray) or value.shape != expected or value.dtype != tensor.dtype:
        found = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
        raise BundleError(kind, f'{kind} "{tensor.name}" must be {tensor.dtype} {expected}, found {found}')


def _concrete(tensor: Tensor, stations: int) -> tuple[int, ...]:
    return tuple(stations if isinstance(length, str) else length for length in tensor.shape)


def _short(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
