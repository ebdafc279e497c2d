"""Events that quantiles tell: their probability is what the fan says, on every rung and after adaptation."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.bundle.manifest import Event
from edge_agent.bundle.station_task import DERIVED_EVENTS, EVENTS, OUTPUT_VARIABLES
from edge_agent.forecast import LEADS_S, QUANTILES, chances
from edge_agent.forecast.nowcast import Nowcaster
from tests.forecast.series import windows
from tests.forecast.test_ladder import COLUMN, forecast

FROST, GUST = DERIVED_EVENTS
NORMAL = np.array([NormalDist().inv_cdf(level) for level in QUANTILES])


@settings(deadline=None)
@given(st.lists(st.floats(-50, 50), min_size=11, max_size=11), st.floats(-80, 80), st.floats(0, 30))
def test_a_share_is_a_distribution_function(values: list[float], x: float, more: float) -> None:
    q = np.sort(np.array(values))
    here, further = (float(chances.share_below(q, QUANTILES, at)) for at in (x, x + more))
    assert 0.0 <= here <= further + 1e-12 and further <= 1.0


@pytest.mark.parametrize("k", range(11))
def test_at_a_quantile_the_share_is_its_level(k: int) -> None:
    assert float(chances.share_below(NORMAL, QUANTILES, NORMAL[k])) == pytest.approx(QUANTILES[k])


@pytest.mark.parametrize("z", [-3.0, -2.0, -1.0, 0.3, 1.0, 2.0, 3.0])
def test_shares_of_a_normal_distribution_are_near_the_right_ones_in_the_tails_too(z: float) -> None:
    assert float(chances.share_below(NORMAL, QUANTILES, z)) == pytest.approx(NormalDist().cdf(z), abs=0.012)


def test_frost_stays_below_and_a_gust_reaches() -> None:
    assert FROST.came(np.array([-0.1, 0.0, 0.3, np.nan])).tolist()[:3] == [1.0, 0.0, 0.0]
    assert GUST.came(np.array([13.8, 13.9, 14.0])).tolist() == [0.0, 1.0, 1.0]
    assert np.isnan(FROST.came(np.array([np.nan]))).all()
    for event in DERIVED_EVENTS:
        sure = np.array([event.threshold - 20.0, event.threshold + 20.0])[:, None] + NORMAL
        below, above = chances.chance(event, sure, QUANTILES)
        assert (below, above) == pytest.approx((1.0, 0.0) if event is FROST else (0.0, 1.0), abs=1e-9)


def test_a_missing_quantile_is_no_probability() -> None:
    q = np.tile(NORMAL, (2, 1))
    q[0, 3] = np.nan
    assert np.isnan(chances.chance(FROST, q, QUANTILES)).tolist() == [True, False]


def test_a_bundle_that_names_an_event_itself_keeps_it() -> None:
    own = Event("gust", "wind_gust", 20.0, "m/s")
    assert chances.with_derived((*EVENTS, own)) == (*EVENTS, own, FROST)
    assert chances.with_derived(EVENTS) == (*EVENTS, FROST, GUST)


def test_every_forecast_with_a_fan_says_how_likely_frost_and_gusts_are() -> None:
    """From the very quantiles that are issued, from persistence as well."""
    [made] = forecast(Nowcaster(None), windows(1))
    for event in DERIVED_EVENTS:
        fan = made.variables[event.variable].quantiles
        np.testing.assert_array_equal(made.events[event.name], chances.chance(event, fan.T, QUANTILES))
        assert made.events[event.name].shape == (len(LEADS_S),)


def test_without_a_thermometer_nothing_is_said_of_frost() -> None:
    history = windows(1)
    history[:, :, COLUMN["temperature"]] = np.nan
    [made] = forecast(Nowcaster(None), history)
    assert "frost" not in made.events and "gust" in made.events and "temperature" in OUTPUT_VARIABLES
