"""`edge-agent demo --once` as a newcomer runs it: with what is installed here, and on a machine where nothing is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.demo.broker import program

pytestmark = pytest.mark.system

RUN = "from edge_agent.cli import main; main()"
BARE = f"""
import edge_agent.demo.broker as broker, edge_agent.demo.witness as witness
broker.program = witness.program = lambda name: None
{RUN}
"""
LIMIT_S = 120  # the demo ends by itself after a minute


def demo(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the demo in a process of its own."""
    command = [sys.executable, "-c", code, "demo", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)


def assert_told(out: str) -> None:
    assert "nowcast-only" in out
    assert "FLAGGED   temperature 85 degC: fail" in out
    assert "from logger: not-json" in out
    assert "10-90 %" in out  # the fan chart's legend
    assert "mosquitto_sub -p" in out
    assert "Each message keeps to its schema." in out


def test_demo_ends_well_with_what_is_installed() -> None:
    done = demo(RUN, "--once")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert_told(done.stdout)
    if program("mosquitto"):
        assert "Broker: Mosquitto" in done.stdout


def test_demo_ends_well_where_no_mosquitto_is() -> None:
    pytest.importorskip("amqtt", reason="the demo extra is not installed")
    done = demo(BARE, "--once")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert_told(done.stdout)
    assert "MQTT 3.1.1" in done.stdout
    assert "paho" in done.stdout


def test_ctrl_c_ends_the_demo_without_a_traceback(tmp_path: Path) -> None:
    keep = tmp_path / "kept"
    command = [sys.executable, "-u", "-c", RUN, "demo", "--keep", str(keep)]
    running = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    assert running.stdout is not None
    with running.stdout as lines:
        for line in lines:
            if " accepted " in line:
                break
        os.killpg(running.pid, signal.SIGINT)
        rest = lines.read()
    assert running.wait(timeout=LIMIT_S) == 0, rest
    assert "Traceback" not in rest
    assert (keep / "agent.toml").exists()
    assert (keep / "demo.sqlite").exists()


def test_kept_demo_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text("mine")
    done = demo(RUN, "--once", "--keep", str(tmp_path))
    assert done.returncode == 1
    assert "choose another folder" in done.stderr
    assert (tmp_path / "agent.toml").read_text() == "mine"
