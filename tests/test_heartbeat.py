"""What the agent keeps of its own status: little, bounded, and none of it stale for long."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.heartbeat import PARTS, Heartbeat, last_said
from edge_agent.observation import Flag
from edge_agent.publish.payloads import status_payload
from edge_agent.publish.structs import StatusPayload
from edge_agent.sensors import Health
from edge_agent.store import Store
from tests.store.readings import DAY, forecast

MANY = [f"place-{n:04}" for n in range(400)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store.sqlite") as opened:
        yield opened


def say(name: str, minute: int, state: str = "reading", accepted: int | None = None) -> StatusPayload:
    """A station with a sensor of its own that has accepted a reading a minute."""
    n = minute if accepted is None else accepted
    sensor = Health(f"at-{name}", "mqtt_json", state, "", n, {}, float(DAY + 60 * n), 0)
    return status_payload(
        DAY + 60 * minute, uptime_s=60 * minute, clock="synced", sensors=[sensor], outbox={}, forecast=None,
        flags={Flag.GOOD: n},
    )  # fmt: skip


class Writes:
    """What a store is told to keep."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.keys: list[str] = []
        self.bytes = 0
        keep = store.set

        def counted(key: str, value: str) -> None:
            self.keys.append(key)
            self.bytes += len(key) + len(value)
            keep(key, value)

        monkeypatch.setattr(store, "set", counted)


def test_of_a_lone_station_everything_is_there_every_minute(store: Store) -> None:
    heart = Heartbeat(store)
    store.add_forecast(forecast(DAY, station="roof"))
    for minute in (1, 2):
        heart.keep({"roof": say("roof", minute)})
        said = last_said(store, ["roof"])["roof"]
        assert (said.uptime_s, said.sensors["at-roof"].accepted, said.flags["good"]) == (60 * minute, minute, minute)
    assert said.forecast is not None and said.forecast.origin == "2023-11-15T00:00:00Z"
    assert last_said(store, ["elsewhere"]) == {}


def test_a_gateway_writes_a_bounded_part_a_minute_and_each_station_in_its_turn(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    heart = Heartbeat(store)
    heart.keep({name: say(name, 0) for name in MANY}, whole=True)
    rounds = 2 * len(MANY) // PARTS
    writes = Writes(store, monkeypatch)
    for minute in range(1, rounds + 1):
        heart.keep({name: say(name, minute) for name in MANY})
    assert len(writes.keys) == rounds * (PARTS + 1) and writes.bytes < 300 * len(writes.keys)
    said = last_said(store, MANY)
    assert min(said[name].flags["good"] for name in MANY) >= 1
    assert min(said[name].sensors[f"at-{name}"].accepted for name in MANY) >= 1
    assert {one.uptime_s for one in said.values()} == {60 * rounds}


def test_what_is_unchanged_is_not_written(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    heart = Heartbeat(store)
    heart.keep({name: say(name, 0) for name in MANY}, whole=True)
    writes = Writes(store, monkeypatch)
    heart.keep({name: say(name, 1, accepted=1 if name == MANY[7] else 0) for name in MANY})
    assert writes.keys == ["status", f"status:station:{MANY[7]}", f"status:sensor:at-{MANY[7]}"]


def test_a_sensor_that_falls_silent_does_not_wait_for_its_turn(store: Store) -> None:
    heart = Heartbeat(store)
    heart.keep({name: say(name, 0) for name in MANY}, whole=True)
    for minute in range(1, 20):
        down = MANY[-1] if minute >= 10 else ""
        heart.keep({name: say(name, minute, "waiting" if name == down else "reading") for name in MANY})
        said = last_said(store, [MANY[-1]])[MANY[-1]]
        assert said.sensors[f"at-{MANY[-1]}"].state == ("waiting" if down else "reading")


def test_the_end_of_a_run_is_kept_whole(store: Store) -> None:
    heart = Heartbeat(store)
    heart.keep({name: say(name, 0) for name in MANY}, whole=True)
    heart.keep({name: say(name, 9) for name in MANY}, whole=True)
    assert {one.flags["good"] for one in last_said(store, MANY).values()} == {9}
