"""What a service manager hears: a socket in systemd's place."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from edge_agent.service import MAX_STATUS, ServiceManager


class Manager:
    """Listens where NOTIFY_SOCKET points."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1))
        self._socket.setblocking(False)
        self.environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "8000000", "WATCHDOG_PID": str(os.getpid())}

    def heard(self) -> list[str]:
        found = []
        while True:
            try:
                found.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(str(tmp_path / "n") if request.param == "path" else f"@stationcast-test-{os.getpid()}")
    yield manager
    manager.close()


def test_it_hears_when_the_agent_is_ready_how_it_is_and_that_it_stops(manager):
    service = ServiceManager(manager.environ)
    service.ready()
    service.status("2 of 2 sensors\nreading")
    service.status("2 of 2 sensors reading")
    service.status("x" * 10_000)
    service.stopping()
    assert manager.heard() == ["READY=1", "STATUS=2 of 2 sensors reading", f"STATUS={'x' * MAX_STATUS}", "STOPPING=1"]


def test_the_watchdog_is_fed_well_within_its_patience_and_not_more_often_than_needed(manager):
    now = [100.0]
    service = ServiceManager(manager.environ, lambda: now[0])
    assert service.watchdog_s == 8.0
    fed = []
    for _ in range(400):
        service.feed()
        fed += [now[0]] * len(manager.heard())
        now[0] += 0.1
    gaps = [b - a for a, b in pairwise(fed)]
    assert max(gaps) < 8.0 / 3 and min(gaps) >= 2.0 - 1e-6


def test_who_is_not_watched_feeds_nobody(manager):
    for change in ({"WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "often"}):
        service = ServiceManager(manager.environ | change)
        service.feed()
        assert service.watchdog_s is None and manager.heard() == []


@pytest.mark.parametrize("address", ["", "nowhere", "/nowhere/socket", "@nobody-listens"])
def test_a_manager_that_is_not_there_stops_nobody(address):
    service = ServiceManager({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1"})
    service.ready()
    service.feed()
    service.stopping()


def test_a_manager_that_does_not_listen_is_not_waited_for(manager):
    service = ServiceManager(manager.environ)
    for n in range(10_000):  # more than the socket holds
        service.status(str(n))
    assert manager.heard()
