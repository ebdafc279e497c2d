"""`edge-agent skill`: what an operator learns of the forecasts that were issued here."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edge_agent.circle import wrap
from edge_agent.cli import main
from edge_agent.clock import SystemClock, format_time
from edge_agent.config import Station
from edge_agent.forecast import LEADS_S, QUANTILES, Level
from edge_agent.forecast.baselines import BESIDE, beside
from edge_agent.forecast.climatology import climatology
from edge_agent.forecast.nowcast import Nowcaster
from edge_agent.observation import Judged, Observation
from edge_agent.store import Store
from edge_agent.verification import ScoreRow, score_due
from edge_agent.verified import Table
from tests.forecast.series import recorded

CONFIG = """
[station]
id = "roof"
latitude = 47.0
longitude = 8.0
elevation_m = 400

[store]
path = "store.sqlite"
"""
STATION = Station("roof", 47.0, 8.0, 400.0)


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration and a store of three days whose forecasts, 12 of a model and 3 of persistence, were scored."""
    monkeypatch.chdir(tmp_path)
    Path("agent.toml").write_text(CONFIG)
    past = recorded(3.0, 900, names=("temperature", "wind_direction", "rain"))
    now = int(SystemClock().now()) // 900 * 900
    shift = now - int(past.times[-1]) // 900 * 900
    with Store.open("store.sqlite") as store:
        for seq, t in enumerate(past.times.tolist()):
            values = {name: float(column[seq]) for name, column in past.values.items()}
            store.add(Judged(Observation("roof", "mast", t + shift, values, "boot", seq)))
        first = now - LEADS_S[-1] - 3600 - 15 * 900
        for i in range(15):
            issue(store, first + i * 900, Level.NOWCAST_ONLY if i < 12 else None)
        while score_due(store, [STATION], now):
            pass
        store.commit()
    return tmp_path


def issue(store: Store, origin: int, level: Level | None) -> None:
    history, ages = store.history(["roof"], origin), store.ages(["roof"], origin)
    [forecast] = Nowcaster(None).forecast([STATION], history, ages, origin, origin + 5)
    if level is not None:
        variables = {k: dataclasses.replace(v, level=level) for k, v in forecast.variables.items()}
        forecast = dataclasses.replace(forecast, level=level, variables=variables)
    store.add_forecast(forecast, *beside([forecast], history, LEADS_S))


def skill(*arguments: str) -> str:
    done = CliRunner().invoke(main, ["skill", *arguments])
    assert done.exit_code == 0, done.output
    return done.output


def test_every_window_tells_all_scores_of_all_sources(agent: Path) -> None:
    told = json.loads(skill("--json"))
    assert [window["days"] for window in told["windows"]] == [7, 30, 90]
    for window in told["windows"]:
        cells = {(s["source"], s["variable"], s["lead_s"]): s for s in window["scores"]}
        for lead in LEADS_S:
            own = cells["bundle", "temperature", lead]
            assert own["n"] == 12 and own["rmse"] >= own["mae"] >= abs(own["bias"]) and own["unit"] == "degC"
            assert {cells[source, "temperature", lead]["n"] for source in BESIDE} == {12}
            assert cells["fallback", "temperature", lead]["n"] == 3
            assert 0 <= cells["bundle", "event:rain", lead]["brier"] <= 1
    assert all(cells[source, "temperature", 900]["rmse"] > 0 for source in ("bundle", *BESIDE))


def test_the_table_says_where_its_numbers_come_from(agent: Path) -> None:
    lines = skill().splitlines()
    assert "roof: forecasts of the last 30 days" in lines[0]
    assert all(len(line) <= 96 for line in lines)
    head = next(line for line in lines if line.lstrip().startswith("lead"))
    assert head.split() == ["lead", "pairs", "forecast", "persist.", "anomaly", "climate", "skill", "CRPS", "80", "%"]
    assert any("temperature 20 %" in line for line in lines)  # 3 of 15


def test_any_source_that_was_scored_stands_beside_the_forecast(agent: Path) -> None:
    today = format_time(SystemClock().now())[:10]
    with Store.open("store.sqlite") as store:
        store.add_scores([ScoreRow("roof", today, "guidance", "temperature", 3600, 7, 0.0, 7.0, 7.0, 7.0, 5)])
        store.commit()
    output = skill()
    assert "guidance" in output and "1.000*" in output and "* on other pairs" in output


