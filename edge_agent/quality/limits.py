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
NEIGHBOUR_EVIDENCE_AGE_S = 1800  # a neighbour's change in the same direction counts for so long
FRONT_AGE_S = 3600  # and evidence counts for so long where others or a forecast are the measure
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
STILL_ACCUSED = 24  # equal readings after which one of three that no longer agree is the stuck one
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
# Rain of so many mm below so much humidity, %. 5 mm: 198 such readings of five stations came at 72 % and more.
DRY_RAIN = ((0.2, 30.0), (5.0, 50.0))
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

TRIPLE_ROOM = (1.2, 6.0)  # degC, and times its own usual size, by which a dew point may miss what T and RH say
TRIPLE_OFFSET = 1.5  # degC that it may miss it by always
TRIPLE_MEMORY = 5000  # readings in which what is usual changes
TRIPLE_COLD = 0.1  # degC more for each degree below zero: some instruments mean saturation over ice
TRIPLE_READINGS = 300  # before this the usual size is not known

# --- spike ---

# A reading that leaves and comes back: the smaller of both changes, where they have opposite signs. Hour: WeatherReal
# (6 degC, 5 degC, 3 hPa). Minute: ZAMG's 3 K and 10 % on minute data, halved, as both ways must exceed it. Rest: chosen
# on the tuning half of tests/benchmarks/quality_study.py.
SPIKES: dict[str, Step] = {
    "temperature": Step(1.5, 2.0, 6.0),
    "dew_point": Step(1.5, 2.2, 5.0),
    "humidity": Step(6.0, 10.0, 25.0),
    "pressure": Step(0.6, 0.8, 3.0),
    "pressure_msl": Step(0.6, 0.8, 3.0),
    "wind_speed": Step(8.0, 9.0, 14.0),
    "wind_gust": Step(14.0, 16.0, 22.0),
}
SPIKE_OWN = 1.5  # times the station's own 99.99 % reading that left and came back: its limit, where that is lower
SPIKE_GAP_S = 2 * HOUR  # between neighbours, at most
SPIKE_FAILS = 4.0  # times its limit, and both steps unheard of: not weather, and not for a forecast to read


@lru_cache(maxsize=4096)
def spike_limit(name: str, span_s: int) -> float:
    """`Step.limit` of a variable in SPIKES, remembered: spans repeat."""
    return SPIKES[name].limit(span_s)


# --- level: a jump that is taken back ---

# Two jumps beyond their limit, one back by about the size of the other, of which nothing explains at least one: what
# lies between is off, for so long at most; where both could be weather (up to `LIFT_FACTOR` times their limit), for
# less: sea breezes come and go, and take the humidity with them.
OFFSET_S = 48 * HOUR
OFFSET_NATURAL_S = 24 * HOUR
OFFSET_NATURAL_HUMIDITY_S = 2 * HOUR  # where something else moved too
OFFSET_SHARE = 0.15  # of the first jump, by which the second may differ

# --- rain ---

# A power law through the records of the world, some 60 mm for a minute and 425 for an hour on its line: own judgement
# from recalled records, not read in their table; so a fifth of it, and suspect only: 12 mm in a minute, 37 in ten, 85
# in an hour.
RAIN_ENVELOPE = (425.0, 0.47)
RAIN_SHARE = 0.2


def rain_limit(span_s: float) -> float:
    """mm in `span_s` seconds above which rain is suspect."""
    factor, power = RAIN_ENVELOPE
    return RAIN_SHARE * factor * math.pow(max(span_s, 60.0) / HOUR, power)


# --- time ---

LATE_BEFORE_RESTART = 10  # so many readings in order, all older than the newest: the newest had a wrong time

# --- roles: columns that changed places, values in another unit ---

# What a reading departs by from the one before without surprise, at least. Three times this, or three times the series'
# own usual step, is where surprise begins; it grows with the logarithm of the departure (`roles.surprise`).
ROLE_GRAIN: dict[str, float] = {
    "temperature": 0.15,
    "dew_point": 0.2,
    "humidity": 1.0,
    "pressure": 0.15,
    "pressure_msl": 0.15,
    "wind_speed": 0.4,
    "wind_gust": 0.6,
    "wind_direction": 15.0,
    "rain": 0.3,
    "solar_radiation": 15.0,
}
ROLE_GAP_S = 3 * HOUR  # an older reading says nothing of the next
ROLE_KNOWN_H = 24.0  # hours of readings before a variable has a role to lose
# Natural logarithms of likelihood ratios. A swap has about 50 places to be and is rarer than one row in a million.
ROLE_SURPRISED = 5.0  # one of the variables must surprise by so much,
ROLE_JUMPED = 2.0  # its partners by so much,
ROLE_FITS = 1.5  # and the other column may surprise by no more than this
ROLE_WILD = ("wind_direction", "wind_speed", "wind_gust", "rain", "solar_radiation")  # what stands here never surprises
ROLE_SWAP = 15.0  # all surprises that a swap explains together
ROLE_UNIT = 9.0  # the surprise that a unit explains
ROLE_RETURN = 3.0  # the surprise that is gone when columns are taken as labelled again
ROLE_LEVEL = 12.0  # values far from their own past and at home in another's: summed over independent samples
ROLE_LEVEL_UNITS = ("humidity", "pressure", "pressure_msl")  # others: a first summer or storm is no slip of units
ROLE_SAMPLE_S = 3 * HOUR  # readings nearer than this are one sample
ROLE_SEEN = 1.0  # more likely by so much than a value never seen: it was seen
ROLE_WEAK = 3.0  # a value less likely than usual ones by so much is looked at
ROLE_FAILS = 15.0  # evidence from which a value fails; below it is suspect
ROLE_MOST = 40.0  # no more is counted, so that a series that is in order again is believed again
ROLE_IMPOSSIBLE = (
    4.0  # taken away for a reading that the swap or slip would make impossible, though it is not as it stands
)
ROLE_OVER = -8.0  # evidence at which a swap or a slip is no longer believed

