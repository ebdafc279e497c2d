"""Guidance in the running agent: sources asked, hourly forecasts that receivers know, memory over a restart."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_agent.clock import ManualClock, format_time
from edge_agent.config import load
from edge_agent.errors import NetworkError
from edge_agent.forecast import QUANTILES, Forecast, Level, VariableForecast
from edge_agent.grid import GRID_VARIABLES
from edge_agent.guidance import Run
from edge_agent.guidance.desk import CORRECTED, MOST_PREDICTORS, STALE_S, Desk
from edge_agent.guidance.hours import HOUR_S
from edge_agent.guidance.live import Guided
from edge_agent.guidance.sources import Guidance, Source
from edge_agent.guidance.sources.background import Background
from edge_agent.guidance.waiting import Ahead
from edge_agent.publish.payloads import forecast_payload, to_json
from edge_agent.publish.schemas import validate
from edge_agent.store.waiting import Key
from tests.agents import HOME, until, write_config
from tests.guidance.test_guidance_sources import background

T0 = 1_799_971_200  # 2027-01-14 23:20 UTC is not a full hour; rounded below
ORIGIN = T0 // HOUR_S * HOUR_S
WARM = 2.0  # degC: by so much the guidance of these tests is too warm


def truth(t: np.ndarray) -> np.ndarray:
    return 5.0 + 4.0 * np.sin(2 * np.pi * (t % 86_400) / 86_400)


def grid(origin: int, of: Callable[[np.ndarray], np.ndarray] = truth) -> np.ndarray:
    """[2880, 8]: temperature alone."""
    t = origin + 900 * np.arange(-2879, 1)
    out = np.full((len(t), len(GRID_VARIABLES)), np.nan, np.float32)
    out[:, GRID_VARIABLES.index("temperature")] = of(t)
    return out


def guidance(issued: int, hours: int = 48) -> Guidance:
    valid = issued // HOUR_S * HOUR_S + HOUR_S * np.arange(hours + 1)
    values = {"temperature": {"unit": "degC", "values": (truth(valid) + WARM).tolist()},
              "dew_point": {"unit": "degC", "values": (truth(valid) + WARM - 0.2).tolist()}}  # fmt: skip
    answer = background(
        issued=format_time(issued), valid_time=[format_time(t) for t in valid], variables=values, elevation=None
    )
    return Background("https://weather.example").parse(answer, issued)


@pytest.fixture
def config(tmp_path: Path):
    return load(write_config(tmp_path))


def forecasts(desk: Desk, hours: int, first: int = ORIGIN) -> list[Forecast]:
    """A desk's forecasts over so many hours, with a run every six."""
    made: list[Forecast] = []
    for origin in range(first, first + hours * HOUR_S, HOUR_S):
        if (origin - first) % (6 * HOUR_S) == 0:
            desk.take("home", guidance(origin))
        made += [forecast for forecast, _ in desk.forecast({"home": grid(origin)}, {}, origin, origin + 6)]
    return made


def test_a_steady_error_is_learned_and_the_forecast_is_one_that_receivers_know(config, tmp_path):
    made = forecasts(Desk(config.stations, tmp_path / "memory"), 5 * 24)
    for forecast in (made[0], made[-1]):
        validate("forecast/hourly", to_json(forecast_payload(forecast, 3 * HOUR_S)))
    errors = []
    for forecast in (made[0], made[-1]):
        own = forecast.variables["temperature"]
        assert own.mean is not None
        errors.append(np.abs(own.mean[:6] - truth(forecast.origin + HOUR_S * np.arange(1, 7))).mean())
    assert errors[0] > 1.5
    assert errors[1] < 0.5


def test_a_dew_point_is_never_above_the_temperature(config, tmp_path):
    for forecast in forecasts(Desk(config.stations, tmp_path / "memory"), 48):
        temperature, dew = forecast.variables["temperature"], forecast.variables["dew_point"]
        assert temperature.mean is not None and dew.mean is not None
        assert (dew.mean <= temperature.mean + 1e-9).all()
        assert temperature.quantiles is not None and (np.diff(temperature.quantiles, axis=0) >= 0).all()


def test_guidance_that_nothing_replaced_is_called_stale_and_then_ends(config, tmp_path):
    desk = Desk(config.stations, tmp_path / "memory")
    desk.take("home", guidance(ORIGIN, hours=30))
    [(fresh, _)] = desk.forecast({"home": grid(ORIGIN)}, {}, ORIGIN, ORIGIN)
    later = ORIGIN + STALE_S + HOUR_S
    [(stale, _)] = desk.forecast({"home": grid(later)}, {}, later, later)
    assert (fresh.level, stale.level) == (Level.FULL, Level.BACKGROUND_STALE)
    assert "13 h old" in stale.why
    assert len(stale.leads_s) == 30 - 13
    over = ORIGIN + 31 * HOUR_S
    assert desk.forecast({"home": grid(over)}, {}, over, over) == []


