"""Guidance in steps of other lengths than an hour: what it says of each hour, and what an operator gets of it."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.clock import ManualClock
from edge_agent.config import load
from edge_agent.forecast import QUANTILES, Forecast, Level, VariableForecast
from edge_agent.grid import GRID_VARIABLES
from edge_agent.guidance import Run
from edge_agent.guidance.hours import HOUR_S, in_hours, with_quarters
from edge_agent.guidance.live import Guided
from edge_agent.guidance.sources import Source
from edge_agent.guidance.sources.openweathermap import OpenWeatherMap
from edge_agent.guidance.waiting import Ahead
from edge_agent.publish.payloads import daily_payload, forecast_payload, to_json
from edge_agent.publish.schemas import validate
from edge_agent.store.waiting import Key
from tests.agents import until, write_config
from tests.guidance.test_guidance_sources import CORPUS, RECORDED, answer

T0 = 1_799_971_200 // 10_800 * 10_800


def run(step_s: int, **values: list[float]) -> Run:
    length = len(next(iter(values.values())))
    columns = {name: np.array(column, np.float64) for name, column in values.items()}
    return Run(T0, T0 + step_s * np.arange(1, length + 1), columns)


def test_three_hours_become_hours():
    found = in_hours(
        run(3 * HOUR_S, temperature=[3.0, 6.0], wind_direction=[350.0, 20.0], rain=[3.0, 0.6], wind_gust=[9.0, 12.0],
            rain__control=[0.3, 0.0])
    )  # fmt: skip
    assert ((found.valid - T0) // HOUR_S).tolist() == [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose(found.values["temperature"], [np.nan, np.nan, 3, 4, 5, 6])
    np.testing.assert_allclose(found.values["wind_direction"], [np.nan, np.nan, 350, 0, 10, 20], atol=1e-9)
    np.testing.assert_allclose(found.values["rain"], [1, 1, 1, 0.2, 0.2, 0.2])
    np.testing.assert_allclose(found.values["wind_gust"], [9, 9, 9, 12, 12, 12])
    np.testing.assert_allclose(found.values["rain__control"], [0.1, 0.1, 0.1, 0, 0, 0])


def test_hours_stay_as_they_are():
    given_ = run(HOUR_S, temperature=[1.0, 2.0, 3.0], rain=[0.0, 0.1, 0.2])
    assert in_hours(given_) is given_


def test_quarter_hours_add_up():
    found = in_hours(run(900, rain=[0.1, 0.2, 0.3, 0.4, 0.0, 0.0, 0.0, 1.0], wind_gust=[1, 9, 2, 3, 4, 5, 6, 7]))
    np.testing.assert_allclose(found.values["rain"], [1.0, 1.0])
    np.testing.assert_allclose(found.values["wind_gust"], [9, 7])


def test_six_hours_are_not_spread():
    found = in_hours(run(6 * HOUR_S, temperature=[1.0, 2.0], rain=[1.0, 2.0]))
    assert np.isnan(found.values["rain"]).all()
    assert np.isfinite(found.values["temperature"]).sum() == 2


def test_a_missing_step_leaves_its_hours_missing():
    found = in_hours(run(3 * HOUR_S, rain=[3.0, np.nan, 3.0]))
    np.testing.assert_allclose(found.values["rain"], [1, 1, 1, np.nan, np.nan, np.nan, 1, 1, 1])


def test_states_between_hours_are_those_of_the_quarters():
    hours = run(HOUR_S, temperature=[0.0, 4.0, 0.0], rain=[1.0, 2.0, 3.0])
    quarters = Run(T0, T0 + HOUR_S + 900 * np.arange(5), {"temperature": np.array([9.0, 7.0, np.nan, 8.0, 9.0])})
    found = with_quarters(hours, quarters)
    assert ((found.valid - T0) / HOUR_S).tolist() == [1, 1.25, 1.5, 1.75, 2, 3]
    np.testing.assert_allclose(found.values["temperature"], [0, 7, 2, 8, 4, 0])
    np.testing.assert_allclose(found.values["rain"], [1, np.nan, np.nan, np.nan, 2, 3])


@given(st.lists(st.sampled_from([1, 2, 3]), min_size=2, max_size=20), st.data())
def test_the_total_is_kept(steps, data):
    rain = np.array(data.draw(st.lists(st.floats(0, 50), min_size=len(steps), max_size=len(steps))))
    steps[0] = steps[1]  # the first step is as long as the second
    found = in_hours(Run(T0, T0 + HOUR_S * np.cumsum(steps), {"rain": rain}))
    assert found.values["rain"].sum() == pytest.approx(rain.sum())


# --- the recorded answer, through the running agent's guidance --------------------------------------------------------


class Past:
    """30 days of a station that reads all that OpenWeatherMap tells but the gusts' and the rain's own course."""

    def __init__(self) -> None:
        self.rows: list[tuple[Key, bytes]] = []

    def history(self, stations: list[str], origin: int) -> np.ndarray:
        t = origin + 900 * np.arange(-2879, 1)
        out = np.full((len(stations), len(t), len(GRID_VARIABLES)), np.nan, np.float32)
        values = {
            "temperature": 17.0 + 4.0 * np.sin(2 * np.pi * (t % 86_400) / 86_400), "humidity": 70.0 + 0 * t,
            "pressure": 1004.0 + 0 * t, "wind_speed": 4.0 + 0 * t, "wind_gust": 7.0 + 0 * t,
            "wind_direction": 250.0 + 0 * t, "rain": np.where(t // 900 % 50 == 0, 0.4, 0.0),
        }  # fmt: skip
        for name, column in values.items():
            out[:, :, GRID_VARIABLES.index(name)] = column
        return out

    def wait(self, rows: list[tuple[Key, bytes]]) -> None:
        self.rows += rows


def nowcast(origin: int) -> Forecast:
    leads = tuple(range(900, 6 * HOUR_S + 1, 900))
    mean = np.full(len(leads), 18.0)
    fan = mean + np.linspace(-1, 1, len(QUANTILES))[:, None]
    own = VariableForecast("temperature", Level.NOWCAST_ONLY, mean, fan, 0)
    return Forecast(
        "home", origin, origin + 6, leads, QUANTILES, Level.NOWCAST_ONLY, "wx", "", {"temperature": own}, {}
    )


@RECORDED
@pytest.mark.parametrize("name", ["forecast25_5d3h_a", "forecast25_5d3h_c"])
def test_the_recorded_five_days_in_three_hour_steps_are_whole_hours_and_days(tmp_path: Path, name):
    told = json.loads(answer("api-openweathermap", name))
    first = int(told["list"][0]["dt"])
    origin = first - 2 * HOUR_S
    stop = threading.Event()
    sources: list[Source] = [OpenWeatherMap("key")]
    body = (CORPUS / "api-openweathermap" / f"{name}.json").read_bytes()
    config = load(write_config(tmp_path))
    guided = Guided(config, ManualClock(origin + 6), stop, sources, lambda url: body)
    guided.start()
    past, made = Past(), list[Ahead]()
    try:
        until(
            lambda: made.extend(guided.forecasts(past, {"home": nowcast(origin)}, origin, origin + 6)) or made,
            "a forecast",
        )
    finally:
        stop.set()
    forecast = made[0].forecast
    validate("forecast/hourly", to_json(forecast_payload(forecast, 3 * HOUR_S)))
    assert forecast.level is Level.FULL
    hours = (int(told["list"][-1]["dt"]) - origin) // HOUR_S
    assert forecast.leads_s == tuple(HOUR_S * h for h in range(1, hours + 1))

    begins = {"temperature": 0, "rain": 0, "wind_gust": 0}  # the nowcast has the first hour's temperature, and no sums
    for variable in ("temperature", "humidity", "pressure", "wind_speed", "wind_direction", "rain", "wind_gust"):
        own = forecast.variables[variable]
        assert own.mean is not None and own.quantiles is not None
        assert np.isfinite(own.mean[begins.get(variable, 1) :]).all(), variable
        assert np.isfinite(own.quantiles[:, begins.get(variable, 1) :]).all(), variable
    raw = made[0].raw.variables["rain"].mean
    assert raw is not None
    after = sum(step.get("rain", {}).get("3h", 0.0) + step.get("snow", {}).get("3h", 0.0) for step in told["list"][1:])
    assert raw[2:].sum() == pytest.approx(after)
    assert len({round(x, 9) for x in raw[2:5]}) == 1

    days = made[0].days
    assert len(days) >= 5 and {*days[0].values} == {"temperature_min", "temperature_max", "rain_24h"}
    validate("forecast/daily", to_json(daily_payload(forecast, days, "UTC", 3 * HOUR_S)))
    assert {key[3] for key, _ in past.rows} == {"hourly", "daily", "nightly"}

    assert {*forecast.events} == {"rain", "frost", "gust"} and {p.shape for p in forecast.events.values()} == {(hours,)}
    assert forecast.events["frost"][1:].max() < 0.2  # of a Lisbon April
    nights = made[0].nights
    assert len(nights) >= 4 and all({*night.events} == {"rain", "frost", "gust"} for night in nights)
    validate("forecast/daily", to_json(daily_payload(forecast, days, "UTC", 3 * HOUR_S, nights)))
