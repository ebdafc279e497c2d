"""How a forecast stands in the store's rows, and back: whole numbers in steps of each variable's resolution, deflated.

Pure. No digit is kept that was not published: what is read back is the published number, and that is what is scored.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent.forecast import Floats, Forecast, Level, VariableForecast
from edge_agent.publish.numbers import PROBABILITY_DECIMALS
from edge_agent.variables import VARIABLES

Steps = NDArray[np.int32]

_LARGEST = 2**30  # in steps; nothing measured is larger
_MISSING = -(2**31)
_to_bytes = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True)
class Packed:
    """`form`: what a forecast has in common with most others of its kind. `body`: the rest, but the quantiles, which
    take four fifths of the room. `quantiles`: None where it has none."""

    form: bytes
    body: bytes
    quantiles: bytes | None


class _Form(msgspec.Struct, array_like=True):
    """`variables`: name and decimals, in order."""

    leads_s: tuple[int, ...]
    levels_q: tuple[float, ...]
    source: str
    bundle: str
    variables: tuple[tuple[str, int], ...]
    events: tuple[str, ...]
    adapted: tuple[str, ...] = ()


class _Entry(msgspec.Struct, array_like=True):
    """One variable; `there`: it has numbers."""

    level: str
    age_s: int | None
    why: str
    there: bool


class _Body(msgspec.Struct, array_like=True):
    """`numbers`: the means of those variables that have numbers, then the probabilities, in steps [R, L]."""

    waited_s: int  # from the origin to the issue
    level: str
    why: str
    variables: list[_Entry]
    numbers: bytes


def pack_forecast(forecast: Forecast) -> Packed:
    """A forecast in rows, its numbers rounded to the variables' decimals. A number that is not finite is missing."""
    variables = list(forecast.variables.values())
    means = [_steps(v.mean, VARIABLES[v.variable].decimals) for v in variables if v.mean is not None]
    fans = [
        _steps(v.quantiles, VARIABLES[v.variable].decimals)
        for v in variables
        if v.mean is not None and v.quantiles is not None
    ]
    chances = [_steps(p, PROBABILITY_DECIMALS) for p in forecast.events.values()]
    form = _Form(
        forecast.leads_s, forecast.levels_q, forecast.source, forecast.bundle,
        tuple((v.variable, VARIABLES[v.variable].decimals) for v in variables), tuple(forecast.events),
        forecast.adapted,
    )  # fmt: skip
    entries = [_Entry(v.level.value, v.age_s, v.why, v.mean is not None) for v in variables]
    body = _Body(
        int(forecast.issued) - int(forecast.origin), forecast.level.value, forecast.why, entries,
        _changes([*means, *chances]),
    )  # fmt: skip
    whole = bool(fans) and len(fans) == len(means)
    return Packed(
        _to_bytes(form),
        _deflate(_to_bytes(body)),
        _deflate(_changes(list(map(_outwards, means, fans)))) if whole else None,
    )


def unpack_forecast(station: str, origin: int, packed: Packed) -> Forecast:
    """The forecast that `pack_forecast` packed; without its quantiles where these are gone."""
    form = msgspec.msgpack.decode(packed.form, type=_Form)
    body = msgspec.msgpack.decode(_inflate(packed.body), type=_Body)
    numbers = _unchanged(body.numbers, len(form.leads_s))
    there = [i for i, entry in enumerate(body.variables) if entry.there]
    fans = None if packed.quantiles is None else _fans(packed.quantiles, numbers[: len(there)])
    variables = {}
    for i, ((name, decimals), entry) in enumerate(zip(form.variables, body.variables, strict=True)):
        row = there.index(i) if entry.there else None
        mean = None if row is None else _values(numbers[row], decimals)
        quantiles = None if row is None or fans is None else _values(fans[row], decimals)
        variables[name] = VariableForecast(name, Level(entry.level), mean, quantiles, entry.age_s, entry.why)
    chances = numbers[len(there) :]
    events = {name: _values(p, PROBABILITY_DECIMALS) for name, p in zip(form.events, chances, strict=True)}
    return Forecast(
        station, origin, origin + body.waited_s, form.leads_s, form.levels_q, Level(body.level), form.source,
        form.bundle, variables, events, body.why, form.adapted,
    )  # fmt: skip


def _steps(values: Floats, decimals: int) -> Steps:
    scaled = np.round(np.asarray(values, np.float64) * 10**decimals)
    return np.where(np.isfinite(scaled), np.clip(scaled, -_LARGEST, _LARGEST), _MISSING).astype(np.int32)


def _values(steps: Steps, decimals: int) -> Floats:
    return np.where(steps == _MISSING, np.nan, steps / 10**decimals)


def _outwards(mean: Steps, fan: Steps) -> Steps:
    """Quantiles [Q, L] as differences, the lowest one's from the mean [L]: small numbers. 32 bits wrap, so none is
    lost."""
    return np.asarray(np.diff(fan, axis=0, prepend=mean[None]))


def _fans(packed: bytes, means: Steps) -> Steps:
    """What `_outwards` took apart, of N variables: means [N, L] -> [N, Q, L]."""
    away = _unchanged(_inflate(packed), means.shape[1]).reshape(len(means), -1, means.shape[1])
    return np.asarray(np.cumsum(np.concatenate([means[:, None], away], axis=1), axis=1, dtype=np.int32)[:, 1:])


def _changes(rows: Sequence[Steps]) -> bytes:
    """Rows [..., L] as changes from lead to lead, in 2 bytes each where they fit, else 4; all first bytes before all
    second ones, which deflate better so. The first byte says how many."""
    table = np.concatenate([np.atleast_2d(row) for row in rows]) if rows else np.zeros((0, 1), np.int32)
    change = np.diff(table, axis=1, prepend=np.zeros((len(table), 1), np.int32))
    size = 2 if not change.size or (change.min() >= -(2**15) and change.max() < 2**15) else 4
    return bytes([size]) + change.astype(f"<i{size}", order="C").view(np.uint8).reshape(-1, size).T.tobytes()


def _unchanged(data: bytes, leads: int) -> Steps:
    """What `_changes` wrote, [R, L]."""
    size = data[0]
    planes = np.frombuffer(data, np.uint8, offset=1).reshape(size, -1)
    change = np.ascontiguousarray(planes.T).view(f"<i{size}").reshape(-1, leads)
    return np.asarray(np.cumsum(change, axis=1, dtype=np.int32))


def _deflate(data: bytes) -> bytes:
    deflating = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflating.compress(data) + deflating.flush()


def _inflate(data: bytes) -> bytes:
    return zlib.decompress(data, wbits=-zlib.MAX_WBITS)
