"""What goes into a bundle's graph and comes out of it, held against the manifest: the same for every runtime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle.manifest import Manifest, Tensor
from edge_agent.errors import BundleError
from edge_agent.inference import Array

OPTIONAL = ("guidance", "group")


def feed_of(manifest: Manifest, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The inputs in the declared types, with optional ones filled in.

    Raises:
        BundleError: `input`, one is missing, unknown or has the wrong shape.
    """
    known = {tensor.name for tensor in manifest.inputs}
    odd = set(inputs) - known - set(OPTIONAL)
    if odd or "history" not in inputs:
        raise BundleError("input", f'"{min(odd)}" is not an input' if odd else '"history" is missing')
    stations = len(inputs["history"])
    feed: dict[str, Array] = {}
    for tensor in manifest.inputs:
        given = inputs.get(tensor.name)
        value = _default(tensor, stations) if given is None else np.ascontiguousarray(given, tensor.dtype)
        check(tensor, value, stations, "input")
        feed[tensor.name] = value
    return feed


def empty(manifest: Manifest) -> dict[str, NDArray[np.float32]]:
    """The outputs for no station."""
    return {tensor.name: np.empty(_concrete(tensor, 0), np.float32) for tensor in manifest.outputs}


def check(tensor: Tensor, value: Any, stations: int, kind: str) -> None:
    """A tensor's type and shape. Raises BundleError: `kind`, it has another."""
    expected = _concrete(tensor, stations)
    if not isinstance(value, np.ndarray) or value.shape != expected or value.dtype != tensor.dtype:
        found = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
        raise BundleError(kind, f'{kind} "{tensor.name}" must be {tensor.dtype} {expected}, found {found}')


def _default(tensor: Tensor, stations: int) -> Array:
    """An optional input that nobody gave: no guidance; every row a group of its own."""
    if tensor.name == "guidance":
        return np.full(_concrete(tensor, stations), np.nan, np.float32)
    if tensor.name == "group":
        return np.arange(stations, dtype=np.int64)
    raise BundleError("input", f'"{tensor.name}" is missing')


def _concrete(tensor: Tensor, stations: int) -> tuple[int, ...]:
    return tuple(stations if isinstance(length, str) else length for length in tensor.shape)
