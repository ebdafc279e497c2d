"""Civil days from trajectories: what hours that go together mean for a day's extremes, and days of 23 and 25 hours."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from edge_agent.bundle.station_task import DERIVED_EVENTS, RAIN_EVENT
from edge_agent.forecast import QUANTILES, Forecast, Level, VariableForecast
from edge_agent.forecast.chances import chance
from edge_agent.grid import GRID_VARIABLES, HISTORY_STEPS
from edge_agent.guidance.daily import DAY_S, HOUR_S, nights, outlook
from edge_agent.publish.payloads import daily_payload, to_json
from edge_agent.publish.schemas import validate

ORIGIN = int(datetime(2024, 5, 1, 0, tzinfo=UTC).timestamp())
NORMAL = np.array([-1.645, -1.282, -0.842, -0.524, -0.253, 0.0, 0.253, 0.524, 0.842, 1.282, 1.645])


def history(together: bool, seed: int = 0) -> np.ndarray:
    """30 days: each either warm or cold as a whole, or every hour for itself; an hour of rain a day."""
    rng = np.random.default_rng(seed)
    days = HISTORY_STEPS // 96
    hours = np.repeat(rng.normal(size=(days, 1)), 24, axis=1) if together else rng.normal(size=(days, 24))
    out = np.full((HISTORY_STEPS, len(GRID_VARIABLES)), np.nan, np.float32)
    out[:, GRID_VARIABLES.index("temperature")] = np.repeat(hours.ravel(), 4)
    rain = np.zeros((days, 96))
    rain[np.arange(days), rng.integers(0, 96, days)] = 2.0
    out[:, GRID_VARIABLES.index("rain")] = rain.ravel()
    return out


def hourly(hours: int = 72, origin: int = ORIGIN) -> Forecast:
    mean = 10.0 + np.zeros(hours)
    variables = {
        "temperature": VariableForecast("temperature", Level.FULL, mean, 10.0 + np.tile(NORMAL[:, None], hours), 0),
        "rain": VariableForecast("rain", Level.FULL, 0.1 + 0 * mean, np.tile(np.linspace(0, 1, 11)[:, None], hours), 0),
    }
    leads = tuple(HOUR_S * (i + 1) for i in range(hours))
    return Forecast("roof", origin, origin + 6, leads, QUANTILES, Level.FULL, "test", "", variables, {})


def test_hours_that_go_together_make_milder_extremes_than_hours_on_their_own():
    """The maximum of 24 equal hours is the hour's own distribution; of 24 independent ones it lies 2 sigma higher."""
    [together, *_] = outlook(hourly(), history(True), "UTC")
    [alone, *_] = outlook(hourly(), history(False), "UTC")
    assert together.values["temperature_max"][0] == pytest.approx(10.0, abs=0.3)
    assert together.values["temperature_min"][0] == pytest.approx(10.0, abs=0.3)
    assert alone.values["temperature_max"][0] == pytest.approx(11.95, abs=0.4)
    assert alone.values["temperature_min"][0] == pytest.approx(8.05, abs=0.4)


def test_a_day_s_rain_is_the_sum_of_its_hours():
    [day, *_] = outlook(hourly(), history(True), "UTC")
    mean, quantiles = day.values["rain_24h"]
    assert mean == pytest.approx(24 * 0.5, rel=0.1)  # each hour's quantiles lie evenly in 0..1
    assert (np.diff(quantiles) >= 0).all() and quantiles[0] >= 0


@pytest.mark.parametrize(("month", "day", "hours"), [(3, 31, 23), (10, 27, 25), (5, 2, 24)])
def test_civil_days_are_those_of_the_time_zone(month, day, hours):
    origin = int(datetime(2024, month, day - 1, 12, tzinfo=UTC).timestamp())
    found = {one.day.day: one for one in outlook(hourly(origin=origin), history(True), "Europe/Berlin")}
    assert found[day].end - found[day].start == hours * HOUR_S


def test_of_today_what_was_read_counts():
    past = history(True)
    past[-4 * 6, GRID_VARIABLES.index("temperature")] = np.nan
    past[-1 - 4 * 3, GRID_VARIABLES.index("temperature")] = 40.0  # three hours ago
    origin = ORIGIN + 12 * HOUR_S
    [today, *_] = outlook(hourly(origin=origin), past, "UTC")
    assert today.values["temperature_max"] == (pytest.approx(40.0), pytest.approx(np.full(11, 40.0)))


