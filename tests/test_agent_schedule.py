"""What the running agent does when: forecasts, verification, deleting; whatever its clock does."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.bundle.station_task import OUTPUT_VARIABLES
from edge_agent.bundle.trial import Loaded
from edge_agent.clock import ManualClock
from edge_agent.forecast import Level
from edge_agent.publish.mqtt import Publisher
from edge_agent.publish.structs import InfoPayload
from edge_agent.schedule import GAP_S
from edge_agent.timekeeping.keeper import Timekeeper
from tests.agents import Kept, MakeBoard, RunAgent, fill, sensor, until, write_config

NOON = 1_700_049_600  # a whole hour


def test_a_forecast_at_the_start_and_each_quarter_hour_also_when_the_clock_is_set(
    tmp_path: Path, run_agent: RunAgent, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[bool] = []
    look = Timekeeper.look
    monkeypatch.setattr(Timekeeper, "look", lambda self, healths=(): looks.append(look(self, healths)) or looks[-1])
    fill(tmp_path / "store.sqlite", NOON + 7200, hours=48)
    clock = ManualClock(NOON + 100)
    agent = run_agent(write_config(tmp_path, bundle=str(tiny), allow_unsigned=True), clock)

    def next_origin(seconds: float) -> int:
        before = len(agent.forecasts())
        clock.advance(seconds)
        until(lambda: len(agent.forecasts()) > before, "the next forecast")
        return agent.forecasts()[-1].origin

    def believes(origin: int) -> None:
        for _ in range(21):
            before = len(looks)
            clock.advance(30)
            until(lambda before=before: len(looks) > before, "a look at the clock")
        until(lambda: agent.forecasts()[-1].origin == origin, "a forecast for the time it says now")

    until(agent.forecasts, "the first forecast")
    first = agent.forecasts()[0]
    assert (first.origin, first.level, first.bundle) == (NOON, Level.NOWCAST_ONLY, "tiny 0.0.1")
    assert next_origin(806) == NOON + 900
    assert next_origin(900) == NOON + 1800
    clock.set(clock.now() - 3600)  # back: doubted, and then believed ...
    assert next_origin(900) == NOON + 2700
    assert agent.forecasts()[-1].level is Level.PERSISTENCE and "jumped by -3600 s" in agent.forecasts()[-1].why
    believes(NOON - 900)
    clock.set(clock.now() + 7200)  # ... and forward
    assert next_origin(900) == NOON
    believes(NOON + 8100)
    assert len(agent.forecasts()) == 8  # one for each quarter hour that began, and one for each time that was believed
    kept = agent.stop()
    last = {forecast.origin: forecast.level for forecast in agent.forecasts()}
    known = sorted(origin for origin, level in last.items() if level is Level.NOWCAST_ONLY)
    assert [forecast.origin for forecast in kept.forecasts["home"]] == known  # the others are not for verification
    assert kept.status["home"]["forecast"]["level"] == "nowcast-only"


def test_when_the_time_is_known_the_quarter_hours_forecast_is_made_again_and_status_says_so_at_once(
    tmp_path: Path, run_agent: RunAgent, tiny: Path
) -> None:
    fill(tmp_path / "store.sqlite", NOON, hours=48)
    clock = ManualClock(NOON + 100, "unsynced")
    agent = run_agent(write_config(tmp_path, bundle=str(tiny), allow_unsigned=True), clock)
    until(agent.forecasts, "the first forecast")
    clock.advance(10)  # beyond the first status
    clock.set(clock.now(), "synced")
    clock.advance(GAP_S)
    until(lambda: len(agent.forecasts()) == 2, "another one")
    first, again = agent.forecasts()
    assert (first.origin, first.level) == (NOON, Level.PERSISTENCE) and "not synchronised" in first.why
    assert (again.origin, again.level) == (NOON, Level.NOWCAST_ONLY)

    def told() -> object:
        return Kept(agent.config).status.get("home", {}).get("clock")

    clock.advance(2)
    until(lambda: told() == "synced", "a status, long before its minute is over")
    clock.advance(300)
    assert [forecast.level for forecast in agent.stop().forecasts["home"]] == [Level.NOWCAST_ONLY]


def test_the_info_names_what_is_forecast_and_not_all_that_is_read(
    tmp_path: Path, run_agent: RunAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[InfoPayload] = []
    monkeypatch.setattr(Publisher, "info", lambda self, station, payload: told.append(payload))
    monkeypatch.setattr("edge_agent.forecasting.load_session", lambda config: Loaded(None, why="a test"))
    run_agent(write_config(tmp_path), ManualClock(NOON + 100))
    until(lambda: told, "the info")
    assert tuple(told[0].variables) == OUTPUT_VARIABLES


def test_readings_are_taken_while_verification_has_work_for_hours(
    tmp_path: Path, make_board: MakeBoard, run_agent: RunAgent, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    monkeypatch.setattr("edge_agent.scoring.score_due", lambda *_: calls.append(1) or 1)
    board = make_board("roof")
    config = write_config(tmp_path, sensor("roof", board, time="at"), bundle=str(tiny), allow_unsigned=True)
    agent = run_agent(config, ManualClock(NOON + 100)).reads()
    until(lambda: len(calls) > 2, "verification")
    board.prints(b'{"at": %d, "t": 1}\n' % NOON)
    until(lambda: agent.seen("roof"), "the reading")
    assert agent.stop().values("roof") == [1]


@pytest.mark.parametrize(("passes", "jumps", "left"), [(2, 0, 0), (2, 300, 49), (200, 0, 0)])
def test_the_past_is_deleted_when_time_has_passed_and_not_when_a_clock_jumps(
    tmp_path: Path, run_agent: RunAgent, monkeypatch: pytest.MonkeyPatch, passes: int, jumps: int, left: int
) -> None:
    monkeypatch.setattr("edge_agent.forecasting.load_session", lambda config: Loaded(None, why="a test"))
    fill(tmp_path / "store.sqlite", NOON - (0 if jumps else 89) * 86_400, hours=12)
    clock = ManualClock(NOON + 100, "unsynced")
    agent = run_agent(write_config(tmp_path), clock)
    for n, span in enumerate((0, 900, passes * 86_400, 900, 900), start=1):
        clock.advance(span)
        if n == 3:
            clock.set(clock.now() + jumps * 86_400)
        until(lambda n=n: len(agent.forecasts()) == n, "the next forecast")
    assert len(agent.stop().observations.get("home", [])) == left
