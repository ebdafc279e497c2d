"""The ladder: which number comes from where, and what is said when there is none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent import grid
from edge_agent.bundle.reader import read_bundle
from edge_agent.bundle.station_task import OUTPUT_VARIABLES
from edge_agent.config import Station
from edge_agent.errors import BundleError
from edge_agent.forecast import LEADS_S, QUANTILES, Level, persistence
from edge_agent.forecast.nowcast import Nowcaster
from edge_agent.inference.onnx import OnnxSession
from edge_agent.publish.payloads import forecast_payload
from tests.forecast.series import START, windows
from tests.tiny_bundle import PROBABILITY, make_tiny_bundle

ORIGIN = START + 30 * 86_400
COLUMN = {name: i for i, name in enumerate(grid.GRID_VARIABLES)}
OUTPUTS = OUTPUT_VARIABLES


@pytest.fixture(scope="module")
def session(tmp_path_factory) -> OnnxSession:
    path: Path = tmp_path_factory.mktemp("bundle") / "tiny.bundle"
    return OnnxSession(read_bundle(make_tiny_bundle(path)))


def stations(n: int) -> list[Station]:
    return [Station(id=f"station-{i}", latitude=40.0 + i, longitude=8.0, elevation_m=10.0 * i) for i in range(n)]


def ages_of(history: np.ndarray) -> list[dict[str, int]]:
    ages = []
    for row in history:
        valid = ~np.isnan(row)
        newest = {v: int(np.flatnonzero(valid[:, c])[-1]) for v, c in COLUMN.items() if valid[:, c].any()}
        ages.append({name: (grid.HISTORY_STEPS - 1 - at) * 900 for name, at in newest.items()})
    return ages


def forecast(nowcaster: Nowcaster, history: np.ndarray, ages: list[dict[str, int]] | None = None):
    return nowcaster.forecast(stations(len(history)), history, ages or ages_of(history), ORIGIN, ORIGIN + 5)


class Changed:
    """A session that answers like another, then changed."""

    def __init__(self, session: OnnxSession, change) -> None:
        self.manifest, self._session, self._change = session.manifest, session, change

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        answer = self._session.run(inputs)
        self._change(answer)
        return answer


def test_the_bundle_forecasts_every_variable_it_can(session):
    history = windows(2)
    for row, made in enumerate(forecast(Nowcaster(session), history)):
        assert (made.level, made.source, made.bundle, made.why) == (Level.NOWCAST_ONLY, "tiny", "tiny 0.0.1", "")
        assert (made.origin, made.issued, made.leads_s, made.levels_q) == (ORIGIN, ORIGIN + 5, LEADS_S, QUANTILES)
        assert tuple(made.variables) == OUTPUTS
        for name, own in made.variables.items():
            assert own.level is Level.NOWCAST_ONLY and own.why == "" and own.age_s == 0
            assert own.mean.shape == (24,) and own.quantiles.shape == (11, 24)
            if name != "rain":
                np.testing.assert_allclose(own.mean, history[row, -1, COLUMN[name]], rtol=1e-6)
        np.testing.assert_allclose(made.events["rain"], PROBABILITY)


def test_a_station_without_a_rain_gauge_has_no_rain_and_no_event(session):
    history = windows(2)
    history[0, :, COLUMN["rain"]] = np.nan
    without, with_ = forecast(Nowcaster(session), history)
    assert "rain" not in without.variables and "rain" not in without.events and without.level is Level.NOWCAST_ONLY
    assert "rain" in with_.variables and "rain" in with_.events


def test_after_an_hour_without_a_reading_there_is_no_forecast(session):
    history = windows(1)
    history[:, -6:, COLUMN["humidity"]] = np.nan
    history[:, -9:, COLUMN["rain"]] = np.nan
    [made] = forecast(Nowcaster(session), history)
    humidity = made.variables["humidity"]
    assert humidity.level is Level.NONE and humidity.mean is None and humidity.quantiles is None
    assert humidity.why == "no reading for 90 min" and humidity.age_s == 5400
    assert "rain" not in made.events and made.level is Level.NOWCAST_ONLY
    assert "humidity: no reading for 90 min" in made.why and "rain: no reading for 135 min" in made.why


def test_the_age_counts_and_not_the_grid_alone(session):
    history = windows(1)
    ages = [dict.fromkeys(grid.GRID_VARIABLES, 3600) | {"pressure": 3601}]
    [made] = forecast(Nowcaster(session), history, ages)
    assert made.variables["temperature"].level is Level.NOWCAST_ONLY
    assert made.variables["pressure"].level is Level.NONE


@pytest.mark.parametrize(("hours", "level"), [(23.75, Level.PERSISTENCE), (24, Level.NOWCAST_ONLY)])
def test_a_day_of_readings_is_needed_for_the_model(session, hours, level):
    history = windows(1)
    history[:, : grid.HISTORY_STEPS - int(hours * 4)] = np.nan
    [made] = forecast(Nowcaster(session), history)
    own = made.variables["temperature"]
    assert own.level is level is made.level
    if level is Level.PERSISTENCE:
        assert "24 h are needed" in own.why and made.source == "persistence"
        x = history[:, :, COLUMN["temperature"]]
        np.testing.assert_array_equal(own.mean, persistence.base(x, "temperature", LEADS_S)[0])
        np.testing.assert_array_equal(own.quantiles, persistence.quantiles(x, "temperature", LEADS_S, QUANTILES)[0].T)


def test_a_day_of_hourly_rain_is_a_day(session):
    history = windows(1)
    rain = history[:, :, COLUMN["rain"]]
    rain[:] = np.nan
    rain[:, -1 - 4 * np.arange(24)] = 0.0
    [made] = forecast(Nowcaster(session), history)
    assert made.variables["rain"].level is Level.NOWCAST_ONLY
    rain[:, -1 - 4 * 23] = np.nan
    [made] = forecast(Nowcaster(session), history)
    assert made.variables["rain"].level is Level.PERSISTENCE
    assert 0 < made.events["rain"][0] < 0.1  # its own frequency, not the model's


def test_a_failing_model_leaves_persistence_with_the_reason(session):
    def fail(answer):
        raise BundleError("runtime", "tiny: the model failed: out of memory")

    [made] = forecast(Nowcaster(Changed(session, fail)), windows(1))
    assert made.level is Level.PERSISTENCE and made.source == "persistence" and made.bundle == "tiny 0.0.1"
    assert {own.level for own in made.variables.values()} == {Level.PERSISTENCE}
    assert "out of memory" in made.why and made.why.count("out of memory") == 1
    assert np.isfinite(made.events["rain"]).all()


def test_without_a_bundle_there_is_persistence_with_the_reason():
    [made] = forecast(Nowcaster(None, "refused (digest): station-default"), windows(1))
    assert made.level is Level.PERSISTENCE and made.bundle == "" and made.why == "refused (digest): station-default"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_variable_the_model_has_no_number_for_falls_back_alone(session, bad):
    def spoil(answer):
        answer["mean"][0, 3, 1] = bad
        answer["quantiles"][1, 5, 5, 2] = bad
        answer["probability"][0, :, 0] = np.nan

    history = windows(2)
    first, second = forecast(Nowcaster(Changed(session, spoil)), history)
    assert first.variables["humidity"].level is Level.PERSISTENCE
    assert first.variables["humidity"].why == "the model gave no value" in first.why
    assert first.level is Level.NOWCAST_ONLY and first.variables["temperature"].level is Level.NOWCAST_ONLY
    assert first.variables["rain"].level is Level.NOWCAST_ONLY and np.isfinite(first.events["rain"]).all()
    assert second.variables["wind_direction"].level is Level.PERSISTENCE
    assert all(np.isfinite(own.quantiles).all() for own in second.variables.values())


def test_directions_are_on_the_compass_and_their_quantiles_go_with_them(session):
    def turn(answer):
        answer["mean"][..., 5] -= 720
        answer["quantiles"][..., 5, :] -= 720

    plain, turned = (forecast(Nowcaster(s), windows(1))[0] for s in (session, Changed(session, turn)))
    for made in (plain, turned):
        own = made.variables["wind_direction"]
        assert (own.mean >= 0).all() and (own.mean < 360).all()
        np.testing.assert_allclose(own.quantiles[5], own.mean, atol=1e-3)
    np.testing.assert_allclose(
        plain.variables["wind_direction"].quantiles, turned.variables["wind_direction"].quantiles, atol=1e-3
    )


def test_a_station_that_never_read_anything(session):
    history = np.full((1, grid.HISTORY_STEPS, 8), np.nan, np.float32)
    [made] = forecast(Nowcaster(session), history)
    assert made.variables == {} and made.level is Level.NONE and made.why == "no readings in 30 days"


def test_no_stations_is_no_forecast(session):
    assert forecast(Nowcaster(session), windows(1)[:0]) == []


def same(a, b) -> None:
    assert (a.station, a.level, a.why, tuple(a.variables)) == (b.station, b.level, b.why, tuple(b.variables))
    for name, own in a.variables.items():
        other = b.variables[name]
        assert (own.level, own.age_s, own.why) == (other.level, other.age_s, other.why)
        if own.mean is not None:
            np.testing.assert_allclose(own.mean, other.mean, rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(own.quantiles, other.quantiles, rtol=1e-5, atol=1e-5)
    for name, p in a.events.items():
        np.testing.assert_allclose(p, b.events[name], rtol=1e-5)


@settings(max_examples=10)
@given(order=st.permutations(range(5)), chunk=st.integers(1, 6), seed=st.integers(0, 9))
def test_batch_mates_and_chunks_do_not_matter(session, order, chunk, seed):
    history = windows(5, seed=seed, gaps=0.3)
    history[1, -8:] = np.nan
    history[2, :-40] = np.nan
    plain = forecast(Nowcaster(session), history)
    ages = ages_of(history)
    mixed = Nowcaster(session, chunk=chunk).forecast(
        [stations(5)[i] for i in order], history[list(order)], [ages[i] for i in order], ORIGIN, ORIGIN + 5
    )
    for place, i in enumerate(order):
        same(mixed[place], plain[i])


RUNGS = ("model", "short", "old", "never", "refused")


def put_on(rung: str, column: np.ndarray) -> None:
    """Take away what keeps a variable from a higher rung."""
    if rung == "short":
        column[: grid.HISTORY_STEPS - 20 * 4] = np.nan
    elif rung == "old":
        column[-8:] = np.nan
    elif rung == "never":
        column[:] = np.nan


@settings(max_examples=40)
@given(
    wind=st.sampled_from(RUNGS), gust=st.sampled_from(RUNGS), seed=st.integers(0, 9), lull=st.floats(0.0, 2.0, width=32)
)
def test_a_gust_is_never_below_the_wind_whatever_rung_each_stands_on(session, wind, gust, seed, lull):
    def spoil(answer):
        for name, rung in (("wind_speed", wind), ("wind_gust", gust)):
            if rung == "refused":
                answer["mean"][:, 0, OUTPUTS.index(name)] = np.nan
        answer["mean"][..., OUTPUTS.index("wind_speed")] *= 1.0 + lull  # the model's wind may outgrow what blew
        answer["quantiles"][..., OUTPUTS.index("wind_speed"), :] *= 1.0 + lull

    history = windows(2, seed=seed)
    history[:, :, COLUMN["wind_gust"]] = history[:, :, COLUMN["wind_speed"]] + lull
    put_on(wind, history[0, :, COLUMN["wind_speed"]])
    put_on(gust, history[0, :, COLUMN["wind_gust"]])
    for made in forecast(Nowcaster(Changed(session, spoil)), history):
        of_wind, of_gust = (made.variables.get(name) for name in ("wind_speed", "wind_gust"))
        if of_gust is None or of_gust.mean is None:
            continue
        assert np.isfinite(of_gust.mean).all() and (np.diff(of_gust.quantiles, axis=0) >= 0).all()
        if of_wind is None or of_wind.mean is None:
            continue
        assert (of_gust.mean >= of_wind.mean).all() and (of_gust.quantiles >= of_wind.quantiles).all()
        told = forecast_payload(made, 3600).vars
        assert all(g >= w for g, w in zip(told["wind_gust"].mean, told["wind_speed"].mean, strict=True))


def test_a_gust_alone_is_what_its_own_rung_says(session):
    history = windows(1)
    history[:, :, COLUMN["wind_speed"]] = np.nan
    [made] = forecast(Nowcaster(None), history)
    x = history[:, :, COLUMN["wind_gust"]]
    np.testing.assert_array_equal(made.variables["wind_gust"].mean, persistence.base(x, "wind_gust", LEADS_S)[0])
