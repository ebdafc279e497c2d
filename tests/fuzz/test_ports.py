"""Ten seconds of `tests.fuzz.ports`; FUZZ_PORTS_S sets more."""

from __future__ import annotations

import os

import pytest

from edge_agent.demo.broker import program
from tests.fuzz.ports import run

SECONDS = float(os.environ.get("FUZZ_PORTS_S", "10"))
MAY_BE_SILENT = {"davis_vantage", "vaisala_wxt", "live"}  # they are asked, seldom, and noise is no answer

pytestmark = [pytest.mark.system, pytest.mark.skipif(program("mosquitto") is None, reason="mosquitto is not installed")]


def test_noise_at_every_port_neither_ends_the_agent_nor_costs_a_good_reading_nor_takes_its_memory() -> None:
    outcome = run(SECONDS)
    assert outcome.problems == []
    assert outcome.good[0] > 0
    assert {name for name, n in outcome.heard.items() if n == 0} <= MAY_BE_SILENT
    assert set(outcome.thrown) <= set(outcome.heard)
