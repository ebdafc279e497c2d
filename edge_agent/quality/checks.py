"""The tests themselves: pure functions from values and what is known about them to a verdict.

None means nothing to object. Nothing here remembers anything; state belongs to `track.py` and `control.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edge_agent.observation import PERIOD, Flag, Verdict
from edge_agent.quality import limits
from edge_agent.variables import VARIABLES, Kind, conversion

GRAVITY_OVER_R = 9.80665 / 287.05  # K/m: gravity over the gas constant of dry air
LAPSE = 0.0065  # K/m

Floats = float | NDArray[np.float64]  # one value or a series
Found = tuple[str, Verdict]  # a variable and the objection to its value


def range_test(name: str, value: float) -> Verdict | None:
    """Outside what can be (FAIL) or outside ordinary records (SUSPECT); infinities fail."""
    variable = VARIABLES[name]
    low, high = variable.fail
    if not low <= value <= high:
        return _outside(Flag.FAIL, name, value, low, high, variable.unit, "is impossible")
    low, high = variable.suspect
    if not low <= value <= high:
        return _outside(Flag.SUSPECT, name, value, low, high, variable.unit, "is beyond ordinary records")
    return None


def gathered_test(
    verdicts: Mapping[str, Verdict], values: Mapping[str, float], gathered_s: int | None
) -> dict[str, Verdict]:
    """The verdicts on sums that fell over more than their own interval: the sum is right, but no test of an interval
    fits it, and it is not this interval's rain. What is impossible stays so, and so does no rain at all."""
    if gathered_s is None:
        return {}
    why = f"fell over {_span(gathered_s)}, in which nobody listened: it is not of the last interval alone"
    return {
        name: Verdict(Flag.NOT_EVALUATED, PERIOD, f"{name} {value:g} {VARIABLES[name].unit} {why}", None, value)
        for name, value in values.items()
        if name in VARIABLES and VARIABLES[name].kind is Kind.SUM and value > 0 and verdicts[name].flag < Flag.FAIL
    }


