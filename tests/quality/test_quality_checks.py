"""Each test by itself: laws, and the words an operator reads."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.observation import Flag, Verdict
from edge_agent.quality import checks, limits
from edge_agent.quality.sun import sun_elevation
from edge_agent.variables import VARIABLES


@pytest.mark.parametrize(
    ("name", "value", "flag"),
    [
        ("temperature", -127.0, Flag.FAIL),  # a DS18B20 without its wire
        ("temperature", 85.0, Flag.FAIL),  # and one that has just been switched on
        ("temperature", -90.0, Flag.SUSPECT),
        ("temperature", 61.0, Flag.SUSPECT),
        ("temperature", 60.0, None),
        ("humidity", -0.1, Flag.FAIL),
        ("humidity", 104.5, Flag.SUSPECT),
        ("pressure", 0.0, Flag.FAIL),
        ("wind_direction", 361.0, Flag.FAIL),
        ("rain", -0.2, Flag.FAIL),
        ("rain", math.inf, Flag.FAIL),
        ("pressure", -math.inf, Flag.FAIL),
    ],
)
def test_a_value_out_of_range_is_suspect_or_fails(name: str, value: float, flag: Flag | None) -> None:
    verdict = checks.range_test(name, value)
    assert (verdict.flag if verdict else None) == flag


@given(st.sampled_from(sorted(VARIABLES)), st.floats(-1e4, 1e4))
def test_what_fails_is_always_further_out_than_what_is_suspect(name: str, value: float) -> None:
    verdict = checks.range_test(name, value)
    low, high = VARIABLES[name].suspect
    assert (verdict is None) == (low <= value <= high)
    if verdict:
        assert verdict.threshold in (*VARIABLES[name].fail, low, high)


def test_reduction_to_sea_level_follows_the_standard_atmosphere() -> None:
    """ISO 2533 pressures at 0 and 500 m."""
    column = 288.15 - checks.LAPSE * 500 / 2
    assert checks.sea_level(954.61, 500.0, column) == pytest.approx(1013.25, abs=0.1)
    assert checks.sea_level(1000.0, 0.0, 280.0) == 1000.0


@pytest.mark.parametrize(
    ("pressure", "temperature", "elevation", "flag"),
    [
        (1013.0, 15.0, 0.0, None),
        (1049.0, -20.0, 0.0, None),
        (1055.0, -20.0, 0.0, Flag.SUSPECT),
        (865.0, 25.0, 0.0, Flag.SUSPECT),
        (840.0, 25.0, 0.0, Flag.FAIL),
        (970.0, 10.0, 408.0, None),
        (1025.0, 10.0, 258.0, Flag.SUSPECT),  # a sensor that reduces by itself, declared as station pressure
        (1013.0, None, 1500.0, Flag.FAIL),  # the same high up
        (645.0, -25.0, 3580.0, None),  # the Jungfraujoch on any winter's day
        (1065.0, 35.0, -430.0, None),  # the Dead Sea
        (700.0, None, 100.0, Flag.FAIL),
    ],
)
def test_pressure_is_judged_at_sea_level(
    pressure: float, temperature: float | None, elevation: float, flag: Flag | None
) -> None:
    verdict = checks.sea_level_test(pressure, temperature, elevation)
    assert (verdict.flag if verdict else None) == flag
    if verdict:
        assert "at sea level" in verdict.why and "elevation" in verdict.why


@given(st.floats(300, 1100), st.floats(-60, 45), st.floats(-430, 5500))
def test_an_unknown_temperature_never_makes_the_pressure_test_stricter(p: float, temperature: float, z: float) -> None:
    """For temperatures within 20 K of the standard atmosphere's."""
    standard = 15 - checks.LAPSE * z
    if abs(temperature - standard) <= 20:
        known, unknown = checks.sea_level_test(p, temperature, z), checks.sea_level_test(p, None, z)
        assert (unknown.flag if unknown else Flag.GOOD) <= (known.flag if known else Flag.GOOD)


@given(st.sampled_from(sorted(limits.STEPS)), st.integers(1, limits.STEP_GAP_S), st.integers(1, limits.STEP_GAP_S))
def test_a_longer_span_never_has_a_smaller_limit(name: str, one: int, other: int) -> None:
    short, long = sorted((one, other))
    assert limits.STEPS[name].limit(short) <= limits.STEPS[name].limit(long) * (1 + 1e-12)


@pytest.mark.parametrize("name", sorted(limits.STEPS))
def test_the_step_limit_is_the_table_and_not_scaled_down_to_seconds(name: str) -> None:
    step = limits.STEPS[name]
    assert step.limit(1) == step.limit(60) == step.minute
    assert step.limit(600) == pytest.approx(step.ten_minutes)
    assert step.limit(3600) == pytest.approx(step.hour)


def test_every_threshold_speaks_of_a_variable_of_the_vocabulary() -> None:
    names = {*limits.STEPS, *limits.STILL, *limits.EVIDENCE, *limits.LIFTED_BY, *limits.REPEAT_VARIABLES}
    assert names <= set(VARIABLES)
    assert set(limits.LIFTED_BY) == set(limits.STEPS)
    assert {other for others in limits.LIFTED_BY.values() for other in others} <= set(limits.EVIDENCE)
    assert set(limits.REPEAT_VARIABLES) <= set(limits.STILL)