def test_what_was_learned_outlives_a_restart(config, tmp_path):
    memory = tmp_path / "memory"
    desk = Desk(config.stations, memory)
    made = forecasts(desk, 5 * 24)
    desk.keep()
    again, anew = Desk(config.stations, memory), Desk(config.stations, tmp_path / "none")
    assert again.recall() == "" == anew.recall()
    origin = made[-1].origin + HOUR_S
    wrong = []
    for one in (again, anew):
        one.take("home", guidance(origin))
        [(forecast, _)] = one.forecast({"home": grid(origin)}, {}, origin, origin)
        own = forecast.variables["temperature"].mean
        assert own is not None
        wrong.append(np.abs(own[:6] - truth(origin + HOUR_S * np.arange(1, 7))).mean())
    assert wrong[0] < 0.5 < wrong[1]


def nowcast(origin: int, wrong: float) -> Forecast:
    """Of temperature, with a steady error."""
    leads = tuple(range(900, 6 * HOUR_S + 1, 900))
    mean = truth(origin + np.array(leads)) + wrong
    fan = mean + np.linspace(-1.0, 1.0, len(QUANTILES))[:, None]
    own = VariableForecast("temperature", Level.NOWCAST_ONLY, mean, fan, 0)
    return Forecast(
        "home", origin, origin + 6, leads, QUANTILES, Level.NOWCAST_ONLY, "wx", "", {"temperature": own}, {}
    )


def blended(desk: Desk, origin: int) -> np.ndarray:
    """The first hours' temperature where a new run and a nowcast that is 3 degrees too cold meet, [6]."""
    desk.take("home", guidance(origin))
    [(forecast, _)] = desk.forecast({"home": grid(origin)}, {"home": nowcast(origin, -3.0)}, origin, origin)
    mean = forecast.variables["temperature"].mean
    assert mean is not None
    return mean[:6]


def test_what_a_blend_learned_outlives_a_restart(config, tmp_path):
    """After two days of a nowcast that is wrong the guidance has the say, also after a restart."""
    memory = tmp_path / "memory"
    desk = Desk(config.stations, memory)
    for origin in range(ORIGIN, ORIGIN + 48 * HOUR_S, HOUR_S):
        blended(desk, origin)
    desk.keep()
    assert not desk.changed
    again, anew = Desk(config.stations, memory), Desk(config.stations, memory)
    assert again.recall() == ""
    anew._rolling.restore(desk._rolling.arrays())
    origin = ORIGIN + 48 * HOUR_S
    wrong = [np.abs(blended(one, origin) - truth(origin + HOUR_S * np.arange(1, 7))).mean() for one in (again, anew)]
    assert wrong[0] < wrong[1] - 0.5


def test_what_an_earlier_agent_kept_is_taken_up(config, tmp_path):
    """Until now the file held neither a version nor blends."""
    desk = Desk(config.stations, tmp_path / "memory")
    forecasts(desk, 3 * 24)
    with (tmp_path / "memory").open("wb") as file:
        np.savez_compressed(file, **desk._rolling.arrays())
    again = Desk(config.stations, tmp_path / "memory")
    assert again.recall() == ""
    for key, value in desk._rolling.arrays().items():
        np.testing.assert_array_equal(value, again._rolling.arrays()[key])


@pytest.mark.parametrize(
    "wrong",
    [
        {"version": np.array(99)},
        {"version": np.array("two")},
        {"columns": np.array(["temperature"])},
        {"columns": np.array([*CORRECTED, "temperature__a", "temperature__a"])},
        {"columns": np.array([*CORRECTED, *(f"temperature__{c}" for c in "abcdefghijklmnopq")])},
        {"blend.temperature.1": np.full(6, -1.0)},
        {"blend.temperature.2": np.full((6, 11), np.nan)},
        {"blend.temperature.0": np.zeros((2, 3))},
    ],
)
def test_a_memory_that_is_not_ours_is_left_and_nothing_of_it_taken(config, tmp_path, wrong):
    path = tmp_path / "memory"
    desk = Desk(config.stations, path)
    forecasts(desk, 24)
    desk.keep()
    with np.load(path) as kept:
        arrays = {name: kept[name] for name in kept.files}
    with path.open("wb") as file:
        np.savez_compressed(file, **(arrays | wrong))
    again, anew = Desk(config.stations, path), Desk(config.stations, path)
    assert "learning starts anew" in again.recall()
    for key, value in anew._rolling.arrays().items():
        np.testing.assert_array_equal(value, again._rolling.arrays()[key])
    assert blended(again, ORIGIN) == pytest.approx(blended(anew, ORIGIN))