def impossible(
    values: Mapping[str, NDArray[np.float64]], elevation_m: float | None
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Which values of a series fail (flag 4), by variable: the same rule for a file as for a running agent's readings.

    Args:
        values: vocabulary name -> [N], NaN = missing.
        elevation_m: of the station; None = not known: pressure is then not judged at sea level.
    """
    for name, column in values.items():
        low, high = VARIABLES[name].fail
        out = (column < low) | (column > high)
        if name == "pressure" and elevation_m is not None:
            temperature = values.get("temperature", np.full(len(column), np.nan))
            least, most = reduction(thermometer(temperature), elevation_m)
            low, high = limits.SEA_LEVEL_FAIL
            out |= (column * most < low) | (column * least > high)
        yield name, out


def sea_level(pressure: Floats, elevation_m: float, column_k: Floats) -> Floats:
    """Station pressure reduced to sea level, hPa.

    Hypsometric: p0 = p exp(g z / (R_d T_v)), T_v the mean virtual temperature of the column between station and sea
    level. Worked: 954.61 hPa at 500 m over 286.525 K (the standard atmosphere) -> 1013.2.
    """
    return pressure * np.exp(GRAVITY_OVER_R * elevation_m / column_k)


def thermometer(temperature: Floats) -> Floats:
    """A temperature to reduce pressure with, degC; NaN where it is missing or beyond ordinary records."""
    low, high = VARIABLES["temperature"].suspect
    return np.where((low <= np.asarray(temperature)) & (np.asarray(temperature) <= high), temperature, np.nan)


def reduction(temperature: Floats, elevation_m: float) -> tuple[Floats, Floats]:
    """The smallest and the largest factor that brings station pressure to sea level, for every column temperature
    within its spread: exact at the sea and tolerant on mountains, where a reduction is uncertain.

    `temperature`: degC at the station, NaN = not known (the standard atmosphere's, with more spread).
    """
    unknown = np.isnan(temperature)
    surface_k = np.where(unknown, 288.15 - LAPSE * elevation_m, np.asarray(temperature) + 273.15)
    spread = np.where(unknown, limits.COLUMN_SPREAD_UNKNOWN_K, limits.COLUMN_SPREAD_K)
    middle = surface_k + LAPSE * elevation_m / 2
    one, other = (sea_level(1.0, elevation_m, middle + side * spread) for side in (-1, 1))
    return np.minimum(one, other), np.maximum(one, other)


def sea_level_test(pressure: float, temperature: float | None, elevation_m: float) -> Verdict | None:
    """Station pressure that no sea-level pressure explains. `temperature`: as sent with it, degC, None = none was."""
    known = thermometer(math.nan if temperature is None else temperature)
    least, most = (pressure * float(factor) for factor in reduction(known, elevation_m))
    for flag, (low, high) in ((Flag.FAIL, limits.SEA_LEVEL_FAIL), (Flag.SUSPECT, limits.SEA_LEVEL_SUSPECT)):
        if most < low or least > high:
            best, threshold = (most, low) if most < low else (least, high)
            why = (
                f"{pressure:g} hPa at {elevation_m:g} m is {best:.1f} hPa at sea level, outside {low:g} to {high:g}: "
                "is the elevation right, and is it station pressure?"
            )
            return Verdict(flag, "range", why, threshold, pressure)
    return None


def mean_sea_level_test(pressure_msl: float) -> Verdict | None:
    """The suspect limits of reduced pressure for a sensor that reduces by itself; failing is `range_test`'s."""
    low, high = limits.SEA_LEVEL_SUSPECT
    if low <= pressure_msl <= high:
        return None
    return _outside(Flag.SUSPECT, "pressure_msl", pressure_msl, low, high, "hPa", "is beyond ordinary records")


def step_test(name: str, value: float, reference: float, span_s: float, limit: float) -> Verdict | None:
    """A change since the reference reading larger than `limit`."""
    jump = value - reference
    if abs(jump) <= limit:
        return None
    why = f"{name} changed by {jump:+.4g} {VARIABLES[name].unit} in {_span(span_s)}; ordinary is up to {limit:.3g}"
    return Verdict(Flag.SUSPECT, "step", why, limit, value)


def spike_verdict(name: str, value: float, size: float, limit: float, span_s: float) -> Verdict:
    """What is to be said of a reading that left by `size` and came back. Far beyond its limit it fails."""
    flag = (
        Flag.FAIL if size > limits.SPIKE_FAILS * max(limit, limits.step_limit(name, int(span_s)) / 2) else Flag.SUSPECT
    )
    unit = VARIABLES[name].unit
    why = f"{name} left by {size:.4g} {unit} and came back within {_span(2 * span_s)}; ordinary is up to {limit:.3g}"
    return Verdict(flag, "spike", why, limit, value)


def offset_verdict(name: str, since: int, jump: float, until: int) -> Verdict:
    """What is to be said of the readings between a doubted jump and one back of its size."""
    unit = VARIABLES[name].unit
    why = f"{name} jumped by {jump:+.4g} {unit} and back after {_span(until - since)}: what lies between is off by that"
    return Verdict(Flag.SUSPECT, "step", why, abs(jump))


def rain_test(value: float, span_s: float) -> Verdict | None:
    """More rain than falls in `span_s` seconds: a fifth of the envelope of record rainfalls."""
    limit = limits.rain_limit(span_s)
    if value <= limit:
        return None
    why = (
        f"rain of {value:g} mm in {_span(span_s)}; a fifth of the records of the world is {limit:.3g}: did a counter "
        "wrap or begin anew?"
    )
    return Verdict(Flag.SUSPECT, "range", why, limit, value)


def with_unit_hint(name: str, verdict: Verdict, elevation_m: float) -> Verdict:
    """A range verdict that names the unit in which the value would be an ordinary one, if there is one."""
    value = verdict.value
    if value is None:
        return verdict
    for unit in limits.UNIT_SLIPS.get(name, ()):
        factor, offset = conversion(name, unit)
        meant = value * factor + offset
        if name == "pressure":
            fits = range_test(name, meant) is None and sea_level_test(meant, None, elevation_m) is None
        elif name == "pressure_msl":
            fits = mean_sea_level_test(meant) is None
        else:
            fits = limits.UNIT_ORDINARY[name][0] <= meant <= limits.UNIT_ORDINARY[name][1]
        if fits:
            return replace(verdict, why=f"{verdict.why}; in {unit} it would be {meant:.1f} {VARIABLES[name].unit}")
    return verdict


def persistence_test(name: str, value: float, still_s: float, limit_s: float | None) -> Verdict | None:
    """A value unchanged for longer than `limit_s` seconds; None = it may stand still."""
    if limit_s is None or still_s <= limit_s:
        return None
    why = f"{name} has been {value:g} {VARIABLES[name].unit} for {_span(still_s)}; ordinary is up to {_span(limit_s)}"
    return Verdict(Flag.SUSPECT, "persistence", why, limit_s, value)


def still_limit(name: str, value: float, resolution: float, wind_speed: float | None) -> float | None:
    """How long a value may stand still, seconds; None = for ever. `resolution`: the sensor's, as learned; `wind_speed`:
    m/s at the time, None = not measured (a vane stands still in calm air)."""
    still = limits.STILL.get(name)
    if still is None:
        return None
    if still.natural[0] <= value <= still.natural[1]:
        return still.natural_s
    if name == "wind_direction":
        if wind_speed is None:
            return max(still.limit_s, 12 * limits.HOUR)
        if wind_speed <= limits.CALM_WIND:
            return limits.STILL["wind_speed"].natural_s
    return still.coarse_s if resolution >= still.coarse else still.limit_s


def repeat_test(values: Mapping[str, float], still_s: Mapping[str, float]) -> Iterator[Found]:
    """Several measured quantities standing still together: the message repeats, not the weather.

    `still_s`: seconds each value has stood still, only for values that had enough readings and do not stand still
    naturally.
    """
    names = [name for name in limits.REPEAT_VARIABLES if still_s.get(name, 0.0) > limits.REPEAT_S]
    if len(names) < limits.REPEAT_COUNT:
        return
    shortest = min(still_s[name] for name in names)
    why = f"{', '.join(names)} all unchanged for {_span(shortest)}: the message repeats"
    for name in names:
        yield name, Verdict(Flag.SUSPECT, "persistence", why, float(limits.REPEAT_S), values[name])


def consistency_test(values: Mapping[str, float]) -> Iterator[Found]:
    """Values of one observation that contradict each other. Both are suspect: either may be the wrong one."""
    temperature, dew_point = values.get("temperature"), values.get("dew_point")
    if temperature is not None and dew_point is not None and dew_point > temperature + limits.DEW_POINT_ABOVE:
        room = limits.DEW_POINT_ABOVE
        why = f"dew point {dew_point:g} degC lies above the temperature {temperature:g} degC by more than {room:g}"
        yield from _both(("dew_point", dew_point), ("temperature", temperature), why, room)
    speed, gust = values.get("wind_speed"), values.get("wind_gust")
    if speed is not None and gust is not None:
        room = max(limits.GUST_BELOW[0], limits.GUST_BELOW[1] * speed)
        if gust < speed - room:
            why = f"gust {gust:g} m/s lies below the mean speed {speed:g} m/s by more than {room:.2g}"
            yield from _both(("wind_gust", gust), ("wind_speed", speed), why, room)
    rain, humidity = values.get("rain"), values.get("humidity")
    dry = max((dry for wet, dry in limits.DRY_RAIN if rain is not None and rain >= wet), default=0.0)
    if rain is not None and humidity is not None and humidity < dry:
        why = f"rain of {rain:g} mm at {humidity:g} % humidity; below {dry:g} % it would not reach the gauge"
        yield from _both(("rain", rain), ("humidity", humidity), why, dry)


def radiation_test(radiation: float, elevation: float) -> Verdict | None:
    """Radiation by night, or more than the sun can give. `elevation`: the sun's highest in the interval, degrees."""
    if elevation < limits.NIGHT_ELEVATION:
        bound, when = limits.NIGHT_RADIATION, f"the sun is {-elevation:.0f} degrees below the horizon"
    else:
        factor, extra = limits.ENHANCEMENT
        bound = extra + factor * limits.SOLAR_CONSTANT * max(math.sin(math.radians(elevation)), 0.0)
        when = f"the sun stands at {elevation:.0f} degrees"
    if radiation <= bound:
        return None
    why = (
        f"solar radiation {radiation:g} W/m2 while {when}; possible is up to {bound:.0f}: are clock and position right?"
    )
    return Verdict(Flag.SUSPECT, "consistency", why, bound, radiation)


def humid_particles_test(values: Mapping[str, float], humidity: float) -> Iterator[Found]:
    """Particulates in humid air, which an optical sensor reads too high. `humidity`: % at the station at that time."""
    bound = limits.HUMID_PARTICLES
    if humidity <= bound:
        return
    for name in limits.PARTICLES:
        if name in values:
            why = f"{name} {values[name]:g} ug/m3 at {humidity:g} % humidity; above {bound:g} % droplets count too"
            yield name, Verdict(Flag.SUSPECT, "consistency", why, bound, values[name])


def _both(one: tuple[str, float], other: tuple[str, float], why: str, threshold: float) -> Iterator[Found]:
    for name, value in (one, other):
        yield name, Verdict(Flag.SUSPECT, "consistency", why, threshold, value)


def _outside(flag: Flag, name: str, value: float, low: float, high: float, unit: str, what: str) -> Verdict:
    why = f"{name} {value:g} {unit} {what}: outside {low:g} to {high:g}"
    return Verdict(flag, "range", why, low if value < low else high, value)


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * limits.HOUR else f"{seconds / 3600:.1f} h"
