"""How observations stand in the store's rows, and back. Pure."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np

from edge_agent import grid
from edge_agent.errors import StoreError
from edge_agent.observation import GOOD, Flag, Judged, Observation, Verdict, may_be_used
from edge_agent.store.cells import COLUMNS
from edge_agent.variables import VARIABLES

OBSERVATION_COLUMNS = (
    "st.station, s.source, o.t, o.readings, o.flags, b.boot_id, o.seq, o.clock, o.period_s, o.historical, o.rank,"
    " b.machine, o.steady_ms, o.stamped, o.was"
)
OBSERVATION_TABLES = (
    "observations o JOIN series s ON s.id = o.series JOIN stations st ON st.id = s.station"
    " JOIN boots b ON b.id = o.boot"
)

_LARGEST = 1e9  # nothing measured is larger in its unit; the grid's single precision could not hold it
_to_json = msgspec.json.Encoder().encode
_readings = msgspec.json.Decoder(dict[str, float | None]).decode
_flags = msgspec.json.Decoder(dict[str, tuple[int, str, str, float | None, float | None]]).decode


def readings_text(judged: Judged) -> str:
    """The values as JSON; a value that is no finite number stands as null."""
    return _to_json({name: float(value) for name, value in judged.observation.values.items()}).decode()


def flags_text(judged: Judged) -> str | None:
    """The verdicts that say something, as JSON, None for none; a value without a verdict counts as not evaluated."""
    verdicts = {name: Verdict(Flag.NOT_EVALUATED) for name in judged.observation.values} | dict(judged.verdicts)
    doubted = {
        name: (int(v.flag), v.test, v.why, _plain(v.threshold), _plain(v.value))
        for name, v in verdicts.items()
        if v.flag is not Flag.GOOD or v.test
    }
    return _to_json(doubted).decode() if doubted else None


def judged_of(row: tuple[Any, ...]) -> Judged:
    """A row of `OBSERVATION_COLUMNS` as it was added. Every value has a verdict.

    Raises StoreError: it is damaged.
    """
    try:
        return _judged_of(row)
    except (msgspec.MsgspecError, ValueError, TypeError) as error:
        raise StoreError(f"an observation of station {row[0]} is damaged ({error})", reason="damaged") from error


def _judged_of(row: tuple[Any, ...]) -> Judged:
    station, source, t, readings, flags, boot_id, seq, clock, period_s, historical, rank, *arrival = row
    machine, steady_ms, stamped, was = arrival
    values = {name: math.nan if value is None else value for name, value in _readings(readings).items()}
    verdicts = dict.fromkeys(values, GOOD)
    if flags is not None:
        verdicts |= {name: Verdict(Flag(v[0]), *v[1:]) for name, v in _flags(flags).items()}
    observation = Observation(
        station, source, t, values, boot_id, seq,
        clock=clock, period_s=period_s, historical=bool(historical), rank=rank, machine=machine,
        steady_s=None if steady_ms is None else steady_ms / 1000, stamped=bool(stamped), restamped_from=was,
    )  # fmt: skip
    return Judged(observation, verdicts)


def only(judged: Judged, names: set[str], boot_id: str, seq: int) -> Judged:
    """The part of an observation that came in a message of its own."""
    o = judged.observation
    part = replace(o, values={k: v for k, v in o.values.items() if k in names}, boot_id=boot_id, seq=seq)
    return Judged(part, {k: v for k, v in judged.verdicts.items() if k in names})


def grid_values(judged: Judged) -> dict[str, float]:
    """What of an observation enters the grid: usable values of grid variables, humidity completed from
    temperature and dew point where it was not measured."""
    usable = {name: float(value) for name, value in judged.usable().items() if abs(value) <= _LARGEST}
    found = _completed(usable) if "humidity" not in judged.observation.values else usable
    return {name: value for name, value in found.items() if name in COLUMNS}


def usable_values(readings: str, flags: str | None) -> dict[str, float]:
    """As `grid_values`, of all variables, from a row's columns. Raises StoreError: it is damaged."""
    try:
        values = _readings(readings)
        verdicts = _flags(flags) if flags is not None else {}
    except (msgspec.MsgspecError, TypeError) as error:
        raise StoreError(f"an observation is damaged ({error})", reason="damaged") from error
    bad = {name for name, (flag, test, *_) in verdicts.items() if not may_be_used(flag, test)}
    usable = {name: value for name, value in values.items() if value is not None and name not in bad}
    return usable if "humidity" in values else _completed(usable)


def _plain(value: float | None) -> float | None:
    return None if value is None else float(value)


def _completed(usable: dict[str, float]) -> dict[str, float]:
    if not {"temperature", "dew_point"} <= usable.keys():
        return usable
    temperature, dew_point = (np.array(usable[name]) for name in ("temperature", "dew_point"))
    humidity = float(grid.humidity_from_dew_point(temperature, dew_point))
    low, high = VARIABLES["humidity"].fail
    return usable | {"humidity": humidity} if low <= humidity <= high else usable
