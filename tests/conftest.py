"""What is there for all tests. No property is judged by how fast this machine is today."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.agents import MakeBoard, RunAgent, Running
from tests.board import Board
from tests.tiny_bundle import make_tiny_bundle

settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


def pytest_configure() -> None:
    """Ctrl-C reaches what tests start: workers of tests that run side by side ignore it, and that is inherited."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def no_niceness(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that gives way to other work, called within a test, would slow all tests after it."""
    monkeypatch.setattr(os, "nice", lambda by: by)


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