def test_hours_and_days_stand_apart_from_nowcasts_and_are_held_against_guidance(agent: Path) -> None:
    today = format_time(SystemClock().now())[:10]
    with Store.open("store.sqlite") as store:
        for kind, name, lead in (("hourly", "temperature", 3600), ("daily", "temperature_max", 172_800)):
            for source, sum_sq in (("forecast", 9.0), ("guidance", 36.0), ("persistence", 49.0)):
                row = ScoreRow("roof", today, f"{kind}:{source}", name, lead, 4, 0.0, 6.0, sum_sq, 3.0, 3)
                store.add_scores([row])
        store.commit()
    before, hours, days = skill().split("Forecasts of ")
    assert "guidance" not in before
    assert hours.startswith("hours") and days.startswith("days")
    for text in (hours, days):
        [line] = [line.split() for line in text.splitlines() if line.split()[:2] in (["1", "h"], ["48", "h"])]
        assert [*map(float, line[3:6]), line[6]] == [1.5, 3.5, 3.0, "50"]
    told = json.loads(skill("--json"))["windows"][0]["scores"]
    assert {s["source"] for s in told if s["variable"] == "temperature_max"} == {
        "daily:forecast", "daily:guidance", "daily:persistence",
    }  # fmt: skip


def test_nights_are_told_by_the_brier_score_of_their_events(agent: Path) -> None:
    today = format_time(SystemClock().now())[:10]
    with Store.open("store.sqlite") as store:
        for source, score in (("forecast", 0.5), ("guidance", 2.0), ("climatology", 1.0)):
            row = ScoreRow("roof", today, f"nightly:{source}", "event:frost", 86_400, 4, 0.0, 1.0, score, score, 0)
            store.add_scores([row])
        store.commit()
    _, nights = skill().split("Forecasts of nights")
    [line] = [line.split() for line in nights.splitlines() if line.split()[:2] == ["24", "h"]]
    assert "event:frost, Brier score" in nights
    assert [*map(float, line[3:6]), line[6]] == [0.125, 0.25, 0.5, "75"]


def test_a_picture_is_drawn(agent: Path) -> None:
    skill("--plot", "skill.png", "--days", "90")
    assert Path("skill.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_nothing_scored_yet_is_said_and_not_an_error(agent: Path) -> None:
    Path("agent.toml").write_text(CONFIG.replace("store.sqlite", "empty.sqlite"))
    Store.open("empty.sqlite").close()
    assert "no forecast was scored" in skill()
    assert json.loads(skill("--json"))["windows"][0]["scores"] == []


def test_an_unknown_station_is_refused_with_the_nearest(agent: Path) -> None:
    done = CliRunner().invoke(main, ["skill", "--station", "rof"])
    assert done.exit_code == 1 and 'did you mean "roof"' in done.output


def test_skill_is_a_geometric_mean_and_sees_equal_pairs_only() -> None:
    def row(source: str, lead: int, rmse: float, n: int = 4) -> ScoreRow:
        return ScoreRow("roof", "2024-01-01", source, "temperature", lead, n, 0.0, 0.0, n * rmse**2, 0.0, 0)

    rows = [row("bundle", 900, 0.5), row("anomaly-persistence", 900, 1.0)]
    rows += [row("bundle", 3600, 2.0), row("anomaly-persistence", 3600, 1.0)]
    assert Table.of(rows, "").skill("temperature") == pytest.approx(0.0)
    rows[-1] = row("anomaly-persistence", 3600, 1.0, n=5)
    assert Table.of(rows, "").skill("temperature") == pytest.approx(0.5)
    assert Table.of(rows, "2024-01-02").skill("temperature") is None


def test_climatology_is_the_same_whatever_the_newest_day_of_weather_was() -> None:
    rng = np.random.default_rng(1)
    day = 10 + 5 * np.sin(2 * np.pi * np.arange(96) / 96)
    x = np.tile(day, 30)[None] + rng.normal(0, 1, (1, 2880))
    mean, q = climatology(x, "temperature", LEADS_S, QUANTILES)
    assert mean.shape == (1, 24) and q.shape == (1, 24, 11)
    np.testing.assert_allclose(mean[0], day[:24], atol=0.6)
    assert (np.diff(q, axis=-1) >= 0).all()
    x[:, -1] += 40
    again, _ = climatology(x, "temperature", LEADS_S, QUANTILES)
    assert np.abs(again - mean).max() < 0.2


def test_climatology_of_a_direction_is_on_the_circle_and_of_gaps_whatever_there_is() -> None:
    x = np.where(np.arange(2880) % 2, 350.0, 10.0)[None].repeat(2, axis=0)
    x[1, :-5] = np.nan
    mean, q = climatology(x, "wind_direction", (900, 21_600), QUANTILES)
    assert np.abs(wrap(mean[0])).max() < 2 and np.ptp(q[0], axis=-1).max() <= 20 + 1e-9
    assert np.isfinite(mean[1]).all() and np.isfinite(q[1]).all()
    nothing, none = climatology(np.full((1, 2880), np.nan), "rain", (900,), QUANTILES)
    assert np.isnan(nothing).all() and np.isnan(none).all()