def changing(t: np.ndarray) -> np.ndarray:
    """degC; of weather that no hour and no day before tells."""
    return 4.0 * sum(np.sin(2 * np.pi * t / (hours * HOUR_S) + hours) for hours in (13.1, 31.7, 53.3))


def with_members(issued: int, seed: int, *, told: bool) -> Guidance:
    """Guidance that is wrong by another amount each hour; where it is told, another model is right."""
    valid = issued // HOUR_S * HOUR_S + HOUR_S * np.arange(25)
    right = changing(valid)
    wrong = right + np.random.default_rng(seed).normal(0.0, 3.0, len(valid))
    values = {"temperature": {"unit": "degC", "values": wrong.tolist()}}
    if told:
        values |= {"temperature__control": {"unit": "degC", "values": right.tolist()}}
    answer = background(
        issued=format_time(issued), valid_time=[format_time(t) for t in valid], variables=values, elevation=None
    )
    return Background("https://weather.example").parse(answer, issued)


def last_error(desk: Desk, *, told: bool, days: int = 10) -> float:
    """Of the hours 3 to 11 ahead, over the last day of some; hours apart from a run's first."""
    errors = []
    for origin in range(ORIGIN, ORIGIN + days * 24 * HOUR_S, HOUR_S):
        if (origin - ORIGIN) % (6 * HOUR_S) == 0:
            desk.take("home", with_members(origin, origin, told=told))
        [(forecast, _)] = desk.forecast({"home": grid(origin, changing)}, {}, origin, origin)
        mean = forecast.variables["temperature"].mean
        assert mean is not None
        errors.append(np.abs(mean[2:11] - changing(origin + HOUR_S * np.arange(3, 12))).mean())
    return float(np.mean(errors[-24:]))


def test_further_predictors_of_a_background_are_used_and_outlive_a_restart(config, tmp_path):
    with_, without = Desk(config.stations, tmp_path / "with"), Desk(config.stations, tmp_path / "without")
    assert last_error(with_, told=True) < 0.6 * last_error(without, told=False)
    with_.keep()
    again = Desk(config.stations, tmp_path / "with")
    assert again.recall() == ""
    for key, value in with_._rolling.arrays().items():
        np.testing.assert_array_equal(value, again._rolling.arrays()[key])
    origin = ORIGIN + 10 * 24 * HOUR_S
    again.take("home", guidance(origin))  # another source, which has none of them
    [(forecast, _)] = again.forecast({"home": grid(origin)}, {}, origin, origin)
    own = forecast.variables["temperature"]
    assert own.mean is not None and np.isfinite(own.mean).all()


def test_quarters_are_taken_where_they_are_a_model_s_own(config, tmp_path):
    """The forecast stays one of hours."""
    valid = ORIGIN + 900 * np.arange(1, 25)
    run = Run(ORIGIN, valid, {"temperature": truth(valid) + 9.0})
    for native in (True, False):
        desk = Desk(config.stations, tmp_path / "memory")
        desk.take("home", replace(guidance(ORIGIN), quarters=Guidance("open-meteo", run, np.nan, native, "")))
        found = desk._rolling.newest_run(0)
        assert found is not None
        at = np.array([ORIGIN + 900])
        warm = found.at("temperature", at)[0] - truth(at)[0]
        assert warm == pytest.approx(9.0 if native else WARM, abs=0.1)
        [(forecast, _)] = desk.forecast({"home": grid(ORIGIN)}, {}, ORIGIN, ORIGIN)
        assert forecast.leads_s == tuple(HOUR_S * k for k in range(1, 49))
        own = forecast.variables["temperature"]
        assert own.mean is not None
        np.testing.assert_allclose(own.mean, truth(ORIGIN + HOUR_S * np.arange(1, 49)) + WARM)  # nothing learned yet


def test_rain_of_an_hour_is_learned_as_such_beside_quarters(config, tmp_path):
    """Guidance that says half of what falls is put right, whether or not there are steps between the hours."""
    made = []
    for quarters in (True, False):
        desk = Desk(config.stations, tmp_path / "memory")
        for origin in range(ORIGIN, ORIGIN + 4 * 24 * HOUR_S, HOUR_S):
            valid, fine = origin + HOUR_S * np.arange(25), origin + 900 * np.arange(1, 25)
            run = Run(origin, valid, {"rain": np.full(25, 2.0), "temperature": truth(valid)})
            between = Guidance("open-meteo", Run(origin, fine, {"temperature": truth(fine)}), np.nan, True, "")
            desk.take("home", Guidance("open-meteo", run, np.nan, True, "", between if quarters else None))
            past = grid(origin)
            past[:, GRID_VARIABLES.index("rain")] = 1.0
            [(forecast, _)] = desk.forecast({"home": past}, {}, origin, origin)
        made.append(forecast.variables["rain"].mean)
    np.testing.assert_allclose(made[0], made[1])
    assert made[0][0] == pytest.approx(4.0, abs=0.3)


