"""A station against its neighbours: what they say its value should be. Pure; who the neighbours are and what is usual
between them is remembered in `neighbours.py`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from edge_agent.quality import limits
from edge_agent.quality.checks import LAPSE, sea_level

EARTH_KM = 6371.0

# variable -> the quantity it is compared in
QUANTITY = {
    "temperature": "temperature",
    "dew_point": "dew_point",
    "humidity": "dew_point",
    "pressure": "pressure_msl",
    "pressure_msl": "pressure_msl",
    "wind_speed": "wind_speed",
    "wind_gust": "wind_gust",
}


@dataclass(frozen=True, slots=True)
class Voter:
    """A neighbour's quantity: how far away it was measured, and how much higher (m)."""

    km: float
    higher_m: float
    value: float


@dataclass(frozen=True, slots=True)
class Expected:
    """What neighbours say: their `votes` as they would be here, the median, how far they disagree (MAD)."""

    votes: tuple[float, ...]
    value: float
    spread: float
    km: float
    height_m: float


def distance_km(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Great-circle distance of two places (latitude, longitude in degrees); haversine. Worked: 47.3570 N 8.5363 E to
    47.3483 N 8.5596 E -> 2.00 km."""
    (a, b), (c, d) = ((math.radians(x) for x in place) for place in (one, other))
    h = math.sin((c - a) / 2) ** 2 + math.cos(a) * math.cos(c) * math.sin((d - b) / 2) ** 2
    return 2 * EARTH_KM * math.asin(math.sqrt(min(h, 1.0)))


def dew_point_of(temperature: float, humidity: float) -> float | None:
    """Dew point from temperature (degC) and humidity (%), by Magnus' formula over water; None for air without moisture.

    Td = b g / (a - g), g = ln(RH / 100) + a T / (b + T), a = 17.67, b = 243.5 degC (Bolton 1980). Worked: 20 degC and
    50 % -> 9.27.
    """
    if humidity < 1e-3 or temperature <= -200.0:
        return None
    g = math.log(humidity / 100) + 17.67 * temperature / (243.5 + temperature)
    return 243.5 * g / (17.67 - g) if g < 17.0 else None


def quantities(values: Mapping[str, float], elevation_m: float) -> Iterator[tuple[str, float]]:
    """(variable, quantity) of good values: pressure reduced to sea level, humidity as dew point, wind as its root."""
    temperature = values.get("temperature")
    for name, value in values.items():
        if name in ("temperature", "dew_point", "pressure_msl"):
            yield name, value
        elif name in ("wind_speed", "wind_gust"):
            yield name, math.sqrt(max(value, 0.0))
        elif name == "pressure":
            here = 288.15 - LAPSE * elevation_m if temperature is None else temperature + 273.15
            yield name, sea_level(value, elevation_m, here + LAPSE * elevation_m / 2)
        elif name == "humidity" and temperature is not None:
            dew_point = dew_point_of(temperature, value)
            if dew_point is not None:
                yield name, dew_point


def lapse_rate(voters: Sequence[Voter]) -> float:
    """Decrease of temperature with height among the neighbours, K/km, within -10 to +15.

    The median of the slopes of all pairs at least 100 m apart in height (Theil-Sen), in which the prior of 6.5 counts
    as three pairs: one odd thermometer among five decides nothing.
    """
    slopes = [limits.LAPSE_PRIOR] * limits.LAPSE_PRIOR_WEIGHT
    for i, one in enumerate(voters):
        for other in voters[i + 1 :]:
            apart = one.higher_m - other.higher_m
            if abs(apart) >= limits.LAPSE_PAIR_M:
                slopes.append(-1000 * (one.value - other.value) / apart)
    low, high = limits.LAPSE_RANGE
    return min(max(median(slopes), low), high)


def expected(quantity: str, voters: Sequence[Voter]) -> Expected:
    """What the neighbours' values (at least one) would be here."""
    per_m = 0.0
    if quantity == "temperature":
        per_m = lapse_rate(voters) / 1000
    elif quantity == "dew_point":
        per_m = limits.DEW_POINT_LAPSE / 1000
    votes = tuple(voter.value + per_m * voter.higher_m for voter in voters)
    middle = median(votes)
    return Expected(
        votes,
        middle,
        median(abs(vote - middle) for vote in votes),
        sum(voter.km for voter in voters) / len(voters),
        sum(abs(voter.higher_m) for voter in voters) / len(voters),
    )


def tolerance(name: str, said: Expected, usual: float | None) -> float:
    """How far a value may lie from what its neighbours say. `usual`: the usual size of its own difference to them, None
    = not known yet, which doubles the least tolerance."""
    near = limits.NEAR[name]
    own = 2 * near.base if usual is None else max(near.base, near.usual * usual)
    return own + near.per_km * said.km + near.per_100m * said.height_m / 100 + limits.SPREAD_SHARE * said.spread


def objections(value: float, usual_difference: float, said: Expected, room: float) -> int:
    """How many neighbours, each by itself, find the value off in the direction in which all of them together do."""
    side = math.copysign(1.0, value - usual_difference - said.value)
    return sum(side * (value - usual_difference - vote) > room / 2 for vote in said.votes)
