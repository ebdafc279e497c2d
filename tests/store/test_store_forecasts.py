"""Forecasts and scores stay as long as they are needed."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edge_agent.clock import format_time
from edge_agent.config import Station
from edge_agent.forecast import LEADS_S, QUANTILES, Forecast, Level, VariableForecast
from edge_agent.forecast.nowcast import Nowcaster
from edge_agent.store import Pruned, Store
from edge_agent.store.forecast_rows import pack_forecast, unpack_forecast
from edge_agent.variables import VARIABLES
from edge_agent.verification import ScoreRow
from tests.forecast.series import recorded
from tests.store.readings import DAY, forecast, judged


def row(day: str, **changed: object) -> ScoreRow:
    values = {"station": "roof", "day": day, "source": "bundle", "variable": "temperature", "lead_s": 3600}
    sums = {"n": 2, "sum_error": 0.5, "sum_abs": 1.5, "sum_sq": 2.5, "sum_crps": 0.75, "inside80": 1}
    return ScoreRow(**(values | sums | changed))  # type: ignore[arg-type]


def test_a_forecast_comes_back_with_all_that_stands_on_it(store: Store) -> None:
    given = forecast(DAY)
    store.add_forecast(given)
    found = store.last_forecast("roof")
    assert found is not None
    assert (found.station, found.origin, found.issued) == ("roof", DAY, DAY + 5)
    assert (found.leads_s, found.levels_q) == (LEADS_S, QUANTILES)
    assert (found.level, found.source, found.bundle, found.why) == (
        Level.NOWCAST_ONLY, "small", "small-1", "why not better",
    )  # fmt: skip
    one, none = found.variables["temperature"], found.variables["pressure"]
    np.testing.assert_array_equal(one.mean, np.round(given.variables["temperature"].mean, 2))
    np.testing.assert_array_equal(one.quantiles, np.round(given.variables["temperature"].quantiles, 2))
    assert (one.level, one.age_s, one.why) == (Level.NOWCAST_ONLY, 12, "")
    assert (none.level, none.mean, none.quantiles, none.age_s) == (Level.NONE, None, None, None)
    assert none.why == "no reading for 60 min"
    np.testing.assert_array_equal(found.events["rain"], np.full(len(LEADS_S), 0.25))


@given(st.data())
def test_any_number_comes_back_as_it_is_published(data: st.DataObject) -> None:
    """Rounded to the variable's decimals, whatever its size; a number that is not finite is missing."""
    odd = st.sampled_from([np.nan, np.inf, -np.inf])
    numbers = st.one_of(st.floats(-50, 1100), st.floats(-1e6, 1e6), odd)
    leads, levels = LEADS_S[:3], (0.1, 0.9)
    variables = {
        name: VariableForecast(
            name, Level.PERSISTENCE, data.draw(arrays(float, 3, elements=numbers)),
            data.draw(arrays(float, (2, 3), elements=numbers)), None,
        )
        for name in data.draw(st.sets(st.sampled_from(["temperature", "pressure", "wind_direction", "rain"])))
    }  # fmt: skip
    events = {"rain": data.draw(arrays(float, 3, elements=st.floats(0, 1)))}
    given_ = Forecast("roof", DAY, DAY, leads, levels, Level.PERSISTENCE, "a", "", variables, events)
    found = unpack_forecast("roof", DAY, pack_forecast(given_))
    assert found.variables.keys() == variables.keys()
    for name, one in variables.items():
        for then, now in ((one.mean, found.variables[name].mean), (one.quantiles, found.variables[name].quantiles)):
            expected = np.where(np.isfinite(then), np.round(then, VARIABLES[name].decimals), np.nan)
            np.testing.assert_allclose(now, expected, rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(found.events["rain"], np.round(events["rain"], 3), atol=1e-12)


def test_a_forecast_takes_little_room(store: Store) -> None:
    """Eight variables with 24 leads and 11 quantiles: below 2 kB while it has its quantiles, then below 600 bytes."""
    past = recorded(35.0, 600)
    origin = int(past.times[-1]) // 900 * 900
    station = Station("roof", 47.4, 8.5, 406.0)
    x = past.grid_ending(origin)
    (made,) = Nowcaster(None).forecast([station], x[None], [past.ages(origin)], origin, origin + 5)
    assert sum(one.mean is not None for one in made.variables.values()) == 8
    packed = pack_forecast(made)
    assert packed.quantiles is not None
    assert len(packed.body) < 600 and len(packed.body) + len(packed.quantiles) < 2000


def test_quantiles_go_after_a_day_and_means_after_a_week(store: Store) -> None:
    now = DAY + 86_400 * 10
    for hours in (1, 23, 25, 24 * 7, 24 * 9):
        store.add_forecast(forecast(now - hours * 3600), [forecast(now - hours * 3600)])
    assert store.prune(now).forecasts == 1
    left = list(store.forecasts("roof", since=0, until=now))
    with_quantiles = [one.variables["temperature"].quantiles is not None for one in left]
    assert with_quantiles == [False, False, True, True]
    assert all(one.variables["temperature"].mean is not None for one in left)
    assert [len(store.baselines("roof", one.origin)) for one in left] == [0, 0, 1, 1]


def test_a_forecast_that_is_replaced_leaves_nothing_of_itself(store: Store) -> None:
    store.add_forecast(forecast(DAY), [forecast(DAY)])
    store.add_forecast(without_numbers(forecast(DAY)))
    found = store.last_forecast("roof")
    assert found is not None and found.variables["temperature"].quantiles is None
    assert store.baselines("roof", DAY) == []


def without_numbers(one: Forecast) -> Forecast:
    none = VariableForecast("temperature", Level.NONE, None, None, None, "no reading")
    return replace(one, variables={"temperature": none}, events={})


def test_origins_and_their_stations_are_found(store: Store) -> None:
    for origin, station in ((DAY + 900, "roof"), (DAY, "yard"), (DAY, "attic")):
        store.add_forecast(forecast(origin, station=station))
    assert store.next_origin(0, DAY + 900) == DAY and store.forecast_stations(DAY) == ["attic", "yard"]
    assert store.next_origin(DAY + 1, DAY + 900) == DAY + 900
    assert store.next_origin(DAY + 901, DAY + 9000) is None


def test_forecasts_come_by_origin_and_both_ends_count(store: Store) -> None:
    for origin in (DAY + 900, DAY, DAY + 1800):
        store.add_forecast(forecast(origin))
    store.add_forecast(forecast(DAY, station="other"))
    assert [f.origin - DAY for f in store.forecasts("roof", since=DAY, until=DAY + 900)] == [0, 900]
    assert store.last_forecast("nowhere") is None
    assert list(store.forecasts("nowhere", since=0, until=DAY)) == []


def test_a_second_forecast_of_the_same_origin_replaces_the_first(store: Store) -> None:
    store.add_forecast(forecast(DAY))
    store.add_forecast(forecast(DAY, first=-3.0))
    (only,) = store.forecasts("roof", since=DAY, until=DAY)
    assert only.variables["temperature"].mean is not None
    assert only.variables["temperature"].mean[0] == -3.0


def test_scores_of_the_same_day_add_up(store: Store) -> None:
    store.add_scores([row("2024-05-01"), row("2024-05-02"), row("2024-05-01", lead_s=7200)])
    store.add_scores([row("2024-05-01", n=3, inside80=3)])
    assert store.scores("roof") == [
        row("2024-05-01", n=5, sum_error=1.0, sum_abs=3.0, sum_sq=5.0, sum_crps=1.5, inside80=4),
        row("2024-05-01", lead_s=7200),
        row("2024-05-02"),
    ]
    assert store.scores("roof", "2024-05-02") == [row("2024-05-02")]
    assert store.scores("nowhere") == []


def test_scores_are_added_all_or_not_at_all(store: Store) -> None:
    with pytest.raises(Exception, match="NOT NULL"):
        store.add_scores([row("2024-05-01"), row("2024-05-02", n=None)])
    assert store.scores("roof") == []


def test_what_is_too_old_goes_and_the_rest_stays(store: Store) -> None:
    now = DAY + 500 * 86_400
    for days in (7, 9, 39, 42, 89, 91):
        store.add(judged(now - days * 86_400, {"temperature": 1.0}))
        store.add_forecast(forecast(now - days * 86_400))
    store.add_scores([row("2023-11-15"), row("2024-12-01")])  # 500 and 117 days before
    assert store.prune(now) == Pruned(observations=1, grid_days=3, forecasts=5, scores=1)
    assert len(list(store.observations("roof"))) == 5
    assert [f.origin for f in store.forecasts("roof", since=0, until=now)] == [now - 7 * 86_400]
    assert [r.day for r in store.scores("roof")] == ["2024-11-25"]  # the Monday of its week
    assert store.prune(now) == Pruned(0, 0, 0, 0)
    assert np.isfinite(store.history(["roof"], now)[0, :, 0]).sum() > 0


def test_rows_of_a_long_past_go_too(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decades apart, in many slices, with commits between."""
    monkeypatch.setattr("edge_agent.store.observations.COMMIT_ROWS", 3)
    for t in [*range(-2_000_000_000, -2_000_000_000 + 900 * 40, 900), *range(DAY, DAY + 900 * 40, 900)]:
        store.add(judged(t, {"rain": 0.1}))
    assert store.prune(DAY + 200 * 86_400).observations == 80


def test_small_things_are_kept_by_name(store: Store) -> None:
    assert store.get("golden:abc") is None
    store.set("golden:abc", "passed")
    store.set("golden:abc", "failed")
    assert store.get("golden:abc") == "failed"


def test_scores_older_than_five_weeks_become_rows_of_weeks_and_no_sum_is_lost(store: Store) -> None:
    now = DAY + 500 * 86_400
    days = [format_time(now - back * 86_400)[:10] for back in range(1, 300)]
    store.add_scores(
        row(day, lead_s=lead, n=back + 1, station=station)
        for back, day in enumerate(days) for lead in (900, 3600) for station in ("roof", "shed")
    )  # fmt: skip
    before = sum((one for one in store.scores("shed") if one.lead_s == 900), start=row("x", lead_s=900, n=0))
    for _ in range(300):
        assert store.prune(now).scores == 0
    kept = [one for one in store.scores("shed") if one.lead_s == 900]
    after = sum(kept, start=row("x", lead_s=900, n=0))
    assert after == before and len(store.scores("roof")) == 2 * len(kept)
    lone = [one for one in kept if date.fromisoformat(one.day).weekday()]
    assert len(kept) < 42 + (300 - 35) / 7 and min(one.day for one in lone) >= days[34]


def test_scores_that_come_late_to_a_week_add_to_it(store: Store) -> None:
    now = DAY + 500 * 86_400
    for back in (100, 101, 102, 103, 104, 105, 106):  # seven days, of two weeks
        store.add_scores([row(format_time(now - back * 86_400)[:10])])
        store.prune(now)
    assert sum(one.n for one in store.scores("roof")) == 14 and len(store.scores("roof")) == 2
