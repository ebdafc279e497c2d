"""How `edge-agent run` ends: at once, whatever hangs, and with everything kept that was handed over."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time

import pytest

from tests.agents import line, sensor, write_config
from tests.board import Board

pytestmark = pytest.mark.system


def test_it_ends_at_once_with_a_broker_that_never_answers_and_a_silent_sensor(start, board, tmp_path):
    silent = Board(tmp_path / "usb-silent")
    silent.plug()
    with socket.create_server(("127.0.0.1", 0)) as hole:
        config = write_config(
            tmp_path,
            sensor("roof", board, time="at"),
            sensor("silent", silent),
            sensor("remote", "air/remote"),
            port=hole.getsockname()[1],
        )
        agent = start(config).reads("roof", "silent")
        now = int(time.time())
        for n in range(100):
            board.prints(line(now + n))
        agent.says("observation", 100)
        kept = agent.stop()
    silent.unplug()
    assert len(kept.values("roof")) == 100 and kept.books.queued == 100


def test_it_ends_at_once_when_its_broker_hangs_with_messages_under_way(mosquitto, start, board, tmp_path):
    agent = start(write_config(tmp_path, sensor("roof", board, time="at"), port=mosquitto.port)).reads("roof")
    agent.says("connected to")
    mosquitto._process.send_signal(signal.SIGSTOP)
    try:
        now = int(time.time())
        for n in range(10):
            board.prints(line(now + n))
        agent.says("observation", 10)
        kept = agent.stop()
    finally:
        mosquitto._process.send_signal(signal.SIGCONT)
    assert len(kept.values("roof")) == 10 and kept.books.queued == 10


def test_what_was_handed_over_before_the_signal_is_in_the_store(start, board, tmp_path):
    agent = start(write_config(tmp_path, sensor("roof", board, time="at", max_messages_s=1000))).reads("roof")
    now = int(time.time())
    for n in range(3000):
        board.prints(line(now - 3000 + n))
    kept = agent.stop(signal.SIGINT)
    accepted = kept.status["home"]["sensors"]["roof"]["accepted"]
    assert len(kept.values("roof")) == accepted > 0
    assert kept.status["home"]["lost"] == {}


@pytest.mark.parametrize("after_s", [0.0, 0.4, 0.8, 1.2, 1.6])
def test_it_may_be_stopped_at_any_moment_of_its_start(start, tiny, tmp_path, after_s):
    """Also while the bundle is tried in a child process, and while ONNX Runtime is being loaded."""
    agent = start(write_config(tmp_path, **tiny))
    agent.says("1 stations, 0 sensors")
    time.sleep(after_s)
    agent.stop()
    assert "Traceback" not in agent.log and "terminate" not in agent.log


def test_a_second_agent_on_the_same_store_ends_with_1_and_says_why(start, tmp_path):
    config = write_config(tmp_path)
    first = start(config)
    first.says("1 stations, 0 sensors")
    command = [sys.executable, "-m", "edge_agent.cli", "run", "--config", str(config)]
    second = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert second.returncode == 1
    assert f"another agent (pid {first.process.pid}) works with it: stop that one" in second.stderr
    assert "Traceback" not in second.stderr
    first.stop()
