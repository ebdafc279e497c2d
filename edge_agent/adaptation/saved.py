"""What a station has learned, as bytes and back.

A version, a checksum, and arrays whose shapes must be exactly those of a new state: bytes that are anything else are
refused with the reason. Forecasts that still wait for their verdicts are not kept: a restart costs six hours of them.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent.adaptation.features import CORRECTED
from edge_agent.adaptation.learner import Learner
from edge_agent.bundle.station_task import OUTPUT_VARIABLES
from edge_agent.errors import DataError

VERSION = b"learned4"  # grows whenever arrays, inputs or their meaning change: older bytes are then not used
MAX_BYTES = 16_000_000  # after decompression
_DIGEST = 32


class _Saved(msgspec.Struct, array_like=True):
    """`names`: what the axes stand for; `arrays`: in the order of `_places`."""

    names: tuple[str, ...]
    leads_s: tuple[int, ...]
    levels: tuple[float, ...]
    expert: bool
    bundle: str
    learned_until: int
    arrays: list[bytes]


def pack(learner: Learner) -> bytes:
    """The state as bytes, at most 2 MB for 24 leads with the local expert."""
    arrays = [np.ascontiguousarray(_half(array), np.float32).tobytes() for array in _places(learner)]
    saved = _Saved(
        _names(learner), learner.leads_s, learner.levels, learner.expert is not None, learner.bundle,
        learner.learned_until, arrays,
    )  # fmt: skip
    body = zlib.compress(msgspec.msgpack.encode(saved), 1)
    return VERSION + hashlib.sha256(body).digest() + body


def unpack(data: bytes, learner: Learner) -> None:
    """Give a new learner the state in those bytes.

    Raises:
        DataError: another version, damaged, or of other leads, levels, events or parts; the learner is then as new.
    """
    start = len(VERSION) + _DIGEST
    if data[: len(VERSION)] != VERSION:
        raise DataError("it was kept by another version of the agent, or is damaged")
    body = data[start:]
    if hashlib.sha256(body).digest() != data[len(VERSION) : start]:
        raise DataError("it is damaged: its checksum is another")
    inflating = zlib.decompressobj()
    try:
        saved = msgspec.msgpack.decode(inflating.decompress(body, MAX_BYTES), type=_Saved)
    except (zlib.error, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DataError(f"it cannot be read ({error})") from None
    ours = (_names(learner), learner.leads_s, learner.levels, learner.expert is not None)
    if (saved.names, saved.leads_s, saved.levels, saved.expert) != ours:
        raise DataError("it was learned for other leads, levels or events")
    places = list(_places(learner))
    found = [np.frombuffer(array, np.float32) for array in saved.arrays]
    if [len(array) for array in found] != [_half(place).size for place in places] or not all(
        np.isfinite(array).all() for array in found
    ):
        raise DataError("its numbers are not those of such a state")
    for place, array in zip(places, found, strict=True):
        _fill(place, array)
    learner.bundle, learner.learned_until = saved.bundle, saved.learned_until
    if learner.expert is not None and learner.curves is not None:
        learner.expert.solve_all()
        learner.curves.solve()


def _names(learner: Learner) -> tuple[str, ...]:
    return (*OUTPUT_VARIABLES, *CORRECTED, *(event.name for event in learner.events))


def _places(learner: Learner) -> Iterator[NDArray[np.floating]]:
    """The arrays of a state, in the order in which they are kept; they are filled in place."""
    yield from (learner.unit_squares, learner.squares, learner.taken)
    yield from (learner.correction.weights, learner.correction.covariance)
    recent = learner.recent
    yield from (recent.newest, recent.hours, recent.week, recent.day)
    yield from (learner.calibration.terms, learner.calibration.quick, learner.calibration.verdicts)
    yield from (learner.chances.terms, learner.chances.scores)
    yield from (learner.darkness.readings, learner.darkness.taken, learner.resolution)
    for sums in (learner.expert, learner.curves):
        if sums is not None:
            yield from (sums.rows, sums.crossed, sums.products)


def _half(array: NDArray[np.floating]) -> NDArray[np.floating]:
    """An array, or one half with the diagonal where it holds symmetric matrices."""
    if _symmetric(array):
        row, column = np.triu_indices(array.shape[-1])
        return np.asarray(array[:, row, column])
    return array


def _fill(place: NDArray[np.floating], values: NDArray[np.float32]) -> None:
    if _symmetric(place):
        row, column = np.triu_indices(place.shape[-1])
        half = values.reshape(len(place), -1)
        place[:, row, column] = half
        place[:, column, row] = half
    else:
        place[...] = values.reshape(place.shape)


def _symmetric(array: NDArray[np.floating]) -> bool:
    return array.ndim == 3 and array.shape[1] == array.shape[2]
