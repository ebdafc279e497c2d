"""The forecast without a model: its laws, and its own uncertainty."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent import grid
from edge_agent.bundle.station_task import RAIN_EVENT
from edge_agent.circle import wrap
from edge_agent.forecast import LEADS_S, QUANTILES, persistence
from tests.forecast.series import windows

STEPS = grid.HISTORY_STEPS
LINEAR = ("temperature", "humidity", "pressure", "wind_speed", "wind_gust")


def column(name: str, rows: int = 3, seed: int = 0, gaps: float = 0.0) -> np.ndarray:
    return np.ascontiguousarray(windows(rows, seed, gaps)[:, :, grid.GRID_VARIABLES.index(name)])


def daily(amplitude: float = 5.0, level: float = 10.0) -> np.ndarray:
    """[1, 2880]: nothing but a daily cycle."""
    return (level + amplitude * np.sin(2 * np.pi * np.arange(STEPS) / 96))[None]


@settings(max_examples=20)
@given(name=st.sampled_from(LINEAR), days=st.floats(0.1, 4.9), seed=st.integers(0, 99))
def test_without_a_cycle_the_base_is_the_last_value(name, days, seed):
    x = column(name, seed=seed)
    x[:, : STEPS - int(days * 96)] = np.nan
    moved = persistence.base(x, name, LEADS_S)
    np.testing.assert_array_equal(moved, persistence.base(x, name, LEADS_S, cycle=False))
    np.testing.assert_allclose(moved, np.repeat(x[:, -1:], len(LEADS_S), axis=1), rtol=1e-6)


def test_a_station_that_only_has_a_daily_cycle_is_forecast_by_it():
    x = daily()
    ahead = np.arange(STEPS, STEPS + len(LEADS_S))
    came = 10.0 + 5.0 * np.sin(2 * np.pi * ahead / 96)
    error = persistence.base(x, "temperature", LEADS_S)[0] - came
    assert np.abs(error).max() < 0.1  # the smoothing takes 1 % off the amplitude
    plain = persistence.base(x, "temperature", LEADS_S, cycle=False)[0] - came
    assert np.abs(plain).max() > 4.0


def test_the_cycle_is_found_through_gaps_and_in_hourly_series():
    full = daily()
    for step, gaps in ((4, 0.0), (1, 0.6)):
        x = np.where(np.arange(STEPS) % step == STEPS % step, full, np.nan)
        x[np.random.default_rng(1).random(x.shape) < gaps] = np.nan
        x[:, -1] = full[:, -1]
        difference = persistence.diurnal_cycle(x) - persistence.diurnal_cycle(full)
        assert np.abs(difference - difference.mean()).max() < 0.5


def test_the_base_is_now_plus_the_change_of_the_cycle():
    x = column("temperature")
    cycle = persistence.diurnal_cycle(x)
    for lead, step in ((900, 0), (6 * 3600, 23)):
        expected = x[:, -1] + cycle[:, step] - cycle[:, -1]
        np.testing.assert_allclose(persistence.base(x, "temperature", (lead,))[:, 0], expected, rtol=1e-6)


@pytest.mark.parametrize("missing", range(6))
def test_now_is_the_newest_value_of_the_last_hour(missing):
    x = column("pressure")
    x[:, STEPS - missing :] = np.nan
    now = persistence.newest(x)
    if missing <= 4:
        np.testing.assert_allclose(now, x[:, STEPS - 1 - missing])
    else:
        assert np.isnan(now).all() and np.isnan(persistence.base(x, "pressure", LEADS_S)).all()
        assert np.isnan(persistence.quantiles(x, "pressure", LEADS_S, QUANTILES)).all()


@settings(max_examples=15)
@given(
    name=st.sampled_from((*LINEAR, "wind_direction", "rain")),
    gaps=st.floats(0, 0.95),
    days=st.floats(0, 30),
    seed=st.integers(0, 99),
    cycle=st.booleans(),
)
def test_quantiles_ascend_stay_possible_and_are_always_there(name, gaps, days, seed, cycle):
    x = column(name, seed=seed, gaps=gaps)
    x[:, : int((30 - days) * 96)] = np.nan
    x[:, -1] = 1.0
    q = persistence.quantiles(x, name, LEADS_S, QUANTILES, cycle=cycle)
    assert q.shape == (3, len(LEADS_S), len(QUANTILES)) and np.isfinite(q).all()
    assert (np.diff(q, axis=2) >= -1e-9).all()
    low, high = persistence.BOUNDS.get(name, (-np.inf, np.inf))
    assert (q >= low).all() and (q <= high).all()
    if name == "wind_direction":
        assert (np.abs(q - persistence.base(x, name, LEADS_S)[..., None]) <= 180.0).all()


def test_rows_are_forecast_each_for_itself():
    order = np.array([2, 0, 1])
    for name in (*LINEAR, "wind_direction", "rain"):
        x = column(name)
        together = persistence.quantiles(x, name, LEADS_S, QUANTILES)
        for rows in (order, [1]):
            alone = persistence.quantiles(x[rows], name, LEADS_S, QUANTILES)
            np.testing.assert_allclose(together[rows], alone, rtol=1e-6, atol=1e-6)


def test_the_spread_is_that_of_the_errors_the_base_made():
    """A random walk of known step: after k steps the error is normal with k times the variance."""
    rng = np.random.default_rng(3)
    x = np.cumsum(0.1 * rng.standard_normal((8, STEPS)), axis=1).astype(np.float32)
    q = persistence.quantiles(x, "temperature", (3600, 14_400), QUANTILES, cycle=False)
    width = (q[:, :, 9] - q[:, :, 1]).mean(axis=0) / (2 * 1.2816)
    np.testing.assert_allclose(width, [0.1 * 2, 0.1 * 4], rtol=0.15)


def test_a_new_station_has_a_wide_fan_that_its_own_errors_narrow():
    x = 10.0 + 0.01 * np.random.default_rng(0).standard_normal((1, STEPS)).astype(np.float32)
    widths = []
    for days in (0.1, 2, 30):
        known = x.copy()
        known[:, : STEPS - int(days * 96)] = np.nan
        q = persistence.quantiles(known, "temperature", (3600,), QUANTILES)[0, 0]
        widths.append(q[-1] - q[0])
    assert widths[0] > 2.0 > widths[1] > widths[2]


def test_direction_stays_and_errors_go_round_north():
    x = np.tile(np.array([[358.0, 2.0]]), (1, STEPS // 2)).astype(np.float32)
    assert (persistence.base(x, "wind_direction", LEADS_S) == 2.0).all()
    q = persistence.quantiles(x, "wind_direction", (3600,), QUANTILES)[0, 0]
    assert q[0] > -15 and q[-1] < 20 and np.abs(wrap(q[5] - 2.0)) < 5


def test_rain_is_what_the_30_days_were_like():
    x = np.zeros((1, STEPS), np.float32)
    x[0, :288] = 0.4  # a tenth of the steps
    assert persistence.base(x, "rain", (900, 3600))[0] == pytest.approx([0.04, 0.04], rel=1e-3)
    q = persistence.quantiles(x, "rain", (900,), (0.05, 0.5, 0.89, 0.95))[0, 0]
    assert q.tolist() == pytest.approx([0.0, 0.0, 0.0, 0.4])
    assert persistence.event_probability(x, RAIN_EVENT)[0] == pytest.approx(0.1, abs=0.01)
    assert persistence.event_probability(x, RAIN_EVENT, cycle=False).tolist() == [0.0]
    assert persistence.base(x, "rain", (900,), cycle=False)[0, 0] == 0.0


def test_a_few_dry_hours_do_not_make_rain_impossible():
    x = np.full((1, STEPS), np.nan, np.float32)
    x[0, -8:] = 0.0
    assert 0.02 < persistence.event_probability(x, RAIN_EVENT)[0] < 0.06


def test_the_mean_day_without_a_day_is_that_of_the_days_that_are_left():
    x = windows(3, gaps=0.2)[:, :, 0].astype(np.float64)
    without = persistence._cycles_without(x)
    for day in (0, 13, 29):
        blank = x.copy()
        blank[:, day * 96 : (day + 1) * 96] = np.nan
        np.testing.assert_allclose(without[:, day], persistence.diurnal_cycle(blank), atol=1e-9)


def test_a_time_of_day_that_only_one_day_knows_has_no_past_error():
    x = np.full((1, 2880), np.nan)
    x[0, 40::96] = 10.0  # a reading a day, at one time
    x[0, 96 * 20 : 96 * 26] = 10.0
    errors = persistence._past_errors(x, "temperature", (900, 3600), True)
    assert (np.nan_to_num(errors) == 0).all() and np.isfinite(errors).any()


def test_past_errors_are_not_smaller_than_those_to_come():
    """Six days of weather that lasts two hours and has no daily cycle. Were an outcome a sixth of its own mean day,
    past errors would be too small; without its whole day they are a little too large, by a percent with 30 days."""
    rng = np.random.default_rng(0)
    x = np.full((2000, 2880 + 96), np.nan, np.float32)
    x[:, -7 * 96 :] = rng.standard_normal((2000, 7 * 12)).astype(np.float32).repeat(8, axis=1)
    known, leads = x[:, :2880], (21_600,)
    past = persistence._past_errors(known, "temperature", leads, True)
    to_come = x[:, 2879 + 24] - persistence.base(known, "temperature", leads)[:, 0]
    assert 1.0 < float(np.nanstd(past)) / float(np.std(to_come)) < 1.12


def sunny(share: float = 1.0, noise: float = 0.0) -> np.ndarray:
    """[1, 2880]: radiation by day, none at night, ending at a quarter past ten in the morning of its sine."""
    step = np.arange(STEPS) + 24
    light = np.maximum(800.0 * np.sin(2 * np.pi * (step - 10) / 96), 0.0)
    factor = 1.0 + noise * np.random.default_rng(3).normal(size=STEPS)
    light = light * np.clip(factor, 0.0, None)
    light[-5:] *= share
    return light[None]


def test_radiation_stays_as_bright_as_it_was_beside_its_mean_day_and_is_none_at_night():
    clear, dull = sunny(), sunny(0.3)
    usual, under_cloud = (persistence.base(x, "solar_radiation", LEADS_S)[0] for x in (clear, dull))
    step = np.arange(STEPS, STEPS + len(LEADS_S)) + 24
    came = np.maximum(800.0 * np.sin(2 * np.pi * (step - 10) / 96), 0.0)
    assert np.abs(usual - came).max() < 30.0
    assert under_cloud[0] < 0.4 * usual[0] and 0.5 < under_cloud[-1] / usual[-1] < 0.9  # it fades
    night = np.roll(clear, -30, axis=1)  # ends in the evening
    dark = persistence.base(night, "solar_radiation", LEADS_S)
    spread = persistence.quantiles(night, "solar_radiation", LEADS_S, QUANTILES)
    assert dark[0, -1] < 1.0 and spread[0, -1].max() < 2.0


def test_the_spread_of_radiation_follows_its_day():
    x = np.roll(sunny(noise=0.3), -28, axis=1)  # into the evening
    spread = persistence.quantiles(x, "solar_radiation", LEADS_S, QUANTILES)[0]
    assert (np.diff(spread, axis=1) >= 0).all() and (spread >= 0).all()
    width = spread[:, -1] - spread[:, 0]
    assert width[0] > 50.0 and width[-1] < 1.0


def test_radiation_without_a_mean_day_is_the_last_value():
    x = sunny()
    x[:, : STEPS - 96] = np.nan
    np.testing.assert_allclose(persistence.base(x, "solar_radiation", LEADS_S)[0], x[0, -1])
    assert np.isfinite(persistence.quantiles(x, "solar_radiation", LEADS_S, QUANTILES)).all()
    x[:, -8:] = np.nan
    assert np.isnan(persistence.base(x, "solar_radiation", LEADS_S)).all()