# --- consistency -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "suspects"),
    [
        ({"temperature": 10.0, "dew_point": 10.4}, set()),
        ({"temperature": 10.0, "dew_point": 10.6}, {"temperature", "dew_point"}),
        ({"wind_speed": 5.0, "wind_gust": 4.6}, set()),
        ({"wind_speed": 5.0, "wind_gust": 4.4}, {"wind_speed", "wind_gust"}),
        ({"wind_speed": 30.0, "wind_gust": 28.6}, set()),
        ({"wind_speed": 0.0, "wind_gust": 0.0, "wind_direction": 217.0}, set()),  # the vane keeps its place in calm air
        ({"rain": 1.0, "humidity": 55.0}, set()),
        ({"rain": 1.0, "humidity": 20.0}, {"rain", "humidity"}),
        ({"rain": 0.0, "humidity": 5.0}, set()),
        ({"dew_point": 30.0}, set()),
        ({}, set()),
    ],
)
def test_values_that_contradict_each_other_are_both_suspect(values: dict[str, float], suspects: set[str]) -> None:
    found = dict(checks.consistency_test(values))
    assert set(found) == suspects
    assert all(v.flag == Flag.SUSPECT and v.test == "consistency" and v.value == values[k] for k, v in found.items())


@pytest.mark.parametrize(
    ("radiation", "elevation", "good"),
    [
        (15.0, -40.0, True),
        (30.0, -5.0, True),
        (30.0, -7.0, False),
        (900.0, -7.0, False),
        (1100.0, 60.0, True),
        (1000.0, 5.0, False),
    ],
)
def test_radiation_is_judged_by_the_sun(radiation: float, elevation: float, good: bool) -> None:
    assert (checks.radiation_test(radiation, elevation) is None) == good


# Elevations by pvlib 0.16.1, method nrel_numpy (SPA), without refraction.
SPA = [
    (1066419030, 39.742476, -105.1786, 39.872),
    (1561116600, 47.357, 8.5363, 66.073),
    (1576944000, 47.357, 8.5363, -4.028),
    (1710903960, -33.9, 151.2, 52.983),
    (1719792000, 78.2, 15.6, 11.641),
    (1894730400, 0.0, -78.5, 67.174),
    (1443913200, -89.98, 0.0, 4.099),
]


@pytest.mark.parametrize(("t", "latitude", "longitude", "elevation"), SPA)
def test_the_sun_stands_where_an_exact_algorithm_puts_it(
    t: int, latitude: float, longitude: float, elevation: float
) -> None:
    assert sun_elevation(t, latitude, longitude) == pytest.approx(elevation, abs=0.02)


# --- persistence -------------------------------------------------------------------------------------------------

HOUR = 3600


@pytest.mark.parametrize(
    ("name", "value", "resolution", "wind", "hours"),
    [
        ("temperature", 12.3, 0.1, 2.0, 6),
        ("temperature", 12.0, 1.0, 2.0, 24),
        ("pressure", 1013.2, 0.1, 2.0, 6),
        ("pressure", 1013.0, 1.0, 2.0, 24),
        ("humidity", 98.0, 0.1, 2.0, 6),
        ("humidity", 99.0, 0.1, 2.0, 7 * 24),
        ("wind_speed", 3.1, 0.1, 3.1, 6),
        ("wind_speed", 0.0, 0.1, 0.0, 72),
        ("wind_direction", 200.0, 1.0, 0.3, 72),
        ("wind_direction", 200.0, 1.0, 4.0, 6),
        ("wind_direction", 200.0, 22.5, 4.0, 24),
        ("wind_direction", 200.0, 1.0, None, 12),
        ("rain", 0.0, 0.2, None, None),
        ("rain", 0.2, 0.2, None, 6),
        ("solar_radiation", 0.0, 1.0, None, None),
        ("solar_radiation", 480.0, 1.0, None, 6),
        ("snow_depth", 0.4, 0.01, None, None),
    ],
)
def test_how_long_a_value_may_stand_still(
    name: str, value: float, resolution: float, wind: float | None, hours: int | None
) -> None:
    assert checks.still_limit(name, value, resolution, wind) == (hours if hours is None else hours * HOUR)


def test_verdicts_read_like_a_colleague() -> None:
    step = checks.step_test("temperature", 21.4, 12.0, 600, 3.0)
    still = checks.persistence_test("temperature", 12.3, 6.5 * HOUR, 6.0 * HOUR)
    assert step == Verdict(
        Flag.SUSPECT, "step", "temperature changed by +9.4 degC in 10 min; ordinary is up to 3", 3.0, 21.4
    )
    assert still is not None
    assert still.why == "temperature has been 12.3 degC for 6.5 h; ordinary is up to 6.0 h"


@pytest.mark.parametrize(
    ("humidity", "suspects"), [(80.0, set()), (80.1, {"pm2_5", "pm10"}), (104.0, {"pm2_5", "pm10"})]
)
def test_particulates_in_humid_air_are_suspect(humidity: float, suspects: set[str]) -> None:
    found = list(checks.humid_particles_test({"pm2_5": 12.0, "pm10": 20.0, "no2": 5.0}, humidity))
    assert {name for name, _ in found} == suspects
    assert all(verdict.flag is Flag.SUSPECT and "droplets" in verdict.why for _, verdict in found)
