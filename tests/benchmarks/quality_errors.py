"""Errors of known kinds, put into clean series at known places, for `quality_study.py`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_agent.history import History
from edge_agent.variables import conversion

Mask = dict[str, NDArray[np.bool_]]
HOUR = 3600


@dataclass(frozen=True)
class Spoiled:
    """A series with errors in it. `wrong`: per variable, which values are; `events`: rows from, to (excluded), and the
    variables of each error."""

    history: History
    wrong: Mask
    events: list[tuple[int, int, tuple[str, ...]]]


@dataclass(frozen=True)
class Kind:
    """One kind of error. `hours`: how long it lasts (0 = one reading); `every_h`: one in so many hours; `gross`: an
    error that nobody may miss."""

    name: str
    hours: tuple[float, float]
    every_h: float
    spoil: Callable[[dict[str, NDArray[np.float64]], np.random.Generator], tuple[str, ...]]
    gross: bool = True


def spoil(history: History, kind: Kind, seed: int, *, after: float = 0.3) -> Spoiled:
    """Put errors of one kind into a series, after its first part, so that there is a past to compare with."""
    random = np.random.default_rng(seed)
    values = {name: column.copy() for name, column in history.values.items()}
    wrong = {name: np.zeros(len(history.times), bool) for name in values}
    events = []
    t = history.times[int(after * len(history.times))] + random.uniform(0, kind.every_h) * HOUR
    while True:
        first = int(np.searchsorted(history.times, t))
        long = random.uniform(*kind.hours) * HOUR
        last = max(int(np.searchsorted(history.times, t + long)), first + 1)
        if last + 40 >= len(history.times):
            return Spoiled(History(history.times, values, []), wrong, events)
        part = {name: column[first:last].copy() for name, column in values.items()}
        names = kind.spoil(part, random)
        for name in names:
            before = values[name][first:last]
            changed = ~np.isnan(before) & (np.abs(part[name] - before) > 1e-6)
            values[name][first:last] = np.where(np.isnan(before), before, part[name])
            wrong[name][first:last] |= changed
        if names and any(wrong[name][first:last].any() for name in names):
            events.append((first, last, names))
        t += long + kind.every_h * HOUR * random.uniform(0.6, 1.4)


def _one_of(part: dict[str, NDArray[np.float64]], random: np.random.Generator, names: tuple[str, ...]) -> str | None:
    there = [name for name in names if name in part and np.isfinite(part[name]).all()]
    return str(random.choice(there)) if there else None


# How far off, at least and at most, in the variable's unit.
SIZES = {
    "temperature": (5.0, 15.0),
    "dew_point": (5.0, 15.0),
    "humidity": (25.0, 50.0),
    "pressure": (4.0, 20.0),
    "pressure_msl": (4.0, 20.0),
}


def _shift(
    part: dict[str, NDArray[np.float64]], random: np.random.Generator, factor: float, shape: Callable[[int], object]
) -> tuple[str, ...]:
    name = _one_of(part, random, tuple(SIZES))
    if name is None:
        return ()
    size = random.uniform(*SIZES[name]) * factor * random.choice([-1.0, 1.0])
    moved = np.round(part[name] + size * shape(len(part[name])), 2)
    if name == "humidity" and not (moved.min() >= 2 and moved.max() <= 100):
        moved = np.round(part[name] - size * shape(len(part[name])), 2)
        if not (moved.min() >= 2 and moved.max() <= 100):
            return ()
    part[name] = moved
    return (name,)


def spikes(part: dict[str, NDArray[np.float64]], random: np.random.Generator) -> tuple[str, ...]:
    """One reading off."""
    return _shift(part, random, 1.0, lambda n: 1.0)


def steps(part: dict[str, NDArray[np.float64]], random: np.random.Generator) -> tuple[str, ...]:
    """A constant offset for hours."""
    return _shift(part, random, 1.5, lambda n: 1.0)


def drifts(part: dict[str, NDArray[np.float64]], random: np.random.Generator) -> tuple[str, ...]:
    """An offset that grows steadily and is gone at once."""
    return _shift(part, random, 1.0, lambda n: np.linspace(0, 1, n))


def stuck(part: dict[str, NDArray[np.float64]], random: np.random.Generator) -> tuple[str, ...]:
    """One value for hours; none that may stand still (calm, saturated)."""
    name = _one_of(part, random, ("temperature", "humidity", "pressure", "pressure_msl", "wind_speed", "dew_point"))
    if name is None or (name == "wind_speed" and part[name][0] <= 0.6) or (name == "humidity" and part[name][0] >= 98):
        return ()
    part[name] = np.full(len(part[name]), part[name][0])
    return (name,)


ROLES = (
    "temperature", "dew_point", "humidity", "pressure", "pressure_msl", "wind_speed", "wind_gust", "wind_direction",
    "solar_radiation", "rain",
)  # fmt: skip


def swapped(part: dict[str, NDArray[np.float64]], random: np.random.Generator) -> tuple[str, ...]:
    """Two columns under each other's name."""
    there = [name for name in ROLES if name in part and np.isfinite(part[name]).any()]
    one, other = (str(name) for name in random.choice(there, 2, replace=False))
    part[one], part[other] = part[other].copy(), part[one].copy()
    return (one, other)


