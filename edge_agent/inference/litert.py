"""A bundle's graph on LiteRT, the second runtime: for devices and phones where ONNX Runtime is not to be had.

Nothing is prepared or transformed here: physical units go in and come out. The converter knows fixed shapes only, so
stations are run one after the other; and 32-bit whole numbers, so `origin` ends on 19 January 2038.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle.manifest import Manifest
from edge_agent.bundle.reader import Bundle
from edge_agent.errors import BundleError
from edge_agent.inference import Array
from edge_agent.inference.tensors import check, empty, feed_of

INPUTS = ("history", "site", "origin")
LAST_ORIGIN = 2**31 - 1

_FAILURES = (RuntimeError, ValueError, TypeError, MemoryError, KeyError)


class LitertSession:
    """A loaded bundle (the `Session` protocol). Calls must not overlap. `threads`: how many cores one run may use.

    Raises:
        BundleError: `runtime`, LiteRT cannot load the model.
    """

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:
        self.manifest: Manifest = bundle.manifest
        self._runner = Runner(bundle.model, threads, bundle.manifest.name)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, NDArray[np.float32]]:
        """As `OnnxSession.run`.

        Raises:
            BundleError: as there; `input` also for an origin after 2038.
        """
        feed = feed_of(self.manifest, inputs)
        stations = len(feed["history"])
        if stations == 0:
            return empty(self.manifest)
        if feed["origin"].max() > LAST_ORIGIN:
            raise BundleError("input", f'"origin" {feed["origin"].max()} is after 2038-01-19: LiteRT counts in 32 bits')
        rows = [self._runner.run({n: v[i : i + 1] for n, v in feed.items()}) for i in range(stations)]
        named = {t.name: np.concatenate([row[t.name] for row in rows]) for t in self.manifest.outputs}
        for tensor in self.manifest.outputs:
            check(tensor, named[tensor.name], stations, "output")
        return named


class Runner:
    """A model of one station by the names of its inputs and outputs."""

    def __init__(self, model: bytes, threads: int = 1, name: str = "model") -> None:
        from ai_edge_litert.interpreter import Interpreter  # type: ignore[import-untyped]

        self._name = name
        try:
            self._interpreter = Interpreter(model_content=model, num_threads=threads)
            self._run: Any = self._interpreter.get_signature_runner()
            self._types = {key: about["dtype"] for key, about in self._run.get_input_details().items()}
        except _FAILURES as error:
            raise BundleError("runtime", f"{name}: LiteRT cannot load it: {str(error)[:300]}") from error

    def run(self, feed: Mapping[str, Array]) -> dict[str, NDArray[np.float32]]:
        """Inputs and outputs with one row each. Raises BundleError: `runtime`, the model failed."""
        try:
            found = self._run(**{key: np.asarray(feed[key], kind) for key, kind in self._types.items()})
        except _FAILURES as error:
            raise BundleError("runtime", f"{self._name}: the model failed: {str(error)[:300]}") from error
        return {key: np.array(value) for key, value in found.items()}
