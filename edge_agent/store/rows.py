"""How observations and forecasts stand in the store's rows, and back. Pure."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np

from edge_agent import grid
from edge_agent.forecast import Floats, Forecast, Level, VariableForecast
from edge_agent.observation import Flag, Judged, Observation, Verdict
from edge_agent.store.cells import COLUMNS
from edge_agent.variables import VARIABLES

OBSERVATION_COLUMNS = (
    "st.station, s.source, o.t, o.readings, o.flags, b.boot_id, o.seq, o.clock, o.period_s, o.historical, o.rank"
)
OBSERVATION_TABLES = (
    "observations o JOIN series s ON s.id = o.series JOIN stations st ON st.id = s.station"
    " JOIN boots b ON b.id = o.boot"
)

_GOOD = Verdict(Flag.GOOD)
_LARGEST = 1e9  # nothing measured is larger in its unit; the grid's single precision could not hold it
_BAD = (Flag.FAIL, Flag.MISSING)
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
    """A row of `OBSERVATION_COLUMNS` as it was added. Every value has a verdict."""
    station, source, t, readings, flags, boot_id, seq, clock, period_s, historical, rank = row
    values = {name: math.nan if value is None else value for name, value in _readings(readings).items()}
    verdicts = dict.fromkeys(values, _GOOD)
    if flags is not None:
        verdicts |= {name: Verdict(Flag(v[0]), *v[1:]) for name, v in _flags(flags).items()}
    observation = Observation(
        station, source, t, values, boot_id, seq, clock=clock, period_s=period_s, historical=bool(historical), rank=rank
    )
    return Judged(observation, verdicts)


def only(judged: Judged, names: set[str], boot_id: str, seq: int) -> Judged:
    """The part of an observation that came in a message of its own."""
    o = judged.observation
    part = Observation(
        o.station, o.source, o.t, {k: v for k, v in o.values.items() if k in names}, boot_id, seq,
        clock=o.clock, period_s=o.period_s, historical=o.historical, rank=o.rank,
    )  # fmt: skip
    return Judged(part, {k: v for k, v in judged.verdicts.items() if k in names})


def grid_values(judged: Judged) -> dict[str, float]:
    """What of an observation enters the grid: usable values of grid variables, humidity completed from
    temperature and dew point where it was not measured."""
    usable = {name: float(value) for name, value in judged.usable().items() if abs(value) <= _LARGEST}
    found = _completed(usable) if "humidity" not in judged.observation.values else usable
    return {name: value for name, value in found.items() if name in COLUMNS}


def usable_values(readings: str, flags: str | None) -> dict[str, float]:
    """As `grid_values`, of all variables, from a row's columns."""
    values = _readings(readings)
    bad = {name for name, verdict in _flags(flags).items() if verdict[0] in _BAD} if flags is not None else set()
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


class _PackedVariable(msgspec.Struct, array_like=True):
    """`mean` and `quantiles` as float32 bytes, [L] and [Q, L]."""

    variable: str
    level: str
    mean: bytes | None
    quantiles: bytes | None
    age_s: int | None
    why: str


class _PackedForecast(msgspec.Struct, array_like=True):
    issued: int
    leads_s: tuple[int, ...]
    levels_q: tuple[float, ...]
    level: str
    source: str
    bundle: str
    variables: list[_PackedVariable]
    events: dict[str, bytes]
    why: str


def pack_forecast(forecast: Forecast) -> bytes:
    """A forecast as bytes, its numbers in single precision."""
    variables = [
        _PackedVariable(v.variable, v.level.value, _single(v.mean), _single(v.quantiles), v.age_s, v.why)
        for v in forecast.variables.values()
    ]
    events = {name: np.asarray(p, "<f4").tobytes() for name, p in forecast.events.items()}
    return msgspec.msgpack.encode(
        _PackedForecast(
            int(forecast.issued), forecast.leads_s, forecast.levels_q, forecast.level.value, forecast.source,
            forecast.bundle, variables, events, forecast.why,
        )
    )  # fmt: skip


def unpack_forecast(station: str, origin: int, body: bytes) -> Forecast:
    """The forecast `pack_forecast` packed."""
    p = msgspec.msgpack.decode(body, type=_PackedForecast)
    variables = {
        v.variable: VariableForecast(
            v.variable, Level(v.level), _double(v.mean), _double(v.quantiles, len(p.levels_q)), v.age_s, v.why
        )
        for v in p.variables
    }
    events = {name: np.frombuffer(packed, "<f4").astype(np.float64) for name, packed in p.events.items()}
    return Forecast(
        station, origin, p.issued, p.leads_s, p.levels_q, Level(p.level), p.source, p.bundle, variables, events, p.why
    )


def _single(values: Floats | None) -> bytes | None:
    return None if values is None else np.asarray(values, "<f4").tobytes()


def _double(packed: bytes | None, rows: int | None = None) -> Floats | None:
    if packed is None:
        return None
    values = np.frombuffer(packed, "<f4").astype(np.float64)
    return values if rows is None else values.reshape(rows, -1)
