"""What the agent says of itself every minute, kept for `edge-agent status` in few bytes.

What concerns the whole agent stands once, each sensor once, each station with no more than its own counts. Must never
write more than `PARTS` of these a minute: a gateway's card would wear out by its own status.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from edge_agent.publish.payloads import forecast_status
from edge_agent.publish.structs import (
    BoardStatus,
    BrokerStatus,
    ClockStatus,
    FlagName,
    Mode,
    OutboxStatus,
    SensorStatus,
    StatusPayload,
    StoreStatus,
)
from edge_agent.store import Keeper, Store

KEY = "status"  # in the store: the agent; with one of these behind it and a name, a sensor or a station
SENSOR, STATION = f"{KEY}:sensor:", f"{KEY}:station:"
PARTS = 100  # sensors and stations written in one go, the start and the end of the agent apart

_encode = msgspec.json.Encoder().encode


class _Agent(msgspec.Struct):
    """What is the same for all stations, as in `StatusPayload`."""

    t: str
    version: str
    uptime_s: int
    rss_mb: float | None
    store_mb: float | None
    clock: str
    outbox: dict[str, OutboxStatus]
    lost: dict[str, int]
    broker: BrokerStatus | None
    mode: Mode = "normal"
    board: BoardStatus | None = None
    store: StoreStatus | None = None
    timekeeping: ClockStatus | None = None


class _Station(msgspec.Struct):
    """The names of the sensors that serve a station, and its verdicts."""

    sensors: list[str]
    flags: dict[FlagName, int]


class Heartbeat:
    """Keeps what was said in the store. Only for the thread that opened it."""

    def __init__(self, store: Store | Keeper) -> None:
        self._store = store
        self._written: dict[str, tuple[bytes, object]] = {}  # by key, the one written longest ago first
        self._rollbacks = store.rollbacks

    def keep(self, said: Mapping[str, StatusPayload], *, whole: bool = False) -> None:
        """Keep what was said of each station. What is unchanged is not written; of what changed at most `PARTS`: first
        sensors that began or ceased to deliver, then what was written longest ago. `whole`: everything that changed.

        Raises StoreError: it could not be kept.
        """
        if not said:
            return
        agent = msgspec.convert(msgspec.to_builtins(next(iter(said.values()))), _Agent)
        self._store.set(KEY, _encode(agent).decode())
        if self._rollbacks != self._store.rollbacks:  # what was written may be gone
            self._rollbacks = self._store.rollbacks
            self._written.clear()
        parts = dict(_parts(said))
        due = [key for key in self._in_turn(parts) if self._written.get(key, (b"",))[0] != parts[key][0]]
        due.sort(key=lambda key: key in self._written and self._written[key][1] == parts[key][1])
        for key in due if whole else due[:PARTS]:
            self._store.set(key, parts[key][0].decode())
            self._written.pop(key, None)
            self._written[key] = parts[key]

    def _in_turn(self, parts: Mapping[str, object]) -> Iterator[str]:
        """New ones, then those written longest ago."""
        yield from (key for key in parts if key not in self._written)
        yield from (key for key in self._written if key in parts)


def last_said(store: Store, stations: Iterable[str]) -> dict[str, StatusPayload]:
    """What the agent last said of each station; empty where it has not run.

    Raises msgspec.DecodeError: another version wrote it.
    """
    text = store.get(KEY)
    if text is None:
        return {}
    agent = msgspec.to_builtins(msgspec.json.decode(text, type=_Agent))
    found: dict[str, StatusPayload] = {}
    for name in stations:
        own = store.get(STATION + name)
        if own is None:
            continue
        station = msgspec.json.decode(own, type=_Station)
        texts = {sensor: store.get(SENSOR + sensor) for sensor in station.sensors}
        sensors = {sensor: msgspec.json.decode(told) for sensor, told in texts.items() if told is not None}
        last = store.last_forecast(name)
        forecast = None if last is None else msgspec.to_builtins(forecast_status(last))
        document = {**agent, "sensors": sensors, "flags": station.flags, "forecast": forecast}
        found[name] = msgspec.convert(document, StatusPayload)
    return found


def _parts(said: Mapping[str, StatusPayload]) -> Iterator[tuple[str, tuple[bytes, object]]]:
    """Key -> what is kept under it, and the part of it that should not wait for its turn."""
    sensors: dict[str, SensorStatus] = {}
    for name, status in said.items():
        sensors |= status.sensors
        yield STATION + name, (_encode(_Station(list(status.sensors), status.flags)), None)
    for name, sensor in sensors.items():
        yield SENSOR + name, (_encode(sensor), sensor.state == "reading")
