"""What a station says of itself: how it is doing, and what it runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, cast

import msgspec

from edge_agent import __version__
from edge_agent.clock import format_time
from edge_agent.config import Station
from edge_agent.forecast import Forecast
from edge_agent.observation import Flag
from edge_agent.publish.numbers import rounded
from edge_agent.publish.structs import (
    MAX_TEXT,
    BoardStatus,
    BrokerStatus,
    BundleInfo,
    ClockState,
    ClockStatus,
    ForecastStatus,
    InfoPayload,
    Mode,
    OutboxStatus,
    SalvageStatus,
    SensorStatus,
    Site,
    StatusPayload,
    StoreStatus,
)
from edge_agent.variables import variable
from edge_agent.wire import WIRE

if TYPE_CHECKING:
    from edge_agent.store import Keeper


class SensorHealth(Protocol):
    """What a source says of itself: `edge_agent.sensors.Health`."""

    @property
    def name(self) -> str: ...
    @property
    def driver(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def detail(self) -> str: ...
    @property
    def accepted(self) -> int: ...
    @property
    def rejected(self) -> Mapping[str, int]: ...
    @property
    def last_t(self) -> float | None: ...
    @property
    def reopened(self) -> int: ...
    @property
    def battery(self) -> Mapping[str, str | float]: ...
    @property
    def counters(self) -> Mapping[str, float]: ...
    @property
    def stuck(self) -> int: ...


class Counts(Protocol):
    """An outbox's books, as the store keeps them."""

    @property
    def accepted(self) -> int: ...
    @property
    def acknowledged(self) -> int: ...
    @property
    def queued(self) -> int: ...
    @property
    def dropped(self) -> Mapping[str, int]: ...


class BrokerHealth(Protocol):
    """What the publisher says of its connection: `edge_agent.publish.mqtt.PublisherHealth`."""

    @property
    def protocol(self) -> str: ...
    @property
    def detail(self) -> str: ...
    @property
    def published(self) -> int: ...
    @property
    def in_flight(self) -> int: ...
    @property
    def reconnects(self) -> int: ...
    @property
    def refused(self) -> Mapping[str, int]: ...


def status_payload(
    t: float,
    *,
    uptime_s: float,
    clock: str,
    sensors: Iterable[SensorHealth],
    outbox: Mapping[str, Counts],
    forecast: Forecast | None,
    flags: Mapping[Flag, int],
    lost: Mapping[str, int] | None = None,
    broker: BrokerHealth | None = None,
    rss_mb: float | None = None,
    store_mb: float | None = None,
    mode: Mode = "normal",
    board: BoardStatus | None = None,
    store: Keeper | None = None,
    timekeeping: ClockStatus | None = None,
) -> StatusPayload:
    """The state of a station at `t`. `outbox`: books by destination; `flags`: values by verdict since the start;
    `lost`: what could not be kept or done, by reason;
    `forecast`: the last one issued."""
    document = {
        "t": format_time(t),
        "version": __version__,
        "uptime_s": max(int(uptime_s), 0),
        "rss_mb": None if rss_mb is None else rounded(rss_mb, 1),
        "store_mb": None if store_mb is None else rounded(store_mb, 1),
        "clock": clock,
        "sensors": {health.name: _sensor_status(health) for health in sensors},
        "outbox": {name: _outbox_status(counts) for name, counts in outbox.items()},
        "forecast": None if forecast is None else forecast_status(forecast),
        "lost": {reason: int(n) for reason, n in (lost or {}).items()},
        "flags": {flag.name.lower(): int(flags.get(flag, 0)) for flag in Flag},
        "broker": None if broker is None else _broker_status(broker),
        "mode": mode,
        "board": None if board is None else msgspec.to_builtins(board),
        "store": None if store is None else _store_status(store),
        "timekeeping": timekeeping,
    }
    return msgspec.convert(document, StatusPayload)


def forecast_status(forecast: Forecast) -> ForecastStatus:
    """A forecast in a few words."""
    return ForecastStatus(
        origin=format_time(forecast.origin),
        issued=format_time(forecast.issued),
        level=forecast.level,
        why=forecast.why[:MAX_TEXT],
    )


def clock_status(state: str, source: str, error_s: float | None, detail: str, restamped: int) -> ClockStatus:
    """Where the time comes from. `error_s`: how far it may be off, None = not known."""
    error_s = None if error_s is None else rounded(error_s, 1)
    return ClockStatus(
        state=cast(ClockState, state), source=source, error_s=error_s, detail=detail[:MAX_TEXT], restamped=restamped
    )


def info_payload(
    station: Station,
    variables: Sequence[str],
    bundle: str | None,
    digest: str = "",
    mode: Mode = "normal",
    timekeeping: ClockStatus | None = None,
) -> InfoPayload:
    """What a station runs. `bundle`, `digest`: name and SHA-256 of the bundle in use; None = persistence only."""
    return InfoPayload(
        wire=WIRE,
        version=__version__,
        station=station.id,
        site=_site(station),
        bundle=None if bundle is None else BundleInfo(name=bundle, digest=digest),
        variables={name: variable(name).unit for name in variables},
        mode=mode,
        timekeeping=timekeeping,
    )


def _site(station: Station) -> Site:
    """A station's place, as far as its operator lets it be told."""
    where = (station.latitude, station.longitude, station.elevation_m)
    if station.publish_position == "none":
        return Site(latitude=None, longitude=None, elevation_m=None, timezone=station.timezone)
    if station.publish_position != "exact":
        where = (round(where[0], 2), round(where[1], 2), round(where[2]))
    latitude, longitude, elevation_m = where
    return Site(latitude=latitude, longitude=longitude, elevation_m=elevation_m, timezone=station.timezone)


def _sensor_status(health: SensorHealth) -> SensorStatus:
    document = {
        "driver": health.driver,
        "state": health.state,
        "detail": health.detail[:MAX_TEXT],
        "accepted": health.accepted,
        "rejected": dict(health.rejected),
        "last": None if health.last_t is None else format_time(health.last_t),
        "reopened": health.reopened,
        "battery": {part: rounded(x, 2) if isinstance(x, float) else x for part, x in health.battery.items()},
        "counters": {gauge: rounded(total, 2) for gauge, total in health.counters.items()},
        "stuck": health.stuck,
    }
    return msgspec.convert(document, SensorStatus)


def _outbox_status(counts: Counts) -> OutboxStatus:
    return OutboxStatus(
        accepted=counts.accepted,
        acknowledged=counts.acknowledged,
        queued=counts.queued,
        dropped=dict(counts.dropped),
    )


def _broker_status(broker: BrokerHealth) -> BrokerStatus:
    return BrokerStatus(
        protocol=broker.protocol,
        detail=broker.detail[:MAX_TEXT],
        published=broker.published,
        in_flight=broker.in_flight,
        reconnects=broker.reconnects,
        refused=dict(broker.refused),
    )


def _store_status(store: Keeper) -> StoreStatus:
    salvaged = store.salvaged
    return StoreStatus(
        state="disk" if store.on_disk else "memory",
        detail=store.trouble[:MAX_TEXT],
        in_memory=store.in_memory,
        salvage=None if salvaged is None else msgspec.convert(salvaged, SalvageStatus, from_attributes=True),
    )
