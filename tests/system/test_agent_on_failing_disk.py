"""`edge-agent run` on a disk that fails: on from memory, and `edge-agent status` beside it says so."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.agents import line, sensor, until, write_config
from tests.store.disks import small_disk
from tests.system.subscriber import Subscriber, of_kind

pytestmark = pytest.mark.system


def test_a_full_disk_costs_nothing_and_is_told_while_it_lasts(mosquitto, start, board, tmp_path):
    config = write_config(tmp_path, sensor("roof", board, time="at", max_messages_s=1000), port=mosquitto.port)
    agent = start(config).reads("roof")
    now, done = int(time.time()) - 10_000, threading.Event()

    def chatter() -> None:
        for n in range(100_000):
            if done.wait(0.02):
                return
            board.prints(line(now + n))

    def states() -> list[str]:
        return [json.loads(m.payload)["store"]["state"] for m in live.on("wx/v1/home/status")]

    talking = threading.Thread(target=chatter)
    with Subscriber(mosquitto.host, mosquitto.port) as live:
        talking.start()
        try:
            agent.says("observation", 50)
            agent.limit_files_to(1000)
            agent.says("Going on from memory")
            until(lambda: states()[-1:] == ["memory"], "a status that says so")
            during = json.loads(live.on("wx/v1/home/status")[-1].payload)
            assert "check it (dmesg), and the free space" in during["store"]["detail"]
            before = len(of_kind(live.received, "obs", "obs/history"))
            until(lambda: len(of_kind(live.received, "obs", "obs/history")) > before + 50, "publishing to go on")
            assert f"(pid {agent.process.pid}) and has written nothing here of late" in of_status(config)["hints"][0]
            agent.limit_files_to(resource.RLIM_INFINITY)
            agent.says("on the disk again")
            until(lambda: states()[-1] == "disk", "a status that says so")
            seen = agent.log.count("observation")
            agent.says("observation", seen + 50)
        finally:
            done.set()
            talking.join()
        time.sleep(1.0)  # for the broker to take the last
        kept = agent.stop()
        published = {payload["id"] for payload in of_kind(live.received, "obs", "obs/history")}
    assert kept.status["home"]["lost"] == {"store": 1}
    accepted = kept.status["home"]["sensors"]["roof"]["accepted"]
    assert len(kept.values("roof")) == accepted
    assert published == {judged.observation.id for judged in kept.observations["home"]}
    assert (kept.books.accepted, kept.books.acknowledged, kept.books.queued) == (accepted, accepted, 0)


def test_on_a_disk_that_was_never_written_status_knows_that_the_agent_runs(mosquitto, start, board, tmp_path):
    with small_disk(tmp_path / "small") as small:
        if small is None:
            pytest.skip("only root can mount a read-only disk; a folder without permission is a mistake, and refused")
        config = write_config(small.folder, sensor("roof", board, time="at"), port=mosquitto.port)
        small.read_only(True)
        (hint,) = of_status(config)["hints"]
        assert hint.startswith("No store yet: the agent has not run here.")
        agent = start(config).reads("roof")
        with Subscriber(mosquitto.host, mosquitto.port) as live:
            board.prints(line(time.time()))
            until(lambda: of_kind(live.received, "obs"), "a reading to be published from memory")
        (hint,) = of_status(config)["hints"]
        assert hint.startswith(f"An agent runs with it (pid {agent.process.pid}) and has written nothing here of late")
        agent.kill()
        (hint,) = of_status(config)["hints"]
        assert hint.startswith("No store yet: the agent has not run here.")


def of_status(config: Path) -> dict[str, object]:
    """What `edge-agent status --json` says."""
    command = [sys.executable, "-m", "edge_agent.cli", "status", "--json", "--config", str(config)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout)