def test_days_that_are_not_covered_or_have_no_past_are_left_out():
    assert len(outlook(hourly(hours=47), history(True), "UTC")) == 1
    empty = np.full((HISTORY_STEPS, len(GRID_VARIABLES)), np.nan, np.float32)
    assert outlook(hourly(), empty, "UTC") == []


def test_receivers_know_the_payload():
    forecast = hourly()
    days = outlook(forecast, history(True), "UTC")
    assert [one.start for one in days] == [ORIGIN + k * DAY_S for k in range(3)]
    validate("forecast/daily", to_json(daily_payload(forecast, days, "UTC", 3600)))


FROST, GUST = DERIVED_EVENTS
EVENTS = (RAIN_EVENT, FROST, GUST)


def told(forecast: Forecast) -> Forecast:
    """The forecast with the probability of each hour."""
    found = {}
    for event in EVENTS:
        own = forecast.variables.get(event.variable)
        if own is not None and own.quantiles is not None:
            found[event.name] = chance(event, own.quantiles.T, QUANTILES)
    return replace(forecast, events=found)


def cold(hours: int = 72, origin: int = ORIGIN) -> Forecast:
    """Temperature around 0 degC with a spread of 1 in each hour, and no rain but in one hour of twenty."""
    made = hourly(hours, origin)
    fan = np.tile(NORMAL[:, None], hours)
    rain = np.zeros((11, hours))
    rain[-1] = 1.0
    variables = {
        "temperature": replace(made.variables["temperature"], mean=np.zeros(hours), quantiles=fan),
        "rain": replace(made.variables["rain"], mean=np.full(hours, 0.03), quantiles=rain),
    }
    return told(replace(made, variables=variables))


def test_frost_of_hours_that_go_together_is_as_likely_as_in_one_of_them_and_else_nearly_certain():
    [together, *_] = nights(cold(), history(True), 0.0, EVENTS)
    [alone, *_] = nights(cold(), history(False), 0.0, EVENTS)
    assert together.events["frost"] == pytest.approx(0.5, abs=0.1)
    assert alone.events["frost"] > 0.95
    assert {*together.events} == {"rain", "frost"}  # gusts are not forecast


@pytest.mark.parametrize("together", [True, False])
def test_at_any_time_is_no_less_likely_than_in_any_hour(together):
    forecast = cold()
    for night in nights(forecast, history(together), 0.0, EVENTS):
        at = slice((night.start - ORIGIN) // HOUR_S, (night.end - ORIGIN) // HOUR_S)
        for name, p in night.events.items():
            assert forecast.events[name][max(at.start, 0) : at.stop].max() <= p <= 1.0


def test_a_frost_that_was_read_tonight_is_certain():
    past = history(True)
    past[-1 - 4 * 2, GRID_VARIABLES.index("temperature")] = -1.0  # two hours ago
    warm = told(hourly())
    [tonight, tomorrow, *_] = nights(warm, past, 0.0, EVENTS)
    assert tonight.start == ORIGIN - 6 * HOUR_S  # 18:00 of the day before
    assert tonight.events["frost"] == 1.0
    assert tomorrow.events["frost"] < 0.05


@pytest.mark.parametrize(("longitude", "begins"), [(0.0, 18), (13.4, 17), (-74.0, 23), (139.7, 9)])
def test_nights_are_those_of_the_sun(longitude, begins):
    noon = ORIGIN + 12 * HOUR_S
    found = nights(cold(origin=noon - round(longitude / 15) * HOUR_S), history(True), longitude, EVENTS)
    assert {(night.start // HOUR_S) % 24 for night in found} == {begins}
    assert {night.end - night.start for night in found} == {12 * HOUR_S}


def test_nights_that_are_not_covered_or_have_no_past_are_left_out():
    assert len(nights(cold(hours=29), history(True), 0.0, EVENTS)) == 1
    assert len(nights(cold(hours=30), history(True), 0.0, EVENTS)) == 2
    empty = np.full((HISTORY_STEPS, len(GRID_VARIABLES)), np.nan, np.float32)
    assert nights(cold(), empty, 0.0, EVENTS) == []


def test_receivers_know_the_payload_with_nights():
    forecast = cold()
    found = nights(forecast, history(True), 0.0, EVENTS)
    payload = daily_payload(forecast, [], "UTC", 3600, found)
    assert validate("forecast/daily", to_json(payload)) == payload
    assert payload.nights[1].events["frost"] == round(found[1].events["frost"], 3)
