"""Moments, means and the blend: they agree with what a textbook makes of the same pairs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.forecast.blend import Blend
from edge_agent.guidance.bands import BANDS, SHORT, bands
from edge_agent.guidance.correction import Correction
from edge_agent.guidance.predictors import SEASON, Layout, members
from edge_agent.guidance.regression import DAY_S, Means, Moments

LEVELS = (0.05, 0.1, 0.5, 0.9, 0.95)


def test_without_ridge_and_forgetting_it_is_least_squares():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 3))
    y = 2.0 + x @ [1.0, -0.5, 0.2] + rng.normal(0, 0.1, 400)
    moments = Moments(1, 3, 1e15)
    for i, part in enumerate(np.array_split(np.arange(400), 40)):
        moments.learn(0, x[part], y[part], (i + 1) * DAY_S)
    constant, beta = moments.solve(0, np.arange(3), 0.0)
    expected, *_ = np.linalg.lstsq(np.column_stack([np.ones(400), x]), y, rcond=None)
    np.testing.assert_allclose([constant, *beta], expected, atol=1e-3)


def test_what_a_station_adds_is_counted_in_days_and_not_in_pairs():
    """Two days of errors of 3, once a day or every hour: as much is added."""
    daily, hourly = Means(2, 1, 1e15), Means(2, 1, 1e15)
    for day in (1, 2):
        daily.learn(np.array([0]), 0, np.array([3.0]), day * DAY_S)
        hourly.learn(np.zeros(24, np.int64), 0, np.full(24, 3.0), day * DAY_S)
    for means in (daily, hourly):
        assert means.left(np.array([0, 1]), 0, 1.0) == pytest.approx([2.0, 0.0])


def test_an_old_pair_counts_half_after_its_half_life():
    moments = Moments(1, 1, 10 * DAY_S)
    moments.learn(0, np.zeros((4, 1)), np.zeros(4), DAY_S)
    moments.learn(0, np.zeros((1, 1)), np.ones(1), 11 * DAY_S)
    assert moments.pairs[0] == pytest.approx(3.0)
    assert moments.solve(0, np.arange(1), 1.0)[0] == pytest.approx(1 / 3)


def test_a_predictor_that_is_unknown_or_never_changes_does_no_harm():
    moments = Moments(1, 2, 1e15)
    x = np.column_stack([np.full(50, np.nan), np.full(50, 7.0)])
    moments.learn(0, x, np.linspace(0, 1, 50), DAY_S)
    constant, beta = moments.solve(0, np.arange(2), 1.0)
    assert np.isfinite([constant, *beta]).all()
    assert constant + moments.filled(0, x[:1])[0] @ beta == pytest.approx(0.5)


def means_of(errors: Sequence[float]) -> Means:
    means = Means(1, 1, 365 * DAY_S)
    for day, error in enumerate(errors, 1):
        means.learn(np.zeros(1, np.int64), 0, np.array([error]), day * DAY_S)
    return means


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-30, 30), min_size=1, max_size=40), st.floats(1, 10))
def test_a_mean_error_lies_between_nothing_and_what_was_seen(errors, spell):
    found = means_of(errors).beyond_chance(0, spell)
    assert min(0.0, *errors) - 1e-9 <= found <= max(0.0, *errors) + 1e-9


def test_a_steady_error_is_taken_whole_and_one_that_comes_and_goes_not_at_all():
    steady, restless = means_of([2.0] * 30), means_of([2.0, -1.5] * 15)
    assert steady.beyond_chance(0, 5.0) == pytest.approx(2.0)
    assert restless.beyond_chance(0, 5.0) == 0.0


@pytest.mark.parametrize("error", [-1.5, 1.5])
def test_a_steady_error_is_gone_after_a_month_without_any_regression(error):
    """Leads of a day and more: regressions have no say yet."""
    rng = np.random.default_rng(4)
    layout = Layout.of("temperature", ("temperature",), False)
    correction = Correction(1, layout, LEVELS)
    one, band = np.zeros(1, np.int64), np.full(1, SHORT + 5)
    left = []
    for day in range(1, 90):
        issued = correction.issue(one, band, np.zeros(1), np.zeros((1, layout.width)), np.zeros((1, layout.widths)))
        left.append(float(issued.mean[0]) - error)
        correction.learn(issued, error + rng.normal(0, 1.2, 1), day * DAY_S)
    assert left[0] == -error
    assert abs(np.mean(left[30:])) < 0.2 * abs(error)


def pooled_days(correction: Correction, layout: Layout, errors: Sequence[np.ndarray], first_day: int) -> np.ndarray:
    """The mean for ten stations after `errors` [10] of so many days were learned, raw guidance being 0."""
    ten, band = np.arange(10), np.full(10, SHORT + 5)
    x, wide = np.zeros((10, layout.width)), np.zeros((10, layout.widths))
    for day, error in enumerate(errors, first_day):
        correction.learn(correction.issue(ten, band, np.zeros(10), x, wide), error, day * DAY_S)
    return correction.issue(ten, band, np.zeros(10), x, wide).mean


def test_of_many_stations_each_is_given_its_own_error():
    rng = np.random.default_rng(5)
    layout = Layout.of("temperature", ("temperature",), True)
    own = np.linspace(-4, 4, 10)
    mean = pooled_days(Correction(10, layout, LEVELS), layout, [own + rng.normal(0, 0.5, 10) for _ in range(30)], 1)
    assert np.abs(mean - own).max() < 0.8


def test_what_was_learned_last_summer_holds_when_summer_comes():
    rng = np.random.default_rng(6)
    layout = Layout.of("temperature", ("temperature",), True)
    correction = Correction(10, layout, LEVELS)
    pooled_days(correction, layout, [2.0 + rng.normal(0, 0.5, 10) for _ in range(60)], 1)
    after = pooled_days(correction, layout, [2.0 + rng.normal(0, 0.5, 10)], 360)
    np.testing.assert_allclose(after, 2.0, atol=0.4)


def test_the_season_is_a_predictor_once_it_was_seen_turning_and_never_of_the_next_hours():
    layout = Layout.of("temperature", ("temperature", "temperature__gfs"), True)
    of_season = {layout.names.index(name) for name in SEASON[1:]}
    for which in ("season", "members", "lean", "own", "rich"):
        assert of_season <= set(layout.columns(which, short=False, season=True).tolist())
        assert not of_season & set(layout.columns(which, short=False, season=False).tolist())
    for which in ("brief", "lean", "rich"):
        assert not of_season & set(layout.columns(which, short=True, season=True).tolist())


def test_members_that_a_number_tells_apart_count_by_their_mean_and_spread():
    names = [f"temperature__{i}" for i in range(1, 51)]
    layout = Layout.of("temperature", ("temperature", "temperature__gfs", "temperature__model2", *names), False)
    assert layout.own == ("temperature__gfs", "temperature__model2")
    assert layout.alike == tuple(names)
    assert not set(names) & set(layout.names)
    said = {name: np.array([10.0 + i]) for i, name in enumerate(names)}
    found = members(
        layout, np.array([10.0]), {**said, "temperature__gfs": np.zeros(1), "temperature__model2": np.ones(1)}
    )
    assert found["members_mean"] == pytest.approx(24.5)
    assert found["members_spread"] == pytest.approx(np.std(np.arange(50)))
    assert found["temperature__gfs"] == -10.0


def test_the_better_of_two_forecasts_gets_the_weight():
    rng = np.random.default_rng(1)
    blend = Blend(1, LEVELS, circular=False, bounds=(-np.inf, np.inf))
    lead, spread = np.zeros(1, np.int64), np.array([[-1.6, -1.3, 0.0, 1.3, 1.6]])
    errors = []
    for _ in range(600):
        truth = rng.normal(0, 5, 1)
        good, bad = truth + rng.normal(0, 0.5, 1), truth + rng.normal(0, 3.0, 1)
        mean, quantiles, _ = blend.mix(lead, (good, good[:, None] + spread), (bad, bad[:, None] + spread))
        errors.append([float((mean - truth)[0]), float((good - truth)[0]), float((bad - truth)[0])])
        blend.learn(lead, good, bad, quantiles, truth)
    mixed, first, second = np.sqrt((np.array(errors[200:]) ** 2).mean(axis=0))
    assert mixed < 1.01 * first < second


def test_directions_are_blended_the_shorter_way_round():
    blend = Blend(1, LEVELS, circular=True, bounds=(-np.inf, np.inf))
    spread = np.array([[-20.0, -15.0, 0.0, 15.0, 20.0]])
    west, east = np.array([350.0]), np.array([10.0])
    mean, quantiles, _ = blend.mix(
        np.zeros(1, np.int64), (west, west[:, None] + spread), (east, east[:, None] + spread)
    )
    assert min(mean[0], 360 - mean[0]) < 1.0
    assert (np.diff(quantiles) >= 0).all()


@given(st.integers(1, 400), st.integers(0, 20), st.booleans())
def test_every_valid_time_has_a_band(lead_h, age_h, often):
    issued = 1_600_000_000
    origin = issued + 3600 * age_h
    found = bands(origin, issued, np.array([origin + 3600 * lead_h]), often)
    assert 0 <= found[0] < BANDS
    assert (found[0] < SHORT) == (often and lead_h < 12)