# Units a sensor may slip into, as `variables.conversion` knows them.
UNIT_SLIPS: dict[str, tuple[str, ...]] = {
    "temperature": ("degF", "K"),
    "dew_point": ("degF", "K"),
    "pressure": ("inHg", "kPa", "Pa", "mmHg"),
    "pressure_msl": ("inHg", "kPa", "Pa", "mmHg"),
    "wind_speed": ("km/h", "mph"),
    "wind_gust": ("km/h", "mph"),
    "humidity": ("1",),
}
# Columns of a file whose units are told as those of another variable.
UNIT_LIKE = dict.fromkeys(("temperature_max", "temperature_min", "soil_temperature"), "temperature")

# --- space: against the nearest neighbours ---

NEIGHBOURS = 5  # compared with at once, the nearest that have a value
NEIGHBOURS_KEPT = 20  # candidates per station
NEIGHBOUR_KM = 100.0  # no farther
NEIGHBOUR_HEIGHT_M = 800.0  # nor higher or lower (WeatherReal: 500 m within 300 km)
NEIGHBOUR_AGE_S = 1200  # a value older than this is missing,
NEIGHBOUR_CLOCK_S = 3 * HOUR  # a reading that is older than the last by more: the last one's time was wrong
NEIGHBOUR_AGE_HOURLY_S = 3900  # or than this, where the neighbour speaks less often
VOTERS = 3  # fewer neighbours are believed only after the station's usual difference to them is known
FEW_VOTERS = 1.5  # times the tolerance then
AGREEMENT = 2 / 3  # of the voters must object (WeatherReal)
NEIGHBOUR_MOVED: dict[str, float] = {  # a change between its readings that shows the air moved there (wind: root)
    "temperature": 1.0,
    "dew_point": 1.0,
    "pressure_msl": 0.4,
    "wind_speed": 0.5,
    "wind_gust": 0.5,
}
LAPSE_RANGE = (-10.0, 15.0)  # K/km, decrease with height: an inversion, and more than dry adiabatic over hot ground
LAPSE_PRIOR = 6.5  # K/km, the standard atmosphere's
LAPSE_PRIOR_WEIGHT = 3  # it counts as so many pairs of neighbours
LAPSE_PAIR_M = 100.0  # pairs nearer in height than this say nothing of a lapse rate
DEW_POINT_LAPSE = 2.0  # K/km: of an unsaturated parcel lifted, 1.7 to 2; the tolerance bears the rest


@dataclass(frozen=True, slots=True)
class Near:
    """How far a value may lie from what its neighbours say: at least `base`, or `usual` times the usual size of its
    own difference to them; more `per_km` of mean distance and `per_100m` of mean height difference. `drift`: of the
    difference's mean over a day. In the unit compared (wind: root of m/s; pressure: hPa at sea level)."""

    base: float
    usual: float
    per_km: float
    per_100m: float
    drift: float


NEAR: dict[str, Near] = {
    "temperature": Near(2.5, 7.0, 0.02, 0.35, 1.2),
    "dew_point": Near(3.5, 7.0, 0.02, 0.3, 2.0),
    "humidity": Near(4.0, 7.0, 0.02, 0.3, 2.5),  # compared as dew point
    "pressure": Near(1.5, 8.0, 0.015, 0.3, 0.8),
    "pressure_msl": Near(1.5, 8.0, 0.015, 0.3, 0.8),
    "wind_speed": Near(1.5, 7.0, 0.005, 0.1, math.inf),
    "wind_gust": Near(1.5, 7.0, 0.005, 0.1, math.inf),
}
SPREAD_SHARE = 1.5  # of the neighbours' own disagreement is added
DIFFERENCE_READY_H = 48.0  # hours of comparisons before a station's usual difference is known
DIFFERENCE_MEMORY_H = 240.0  # it follows this slowly,
DRIFT_READY_H = 240.0  # hours of comparisons before a drift of it is
DRIFT_H = 24.0  # and a drift is seen in a mean over so long,
DRIFT_RELEARN = 0.25  # share of its usual speed at which a difference that has changed becomes usual
DRIFT_USUAL = 5.0  # beyond so many times the usual size of that mean
DIFFERENCE_HOURS = 3  # of the day share one usual difference: cities are warmer by night

# --- anomaly: against the agent's own forecast ---

# Departure from the median, in standard deviations read from the published quantiles, and at least by so much in the
# variable's unit. Flag 3 at most.
ANOMALY_Z = 6.0
ANOMALY_LEAST: dict[str, float] = {
    "temperature": 4.0,
    "humidity": 20.0,
    "pressure": 3.0,
    "wind_speed": 7.0,
    "wind_gust": 10.0,
}
ANOMALY_AGE_S = 6 * HOUR  # a forecast is a measure for so long
UNIT_ORDINARY: dict[str, tuple[float, float]] = {  # what a value out of range would ordinarily be, read in another unit
    "temperature": (-40.0, 50.0),
    "dew_point": (-40.0, 30.0),
    "wind_speed": (0.0, 35.0),
    "wind_gust": (0.0, 45.0),
    "humidity": (5.0, 101.0),
}
