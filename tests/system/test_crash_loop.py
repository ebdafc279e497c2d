"""Agents that are killed, as processes: what the next one makes of it."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge_agent.cli import main
from edge_agent.runs import UNCLEAN_ENDS
from tests.agents import fill, sensor, until, write_config
from tests.board import Board
from tests.system.agent_process import AgentProcess
from tests.system.subscriber import Subscriber, retained
from tests.tiny_bundle import make_tiny_bundle

pytestmark = pytest.mark.system

StartAgent = Callable[..., AgentProcess]
STARTED = "1 stations, "


@pytest.fixture
def start() -> Iterator[StartAgent]:
    """Starts agents; all end with the test."""
    agents: list[AgentProcess] = []

    def start(config: Path, *flags: str, environ: dict[str, str] | None = None) -> AgentProcess:
        agents.append(AgentProcess(config, *flags, environ=environ))
        return agents[-1]

    yield start
    for agent in agents:
        agent.kill()


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    board = Board(tmp_path / "usb-roof")
    board.plug()
    yield board
    board.unplug()


def test_an_agent_that_was_killed_again_and_again_starts_in_safe_mode_reads_on_and_says_so(
    mosquitto, start, board, tmp_path
):
    tiny = {"bundle": str(make_tiny_bundle(tmp_path / "tiny.bundle")), "allow_unsigned": True}
    fill(tmp_path / "store.sqlite", int(time.time()), hours=48)
    config = write_config(tmp_path, sensor("roof", board, time="at"), port=mosquitto.port, **tiny)
    for _ in range(UNCLEAN_ENDS):
        agent = start(config)
        agent.says(STARTED)
        agent.kill()
        assert "safe mode" not in agent.log
    agent = start(config).reads("roof")
    agent.says("safe mode: the last 5 runs")
    with Subscriber(mosquitto.host, mosquitto.port) as live:
        board.prints(b'{"at": %d, "t": 12.5, "h": 60}\n' % time.time())
        until(lambda: live.on("wx/v1/home/obs"), "a reading")
        until(lambda: live.on("wx/v1/home/status"), "the first status")
        assert len(agent.stop().values("roof")) == 1
    held = {topic: m.payload for topic, m in retained(mosquitto.host, mosquitto.port).items()}
    forecast = json.loads(held["wx/v1/home/forecast/nowcast"])
    assert forecast["level"] == "persistence" and "safe mode" in forecast["why"]
    info = json.loads(held["wx/v1/home/info"])
    assert (info["mode"], info["bundle"]) == ("safe", None)
    assert json.loads(held["wx/v1/home/status"])["mode"] == "safe"
    assert "run --normal" in CliRunner().invoke(main, ["status", "--config", str(config)]).output
    insisting = start(config, "--normal")
    insisting.says("tiny is ready")
    assert insisting.stop().status["home"]["mode"] == "normal"


def test_an_agent_that_its_watchdog_ends_leaves_in_the_log_what_each_thread_did(start, tmp_path):
    agent = start(write_config(tmp_path))
    agent.says("station-default is ready")  # while a library is loading, even a look at the threads may end a process
    assert agent.ended_with(signal.SIGABRT) == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in agent.log and re.search(r"agent\.py\", line \d+ in run", agent.log)
    assert json.loads((tmp_path / "store.sqlite.runs").read_bytes())["running"]


def test_a_runtime_that_dies_of_the_processor_refuses_the_bundle_and_leaves_the_agent_alive(start, board, tmp_path):
    """An ONNX Runtime whose first instruction this processor does not have."""
    package = tmp_path / "wheels" / "onnxruntime"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGILL)\n")
    path = os.pathsep.join(filter(None, (str(package.parent), os.environ.get("PYTHONPATH"))))
    fill(tmp_path / "store.sqlite", int(time.time()), hours=48)
    config = write_config(tmp_path, sensor("roof", board, time="at"))
    agent = start(config, environ={"PYTHONPATH": path}).reads("roof")
    agent.says("died with SIGILL: this onnxruntime was built for another processor")
    agent.says("forecast of home")
    board.prints(b'{"at": %d, "t": 12.5, "h": 60}\n' % time.time())
    agent.says("observation")
    kept = agent.stop()
    assert len(kept.values("roof")) == 1
    assert kept.status["home"]["forecast"]["level"] == "persistence"
    assert "SIGILL" in kept.status["home"]["forecast"]["why"]
