"""The running agent learns, says so in its forecasts, and keeps it when it is stopped."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.clock import ManualClock
from edge_agent.publish.payloads import forecast_payload
from edge_agent.store import Store
from tests.agents import Running, fill, until, write_config
from tests.tiny_bundle import make_tiny_bundle

NOON = 1_700_049_600


@pytest.mark.parametrize("adapt", [True, False])
def test_forecasts_are_adapted_unless_the_configuration_says_no(tmp_path: Path, adapt: bool) -> None:
    fill(tmp_path / "store.sqlite", NOON + 7200, hours=48)
    bundle, clock = make_tiny_bundle(tmp_path / "tiny.bundle"), ManualClock(NOON + 100)
    agent = Running(write_config(tmp_path, bundle=str(bundle), allow_unsigned=True, adapt=adapt), clock)
    try:
        for n in range(1, 6):
            until(lambda n=n: len(agent.forecasts()) == n, "a forecast")
            clock.advance(900)
        kept = agent.stop()
    finally:
        agent.end()
    first, *_, last = (forecast.adapted for forecast in kept.forecasts["home"])
    assert first == () and last == (("temperature", "humidity") if adapt else ())
    payload = forecast_payload(kept.forecasts["home"][-1], 3600)
    assert payload.adapted == list(last)
    with Store.open(tmp_path / "store.sqlite", read_only=True) as store:
        assert (store.learned("home") is not None) is adapt
