"""Hours and days that were issued: scored once when their time comes, beside what they are held against."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_agent.clock import ManualClock
from edge_agent.config import load
from edge_agent.forecast import QUANTILES, Forecast, Level, VariableForecast
from edge_agent.grid import GRID_VARIABLES
from edge_agent.guidance.daily import DAY_S, HOUR_S, NightOutlook, outlook
from edge_agent.guidance.daily import nights as nights_of
from edge_agent.guidance.waiting import ALL_EVENTS, PARTS_H, Ahead, rows_of, score_waiting
from edge_agent.observation import Judged, Observation
from edge_agent.store import Keeper, Store
from edge_agent.store.waiting import LONGEST_S
from edge_agent.verification import ScoreRow
from tests.agents import write_config

ORIGIN = 1_799_971_200 // DAY_S * DAY_S + 6 * HOUR_S
WARM, LEFT = 2.0, 0.5  # degC: errors of the guidance and of what was made of it
DAYS = 9


def truth(t: np.ndarray) -> np.ndarray:
    """degC; each day is a degree warmer than the one before."""
    return 5.0 + 4.0 * np.sin(2 * np.pi * (t % DAY_S) / DAY_S) + (t - ORIGIN) // DAY_S


def rain(t: np.ndarray) -> np.ndarray:
    """mm in the quarter hour: in the first hours of each day."""
    return np.where(t % DAY_S <= 3 * HOUR_S, 0.3, 0.0)


def history(origin: int = ORIGIN) -> np.ndarray:
    out = np.full((2880, len(GRID_VARIABLES)), np.nan, np.float32)
    t = origin + 900 * np.arange(-2879, 1)
    for name, values in (("temperature", truth(t)), ("rain", rain(t))):
        out[:, GRID_VARIABLES.index(name)] = values
    return out


def made(origin: int = ORIGIN, names: tuple[str, ...] = ("temperature",)) -> Ahead:
    leads = HOUR_S * np.arange(1, 169)
    fan = np.linspace(-1.0, 1.0, len(QUANTILES))[:, None]

    def of(error: float, quantiles: bool) -> Forecast:
        variables = {}
        for name in names:
            mean = truth(origin + leads) + error
            if name == "rain":
                mean = np.sum([rain(origin + leads - 900 * k) for k in range(4)], axis=0)
            variables[name] = VariableForecast(name, Level.FULL, mean, mean + fan if quantiles else None, 0)
        return Forecast(
            "home", origin, origin + 6, tuple(leads.tolist()), QUANTILES, Level.FULL, "background", "", variables, {}
        )

    forecast = of(LEFT, quantiles=True)
    return Ahead(forecast, of(WARM, quantiles=False), outlook(forecast, history(origin), "UTC"), "UTC")


def with_events(origin: int = ORIGIN, longitude: float = 0.0, chance: float = 0.25, told: float = 0.6) -> Ahead:
    """Rain in each hour with one chance, and at any time of a night with another; so frost, which never is."""
    ahead = made(origin, ("temperature", "rain"))
    forecast = replace(ahead.forecast, events={name: np.full(168, chance) for name in ("rain", "frost")})
    nights = [
        NightOutlook(night.start, night.end, {"rain": told, "frost": told})
        for night in nights_of(forecast, history(origin), longitude, ALL_EVENTS)
    ]
    return replace(ahead, forecast=forecast, nights=nights)


@pytest.fixture
def keeper(tmp_path: Path):
    config = load(write_config(tmp_path))
    with Store.open(config.store.path) as store:
        for n, t in enumerate(range(ORIGIN - HOUR_S, ORIGIN + DAYS * DAY_S, 900)):
            at = np.array([t])
            values = {"temperature": float(truth(at)[0]), "rain": float(rain(at)[0])}
            store.add(Judged(Observation("home", "mast", t, values, "boot", n)))
    with Keeper(config.store, ManualClock(ORIGIN + 6)) as keeper:
        yield keeper


def scored(keeper: Keeper, now: int) -> dict[tuple[str, str, int], ScoreRow]:
    """All scores by source, variable and lead, after what is due by `now` was scored."""
    while score_waiting(keeper, now):
        pass
    found: dict[tuple[str, str, int], ScoreRow] = {}
    for row in keeper.scores("home"):
        key = row.source, row.variable, row.lead_s
        found[key] = found[key] + row if key in found else row
    return found


def test_each_hour_is_scored_once_beside_guidance_persistence_and_climatology(keeper: Keeper) -> None:
    for origin in (ORIGIN, ORIGIN + HOUR_S):
        keeper.wait(rows_of(made(origin), history(origin)))
    scored(keeper, ORIGIN + 3 * DAY_S)
    found = scored(keeper, ORIGIN + DAYS * DAY_S)
    assert found == scored(keeper, ORIGIN + 2 * DAYS * DAY_S)
    for lead in (HOUR_S * h for part in PARTS_H for h in part):
        rows = {s: found[f"hourly:{s}", "temperature", lead] for s in ("forecast", "guidance", "persistence")}
        assert {row.n for row in rows.values()} == {2}
        assert rows["guidance"].bias == pytest.approx(WARM, abs=0.1)
        assert rows["guidance"].crps == pytest.approx(rows["guidance"].mae)
        assert rows["forecast"].bias == pytest.approx(LEFT, abs=0.1)
        if lead % DAY_S == 0:  # only the warming by the day is left
            assert rows["persistence"].bias == pytest.approx(-lead / DAY_S, abs=0.1)
    assert ("hourly:climatology", "temperature", DAY_S) in found


def test_nothing_is_scored_before_its_time(keeper: Keeper) -> None:
    keeper.wait(rows_of(made(), history()))
    assert scored(keeper, ORIGIN + 6 * HOUR_S) == {}
    found = scored(keeper, ORIGIN + 7 * HOUR_S)
    assert {lead for _, _, lead in found} == {HOUR_S * h for h in range(1, 7)}


def test_days_are_scored_by_what_their_hours_came_to(keeper: Keeper) -> None:
    keeper.wait(rows_of(made(names=("temperature", "rain")), history()))
    found = scored(keeper, ORIGIN + DAYS * DAY_S)
    tomorrow = 2 * DAY_S
    for name in ("temperature_min", "temperature_max"):
        assert found["daily:guidance", name, tomorrow].bias == pytest.approx(WARM, abs=0.1)
        assert found["daily:persistence", name, tomorrow].bias == pytest.approx(
            -2.0, abs=0.1
        )  # as the day before today
        assert abs(found["daily:forecast", name, tomorrow].bias) < WARM
        assert found["daily:climatology", name, tomorrow].n == 1
    assert found["daily:guidance", "rain_24h", tomorrow].rmse == pytest.approx(0.0, abs=0.05)


def test_events_of_hours_are_scored_by_whether_they_came(keeper: Keeper) -> None:
    keeper.wait(rows_of(with_events(), history()))
    found = scored(keeper, ORIGIN + DAYS * DAY_S)
    for h, came in ((1, 0), (18, 1), (24, 0)):  # of the hour to midnight the last quarter is wet
        assert found["hourly:forecast", "event:rain", HOUR_S * h].crps == pytest.approx((0.25 - came) ** 2)
        assert found["hourly:forecast", "event:frost", HOUR_S * h].crps == pytest.approx(0.25**2)
        assert found["hourly:guidance", "event:frost", HOUR_S * h].crps == 0.0


def test_nights_are_scored_by_whether_an_event_came_at_any_time(keeper: Keeper) -> None:
    ahead = with_events()
    assert ahead.nights[0].start == ORIGIN + 12 * HOUR_S
    keeper.wait(rows_of(ahead, history()))
    found = scored(keeper, ORIGIN + DAYS * DAY_S)
    for k in range(1, len(ahead.nights) + 1):
        rain, frost = (found["nightly:forecast", f"event:{name}", DAY_S * k] for name in ("rain", "frost"))
        assert (rain.n, frost.n) == (1, 1)
        assert rain.crps == pytest.approx(0.4**2) and frost.crps == pytest.approx(0.6**2)
        for source in ("guidance", "persistence", "climatology"):
            assert found[f"nightly:{source}", "event:rain", DAY_S * k].crps == pytest.approx(0.0)


def test_a_night_that_was_hardly_read_is_scored_only_if_the_event_was(keeper: Keeper) -> None:
    """Readings end at the sixth hour of a night of which the first three were wet."""
    origin = ORIGIN + (DAYS - 1) * DAY_S
    keeper.wait(rows_of(with_events(origin, longitude=-90.0), history(origin)))
    found = scored(keeper, origin + 9 * DAY_S)
    told = {name: {lead for source, n, lead in found if (source, n) == ("nightly:forecast", name)}
            for name in ("event:rain", "event:frost")}  # fmt: skip
    assert told == {"event:rain": {DAY_S, 2 * DAY_S}, "event:frost": {DAY_S}}


def test_a_day_that_was_hardly_read_is_not_scored(keeper: Keeper) -> None:
    late = ORIGIN + DAYS * DAY_S - 2 * DAY_S  # its third day begins when readings have ended
    keeper.wait(rows_of(made(late), history(late)))
    found = scored(keeper, late + 9 * DAY_S)
    days = {lead for source, _, lead in found if source == "daily:forecast"}
    assert days == {DAY_S, 2 * DAY_S}


def test_a_damaged_row_holds_nothing_up(keeper: Keeper, caplog: pytest.LogCaptureFixture) -> None:
    rows = rows_of(made(), history())
    keeper.wait([(rows[0][0], b"\x00damaged"), *rows[1:]])
    assert scored(keeper, ORIGIN + DAYS * DAY_S)
    assert "damaged" in caplog.text
    assert keeper.due(2**40, 10) == []


def test_what_a_clock_that_was_ahead_left_behind_goes(keeper: Keeper) -> None:
    ahead = ORIGIN + 400 * DAY_S
    keeper.wait(rows_of(made(ahead), history(ahead)))
    keeper.wait(rows_of(made(), history()))
    dues = [key[0] for key, _ in keeper.due(2**40, 1000)]
    assert dues and max(dues) <= ORIGIN + LONGEST_S


def test_a_week_of_waiting_forecasts_is_small() -> None:
    """Eight variables; bytes of a row by how long it waits, of a forecast each hour."""
    names = ("temperature", "dew_point", "humidity", "pressure", "wind_speed", "wind_gust", "solar_radiation", "rain")
    waits: dict[int, int] = defaultdict(int)
    for (due, _, origin, _), body in rows_of(made(names=names), history()):
        waits[due - origin] += len(body)
    standing = sum(size * (wait // HOUR_S + 1) for wait, size in waits.items())
    assert standing < 2_000_000
