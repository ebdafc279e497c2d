"""Every threshold of quality control in one place. Range limits proper stand with the vocabulary (`variables.py`).

Where a number comes from stands beside it; how the numbers were chosen and what they cost on recorded stations:
docs/decisions/0004-quality-limits.md. "Measured" means the 99.99 % step of recorded 10 and 15 minute series there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

HOUR = 3600


# --- range ---

# Pressure reduced to sea level, hPa. Suspect above the design's 1050: real winters reach beyond it, sensors do so more
# often. Below: the lowest record of WeatherReal's limits is 870; MADIS accepts 846 to 1100.
SEA_LEVEL_FAIL = (850.0, 1100.0)
SEA_LEVEL_SUSPECT = (870.0, 1050.0)
COLUMN_SPREAD_K = (
    15.0  # how far the column's mean temperature may lie from what one thermometer tells (inversions, moisture)
)
COLUMN_SPREAD_UNKNOWN_K = 35.0  # without a thermometer

# --- step ---


@dataclass(frozen=True, slots=True)
class Step:
    """Largest ordinary change between readings a minute, ten minutes and an hour apart.

    Between these a power law; below a minute the minute's limit stands (a quicker cadence makes no smaller steps once
    there is noise), beyond the hour it grows with the square root of time.
    """

    minute: float
    ten_minutes: float
    hour: float

    def limit(self, span_s: float) -> float:
        """The limit for readings `span_s` seconds apart."""
        if span_s >= HOUR:
            return self.hour * math.sqrt(span_s / HOUR)
        if span_s >= 600:
            return self.ten_minutes * math.pow(span_s / 600, math.log(self.hour / self.ten_minutes) / math.log(6))
        if span_s > 60:
            return self.minute * math.pow(span_s / 60, math.log10(self.ten_minutes / self.minute))
        return self.minute


# Hour: the design's 10 degC/h; MADIS' hourly humidity change of 50 %; WeatherReal's 3 hPa. Ten minutes: measured. The
# rest: own judgement between them.
STEPS: dict[str, Step] = {
    "temperature": Step(2.0, 3.0, 10.0),
    "dew_point": Step(2.0, 3.5, 8.0),
    "humidity": Step(10.0, 20.0, 50.0),
    "pressure": Step(0.8, 1.2, 3.0),
    "pressure_msl": Step(0.8, 1.2, 3.0),
    "wind_speed": Step(6.0, 7.0, 12.0),
    "wind_gust": Step(10.0, 12.0, 18.0),
}


@lru_cache(maxsize=4096)
def step_limit(name: str, span_s: int) -> float:
    """`Step.limit` of a variable in STEPS, remembered: spans repeat."""
    return STEPS[name].limit(span_s)


def step_cap(name: str, span_s: int) -> float:
    """Steps above this teach nothing about a series: they are faults."""
    return LIFT_FACTOR * step_limit(name, span_s) if name in STEPS else math.inf


STEP_GAP_S = 3 * HOUR  # older neighbours say nothing about a step
STEP_RESOLUTIONS = 3.0  # a step of so many of the sensor's own units is never suspect
OWN_STEP_READINGS = 10_000  # before this a station's own 99.99 % step is not known
LIFT_FACTOR = 2.0  # a step up to so many times its limit is believed when something else moved too, and never beyond

# A change of at least this much since the previous reading shows that the air itself changed (rain: an amount).
EVIDENCE: dict[str, float] = {
    "wind_speed": 2.0,
    "wind_gust": 3.0,
    "pressure": 0.5,
    "pressure_msl": 0.5,
    "temperature": 1.5,
    "rain": 0.2,
}
EVIDENCE_AGE_S = 900  # it counts for steps this near in time
EVIDENCE_GAP_S = HOUR  # changes over a longer gap show nothing
_AIR = ("wind_speed", "wind_gust", "pressure", "pressure_msl", "rain")
LIFTED_BY: dict[str, tuple[str, ...]] = {
    "temperature": _AIR,
    "dew_point": _AIR,
    "humidity": _AIR,
    "pressure": ("wind_speed", "wind_gust", "temperature", "rain"),
    "pressure_msl": ("wind_speed", "wind_gust", "temperature", "rain"),
    "wind_speed": ("pressure", "pressure_msl", "temperature", "rain"),
    "wind_gust": ("pressure", "pressure_msl", "temperature", "rain"),
}

# --- persistence ---


@dataclass(frozen=True, slots=True)
class Still:
    """How long a value may stand still, seconds. `coarse`: from this resolution on a sensor may stand still `coarse_s`,
    because the air may change by less than its unit. `natural`: between these two values standing still is ordinary
    (calm, dry, saturated, dark); `natural_s` is the limit there, None = none."""

    limit_s: int = 6 * HOUR
    coarse: float = math.inf
    coarse_s: int = 24 * HOUR
    natural: tuple[float, float] = (math.inf, math.inf)
    natural_s: int | None = None


STILL: dict[str, Still] = {
    "temperature": Still(coarse=0.5),
    "dew_point": Still(coarse=0.5),
    "humidity": Still(coarse=1.0, coarse_s=12 * HOUR, natural=(99.0, 110.0), natural_s=7 * 24 * HOUR),
    "pressure": Still(coarse=0.5),
    "pressure_msl": Still(coarse=0.5),
    "wind_speed": Still(coarse=0.5, coarse_s=12 * HOUR, natural=(0.0, 0.5), natural_s=72 * HOUR),
    "wind_gust": Still(coarse=0.5, coarse_s=12 * HOUR, natural=(0.0, 0.5), natural_s=72 * HOUR),
    "wind_direction": Still(coarse=10.0),
    "rain": Still(coarse=0.5, natural=(0.0, 0.0)),
    "rain_rate": Still(coarse=0.5, natural=(0.0, 0.0)),
    "solar_radiation": Still(natural=(-20.0, 20.0)),
    "uv_index": Still(coarse=0.5, natural=(0.0, 0.0)),
    "pm2_5": Still(coarse=1.0),
    "pm10": Still(coarse=1.0),
    "no2": Still(coarse=1.0),
    "nox": Still(coarse=1.0),
}
CALM_WIND = 0.5  # m/s: most anemometers and vanes stand still below it
STILL_READINGS = 6  # fewer equal readings prove nothing
STILL_GAP_S = 2 * HOUR  # a longer gap ends a run: nobody knows what the value did meanwhile

# A message that repeats: so many measured quantities, none of them naturally still, all unchanged for so long.
REPEAT_VARIABLES = (
    "temperature",
    "humidity",
    "pressure",
    "wind_speed",
    "wind_gust",
    "wind_direction",
    "solar_radiation",
)
REPEAT_COUNT = 3
REPEAT_S = HOUR

# --- consistency ---

DEW_POINT_ABOVE = 0.5  # degC above the temperature that sensor errors explain
GUST_BELOW = (0.5, 0.05)  # m/s and share of the mean speed that rounding and unequal periods explain
DRY_RAIN = (0.2, 30.0)  # rain of so many mm below so much humidity, %
# Above this humidity, %, water droplets count as particles in an optical particulate sensor: it reads too high. Own
# judgement between the 70 % that Nova's SDS011 is specified for and the deliquescence of common aerosol (75-80 %).
HUMID_PARTICLES = 80.0
PARTICLES = ("pm2_5", "pm10")
HUMIDITY_AGE_S = 30 * 60  # humidity of another sensor of the station counts for so long
NIGHT_ELEVATION = -6.0  # degrees: civil twilight has ended
NIGHT_RADIATION = 20.0  # W/m2 above which a night is no night: offsets and moonlight stay below
SOLAR_CONSTANT = 1361.0  # W/m2 at the mean distance of the sun
ENHANCEMENT = (
    1.3,
    250.0,
)  # radiation reflected from clouds may exceed the top of the atmosphere by this factor plus W/m2

# --- time ---

LATE_BEFORE_RESTART = 10  # so many readings in order, all older than the newest: the newest had a wrong time
