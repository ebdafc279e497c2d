"""The running agent in this process: whatever its sensors, bundle, store and clock do, it goes on and says so."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from edge_agent.acceptance import ranks
from edge_agent.clock import ManualClock, SystemClock
from edge_agent.config import load
from edge_agent.grid import GRID_VARIABLES
from edge_agent.observation import Flag
from edge_agent.quality import QualityControl
from edge_agent.store import Store
from tests.agents import HOME, Kept, MakeBoard, RunAgent, sensor, until, write_config

NOON = 1_700_049_600  # a whole hour


# --- what sensors send ----------------------------------------------------------------------------------------------


def test_garbage_is_counted_in_the_status_and_a_neighbour_flows_on(
    tmp_path: Path, make_board: MakeBoard, run_agent: RunAgent
) -> None:
    bad, good = make_board("bad"), make_board("good")
    config = write_config(tmp_path, sensor("bad", bad, time="at"), sensor("good", good, time="at"))
    agent = run_agent(config, SystemClock()).reads()
    garbage = {
        "truncated": b'{"at": 1700049000, "t": 1',
        "noise": bytes(range(256)) * 8,
        "a million characters": b"x" * 1_000_000,
        "no number": b'{"at": 1700049001, "t": nan, "h": 50}',
        "infinite": b'{"at": 1700049002, "t": 1e999, "h": 50}',
        "no known name": b'{"at": 1700049003, "wind": 5}',
        "too deep": b"[" * 8000,
        "no time": b'{"t": 12}',
    }
    for n, line in enumerate(garbage.values()):
        bad.prints(line + b"\n")
        good.prints(b'{"at": %d, "t": 12.5, "h": 60}\n' % (NOON + 10 * n))
        until(lambda n=n: len(agent.seen("good")) == n + 1, "the neighbour's reading")
    bad.prints(b'{"at": %d, "t": 7, "h": 70}\n' % NOON)
    until(lambda: len(agent.seen("bad")) == 3, "the next whole line")
    kept = agent.stop()
    rejected = kept.status["home"]["sensors"]["bad"]["rejected"]
    assert rejected.pop("not-json") > 1
    assert rejected == {"too-large": 1, "nan": 1, "infinite": 1, "no-mapped-value": 1, "bad-time": 1}
    assert kept.status["home"]["sensors"]["good"]["rejected"] == {}
    assert kept.status["home"]["lost"] == {}
    assert kept.values("bad") == [7]


def test_duplicate_and_late_readings_are_counted_or_kept_in_their_place(
    tmp_path: Path, make_board: MakeBoard, run_agent: RunAgent
) -> None:
    board = make_board("roof")
    agent = run_agent(write_config(tmp_path, sensor("roof", board, time="at")), SystemClock()).reads()
    for t, value in ((60, 1.0), (120, 2.0), (60, 9.0), (30, 0.5), (120, 2.0), (180, 3.0)):
        board.prints(b'{"at": %d, "t": %f}\n' % (NOON + t, value))
    until(lambda: sum(event.judged is not None for event in agent.events) >= 6, "six fates")
    kept = agent.stop()
    assert kept.values("roof") == [0.5, 1.0, 2.0, 3.0]
    assert kept.status["home"]["lost"] == {"duplicate": 1, "same-second": 1}
    assert kept.status["home"]["sensors"]["roof"]["accepted"] == 6


def test_rain_of_a_board_that_prints_faster_than_the_seconds_pass_is_not_lost(
    tmp_path: Path, make_board: MakeBoard, run_agent: RunAgent
) -> None:
    board = make_board("roof")
    fields = {"t": ("temperature", "degC"), "r": ("rain", "mm", True)}
    agent = run_agent(write_config(tmp_path, sensor("roof", board, fields)), SystemClock()).reads()
    for n in range(100):
        board.prints(b'{"t": 12, "r": %f}\n' % (50 + n / 10))
    until(lambda: sum(event.judged is not None for event in agent.events) >= 100, "their fates")
    time.sleep(1.1)
    board.prints(b'{"t": 12, "r": 60}\n')
    until(lambda: sum(event.judged is not None for event in agent.events) >= 101, "the last")
    kept = agent.stop()
    assert kept.status["home"]["lost"]["duplicate"] > 90
    assert sum(kept.values("roof", "rain")) == pytest.approx(10)


def test_messages_of_one_second_that_measure_different_things_are_kept_whole(
    tmp_path: Path, make_board: MakeBoard, run_agent: RunAgent
) -> None:
    board, clock = make_board("roof"), ManualClock(NOON)
    fields = {"t": ("temperature", "degC"), "h": ("humidity", "%"), "r": ("rain", "mm")}
    agent = run_agent(write_config(tmp_path, sensor("roof", board, fields)), clock).reads()
    for line in (b'{"t": 12.5}', b'{"h": 60, "r": 0.2}', b'{"t": 12.5, "h": 61, "r": 0.2}'):
        board.prints(line + b"\n")
    until(lambda: sum(event.judged is not None for event in agent.events) == 3, "three fates")
    clock.advance(1)
    board.prints(b'{"t": 13, "r": 0}\n')
    until(lambda: len(agent.seen("roof")) == 3, "the next second")
    kept = agent.stop()
    assert [judged.observation.values for judged in kept.observations["home"]] == [
        {"temperature": 12.5, "humidity": 60.0, "rain": 0.2},
        {"temperature": 13.0, "rain": 0.2},  # what fell in the second reading of its second
    ]
    assert kept.status["home"]["lost"] == {"same-second": 1}  # humidity of 61 %
    assert kept.status["home"]["flags"]["good"] + kept.status["home"]["flags"]["not_evaluated"] == 5
    assert kept.books.queued == 3


def test_a_second_message_is_told_from_the_same_one_again_by_its_values(
    tmp_path: Path, make_board: MakeBoard, run_agent: RunAgent
) -> None:
    """And fills up what is new in it; the rain of a message with its own time falls once, however often it comes."""
    board = make_board("roof")
    fields = {"t": ("temperature", "degC"), "h": ("humidity", "%"), "r": ("rain", "mm")}
    agent = run_agent(write_config(tmp_path, sensor("roof", board, fields, time="at")), SystemClock()).reads()
    lines = ('"t": 1, "r": 0.2', '"t": 1, "r": 0.2', '"t": 2, "r": 0.2', '"t": 3, "h": 50')
    for line in lines:
        board.prints(b'{"at": %d, %s}\n' % (NOON, line.encode()))
    board.prints(b'{"at": %d, "t": 4, "r": 0}\n' % (NOON + 1))
    until(lambda: sum(event.judged is not None for event in agent.events) == 5, "five fates")
    kept = agent.stop()
    assert [judged.observation.values for judged in kept.observations["home"]] == [
        {"temperature": 1.0, "rain": 0.2, "humidity": 50.0},
        {"temperature": 4.0, "rain": 0.0},
    ]
    assert kept.status["home"]["lost"] == {"duplicate": 1, "same-second": 2}


def test_rain_that_falls_while_the_agent_is_stopped_is_counted_and_is_no_steps_own(
    tmp_path: Path, make_board: MakeBoard, run_agent: RunAgent
) -> None:
    board = make_board("roof")
    config = write_config(tmp_path, sensor("roof", board, {"t": ("temperature", "degC"), "r": ("rain", "mm", True)}))

    def run(start: int, *totals: float) -> Kept:
        clock = ManualClock(start)
        agent = run_agent(config, clock).reads()
        for n, total in enumerate(totals, start=1):
            board.prints(b'{"t": 12, "r": %f}\n' % total)
            until(lambda n=n: len(agent.seen("roof")) == n, "the reading")
            clock.advance(60)
        return agent.stop()

    run(NOON, 10.0, 10.2, 10.4)
    kept = run(NOON + 5 * 3600, 22.4, 22.6)
    assert kept.values("roof", "rain") == pytest.approx([0.2, 0.2, 12.0, 0.2])
    gathered = kept.observations["home"][-2]
    assert gathered.verdicts["rain"].test == "period" and "5.0 h" in gathered.verdicts["rain"].why
    with Store.open(tmp_path / "store.sqlite") as store:
        rain = store.history(["home"], NOON + 5 * 3600 + 900)[0, :, GRID_VARIABLES.index("rain")]
    assert np.nansum(rain) == pytest.approx(0.6)


def test_a_unit_set_wrong_is_flagged_and_told_and_the_raw_value_stays(
    tmp_path: Path, make_board: MakeBoard, run_agent: RunAgent
) -> None:
    board = make_board("roof")
    fields = {"t": ("temperature", "degC"), "p": ("pressure", "Pa")}  # the board prints degF and hPa
    agent = run_agent(write_config(tmp_path, sensor("roof", board, fields)), SystemClock()).reads()
    board.prints(b'{"t": 72.5, "p": 1002}\n')
    until(lambda: agent.seen("roof"), "the reading")
    kept = agent.stop()
    (judged,) = kept.observations["home"]
    assert {name: verdict.flag for name, verdict in judged.verdicts.items()} == {
        "temperature": Flag.FAIL,
        "pressure": Flag.FAIL,
    }
    assert all(verdict.why for verdict in judged.verdicts.values())
    assert kept.status["home"]["flags"]["fail"] == 2
    assert kept.values("roof") == [72.5]


def test_a_reading_we_stumble_over_is_counted_and_the_next_is_taken(
    tmp_path: Path, make_board: MakeBoard, run_agent: RunAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = QualityControl.judge

    def stumble(self: QualityControl, observation: object) -> object:
        if observation.values["temperature"] == 13:  # type: ignore[attr-defined]
            raise ZeroDivisionError
        return judge(self, observation)  # type: ignore[arg-type]

    monkeypatch.setattr(QualityControl, "judge", stumble)
    board = make_board("roof")
    agent = run_agent(write_config(tmp_path, sensor("roof", board, time="at")), SystemClock()).reads()
    for n in (12, 13, 14):
        board.prints(b'{"at": %d, "t": %d}\n' % (NOON + n, n))
    until(lambda: len(agent.seen("roof")) == 2, "the readings around it")
    kept = agent.stop()
    assert kept.values("roof") == [12, 14]
    assert kept.status["home"]["lost"] == {"internal-error": 1, "readings": 1}


def test_quality_control_remembers_what_came_before_a_restart(
    tmp_path: Path, make_board: MakeBoard, run_agent: RunAgent
) -> None:
    board = make_board("roof")
    config = write_config(tmp_path, sensor("roof", board, time="at"))
    first = run_agent(config, SystemClock()).reads()
    for n in range(20):
        board.prints(b'{"at": %d, "t": %f}\n' % (NOON + 60 * n, 12 + n % 3 / 10))
    until(lambda: len(first.seen("roof")) == 20, "the readings")
    first.stop()
    second = run_agent(config, SystemClock()).reads()
    board.prints(b'{"at": %d, "t": 31}\n' % (NOON + 60 * 20))
    until(lambda: second.seen("roof"), "the spike")
    verdict = second.stop().observations["home"][-1].verdicts["temperature"]
    assert (verdict.flag, verdict.test) == (Flag.SUSPECT, "step")


# --- several sensors and stations -----------------------------------------------------------------------------------


def test_of_two_sensors_that_measure_the_same_the_first_of_the_station_is_preferred(
    tmp_path: Path, make_board: MakeBoard, run_agent: RunAgent, tiny: Path
) -> None:
    boards = {name: make_board(name) for name in ("cellar", "best", "spare")}
    stations = (HOME, {**HOME, "id": "yard"})
    lines = [sensor(name, board, station="yard" if name == "cellar" else "home") for name, board in boards.items()]
    config = write_config(tmp_path, *lines, stations=stations, bundle=str(tiny), allow_unsigned=True)
    assert ranks(load(config)) == {"cellar": 0, "best": 0, "spare": 1}
    clock = ManualClock(NOON + 100)
    agent = run_agent(config, clock).reads()
    for n, (name, board) in enumerate(boards.items()):
        board.prints(b'{"t": %d}\n' % n)
        until(lambda name=name: agent.seen(name), "the reading")
    until(lambda: agent.forecasts("yard"), "the forecast of the last quarter hour")
    clock.advance(900)
    until(lambda: len(agent.forecasts("yard")) == 2, "the next forecast")
    at_home = agent.forecasts("home")[1].variables["temperature"].mean
    in_yard = agent.forecasts("yard")[1].variables["temperature"].mean
    assert at_home is not None and in_yard is not None
    assert (at_home[0], in_yard[0]) == (1, 0)  # too new for the bundle: persistence
    kept = agent.stop()
    assert kept.status["home"]["sensors"].keys() == {"best", "spare"}
    assert kept.status["yard"]["sensors"].keys() == {"cellar"}


def test_ranks_count_the_sensors_that_serve_all_stations_for_each(tmp_path: Path) -> None:
    stations = (HOME, {**HOME, "id": "yard"})
    lines = [
        sensor("a", "x/a", station="home"),
        sensor("all", "x/{station}/w"),
        sensor("b", "x/b", station="yard"),
        sensor("c", "x/c", station="home"),
        sensor("rest", "y/{station}/w"),
    ]
    found = ranks(load(write_config(tmp_path, *lines, stations=stations)))
    assert found == {"a": 0, "all": 1, "b": 1, "c": 2, "rest": 4}
