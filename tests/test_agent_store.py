"""The running agent and its store: a second agent, a restart, a store that cannot be used, the end."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from edge_agent.clock import ManualClock, SystemClock
from edge_agent.errors import StoreError
from edge_agent.publish.mqtt import Publisher
from edge_agent.publish.structs import StatusPayload
from edge_agent.sensors.serial import SerialSource
from tests.agents import Kept, MakeBoard, RunAgent, fill, sensor, until, write_config

NOON = 1_700_049_600  # a whole hour


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
