"""A station's day on the 15-minute grid, kept up to date reading by reading, and 30 such days as a bundle's history.

Pure: numbers and bytes, no files. Readings may come in any order; the result is that of `grid.on_grid` on all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent import grid
from edge_agent.variables import VARIABLES, Kind

DAY_S = 86_400
COLUMNS = {name: column for column, name in enumerate(grid.GRID_VARIABLES)}
KINDS = tuple(VARIABLES[name].kind for name in grid.GRID_VARIABLES)
WORST_RANK = 254
_NO_RANK = 255

_SHAPE = (grid.STEPS_PER_DAY, len(grid.GRID_VARIABLES))
_CELLS = _SHAPE[0] * _SHAPE[1]
# Packed one after the other, each [96, 8]. Little-endian, which is what every supported device is.
_PARTS = {"value": "<f4", "first": "<u2", "latest": "<u2", "count": "<u2", "rank": "u1"}
_ENDS = np.cumsum([_CELLS * np.dtype(dtype).itemsize for dtype in _PARTS.values()]).tolist()
_STARTS = dict(zip(_PARTS, [0, *_ENDS], strict=False))
PACKED_BYTES: int = _ENDS[-1]


class DayCells:
    """One station and UTC day: the steps 00:00 to 23:45.

    Per step and variable: `value`; how many seconds before the step its `first` and `latest` reading came; their
    `count`; the `rank` of the source they came from. A better source (lower rank) replaces a cell, a worse one is
    ignored.
    """

    __slots__ = ("_buffer", "count", "first", "latest", "rank", "value")

    def __init__(self, packed: bytes | None = None) -> None:
        self._buffer = bytearray(_EMPTY if packed is None else packed)
        self.value, self.first, self.latest, self.count, self.rank = (
            np.frombuffer(self._buffer, dtype, _CELLS, _STARTS[name]).reshape(_SHAPE) for name, dtype in _PARTS.items()
        )

    def put(self, t: int, column: int, value: float, rank: int) -> None:
        """Take a reading: `t` within this day's steps, `column` as in `COLUMNS`, `rank` 0 to 254. Of readings at the
        same time the last one given stands."""
        step = step_of(t)
        at, before = (step % DAY_S) // grid.STEP_S, step - t
        held = self.rank[at, column]
        if rank > held:
            return
        if rank < held:
            self.value[at, column], self.rank[at, column] = value, rank
            self.first[at, column] = self.latest[at, column] = before
            self.count[at, column] = 1
            return
        kind, latest = KINDS[column], self.latest[at, column]
        if kind is Kind.SUM:
            self.value[at, column] += value
        elif kind is Kind.MAXIMUM:
            self.value[at, column] = max(self.value[at, column], value)
        elif before <= latest:
            self.value[at, column] = value
        self.latest[at, column] = min(latest, before)
        self.first[at, column] = max(self.first[at, column], before)
        self.count[at, column] = min(int(self.count[at, column]) + 1, 0xFFFF)

    def clear(self, step: int) -> None:
        """Forget the readings of one step of this day."""
        at = step % DAY_S // grid.STEP_S
        self.value[at], self.rank[at] = np.nan, _NO_RANK
        self.first[at] = self.latest[at] = self.count[at] = 0

    def packed(self) -> bytes:
        """The day as bytes, `PACKED_BYTES` long."""
        return bytes(self._buffer)


def day_of(t: int) -> int:
    """The day, counted from 1970-01-01 UTC, whose steps take a reading at `t`."""
    return step_of(t) // DAY_S


def history(days: Mapping[int, bytes], origin: int) -> NDArray[np.float32]:
    """The 30 days that end at `origin`.

    Args:
        days: packed cells by day; days that are not there have no readings.
        origin: UTC seconds, a multiple of 900.

    Returns:
        [2880, 8], columns as `grid.GRID_VARIABLES`, NaN = missing; states held as `grid.on_grid` does, by the cadence
        of the readings in these 30 days.
    """
    steps = _steps_to(origin)
    value, first, latest, count = _window(days, origin, "value", "first", "latest", "count")
    out = np.ascontiguousarray(value)
    for column, kind in enumerate(KINDS):
        filled = np.flatnonzero(count[:, column])
        if kind is Kind.SUM or len(filled) in (0, len(steps)):
            continue
        earliest_t, latest_t = steps - first[:, column], steps - latest[:, column]
        often = _comes_often(earliest_t[filled], latest_t[filled], count[filled, column])
        hold_s = grid.HOLD_S if often else grid.HOLD_HOURLY_S
        out[:, column] = grid.hold(value[:, column].astype(np.float64), latest_t, steps, kind, hold_s)
    return out


def ages(days: Mapping[int, bytes], origin: int) -> dict[str, int]:
    """Variable -> seconds from the newest reading that is in `history` of these days to `origin`; those without any are
    left out."""
    steps = _steps_to(origin)
    latest, count = _window(days, origin, "latest", "count")
    filled = count > 0
    newest = len(steps) - 1 - filled[::-1].argmax(axis=0)
    return {
        name: int(origin - (steps[newest[column]] - latest[newest[column], column]))
        for name, column in COLUMNS.items()
        if filled[newest[column], column]
    }


def _comes_often(first: grid.Times, latest: grid.Times, count: NDArray[np.uint16]) -> bool:
    """True if `grid.cadence_s` of the readings behind these cells is at most a step: spacings within a cell are below a
    step, those between cells are known, so the spacings of at most a step are counted against half of all."""
    spacings = int(count.sum()) - 1
    if spacings < 1:
        return False
    long = int(np.count_nonzero(first[1:] - latest[:-1] > grid.STEP_S))
    return spacings - long > (spacings - 1) // 2


def step_of(t: int) -> int:
    """`grid.step_of` for one time: the first step at or after it."""
    return -(-t // grid.STEP_S) * grid.STEP_S


def _steps_to(origin: int) -> grid.Times:
    return origin + grid.STEP_S * np.arange(1 - grid.HISTORY_STEPS, 1, dtype=np.int64)


def _window(days: Mapping[int, bytes], origin: int, *names: str) -> list[NDArray[Any]]:
    """Packed parts of the 30 days that end at `origin`, each [2880, 8]."""
    first_step = origin - (grid.HISTORY_STEPS - 1) * grid.STEP_S
    first_day = first_step // DAY_S
    raw = np.tile(np.frombuffer(_EMPTY, np.uint8), (origin // DAY_S - first_day + 1, 1))
    for day, packed in days.items():
        if 0 <= day - first_day < len(raw):
            raw[day - first_day] = np.frombuffer(packed, np.uint8)
    start = (first_step - first_day * DAY_S) // grid.STEP_S
    return [_part(raw, name)[start : start + grid.HISTORY_STEPS] for name in names]


def _part(raw: NDArray[np.uint8], name: str) -> NDArray[Any]:
    """One of the packed parts of several days, [days, bytes] -> [steps, 8]."""
    dtype, start = np.dtype(_PARTS[name]), _STARTS[name]
    block = np.ascontiguousarray(raw[:, start : start + _CELLS * dtype.itemsize])
    return block.view(dtype).reshape(-1, _SHAPE[1])


def _empty() -> bytes:
    value, rank = np.full(_CELLS, np.nan, _PARTS["value"]), np.full(_CELLS, _NO_RANK, _PARTS["rank"])
    return value.tobytes() + bytes(PACKED_BYTES - value.nbytes - rank.nbytes) + rank.tobytes()


_EMPTY = _empty()
