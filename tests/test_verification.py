"""Scores: their laws and worked numbers, and the sums a running agent keeps of its own forecasts."""

from __future__ import annotations

import dataclasses
import doctest
import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent import circle, verification
from edge_agent.clock import format_time
from edge_agent.config import Station
from edge_agent.forecast import LEADS_S, QUANTILES, Forecast, Level
from edge_agent.forecast.baselines import BESIDE, beside
from edge_agent.forecast.nowcast import Nowcaster
from edge_agent.observation import Flag, Judged, Observation, Verdict
from edge_agent.store import Store
from edge_agent.verification import (
    bias,
    brier,
    coverage,
    crps,
    event_scores,
    inside,
    mae,
    pair_scores,
    quantile_weights,
    rmse,
    score_due,
    scored_leads,
)  # fmt: skip
from tests.forecast.series import START, recorded

numbers = st.lists(st.floats(-50, 50), min_size=1, max_size=20)


def test_the_examples_in_the_docstrings_are_right():
    result = doctest.testmod(verification, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted >= 7 and result.failed == 0


@given(numbers)
def test_a_perfect_forecast_scores_nothing(values):
    v = np.array(values)
    quantiles = np.repeat(v[:, None], len(QUANTILES), axis=1)
    assert rmse(v, v) == mae(v, v) == bias(v, v) == 0.0
    assert np.abs(crps(quantiles, v, QUANTILES)).max() == 0.0
    assert coverage(v, v, v) == 1.0
    assert np.abs(pair_scores("temperature", v, quantiles, v, QUANTILES)[1:5]).max() == 0.0


@given(st.floats(-50, 50), st.floats(-50, 50))
def test_crps_of_a_point_is_its_absolute_error(forecast, observed):
    score = crps(np.full(len(QUANTILES), forecast), observed, QUANTILES)
    assert float(score) == pytest.approx(abs(forecast - observed), abs=1e-9)


def test_crps_of_quantiles_comes_near_the_known_one_of_a_normal_distribution():
    """CRPS of N(0, 1) at 0.5 is 0.331..., by the closed form of Gneiting et al. (2005); 11 levels cut its tails off."""
    from statistics import NormalDist

    z = 0.5
    normal = NormalDist()
    exact = z * (2 * normal.cdf(z) - 1) + 2 * normal.pdf(z) - 1 / math.sqrt(math.pi)
    levels = (np.arange(999) + 0.5) / 999
    fine = [normal.inv_cdf(p) for p in levels]
    assert float(crps(fine, z, tuple(levels))) == pytest.approx(exact, rel=2e-3)
    coarse = [normal.inv_cdf(p) for p in QUANTILES]
    assert float(crps(coarse, z, QUANTILES)) == pytest.approx(exact, rel=0.05)


@given(st.lists(st.floats(0.01, 0.99), min_size=2, max_size=15, unique=True))
def test_quantile_weights_share_out_the_whole(levels):
    weights = quantile_weights(sorted(levels))
    assert weights.sum() == pytest.approx(1.0) and (weights > 0).all()


def test_a_missing_value_on_either_side_is_no_pair():
    nan = math.nan
    assert rmse([1.0, nan, 3.0], [1.0, 2.0, nan]) == 0.0
    assert mae([nan, 2.0], [1.0, 3.0]) == 1.0
    assert bias([nan, 2.0], [1.0, 3.0]) == -1.0
    assert brier([nan, 1.0], [1.0, 0.0]) == 1.0
    assert coverage([0.0, nan, 0.0], [1.0, 1.0, nan], [0.5, 0.5, 0.5]) == 1.0
    assert np.isnan(crps([[0.0, nan, 1.0], [0.0, 0.5, 1.0]], [0.5, nan], (0.1, 0.5, 0.9))).all()
    assert np.isnan(inside([0.0], [1.0], [nan])).all()
    for score in (rmse, mae, bias, brier):
        assert math.isnan(score([], [])) and math.isnan(score([nan], [1.0]))
    assert math.isnan(coverage([nan], [1.0], [0.0]))
    assert pair_scores("temperature", [nan], [[0.0] * 11], [1.0], QUANTILES).sum() == 0.0
    assert event_scores([0.5, nan], [nan, 1.0]).sum() == 0.0


@given(st.floats(0, 359.9), st.floats(-179.9, 179.9), st.integers(-2, 2))
def test_directions_are_scored_the_shorter_way_round(forecast, apart, turns):
    observed = (forecast + apart) % 360
    written = forecast + 360 * turns
    assert mae([written], [observed], circular=True) == pytest.approx(abs(apart), abs=1e-6)
    spread = written + np.linspace(-60, 60, len(QUANTILES))
    plain = crps(np.linspace(-60, 60, len(QUANTILES)), apart, QUANTILES)
    assert float(crps(spread, observed, QUANTILES, circular=True)) == pytest.approx(float(plain), abs=1e-6)
    assert inside([spread[0]], [spread[-1]], [observed], circular=True)[0] == (abs(apart) <= 60 + 1e-9)


@given(st.floats(-1e4, 1e4))
def test_a_compass_shows_0_to_360(direction):
    shown = float(circle.compass(direction))
    assert 0 <= shown < 360
    assert float(circle.wrap(shown - direction)) == pytest.approx(0.0, abs=1e-6)


# --- the running agent ---------------------------------------------------------------------------------------------

STATION = Station(id="roof", latitude=47.4, longitude=8.5, elevation_m=406.0)
ORIGIN = START + 2 * 86_400
DUE = ORIGIN + LEADS_S[-1] + 3600


@pytest.fixture
def store(tmp_path):
    opened = Store.open(tmp_path / "store.sqlite")
    yield opened
    opened.close()


def remember(store: Store, days: float = 3.0, bad_from: int | None = None) -> None:
    """Readings of temperature and rain every 15 minutes; from `bad_from` on, temperature fails quality control."""
    past = recorded(days, 900, names=("temperature", "rain"))
    for seq, t in enumerate(past.times.tolist()):
        values = {name: float(column[seq]) for name, column in past.values.items()}
        fails = bad_from is not None and t >= bad_from
        verdicts = {"temperature": Verdict(Flag.FAIL, "range", "too high")} if fails else {}
        store.add(Judged(Observation("roof", "mast", t, values, "boot", seq), verdicts))


def issue(store: Store, origin: int, station: Station = STATION, level: Level | None = None) -> Forecast:
    """A forecast made and kept as the agent does; `level` pretends it came from there."""
    history, ages = store.history([station.id], origin), store.ages([station.id], origin)
    [forecast] = Nowcaster(None).forecast([station], history, ages, origin, origin + 5)
    if level is not None:
        variables = {k: dataclasses.replace(v, level=level) for k, v in forecast.variables.items()}
        forecast = dataclasses.replace(forecast, level=level, variables=variables)
    store.add_forecast(forecast, *beside([forecast], history, scored_leads(1)))
    return forecast


def rows(store: Store, source: str, variable: str, lead_s: int | None = None):
    return [
        r for r in store.scores("roof") if r.source == source and r.variable == variable and lead_s in (None, r.lead_s)
    ]


def test_a_forecast_is_scored_once_when_all_of_it_came_due(store):
    remember(store)
    forecast = issue(store, ORIGIN)
    assert score_due(store, [STATION], ORIGIN + LEADS_S[-1]) == 0 and store.scores("roof") == []
    assert score_due(store, [STATION], DUE) == 1
    [row] = rows(store, "fallback", "temperature", 3600)
    observed = store.verifying("roof", "temperature", np.array([ORIGIN + 3600]))[0]
    assert row.n == 1 and row.day == format_time(ORIGIN + 3600)[:10]
    published = round(forecast.variables["temperature"].mean[3], 2)
    assert row.bias == pytest.approx(published - observed, abs=1e-6)
    before = store.scores("roof")
    assert score_due(store, [STATION], DUE) == 0 and score_due(store, [STATION], DUE + 900) == 0
    assert store.scores("roof") == before


def test_forecasts_of_a_day_add_up(store):
    remember(store)
    for origin in range(ORIGIN, ORIGIN + 4 * 900, 900):
        issue(store, origin)
    assert score_due(store, [STATION], DUE + 3 * 900) == 4
    [row] = rows(store, "fallback", "temperature", 900)
    assert row.n == 4 and row.rmse >= row.mae >= abs(row.bias) and 0 <= row.coverage80 <= 1 and row.crps > 0
    assert sum(r.n for r in rows(store, "fallback", "temperature")) == 4 * len(LEADS_S)


def test_baselines_stand_beside_a_bundles_forecast_on_the_same_pairs(store):
    remember(store)
    issue(store, ORIGIN, level=Level.NOWCAST_ONLY)
    score_due(store, [STATION], DUE)
    assert {r.source for r in store.scores("roof")} == {"bundle", *BESIDE}
    for variable in ("temperature", "rain", "event:rain"):
        pairs = {source: [r.n for r in rows(store, source, variable)] for source in ("bundle", "persistence")}
        assert pairs["bundle"] == pairs["persistence"] and len(pairs["bundle"]) == len(LEADS_S)
    for issued, same in zip(
        rows(store, "bundle", "temperature"), rows(store, "anomaly-persistence", "temperature"), strict=True
    ):
        assert issued.rmse == same.rmse  # what was issued was anomaly persistence
    for row in rows(store, "bundle", "event:rain"):
        assert row.crps == pytest.approx(row.sum_sq / row.n) and 0 <= row.crps <= 1


def test_rows_that_came_after_the_issue_do_not_help_the_baselines(store):
    """A broker that was away hands over an hour of readings after the origin: the forecast did not have them."""
    past = recorded(3.0, 900, names=("temperature",))

    def add(times) -> None:
        for t in times:
            value = float(past.values["temperature"][np.searchsorted(past.times, t)])
            store.add(Judged(Observation("roof", "mast", t, {"temperature": value}, "boot", t)))

    hidden = (ORIGIN - 1800, ORIGIN - 900, ORIGIN)
    add(t for t in past.times.tolist() if t not in hidden)
    issue(store, ORIGIN, level=Level.NOWCAST_ONLY)
    as_known = store.baselines("roof", ORIGIN)
    add(hidden)
    assert score_due(store, [STATION], DUE) == 1
    came = store.verifying("roof", "temperature", ORIGIN + np.array(LEADS_S))
    for known in as_known:
        mean = known.variables["temperature"].mean
        found = [row.bias for row in rows(store, known.source, "temperature")]
        np.testing.assert_allclose(found, mean - came, atol=1e-6)
        now = beside([issue(store, ORIGIN, level=Level.NOWCAST_ONLY)], store.history(["roof"], ORIGIN), LEADS_S)[0]
        assert not np.allclose(next(b for b in now if b.source == known.source).variables["temperature"].mean, mean)


def test_baselines_are_forgotten_once_they_are_scored(store):
    remember(store)
    issue(store, ORIGIN, level=Level.NOWCAST_ONLY)
    issue(store, ORIGIN + 900, level=Level.NOWCAST_ONLY)
    assert {one.source for one in store.baselines("roof", ORIGIN)} == {*BESIDE}
    score_due(store, [STATION], ORIGIN + LEADS_S[-1] + 800)
    assert store.baselines("roof", ORIGIN) == [] and len(store.baselines("roof", ORIGIN + 900)) == len(BESIDE)


def test_forecasts_of_stations_that_are_gone_do_not_hold_up_the_others(store):
    remember(store)
    issue(store, ORIGIN, msgspec.structs.replace(STATION, id="removed"))
    issue(store, ORIGIN + 900)
    assert score_due(store, [STATION], DUE + 900) == 1
    assert {row.station for row in (*store.scores("roof"), *store.scores("removed"))} == {"roof"}


def test_readings_that_failed_quality_control_are_not_what_came(store):
    remember(store, bad_from=ORIGIN + 3600)
    issue(store, ORIGIN)
    score_due(store, [STATION], DUE)
    assert [r.lead_s for r in rows(store, "fallback", "temperature")] == [900, 1800, 2700]
    assert len(rows(store, "fallback", "rain")) == len(LEADS_S)


def test_what_is_left_over_is_scored_at_the_next_call(store):
    remember(store)
    for origin in range(ORIGIN, ORIGIN + 4 * 900, 900):
        issue(store, origin)
    assert [score_due(store, [STATION], DUE + 3600, budget_s=0.0) for _ in range(5)] == [1, 1, 1, 1, 0]
    assert rows(store, "fallback", "temperature", 900)[0].n == 4


@pytest.mark.parametrize("stations", [1, 4, 5])
def test_an_origin_that_was_left_half_scored_goes_on_with_the_stations_that_remain(tmp_path, monkeypatch, stations):
    """Also after a restart with the stations in another order."""
    monkeypatch.setattr(verification, "CHUNK", 2)
    monkeypatch.setattr(verification, "_score_one", lambda store, forecast, *_: scored.append(forecast.station))
    places = [Station(id=f"place-{n}", latitude=47.4, longitude=8.5, elevation_m=406.0) for n in range(stations)]
    scored = []
    for calls in range(1, 10):
        with Store.open(tmp_path / "store.sqlite") as store:
            if calls == 1:
                for place in places:
                    issue(store, ORIGIN, place)
            places.reverse()
            done = score_due(store, places, DUE, budget_s=0.0)
        assert done <= 2
        if not done:
            break
    assert scored == sorted(place.id for place in places) and calls == (stations + 1) // 2 + 1


def test_a_long_pause_is_skipped_in_one_step(store):
    remember(store)
    issue(store, ORIGIN)
    score_due(store, [STATION], DUE)
    assert score_due(store, [STATION], DUE + 300 * 86_400) == 0
    assert int(store.get(verification.MARK) or 0) > ORIGIN + 299 * 86_400


def test_a_clock_that_ran_far_ahead_and_was_set_back_does_not_end_verification(store):
    remember(store)
    score_due(store, [STATION], DUE + 300 * 86_400)
    score_due(store, [STATION], DUE - 3600)
    issue(store, ORIGIN)
    assert score_due(store, [STATION], DUE) == 1


def test_a_gateway_keeps_fewer_leads(store, monkeypatch):
    remember(store)
    issue(store, ORIGIN)
    monkeypatch.setattr(verification, "FEW_STATIONS", 0)
    score_due(store, [STATION], DUE)
    assert {r.lead_s for r in store.scores("roof")} == set(verification.GATEWAY_LEADS_S)
