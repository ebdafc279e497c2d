"""Values against the agent's own forecast: suspect at most, never masking, and no front is a fault."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.forecast import LEADS_S, QUANTILES, Forecast, Level, VariableForecast
from edge_agent.observation import Flag, Observation
from edge_agent.quality import QualityControl, limits
from edge_agent.quality.anomaly import anomaly_test, outlooks
from tests.quality.stations import SITE, START, STEP_S, ordinary

CORPUS = Path(os.environ.get("STATIONCAST_CORPUS", Path(__file__).parents[2].parent / "shared" / "data"))


def forecast(origin: int, sigma: float = 0.5, **medians: float) -> Forecast:
    """The same median at all lead times, with normal quantiles."""
    z = np.array([-1.645, -1.282, -0.842, -0.524, -0.253, 0.0, 0.253, 0.524, 0.842, 1.282, 1.645])
    variables = {}
    for name, median in medians.items():
        quantiles = median + sigma * np.repeat(z[:, None], len(LEADS_S), axis=1)
        variables[name] = VariableForecast(name, Level.NOWCAST_ONLY, quantiles[5], quantiles, 60)
    return Forecast("roof", origin, origin, LEADS_S, QUANTILES, Level.NOWCAST_ONLY, "b", "b", variables, {})


def ready(**medians: float) -> tuple[QualityControl, int]:
    """A station in quiet weather, and a forecast for what comes."""
    control = QualityControl([SITE])
    rows = ordinary(1)
    for i, values in enumerate(rows):
        calm = values | {"wind_speed": 2.0 + i % 3 / 10, "wind_gust": 3.0, "pressure": 966.0 + i % 3 / 10}
        control.judge(Observation("roof", "mast", START + i * STEP_S, calm, "boot", i))
    t = START + len(rows) * STEP_S
    control.expect(forecast(t - 60, **medians))
    return control, t


def test_what_the_forecast_held_for_all_but_impossible_is_suspect_and_stays_usable() -> None:
    control, t = ready(temperature=12.0)
    control.judge(Observation("roof", "other", t - 120, {"temperature": 17.0}, "boot", 1))
    judged = control.judge(Observation("roof", "other", t + 60, {"temperature": 17.2}, "boot", 2))
    verdict = judged.verdicts["temperature"]
    assert (verdict.flag, verdict.test, verdict.threshold) == (Flag.SUSPECT, "anomaly", limits.ANOMALY_Z)
    assert "the forecast of" in verdict.why and "expected 12.0" in verdict.why
    assert judged.usable() == {"temperature": 17.2}


def test_what_it_held_for_possible_is_good() -> None:
    control, t = ready(temperature=12.0)
    control.judge(Observation("roof", "other", t - 120, {"temperature": 14.4}, "boot", 1))
    judged = control.judge(Observation("roof", "other", t + 60, {"temperature": 14.5}, "boot", 2))
    assert judged.verdicts["temperature"].flag == Flag.GOOD


def test_an_injected_front_passes() -> None:
    """-7 degC against the forecast, with the wind that brings it."""
    control, t = ready(temperature=18.0, wind_speed=2.0, pressure=966.0)
    rows = [
        {"temperature": 15.0, "wind_speed": 8.0, "pressure": 966.8},
        {"temperature": 12.0, "wind_speed": 9.0, "pressure": 967.5},
        {"temperature": 11.0, "wind_speed": 8.5, "pressure": 968.0},
    ]
    told = [control.judge(Observation("roof", "mast", t + 600 * i, row, "boot", 1)) for i, row in enumerate(rows, 1)]
    assert all(v.test != "anomaly" for judged in told for v in judged.verdicts.values())


@given(st.floats(-1e6, 1e6), st.integers(-8 * 3600, 8 * 3600), st.floats(0.0, 50.0))
def test_it_never_fails_a_value_and_speaks_only_of_its_valid_times(value: float, after_s: int, sigma: float) -> None:
    origin = 1_717_200_000
    outlook = outlooks(forecast(origin, sigma, temperature=10.0))["temperature"]
    verdict = anomaly_test("temperature", value, outlook, origin + after_s)
    if verdict is not None:
        assert verdict.flag == Flag.SUSPECT
        assert 0 < after_s <= 6 * 3600
        assert abs(value - 10.0) > limits.ANOMALY_LEAST["temperature"]


def test_forecasts_that_say_nothing_are_no_measure() -> None:
    origin = 1_717_200_000
    empty = VariableForecast("temperature", Level.NONE, None, None, None, "no reading")
    broken = VariableForecast("humidity", Level.PERSISTENCE, np.full(24, np.nan), np.full((11, 24), np.nan), 1)
    both = {"temperature": empty, "humidity": broken}
    none = Forecast("roof", origin, origin, LEADS_S, QUANTILES, Level.NONE, "", "", both, {})
    thin = Forecast("roof", origin, origin, LEADS_S, (0.1, 0.9), Level.NONE, "", "", both, {})
    assert outlooks(none) == outlooks(thin) == {}


def test_a_forecast_of_a_stranger_changes_nothing() -> None:
    control, _ = ready()
    control.expect(Forecast("garden", 0, 0, LEADS_S, QUANTILES, Level.NONE, "", "", {}, {}))


@pytest.mark.skipif(not CORPUS.is_dir(), reason=f"no recorded stations at {CORPUS} (set STATIONCAST_CORPUS)")
@pytest.mark.parametrize("front", ["2019-03-17T15:10:00Z", "2019-04-24T16:20:00Z"])
def test_recorded_fronts_pass(front: str) -> None:
    """Tiefenbrunnen, 5 degC within half an hour: no test has anything against the temperatures of those hours."""
    from edge_agent.clock import parse_time
    from edge_agent.forecast.from_file import load_nowcaster
    from edge_agent.history import History
    from edge_agent.quality.series import judge_series
    from tests.quality.test_quality_on_recorded_stations import STATIONS, observations

    at = parse_time(front)
    rows = [o for o in observations("tiefenbrunnen") if at - 32 * 86_400 <= o.t <= at + 6 * 3600]
    names = list(rows[0].values)
    times = np.array([o.t for o in rows], np.int64)
    past = History(times, {name: np.array([o.values.get(name, np.nan) for o in rows]) for name in names}, [])
    latitude, longitude, elevation = STATIONS["tiefenbrunnen"][3]
    station = SITE.__class__("tiefenbrunnen", latitude, longitude, float(elevation))
    found = judge_series(station, past, (), load_nowcaster(None)).found
    near = np.flatnonzero(np.abs(times - at) <= 3 * 3600)
    assert not set(found.get("temperature", {})) & set(near.tolist())
