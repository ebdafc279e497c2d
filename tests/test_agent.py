"""The running agent in this process: whatever its sensors, bundle, store and clock do, it goes on and says so."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_agent.acceptance import ranks
from edge_agent.bundle.station_task import OUTPUT_VARIABLES
from edge_agent.bundle.trial import Loaded
from edge_agent.clock import ManualClock, SystemClock
from edge_agent.config import load
from edge_agent.errors import StoreError
from edge_agent.forecast import Level
from edge_agent.grid import GRID_VARIABLES
from edge_agent.observation import Flag
from edge_agent.publish.mqtt import Publisher
from edge_agent.publish.structs import InfoPayload, StatusPayload
from edge_agent.quality import QualityControl
from edge_agent.sensors.serial import SerialSource
from edge_agent.store import Store
from edge_agent.timekeeping.keeper import Timekeeper
from tests.agents import HOME, Kept, Running, fill, sensor, until, write_config
from tests.board import Board
from tests.tiny_bundle import make_tiny_bundle, tiny_model

NOON = 1_700_049_600  # a whole hour
MakeBoard = Callable[[str], Board]
RunAgent = Callable[..., Running]


@pytest.fixture
def make_board(tmp_path: Path) -> Iterator[MakeBoard]:
    boards: list[Board] = []

    def make(name: str) -> Board:
        boards.append(Board(tmp_path / name))
        boards[-1].plug()
        return boards[-1]

    yield make
    for board in boards:
        board.unplug()


@pytest.fixture
def run_agent() -> Iterator[RunAgent]:
    """Starts an agent that ends with the test at the latest."""
    running: list[Running] = []

    def run(*args: object) -> Running:
        running.append(Running(*args))  # type: ignore[arg-type]
        return running[-1]

    yield run
    for agent in running:
        agent.end()


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return make_tiny_bundle(tmp_path / "tiny.bundle")


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


# --- the schedule ---------------------------------------------------------------------------------------------------


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


# --- the bundle -----------------------------------------------------------------------------------------------------


def corrupted(bundle: Path) -> Path:
    data = bytearray(bundle.read_bytes())
    data[len(data) // 2] ^= 0xFF
    bundle.write_bytes(data)
    return bundle


def test_a_damaged_bundle_leaves_the_shipped_one_and_the_forecast_says_why(
    tmp_path: Path, run_agent: RunAgent, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = corrupted(make_tiny_bundle(tmp_path / "mine.bundle", name="mine"))
    monkeypatch.setattr("edge_agent.bundle.trial.default_bundle", lambda: tiny)
    fill(tmp_path / "store.sqlite", NOON, hours=48)
    agent = run_agent(write_config(tmp_path, bundle=str(broken), allow_unsigned=True), ManualClock(NOON + 100))
    until(agent.forecasts, "a forecast")
    (forecast,) = agent.forecasts()
    assert (forecast.level, forecast.source) == (Level.NOWCAST_ONLY, "tiny")
    assert "mine.bundle: refused (" in forecast.why and "shipped bundle is used instead" in forecast.why
    status = agent.stop().status["home"]
    assert status["forecast"]["why"] == forecast.why


def test_without_any_good_bundle_it_is_persistence_and_says_why(
    tmp_path: Path, run_agent: RunAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = corrupted(make_tiny_bundle(tmp_path / "mine.bundle"))
    monkeypatch.setattr("edge_agent.bundle.trial.default_bundle", lambda: tmp_path / "shipped.bundle")
    fill(tmp_path / "store.sqlite", NOON, hours=48)
    agent = run_agent(write_config(tmp_path, bundle=str(broken), allow_unsigned=True), ManualClock(NOON + 100))
    until(agent.forecasts, "a forecast")
    (forecast,) = agent.forecasts()
    assert forecast.level is Level.PERSISTENCE and forecast.bundle == ""
    assert "mine.bundle: refused" in forecast.why and "shipped.bundle: refused (unreadable)" in forecast.why
    assert agent.stop().status["home"]["forecast"]["level"] == "persistence"


def test_a_bundle_nobody_signed_needs_the_configurations_consent(
    tmp_path: Path, run_agent: RunAgent, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.bundle.trial.default_bundle", lambda: tmp_path / "shipped.bundle")
    agent = run_agent(write_config(tmp_path, bundle=str(tiny)), ManualClock(NOON + 100))
    until(lambda: any("unsigned" in event.text for event in agent.events), "the refusal")


def test_a_runtime_that_cannot_be_loaded_leaves_persistence(
    tmp_path: Path, run_agent: RunAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_runtime(config: object) -> object:
        raise ImportError("libonnxruntime.so: wrong ELF class")

    monkeypatch.setattr("edge_agent.forecasting.load_session", no_runtime)
    fill(tmp_path / "store.sqlite", NOON, hours=48)
    agent = run_agent(write_config(tmp_path), ManualClock(NOON + 100))
    until(agent.forecasts, "a forecast")
    (forecast,) = agent.forecasts()
    assert forecast.level is Level.PERSISTENCE and "wrong ELF class" in forecast.why


def test_a_model_that_fails_while_running_leaves_persistence_and_says_why(tmp_path: Path, run_agent: RunAgent) -> None:
    later = 1_900_000_800
    bundle = make_tiny_bundle(tmp_path / "fails.bundle", model=model_that_fails_after(1_800_000_000))
    fill(tmp_path / "store.sqlite", later, hours=48)
    agent = run_agent(write_config(tmp_path, bundle=str(bundle), allow_unsigned=True), ManualClock(later + 100))
    until(agent.forecasts, "a forecast")
    (forecast,) = agent.forecasts()
    assert forecast.level is Level.PERSISTENCE and forecast.variables["temperature"].mean is not None
    assert "the model failed" in forecast.why
    assert agent.stop().status["home"]["lost"] == {}


def model_that_fails_after(t: int) -> bytes:
    """The tiny model, but it reads past the end of an array where `origin` is later than `t`."""
    model = onnx.load_model_from_string(tiny_model())
    graph, node = model.graph, helper.make_node
    added = next(n for n in graph.node if list(n.input) == ["kept", "no_change"])
    added.input[1] = "checked"
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(t, np.int64), "limit"),
            numpy_helper.from_array(np.zeros(1, np.float32), "one_value"),
        ]
    )
    before = [
        node("Greater", ["origin", "limit"], ["late"]),
        node("Cast", ["late"], ["index"], to=TensorProto.INT64),
        node("ReduceMax", ["index"], ["worst"], keepdims=0),
        node("Gather", ["one_value", "worst"], ["zero"]),
        node("Add", ["no_change", "zero"], ["checked"]),
    ]
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*before, *rest])
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


# --- the store ------------------------------------------------------------------------------------------------------


def test_a_second_agent_on_the_same_store_is_refused_by_the_firsts_number(tmp_path: Path, run_agent: RunAgent) -> None:
    config = write_config(tmp_path)
    first = run_agent(config, SystemClock()).reads()
    with pytest.raises(StoreError, match=r"store.sqlite: another agent \(pid \d+\) works with it: stop that one"):
        run_agent(config, SystemClock()).stop()
    first.stop()
    run_agent(config, SystemClock()).stop()  # the lock went with its agent


def test_a_restarted_agent_gives_no_id_twice(tmp_path: Path, make_board: MakeBoard, run_agent: RunAgent) -> None:
    board = make_board("roof")
    config = write_config(tmp_path, sensor("roof", board, time="at"))
    for n in range(2):
        agent = run_agent(config, SystemClock()).reads()
        board.prints(b'{"at": %d, "t": 1}\n' % (NOON + n))
        until(lambda agent=agent: agent.seen("roof"), "the reading")
        kept = agent.stop()
    ids = [judged.observation.id for judged in kept.observations["home"]]
    assert len(set(ids)) == 2 and all(id_.endswith(":roof:1") for id_ in ids)
    assert kept.books.queued == 2


def spoilt(path: Path, how: str) -> None:
    """A store that cannot be used."""
    if how == "a folder":
        path.mkdir()
    elif how == "no database":
        path.write_bytes(b"something else " * 1000)
    else:
        fill(path, NOON, hours=48)
        content = bytearray(path.read_bytes())
        for page in range(1, len(content) // 4096, 3):
            content[4096 * page : 4096 * page + 4096] = bytes(range(256)) * 16
        path.write_bytes(content)


@pytest.mark.parametrize("how", ["a folder", "no database", "random bytes in its pages"])
def test_with_a_store_that_cannot_be_used_it_reads_forecasts_and_says_so(
    tmp_path: Path, make_board: MakeBoard, run_agent: RunAgent, tiny: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    said: list[StatusPayload] = []
    monkeypatch.setattr(Publisher, "status", lambda self, station, payload: said.append(payload))
    path = tmp_path / "store.sqlite"
    spoilt(path, how)
    board, clock = make_board("roof"), ManualClock(NOON + 100)
    config = write_config(tmp_path, sensor("roof", board), bundle=str(tiny), allow_unsigned=True)
    agent = run_agent(config, clock).reads()
    board.prints(b'{"t": 12.5}\n')
    until(lambda: agent.seen("roof") and agent.forecasts(), "the reading, and a forecast")
    clock.advance(900)
    until(lambda: len(agent.forecasts()) == 2, "the next forecast")
    assert agent.forecasts()[-1].variables["temperature"].mean is not None
    until(lambda: said and said[-1].t > "2023-11-15T12:16:00Z", "a status")
    store = said[-1].store
    assert store is not None
    if how == "a folder":
        assert (store.state, store.in_memory) == ("memory", 1) and "cannot be opened" in store.detail
        path.rmdir()
        clock.advance(60)
        until(path.is_file, "the disk to be taken up again")
        clock.advance(2)
        until(lambda: said[-1].store and said[-1].store.state == "disk", "a status that says so")
    else:
        assert store.state == "disk" and store.salvage is not None
        assert store.salvage.file.startswith("store.sqlite.damaged-")
        assert (tmp_path / store.salvage.file).exists()
    kept = agent.stop()
    assert kept.values("roof") == [12.5] and kept.books.queued == 1
    assert kept.status["home"]["lost"] == {"store": 1}
    if how.startswith("random"):
        assert len(kept.observations["home"]) > 20, "what could be read"


def test_a_sensor_that_goes_is_in_the_status_long_before_the_next_commit(
    tmp_path: Path, make_board: MakeBoard, run_agent: RunAgent
) -> None:
    board = make_board("roof")
    config = write_config(tmp_path, sensor("roof", board))
    config.write_text(config.read_text().replace("commit_s = 1", "commit_s = 600"))
    clock = ManualClock(NOON + 100)
    agent = run_agent(config, clock).reads()

    def state() -> str:
        return str(Kept(config).status.get("home", {}).get("sensors", {}).get("roof", {}).get("state"))

    clock.advance(6)
    until(lambda: state() == "reading", "the first status")
    board.unplug()
    until(lambda: agent.health("roof") == "waiting", "noticing that it is gone")
    clock.advance(1)
    until(lambda: state() == "waiting", "a status that says so")
    board.plug()
    until(lambda: agent.health("roof") == "reading", "reading again")
    clock.advance(1)
    until(lambda: state() == "reading", "a status that says so")


# --- the end --------------------------------------------------------------------------------------------------------


def test_a_sensor_that_hangs_at_the_end_is_left_behind(
    tmp_path: Path, make_board: MakeBoard, run_agent: RunAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    board, over = make_board("roof"), threading.Event()
    agent = run_agent(write_config(tmp_path, sensor("roof", board)), SystemClock()).reads()
    board.prints(b'{"t": 1}\n')
    until(lambda: agent.seen("roof"), "the reading")
    stop = SerialSource.stop
    monkeypatch.setattr(SerialSource, "stop", lambda self: over.wait() and stop(self))
    assert agent.stop().values("roof") == [1]
    over.set()