def test_so_many_predictors_are_used_and_no_more(config, tmp_path, caplog):
    valid = [format_time(ORIGIN + HOUR_S * k) for k in range(25)]
    values = {f"temperature__{k}": {"unit": "degC", "values": [1.0] * 25} for k in range(40)}
    values |= {"temperature": {"unit": "degC", "values": [1.0] * 25}, "rain_24h__x": {"unit": "mm", "values": [0] * 25}}
    answer = background(issued=format_time(ORIGIN), valid_time=valid, variables=values, elevation=None)
    desk = Desk(config.stations, tmp_path / "memory")
    desk.take("home", Background("https://weather.example").parse(answer, ORIGIN))
    assert desk._columns == (*CORRECTED, *(f"temperature__{k}" for k in range(MOST_PREDICTORS)))
    assert "begins anew" in caplog.text


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 no archive", b"\x00" * 1000])
def test_a_damaged_memory_is_told_and_learning_starts_anew(config, tmp_path, damage):
    memory = tmp_path / "memory"
    memory.write_bytes(damage)
    assert "learning starts anew" in Desk(config.stations, memory).recall()


class Histories:
    def history(self, stations: list[str], origin: int) -> np.ndarray:
        return np.stack([grid(origin) for _ in stations])

    def wait(self, rows: list[tuple[Key, bytes]]) -> None:
        assert {key[1] for key, _ in rows} == {"home"}


def test_the_thread_asks_and_the_loop_gets_hourly_forecasts(config):
    clock, stop = ManualClock(ORIGIN + 6), threading.Event()
    asked: list[str] = []

    def fetch(url: str) -> bytes:
        asked.append(url)
        valid = [format_time(ORIGIN + HOUR_S * k) for k in range(1, 25)]
        values = {"temperature": {"unit": "degC", "values": [1.0] * 24}}
        return background(issued=format_time(ORIGIN), valid_time=valid, variables=values, licence="Ours, CC BY 4.0")

    sources: list[Source] = [Background("https://weather.example")]
    guided = Guided(config, clock, stop, sources, fetch)
    guided.start()
    made: list[Ahead] = []
    try:
        until(lambda: made.extend(guided.forecasts(Histories(), {}, ORIGIN, ORIGIN + 6)) or made, "a forecast")
        assert guided.forecasts(Histories(), {}, ORIGIN + 900, ORIGIN + 906) == []
    finally:
        stop.set()
    forecast, days = made[0].forecast, made[0].days
    assert made[0].timezone == "UTC" and [day.start % 86_400 for day in days] == [0] * len(days)
    assert forecast.station == HOME["id"]
    assert forecast.leads_s == tuple(HOUR_S * k for k in range(1, 25))
    assert forecast.source.startswith("background corrected here") and forecast.source.endswith("(Ours, CC BY 4.0)")
    assert len(asked) == 1


def test_without_a_source_nothing_is_asked_and_nothing_made(config):
    guided = Guided(config, ManualClock(ORIGIN), threading.Event())
    guided.start()
    assert guided.forecasts(Histories(), {}, ORIGIN, ORIGIN) == []
    assert guided.trouble == ""


def test_a_source_that_is_away_is_told(config):
    clock, stop = ManualClock(ORIGIN), threading.Event()

    def fetch(url: str) -> bytes:
        raise NetworkError("https://weather.example: no answer")

    guided = Guided(config, clock, stop, [Background("https://weather.example")], fetch)
    guided.start()
    try:
        until(lambda: guided.trouble, "the trouble")
    finally:
        stop.set()
    assert "no answer" in guided.trouble


def test_the_configuration_names_what_a_source_needs(tmp_path):
    from edge_agent.config_rules import problems

    raw = {"station": HOME, "store": {"path": "s"}}
    for guidance_, said in (
        ({"sources": ["background"]}, "background_url"),
        ({"sources": ["openweathermap"]}, "openweathermap_key_file"),
        ({"sources": ["open-mete"]}, "open-meteo"),
        ({"sources": ["background"], "background_url": "http://nas"}, "allow_http"),
        ({"sources": ["open-meteo", "open-meteo"]}, "twice"),
    ):
        assert said in json.dumps([p.message for p in problems({**raw, "guidance": guidance_})])
    assert not problems({**raw, "guidance": {"sources": ["open-meteo"]}})
