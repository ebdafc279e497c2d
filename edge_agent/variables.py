"""The vocabulary: every quantity Stationcast knows, its one unit, its limits, and how it behaves in time.

Values inside Stationcast are always in these units. Conversion happens once, where a value enters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum

from edge_agent.errors import ConfigError


class Kind(StrEnum):
    """How values combine over an interval that ends at their time stamp."""

    STATE = "state"  # the latest reading stands
    DIRECTION = "direction"  # a state on the circle, 0-360 degrees
    SUM = "sum"  # accumulates: intervals add
    MAXIMUM = "maximum"  # the largest in the interval


@dataclass(frozen=True, slots=True)
class Variable:
    """One quantity.

    `fail`: outside is impossible (flag 4). `suspect`: outside is beyond ordinary records (flag 3).
    `decimals`: digits that carry information, for printing and publishing.
    """

    name: str
    unit: str
    kind: Kind
    fail: tuple[float, float]
    suspect: tuple[float, float]
    decimals: int = 1


def _table(*rows: Variable) -> dict[str, Variable]:
    return {row.name: row for row in rows}


# Limits leave room for records between suspect and fail; pressure and wind start from MADIS's level-1 validity limits.
# Station pressure is low on mountains, so its low side is wide here; the test reduced to sea level is in `quality`.
VARIABLES: dict[str, Variable] = _table(
    Variable("temperature", "degC", Kind.STATE, (-95.0, 65.0), (-80.0, 60.0), 2),
    Variable("dew_point", "degC", Kind.STATE, (-110.0, 45.0), (-80.0, 36.0), 2),
    Variable("humidity", "%", Kind.STATE, (0.0, 110.0), (1.0, 104.0), 1),
    Variable("pressure", "hPa", Kind.STATE, (300.0, 1100.0), (450.0, 1085.0), 2),
    Variable("pressure_msl", "hPa", Kind.STATE, (850.0, 1100.0), (870.0, 1085.0), 2),
    Variable("wind_speed", "m/s", Kind.STATE, (0.0, 115.0), (0.0, 60.0), 2),
    Variable("wind_gust", "m/s", Kind.MAXIMUM, (0.0, 140.0), (0.0, 80.0), 2),
    Variable("wind_direction", "degree", Kind.DIRECTION, (0.0, 360.0), (0.0, 360.0), 0),
    Variable("rain", "mm", Kind.SUM, (0.0, 400.0), (0.0, 60.0), 2),
    Variable("rain_rate", "mm/h", Kind.STATE, (0.0, 2000.0), (0.0, 600.0), 1),
    Variable("solar_radiation", "W/m2", Kind.STATE, (-20.0, 2000.0), (-5.0, 1600.0), 0),
    Variable("uv_index", "1", Kind.STATE, (0.0, 45.0), (0.0, 20.0), 1),
    Variable("pm2_5", "ug/m3", Kind.STATE, (0.0, 2000.0), (0.0, 999.0), 1),
    Variable("pm10", "ug/m3", Kind.STATE, (0.0, 5000.0), (0.0, 2000.0), 1),
    Variable("no2", "ug/m3", Kind.STATE, (0.0, 4000.0), (0.0, 1000.0), 1),
    Variable("nox", "ug/m3", Kind.STATE, (0.0, 8000.0), (0.0, 2000.0), 1),
    Variable("snow_depth", "m", Kind.STATE, (0.0, 20.0), (0.0, 12.0), 3),
    Variable("soil_temperature", "degC", Kind.STATE, (-60.0, 80.0), (-40.0, 65.0), 1),
    Variable("soil_moisture", "%", Kind.STATE, (0.0, 100.0), (0.0, 100.0), 1),
    Variable("temperature_max", "degC", Kind.STATE, (-95.0, 65.0), (-80.0, 60.0), 1),
    Variable("temperature_min", "degC", Kind.STATE, (-95.0, 65.0), (-80.0, 60.0), 1),
    Variable("rain_24h", "mm", Kind.STATE, (0.0, 2000.0), (0.0, 600.0), 1),
)

# unit -> (factor, offset): canonical = value * factor + offset
_CONVERSIONS: dict[str, dict[str, tuple[float, float]]] = {
    "degC": {"degF": (5 / 9, -160 / 9), "K": (1.0, -273.15)},
    "hPa": {
        "Pa": (0.01, 0.0),
        "kPa": (10.0, 0.0),
        "mbar": (1.0, 0.0),
        "bar": (1000.0, 0.0),
        "inHg": (33.863886667, 0.0),
        "mmHg": (1.33322387415, 0.0),
        "psi": (68.947572932, 0.0),
    },
    "m/s": {"km/h": (1 / 3.6, 0.0), "mph": (0.44704, 0.0), "kn": (1852 / 3600, 0.0)},
    "mm": {"cm": (10.0, 0.0), "m": (1000.0, 0.0), "in": (25.4, 0.0)},
    "mm/h": {"in/h": (25.4, 0.0), "cm/h": (10.0, 0.0)},
    "m": {"cm": (0.01, 0.0), "mm": (0.001, 0.0), "in": (0.0254, 0.0)},
    "%": {"1": (100.0, 0.0)},
    "degree": {"rad": (180 / math.pi, 0.0)},
    "W/m2": {"kW/m2": (1000.0, 0.0)},
    "ug/m3": {"mg/m3": (1000.0, 0.0)},
    "1": {},
}

# Gases may come as parts per billion of volume. g/mol; NOx is counted as NO2, as air quality law does.
_MOLAR_MASS = {"no2": 46.0055, "nox": 46.0055}
_GAS_CONSTANT = 8.314462618  # J/(mol K)
PPB = "ppb"


def variable(name: str) -> Variable:
    """The variable of that name.

    Raises:
        ConfigError: no such name; the message offers the nearest one.
    """
    found = VARIABLES.get(name)
    if found is None:
        near = get_close_matches(name, VARIABLES, n=1)
        hint = f' (did you mean "{near[0]}"?)' if near else f"; known: {', '.join(VARIABLES)}"
        raise ConfigError(f'unknown variable "{name}"{hint}')
    return found


def units_of(name: str) -> tuple[str, ...]:
    """Units accepted for a variable, its own first."""
    unit = variable(name).unit
    return (unit, *_CONVERSIONS.get(unit, {}), *((PPB,) if name in _MOLAR_MASS else ()))


def per_ppb(name: str, temperature: float = 20.0, pressure: float = 1013.25) -> float:
    """ug/m3 that one ppb of a gas is, at `temperature` (degC) and `pressure` (hPa).

    c = x M p / (R T), for an ideal gas. By default at 20 degC and 1013.25 hPa, the state that Directive 2008/50/EC,
    annex VI, reports gases at. Worked: NO2 at 20 degC -> 1.9125; at 25 degC, as in the United States -> 1.8804.

    Raises:
        ConfigError: not a gas whose molar mass is known.
    """
    mass = _MOLAR_MASS.get(name)
    if mass is None:
        raise ConfigError(f'variable "{name}": ppb are for gases ({", ".join(_MOLAR_MASS)})')
    return 1e-9 * mass * 1e6 * pressure * 100 / (_GAS_CONSTANT * (temperature + 273.15))


def conversion(name: str, unit: str) -> tuple[float, float]:
    """(factor, offset) that bring a value in `unit` to the variable's own unit: value * factor + offset.

    Raises:
        ConfigError: unknown variable, or a unit that is not convertible to it.
    """
    own = variable(name).unit
    if unit == own:
        return (1.0, 0.0)
    if unit == PPB and name in _MOLAR_MASS:
        return (per_ppb(name), 0.0)
    pair = _CONVERSIONS.get(own, {}).get(unit)
    if pair is None:
        raise ConfigError(f'variable "{name}": unit "{unit}" is not one of {", ".join(units_of(name))}')
    return pair


def convert(name: str, value: float, unit: str) -> float:
    """A value in `unit` as a value in the variable's own unit. Raises as `conversion`."""
    factor, offset = conversion(name, unit)
    return value * factor + offset
