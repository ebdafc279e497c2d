"""What is not of now goes to `obs/history` and never to a live topic, whichever way it came."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge_agent.cli import main
from edge_agent.clock import SystemClock, format_time
from edge_agent.config import Sensor
from edge_agent.observation import Reading
from edge_agent.sensors import DRIVERS, DriverSpec
from edge_agent.sensors.driver import Transport
from edge_agent.sensors.json_lines import JsonLines
from edge_agent.sensors.mapping import Count, uncounted
from tests.agents import Running, sensor, until, write_config
from tests.board import Board
from tests.system.subscriber import Subscriber

pytestmark = pytest.mark.system

LIVE, ARCHIVE, LATE, IMPORTED = 11.0, 22.0, 33.0, 44.0  # degC, by which a test knows where a reading came from


class LoggerLines(JsonLines):
    """A data logger: JSON lines, those that begin with `archive` from its memory."""

    def decode(self, payload: bytes, count: Count = uncounted) -> list[Reading]:
        caught_up = payload.startswith(b"archive ")
        readings = super().decode(payload.removeprefix(b"archive "), count)
        return [replace(reading, historical=caught_up) for reading in readings]


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    board = Board(tmp_path / "usb-logger")
    board.plug()
    yield board
    board.unplug()


@pytest.fixture
def agent(mosquitto, board, tmp_path, monkeypatch) -> Iterator[Running]:
    """One that reads such a logger."""

    def decoder(sensor: Sensor) -> LoggerLines:
        return LoggerLines(sensor)

    monkeypatch.setitem(
        DRIVERS, "logger_lines", DriverSpec("logger_lines", Transport.SERIAL, decoder, "a logger", maps=True)
    )
    lines = sensor("logger", board, driver="logger_lines", time="at", max_messages_s=1000)
    agent = Running(write_config(tmp_path, lines, port=mosquitto.port), SystemClock()).reads()
    yield agent
    agent.end()


def imports(config: Path, rows: dict[int, float], *flags: str) -> None:
    """`edge-agent import` of a file, beside the running agent."""
    history = config.with_name("history.csv")
    lines = ["time,temperature", *(f"{format_time(t)},{value}" for t, value in rows.items())]
    history.write_text("\n".join(lines) + "\n")
    done = CliRunner().invoke(main, ["import", str(history), "--config", str(config), *flags])
    assert done.exit_code == 0, done.output


def values(live: Subscriber, kind: str) -> list[float]:
    """Temperatures on a topic as they came, each observation once."""
    told = [json.loads(m.payload) for m in live.on(f"wx/v1/home/{kind}")]
    assert all(message["historical"] is (kind == "obs/history") for message in told)
    return [message["v"]["temperature"] for message in {m["id"]: m for m in told}.values()]


def test_an_import_need_not_wait_for_the_agents_commit(mosquitto, agent, board, tmp_path):
    """The agent would commit in ten minutes, but sees that somebody waits."""
    agent.stop()
    agent.config.write_text(agent.config.read_text().replace("commit_s = 1\n", "commit_s = 600\n"))
    again = Running(agent.config, SystemClock()).reads()
    now = int(time.time())
    board.prints(b'{"at": %d, "t": %f}\n' % (now, LIVE))
    until(lambda: again.seen("logger"), "a reading, and with it an open transaction")
    imports(agent.config, {now - 40_000 + n: IMPORTED for n in range(12_000)})
    assert len(again.stop().values("import")) == 12_000


def test_archives_late_rows_and_imports_are_history_on_the_wire_and_live_topics_are_of_now(
    mosquitto, agent, board, tmp_path
):
    now = int(time.time())
    with Subscriber(mosquitto.host, mosquitto.port) as wire:
        for n in range(10):
            board.prints(b'archive {"at": %d, "t": %f}\n' % (now - 100 + n, ARCHIVE))  # recent enough to be live
            board.prints(b'{"at": %d, "t": %f}\n' % (now - 5000 + n, LATE))
            board.prints(b'{"at": %d, "t": %f}\n' % (now - 9 + n, LIVE))
        until(lambda: len(agent.seen("logger")) == 30, "thirty readings")
        imports(agent.config, {now - 40 - n: IMPORTED for n in range(5)}, "--publish")
        imports(agent.config, {now - 90 - n: 99.0 for n in range(5)}, "--source", "quiet")
        board.prints(b'{"at": %d, "t": %f}\n' % (now + 1, LIVE))
        until(lambda: len(values(wire, "obs")) == 11, "the live readings")
        until(lambda: len(values(wire, "obs/history")) == 25, "the others")
        kept = agent.stop()
        assert values(wire, "obs") == [LIVE] * 11
        assert sorted(values(wire, "obs/history")) == [ARCHIVE] * 10 + [LATE] * 10 + [IMPORTED] * 5
        assert set(values(wire, "obs/last")) == {LIVE}
    books = kept.books
    assert (books.accepted, books.acknowledged, books.queued, books.dropped) == (36, 36, 0, {})
    archive = [j.observation for j in kept.observations["home"] if j.observation.values["temperature"] == ARCHIVE]
    assert len(archive) == 10 and all(observation.historical for observation in archive)
    assert len(kept.values("quiet")) == 5, "kept, and not published"
