"""`edge-agent clock` and `edge-agent clock confirm`: what a person sees of the time, and says of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edge_agent.cli import main
from edge_agent.clock import ManualClock, SystemClock, format_time, parse_time
from edge_agent.store import Store
from edge_agent.timekeeping.command import render, report_of
from edge_agent.timekeeping.keeper import CONFIRMED, Timekeeper, read_kept
from edge_agent.timekeeping.station_clock import StationClock
from tests.agents import write_config
from tests.timekeeping.device import START


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = write_config(tmp_path)
    Store.open(tmp_path / "store.sqlite").close()
    return path


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ["clock", *words])


def test_it_says_what_this_machine_knows_of_the_time(config: Path) -> None:
    result = run("--config", str(config))
    assert result.exit_code == 0, result.output
    assert any(state in result.output for state in ("synced", "holdover", "unsynced"))
    assert "  system  " in result.output
    told = json.loads(run("--config", str(config), "--json").output)
    assert abs(parse_time(told["time"]) - SystemClock().now()) < 60 and told["running"] is False


def test_it_works_before_the_first_run(tmp_path: Path) -> None:
    assert run("--config", str(write_config(tmp_path))).exit_code == 0


def test_the_word_of_a_person_reaches_an_agent_of_the_same_run_of_the_machine(config: Path) -> None:
    result = run("confirm", "--config", str(config), "--time", "2035-05-01T12:00:00+02:00")
    assert result.exit_code == 0 and "2035-05-01T10:00:00Z" in result.output
    with Store.open(config.with_name("store.sqlite")) as store:
        machine = SystemClock()
        clock = StationClock(machine)
        Timekeeper(clock, store).look()
        told = {t.report.source: t for t in clock.sources.all(machine.monotonic())}
        assert abs(machine.monotonic() + told["operator"].report.offset_s - parse_time("2035-05-01T10:00:00Z")) < 60
        elsewhere = StationClock(ManualClock(START, "unsynced"))
        Timekeeper(elsewhere, store).look()
        assert elsewhere.state() == "unsynced"


def test_without_a_time_it_confirms_this_devices_clock(config: Path) -> None:
    before = int(SystemClock().now())
    assert run("confirm", "--config", str(config)).exit_code == 0
    with Store.open(config.with_name("store.sqlite")) as store:
        said = json.loads(str(store.get(CONFIRMED)))
    assert before <= said["utc_s"] <= SystemClock().now()


def test_a_time_that_has_passed_long_ago_or_has_no_zone_is_refused(config: Path, tmp_path: Path) -> None:
    for wrong, words in (
        ("1970-01-01T00:10:00Z", "passed long ago"),
        ("2035-05-01T12:00:00", "time zone"),
        ("noon", "not a time"),
    ):
        result = run("confirm", "--config", str(config), "--time", wrong)
        assert result.exit_code == 1 and words in result.output
    (tmp_path / "store.sqlite").unlink()
    result = run("confirm", "--config", str(config))
    assert result.exit_code == 1 and "edge-agent run" in result.output


def test_what_is_shown_of_a_device_that_does_not_know_the_time(tmp_path: Path) -> None:
    machine = ManualClock(30.0, "unsynced")
    with Store.open(tmp_path / "store.sqlite") as store:
        report = report_of(machine, read_kept(store), int(START))
        text = "\n".join(render(report))
        assert "unsynced, from persisted, by how much it is off is not known" in text
        assert report.time == format_time(int(START) + 1) and report.system == "1970-01-01T00:00:30Z"
        assert "edge-agent clock confirm --time" in text


def test_what_devices_said_is_shown_as_the_agent_kept_it(tmp_path: Path) -> None:
    machine = ManualClock(30.0, "unsynced")
    with Store.open(tmp_path / "store.sqlite") as store:
        clock = StationClock(machine)
        keeper = Timekeeper(clock, store)
        clock.sources.report("gps", START, 0.0, 0.6)
        clock.sources.report("console", START + 3600, 0.0, 60.0)
        keeper.look()
        machine.advance(100)
        report = report_of(machine, read_kept(store))
    assert (report.state, report.source, report.running) == ("synced", "gps", True)
    assert [(line.source, line.time, line.note) for line in report.sources] == [
        ("gps", format_time(START + 100), ""),
        ("console", format_time(START + 3700), "contradicts a better source"),
    ]