def rotated(part: dict[str, NDArray[np.float64]], random: np.random.Generator) -> tuple[str, ...]:
    """Four columns, each under the next one's name."""
    there = [name for name in ROLES if name in part and np.isfinite(part[name]).any()]
    names = [str(name) for name in random.choice(there, 4, replace=False)]
    columns = [part[name].copy() for name in names]
    for name, column in zip(names, columns[1:] + columns[:1], strict=True):
        part[name] = column
    return tuple(names)


def _unit(names: tuple[str, ...], unit: str, *, all_of_them: bool) -> Callable[..., tuple[str, ...]]:
    def change(part: dict[str, NDArray[np.float64]], random: np.random.Generator) -> tuple[str, ...]:
        there = tuple(name for name in names if name in part)
        if not there:
            return ()
        chosen = there if all_of_them else (str(random.choice(there)),)
        for name in chosen:
            factor, offset = conversion(name, unit)
            part[name] = np.round((part[name] - offset) / factor, 2)
        return chosen

    return change


def wrapped(part: dict[str, NDArray[np.float64]], random: np.random.Generator) -> tuple[str, ...]:
    """A rain counter of 8, 12 or 16 bits that wrapped, differenced without care: one increment too large, or below
    zero."""
    if "rain" not in part or np.isnan(part["rain"]).any():
        return ()
    top = random.choice([256, 4096, 65536]) * random.choice([0.2, 0.254, 0.3])
    part["rain"] = part["rain"] + (top if random.random() < 0.5 else -top)
    return ("rain",)


def kinds() -> Iterator[Kind]:
    """Every kind of the study."""
    yield Kind("spike", (0, 0), 12, spikes)
    yield Kind("step", (3, 24), 72, steps)
    yield Kind("stuck", (9, 36), 60, stuck)
    yield Kind("drift", (96, 168), 240, drifts, gross=False)
    yield Kind("swapped", (12, 72), 96, swapped)
    yield Kind("rotated", (12, 72), 96, rotated)
    yield Kind("F for C", (6, 72), 96, _unit(("temperature", "dew_point"), "degF", all_of_them=False))
    yield Kind("inHg for hPa", (6, 72), 96, _unit(("pressure", "pressure_msl"), "inHg", all_of_them=True))
    yield Kind("km/h for m/s", (6, 72), 96, _unit(("wind_speed", "wind_gust"), "km/h", all_of_them=True), gross=False)
    yield Kind("wrapped counter", (0, 0), 12, wrapped)


def small(history: History) -> bool:
    """A series too short for errors that last for days."""
    return history.times[-1] - history.times[0] < 20 * 24 * HOUR or not math.isfinite(float(history.times[0]))
