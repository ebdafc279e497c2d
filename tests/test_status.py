"""`edge-agent status`: a look at the agent from outside, while it runs and when it does not."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from edge_agent import __version__
from edge_agent.cli import main
from edge_agent.clock import SystemClock, format_time
from edge_agent.config import Config, Station
from edge_agent.config import Store as StoreSection
from edge_agent.forecast import LEADS_S, QUANTILES, Forecast, Level, VariableForecast
from edge_agent.observation import Flag, Judged, Observation, Verdict
from edge_agent.publish.payloads import status_payload
from edge_agent.publish.structs import StatusPayload
from edge_agent.sensors import Health
from edge_agent.status import KEY, render, report_of
from edge_agent.store import Store
from edge_agent.verification import ScoreRow

NOW = 1_700_050_000
CONFIG = """
[station]
id = "my-roof"
latitude = 47.0
longitude = 8.0
elevation_m = 400

[store]
path = "store.sqlite"
"""


def heartbeat(t: float, uptime_s: float = 200_000) -> StatusPayload:
    detail = "unplugged: trying again in 15 s"
    sensor = Health(
        "mast",
        "json_lines",
        "waiting",
        detail,
        12,
        {"no-json": 3},
        last_t=t - 30,
        reopened=2,
        battery={"outdoor": "low", "console": 4.52},
        counters={"rain": 312.4},
    )
    return status_payload(
        t,
        uptime_s=uptime_s,
        clock="synced",
        sensors=[sensor],
        outbox={},
        forecast=None,
        flags={},
        lost={"duplicate": 4},
    )


def fill(store: Store, now: int, agent_t: float | None = None) -> None:
    """Readings, a forecast, two days of scores, an outbox and a heartbeat."""
    values = {"temperature": 12.345, "rain": 0.2}
    verdicts = {"temperature": Verdict(Flag.GOOD), "rain": Verdict(Flag.SUSPECT, "range", "too much")}
    for seq, t in enumerate((now - 20, now - 10)):
        store.add(Judged(Observation("my-roof", "mast", t, values, "boot", seq), verdicts), ("mqtt",))
    store.acknowledge("mqtt", [store.queued("mqtt", 1)[0].key])
    mean = np.full(len(LEADS_S), 11.0)
    fan = np.tile(mean, (len(QUANTILES), 1))
    temperature = VariableForecast("temperature", Level.NOWCAST_ONLY, mean, fan, 10)
    store.add_forecast(
        Forecast(
            "my-roof",
            now - 700,
            now - 695,
            LEADS_S,
            QUANTILES,
            Level.NOWCAST_ONLY,
            "small",
            "small-1",
            {"temperature": temperature},
            {},
        )
    )
    for day in (format_time(now)[:10], format_time(now - 86_400)[:10], format_time(now - 30 * 86_400)[:10]):
        store.add_scores(
            ScoreRow("my-roof", day, source, variable, lead, 10, 0.0, 8.0, 10.0 * square, 5.0, 8)
            for source, square in (("bundle", 1.0), ("persistence", 4.0), ("anomaly-persistence", 2.25))
            for variable in ("temperature", "event:rain")
            for lead in (900, 3600, 21_600)
        )
    store.add_scores([ScoreRow("my-roof", format_time(now)[:10], "fallback", "rain", 3600, 5, 0, 0, 5.0, 0, 4)])
    if agent_t is not None:
        store.set(KEY, msgspec.json.encode({"my-roof": heartbeat(agent_t)}).decode())


def said(config: Path, *flags: str) -> str:
    result = CliRunner().invoke(main, ["status", "--config", str(config), *flags])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "agent.toml"
    path.write_text(CONFIG)
    return path


def test_before_the_first_run_it_says_how_to_begin_and_makes_nothing(config: Path) -> None:
    assert f"No store yet: the agent has not run here. Start it with `edge-agent run --config {config}`" in said(config)
    assert json.loads(said(config, "--json"))["stations"] == []
    assert [file.name for file in config.parent.iterdir()] == ["agent.toml"]


def test_beside_a_running_agent_it_tells_what_was_committed(config: Path) -> None:
    now = int(SystemClock().now())
    with Store.open(config.parent / "store.sqlite") as store:
        fill(store, now, agent_t=now - 5)
        store.commit()
        store.set("in a transaction", "that is still open")
        text = said(config)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert any(line.startswith("agent heard ") and "up 2 d 7 h, clock synced" in line for line in lines)
    assert (
        "sensor mast (json_lines): waiting; 12 accepted; rejected: 3 no-json; reopened 2 times; "
        "battery console 4.52 V; battery outdoor low; counter rain 312.4; unplugged: trying again in 15 s" in lines
    )
    assert any(line.startswith("reading temperature 12.35 degC") and line.endswith("ago, good") for line in lines)
    assert any(line.startswith("reading rain 0.20 mm") and line.endswith("ago, suspect") for line in lines)
    assert any("nowcast-only, by small" in line for line in lines)
    assert "temperature 1 h 20 1.00 2.00 1.50 80 %" in lines
    assert "temperature 6 h 20 1.00 2.00 1.50 80 %" in lines
    assert "event:rain 1 h 20 1.00 2.00 1.50 -" in lines
    assert "rain 1 h 5 1.00 - - 80 % no model" in lines
    assert "lost 4 duplicate" in lines
    assert "outbox mqtt: 1 of 2 arrived, 1 wait; dropped: none" in lines
    assert "edge-agent run" not in text


def test_json_has_the_same_for_programs(config: Path) -> None:
    now = int(SystemClock().now())
    with Store.open(config.parent / "store.sqlite") as store:
        fill(store, now, agent_t=now - 5)
    report = json.loads(said(config, "--json"))
    (station,) = report["stations"]
    assert station["newest"]["temperature"]["value"] == 12.345
    assert station["newest"]["rain"]["flag"] == "suspect"
    assert station["forecast"]["level"] == "nowcast-only"
    assert station["agent"]["sensors"]["mast"]["state"] == "waiting"
    assert station["skill"][0] == {
        "variable": "temperature", "lead_s": 3600, "source": "bundle", "n": 20, "rmse": 1.0, "persistence": 2.0,
        "anomaly_persistence": 1.5, "coverage80": 0.8,
    }  # fmt: skip
    assert report["outbox"] == {"mqtt": {"accepted": 2, "acknowledged": 1, "queued": 1, "dropped": {}}}
    assert report["hints"] == []


def report_lines(tmp_path: Path, *stations: str, status: str | None = None, agent_t: float | None = None) -> list[str]:
    config = Config(
        [Station(name, 47.0, 8.0, 400.0) for name in stations or ("my-roof",)], StoreSection(str(tmp_path / "s.sqlite"))
    )
    with Store.open(config.store.path) as store:
        if agent_t is not None:
            fill(store, NOW, agent_t)
        if status is not None:
            store.set(KEY, status)
        return [" ".join(line.split()) for line in render(report_of(config, store, NOW))]


def test_an_agent_that_went_silent_is_noticed(tmp_path: Path) -> None:
    lines = report_lines(tmp_path, agent_t=NOW - 3 * 3600)
    assert lines[-1] == (
        "The agent has said nothing for 3 h 0 min: is it running? Start it with `edge-agent run --config agent.toml`."
    )


def test_a_store_that_was_only_imported_into_says_so(tmp_path: Path) -> None:
    lines = report_lines(tmp_path)
    assert "readings none yet" in lines
    assert "forecast none yet" in lines
    assert lines[-1].startswith("The agent has not run with this store yet.")


def test_a_gateway_tells_each_station(tmp_path: Path) -> None:
    beats = {name: heartbeat(NOW - 10, uptime_s=up) for name, up in (("north", 60), ("south", 90))}
    lines = report_lines(tmp_path, "north", "south", "west", status=msgspec.json.encode(beats).decode())
    assert [line for line in lines if line.startswith("station")] == ["station north", "station south", "station west"]
    assert [line for line in lines if line.startswith("agent")] == [
        f"agent heard 10 s ago: up 60 s, clock synced, version {__version__}",
        f"agent heard 10 s ago: up 90 s, clock synced, version {__version__}",
    ]


@pytest.mark.parametrize("status", ["{}x", '{"t": 5}', "[1]", '{"my-roof": {"words": "of another version"}}'])
def test_a_heartbeat_of_another_version_is_told_and_the_rest_shown(tmp_path: Path, status: str) -> None:
    lines = report_lines(tmp_path, status=status)
    assert "station my-roof" in lines
    assert "is it of another version than this command?" in lines[-1]
