"""`edge-agent status`: a look at the agent from outside, while it runs and when it does not."""

from __future__ import annotations

import json
import os
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from edge_agent.cli import main
from edge_agent.clock import SystemClock, format_time
from edge_agent.config import Config, Station
from edge_agent.config import Store as StoreSection
from edge_agent.forecast import LEADS_S, QUANTILES, Forecast, Level, VariableForecast
from edge_agent.heartbeat import KEY, STATION, Heartbeat
from edge_agent.observation import Flag, Judged, Observation, Verdict
from edge_agent.publish.mqtt import PublisherHealth
from edge_agent.publish.payloads import status_payload
from edge_agent.publish.structs import BoardStatus, CardHealth, DiskSpace, Memory, StatusPayload
from edge_agent.sensors import Health
from edge_agent.status import render, report_of
from edge_agent.store import Salvaged, Store
from edge_agent.store.lock import Lock
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


def heartbeat(t: float, sensor: str = "mast") -> StatusPayload:
    detail = "unplugged: trying again in 15 s"
    health = Health(
        sensor,
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
        uptime_s=200_000,
        clock="synced",
        sensors=[health],
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
        Heartbeat(store).keep({"my-roof": heartbeat(agent_t)})


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


def test_safe_mode_and_a_device_in_trouble_are_told_with_what_to_do(config: Path) -> None:
    now = int(SystemClock().now())
    board = BoardStatus(
        cpu_c=81.2,
        trouble=["throttled"],
        trouble_before=["undervoltage", "throttled"],
        memory=Memory(total_mb=1000, available_mb=50),
        disk=DiskSpace(size_mb=30_000, free_mb=10, read_only=True),
        cards={"mmcblk0": CardHealth(life_used_percent=90, reserve="urgent")},
    )
    with Store.open(config.parent / "store.sqlite") as store:
        status = msgspec.structs.replace(heartbeat(now), mode="safe", board=board)
        Heartbeat(store).keep({"my-roof": status})
    lines = [" ".join(line.split()) for line in said(config).splitlines()]
    assert any(line.startswith("mode safe, after a crash loop") and "run --normal" in line for line in lines)
    assert (
        "board processor 81 degC, 50 of 1000 MB of memory available, 10 of 30000 MB of disk free, "
        "mmcblk0 at most 90 % of its life used, reserve urgent" in lines
    )
    assert any("throttled; before: undervoltage, throttled. Use a stronger power supply" in line for line in lines)
    assert any("the disk is read-only" in line for line in lines) and any("wears out" in line for line in lines)


def test_a_device_that_tells_nothing_has_no_line(config: Path) -> None:
    with Store.open(config.parent / "store.sqlite") as store:
        status = msgspec.structs.replace(heartbeat(SystemClock().now()), board=BoardStatus())
        Heartbeat(store).keep({"my-roof": status})
    assert "  board" not in said(config) and "  mode" not in said(config)


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


def report_lines(
    tmp_path: Path, *stations: str, said: dict[str, StatusPayload] | None = None, agent_t: float | None = None
) -> list[str]:
    config = Config(
        [Station(name, 47.0, 8.0, 400.0) for name in stations or ("my-roof",)], StoreSection(str(tmp_path / "s.sqlite"))
    )
    with Store.open(config.store.path) as store:
        if agent_t is not None:
            fill(store, NOW, agent_t)
        Heartbeat(store).keep(said or {})
        return [" ".join(line.split()) for line in render(report_of(config, store, NOW))]


def test_an_agent_that_went_silent_is_noticed(tmp_path: Path) -> None:
    lines = report_lines(tmp_path, agent_t=NOW - 3 * 3600)
    assert lines[-1] == (
        "The agent has said nothing for 3 h 0 min: is it running? Start it with `edge-agent run --config agent.toml`."
    )


def test_it_says_as_of_when_it_knows_what_it_tells(config: Path) -> None:
    now = int(SystemClock().now())
    with Store.open(config.parent / "store.sqlite") as store:
        fill(store, now, agent_t=now - 50)
        store.commit(now - 20)
        store.set("in a transaction", "that is still open")
        text, report = said(config), json.loads(said(config, "--json"))
    assert f", as of {format_time(now - 20)}, " in text.splitlines()[0] and text.splitlines()[0].endswith(" s ago")
    assert report["as_of"] == format_time(now - 20)
    assert 20 <= report["as_of_age_s"] <= 80 and report["stations"][0]["silent_s"] >= 50


def test_a_broker_that_is_away_is_told_with_what_to_do(tmp_path: Path) -> None:
    away = PublisherHealth(False, "5", "broker:1883: nothing listens there: is the broker running?", 7, 0, 1)
    beat = status_payload(NOW, uptime_s=60, clock="synced", sensors=[], outbox={}, forecast=None, flags={}, broker=away)
    lines = report_lines(tmp_path, said={"my-roof": beat})
    assert (
        "broker MQTT 5: 7 published, 0 in flight; broker:1883: nothing listens there: is the broker running?" in lines
    )


def test_an_agent_that_commits_is_not_called_silent_though_its_last_word_is_of_another_time(config: Path) -> None:
    """As after a boot in 1970, when the time has just become known."""
    now = int(SystemClock().now())
    with Store.open(config.parent / "store.sqlite") as store:
        fill(store, now, agent_t=30.0)
        store.commit(now - 20)
    report = json.loads(said(config, "--json"))
    assert report["hints"] == [] and report["stations"][0]["silent_s"] > 1_000_000_000


def test_a_commit_of_nothing_is_no_newer_state(config: Path) -> None:
    with Store.open(config.parent / "store.sqlite") as store:
        store.commit(NOW)
        assert store.as_of() is None
        store.set("anything", "1")
        store.commit(NOW)
        store.commit(NOW + 60)
        assert store.as_of() == NOW


@pytest.mark.parametrize(("age_s", "silent"), [(700, False), (800, True)])
def test_an_agent_that_commits_every_ten_minutes_is_not_called_silent(tmp_path: Path, age_s: int, silent: bool) -> None:
    config = Config([Station("my-roof", 47.0, 8.0, 400.0)], StoreSection(str(tmp_path / "s.sqlite"), commit_s=600))
    with Store.open(config.store.path) as store:
        fill(store, NOW, agent_t=NOW - age_s)
        assert bool(report_of(config, store, NOW).hints) == silent


def test_a_store_that_was_only_imported_into_says_so(tmp_path: Path) -> None:
    lines = report_lines(tmp_path)
    assert "readings none yet" in lines and "as of" not in lines[0]
    assert "forecast none yet" in lines
    assert lines[-1].startswith("The agent has not run with this store yet.")


def test_a_gateway_tells_each_station(tmp_path: Path) -> None:
    beats = {name: heartbeat(NOW - 10, sensor=f"mast-{name}") for name in ("north", "south")}
    lines = report_lines(tmp_path, "north", "south", "west", said=beats)
    assert [line for line in lines if line.startswith("station")] == ["station north", "station south", "station west"]
    assert len([line for line in lines if line.startswith("agent heard 10 s ago: up 2 d 7 h, clock synced")]) == 2
    assert [line.split()[1] for line in lines if line.startswith("sensor")] == ["mast-north", "mast-south"]


@pytest.mark.parametrize("broken", ["{}x", '{"t": 5}', "[1]", '{"my-roof": {"words": "of another version"}}'])
@pytest.mark.parametrize("key", [KEY, STATION + "my-roof"])
def test_a_heartbeat_of_another_version_is_told_and_the_rest_shown(tmp_path: Path, broken: str, key: str) -> None:
    with Store.open(tmp_path / "s.sqlite") as store:
        Heartbeat(store).keep({"my-roof": heartbeat(NOW)})
        store.set(key, broken)
    lines = report_lines(tmp_path)
    assert "station my-roof" in lines
    assert "is it of another version than this command?" in lines[-1]


def test_an_agent_that_runs_and_cannot_write_is_told_from_one_that_does_not(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "s.sqlite")
    lock.take()
    lines = report_lines(tmp_path, agent_t=NOW - 3 * 3600)
    lock.release()
    assert lines[-1].startswith(f"An agent runs with it (pid {os.getpid()}) and has written nothing here of late")


def test_a_store_that_cannot_be_read_says_so_and_whether_an_agent_runs(config: Path) -> None:
    (config.parent / "store.sqlite").write_bytes(b"no database" * 1000)
    lock = Lock(config.parent / "store.sqlite")
    lock.take()
    result = CliRunner().invoke(main, ["status", "--config", str(config)])
    lock.release()
    assert result.exit_code == 1
    assert "not a Stationcast store" in result.output and f"(pid {os.getpid()})" in result.output


def test_what_became_of_a_damaged_store_is_told(config: Path) -> None:
    with Store.open(config.parent / "store.sqlite") as store:
        store.set("salvage", msgspec.json.encode(Salvaged("s.damaged-1", True, 12_000, 7, 3, 5, 2)).decode())
    assert (
        "store was damaged, and put aside as s.damaged-1: 12000 observations, 7 waiting rows, 3 forecasts and 5 scores "
        "taken over, 2 unreadable parts. Delete that file when you need it no more"
    ) in said(config)
    assert json.loads(said(config, "--json"))["salvage"]["observations"] == 12_000
