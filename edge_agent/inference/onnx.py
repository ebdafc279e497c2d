"""A bundle's graph on ONNX Runtime, set for a small device: little memory, few threads, no chatter. It runs on the
processor; on a device with a graphics processor there if that works, and on the processor if not.

Nothing is prepared or transformed here: physical units go in and come out.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as native  # type: ignore[import-untyped]

from edge_agent.bundle.manifest import Device, Manifest
from edge_agent.bundle.reader import Bundle
from edge_agent.errors import BundleError
from edge_agent.inference import Array
from edge_agent.inference.tensors import check, empty, feed_of

log = logging.getLogger(__name__)

CPU = "CPUExecutionProvider"
# What a device class may run a graph on, best first; the processor comes after these.
ACCELERATORS: dict[Device, tuple[str, ...]] = {"jetson_nano": ("TensorrtExecutionProvider", "CUDAExecutionProvider")}
ERRORS_ONLY = 3  # ONNX Runtime's log severity: errors only

# The runtime's own exceptions have no common base: every one it defines, and what its binding raises.
FAILURES: tuple[type[Exception], ...] = (
    *(value for value in vars(native).values() if isinstance(value, type) and issubclass(value, Exception)),
    RuntimeError,
    ValueError,
    TypeError,
    MemoryError,
)


class OnnxSession:
    """A loaded bundle (the `Session` protocol). Calls must not overlap. `threads`: how many cores one run may use;
    `device`: which class this board is, None: any that has a processor.

    Raises:
        BundleError: `runtime`, ONNX Runtime cannot load the model.
    """

    def __init__(self, bundle: Bundle, threads: int = 1, device: Device | None = None) -> None:
        self.manifest: Manifest = bundle.manifest
        self._outputs = [tensor.name for tensor in bundle.manifest.outputs]
        self._session = open_model(bundle.model, threads, bundle.manifest.name, device)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, NDArray[np.float32]]:
        """Named tensors in, named tensors out; shapes as the manifest says, S = 0 included.

        Raises:
            BundleError: `input`, one is missing, unknown or has the wrong shape; `runtime`, the model failed;
                `output`, it answered with the wrong shape.
        """
        feed = feed_of(self.manifest, inputs)
        stations = len(feed["history"])
        if stations == 0:
            return empty(self.manifest)
        try:
            results = self._session.run(self._outputs, feed)
        except FAILURES as error:
            raise BundleError("runtime", f"{self.manifest.name}: the model failed: {in_short(error)}") from error
        named = dict(zip(self._outputs, results, strict=True))
        for tensor in self.manifest.outputs:
            check(tensor, named[tensor.name], stations, "output")
        return named


def providers_for(device: Device | None, available: Collection[str]) -> list[list[str]]:
    """What to try, in order: execution providers that this device class has and this ONNX Runtime was built with, each
    with the processor for what it cannot run; last the processor alone."""
    wanted = [one for one in ACCELERATORS.get(device, ()) if one in available] if device else []
    return [*([one, CPU] for one in wanted), [CPU]]


def open_model(model: bytes, threads: int = 1, name: str = "model", device: Device | None = None) -> Any:
    """An `onnxruntime.InferenceSession` with a small device's settings; the factory measures with the same.

    Raises:
        BundleError: `runtime`, ONNX Runtime cannot load it.
    """
    onnxruntime.disable_telemetry_events()
    onnxruntime.set_default_logger_severity(ERRORS_ONLY)
    *accelerated, alone = providers_for(device, onnxruntime.get_available_providers())
    for providers in accelerated:
        try:
            session = onnxruntime.InferenceSession(model, _options(threads), providers=providers)
        except FAILURES as error:
            log.warning("%s: %s does not start here (%s)", name, providers[0], in_short(error))
            continue
        if providers[0] in session.get_providers():  # ONNX Runtime goes on without one whose libraries are missing
            return session
        log.warning("%s: %s does not start here: its libraries are missing or do not fit", name, providers[0])
    try:
        return onnxruntime.InferenceSession(model, _options(threads), providers=alone)
    except FAILURES as error:
        raise BundleError("runtime", f"{name}: onnxruntime cannot load it: {in_short(error)}") from error


def _options(threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.enable_cpu_mem_arena = False  # the arena never gives back what the largest batch took
    options.enable_mem_pattern = False
    options.log_severity_level = ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads must not heat a Pi
    options.add_session_config_entry("session.load_model_format", "ONNX")
    return options


def in_short(error: Exception) -> str:
    """The first line of what the runtime says."""
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
