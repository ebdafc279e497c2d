"""What goes over the wire: one builder per payload, shapes as design section 6 has them (`structs.py`).

Pure: values in, structs out, `to_json` to bytes. Never lets NaN or an infinity through, and never sends more digits
than a variable carries (`Variable.decimals`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Protocol, cast

import msgspec
import numpy as np
from msgspec import UNSET

from edge_agent import __version__
from edge_agent.clock import format_time
from edge_agent.config import Station
from edge_agent.errors import DataError
from edge_agent.forecast import Forecast, Level, VariableForecast
from edge_agent.observation import Flag, Judged, Revision, Verdict
from edge_agent.publish.numbers import probabilities, rounded, series
from edge_agent.publish.structs import (
    MAX_TEXT,
    BoardStatus,
    BrokerStatus,
    BundleInfo,
    ClockState,
    ClockStatus,
    DailyPayload,
    DayForecast,
    DayValue,
    EventSeries,
    ForecastPayload,
    ForecastStatus,
    InfoPayload,
    LastObservationPayload,
    Mode,
    ObservationPayload,
    OutboxStatus,
    Payload,
    Quality,
    RevisionPayload,
    SalvageStatus,
    ScoreSeries,
    SensorStatus,
    Site,
    StatusPayload,
    StoreStatus,
    VariableSeries,
    VerifyPayload,
)
from edge_agent.variables import VARIABLES, variable
from edge_agent.wire import WIRE

if TYPE_CHECKING:
    from edge_agent.guidance.daily import DayOutlook
    from edge_agent.store import Keeper

__all__ = [
    "DailyPayload",
    "ForecastPayload",
    "InfoPayload",
    "LastObservationPayload",
    "Latest",
    "ObservationPayload",
    "Payload",
    "RevisionPayload",
    "StatusPayload",
    "VerifyPayload",
    "daily_payload",
    "forecast_payload",
    "info_payload",
    "observation_payload",
    "revision_payload",
    "status_payload",
    "to_json",
    "verify_payload",
]

MAX_LAST_AGE_S = 3600  # `obs/last` leaves out what is older than this against its newest value


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


class Score(Protocol):
    """One row of a day's scores: `edge_agent.verification.ScoreRow`."""

    @property
    def source(self) -> str: ...
    @property
    def variable(self) -> str: ...
    @property
    def lead_s(self) -> int: ...
    @property
    def n(self) -> int: ...
    @property
    def bias(self) -> float: ...
    @property
    def mae(self) -> float: ...
    @property
    def rmse(self) -> float: ...
    @property
    def crps(self) -> float: ...
    @property
    def coverage80(self) -> float: ...


def observation_payload(judged: Judged, historical: bool) -> ObservationPayload:
    """An observation as published. `historical`: arrived late or by import."""
    values, quality = _judged(judged)
    observation = judged.observation
    return ObservationPayload(
        id=observation.id,
        t=format_time(observation.t),
        period_s=observation.period_s or None,
        clock=cast(ClockState, observation.clock),
        historical=historical,
        v=values,
        qc=quality,
        src=observation.source,
        restamped_from=UNSET if observation.restamped_from is None else format_time(observation.restamped_from),
    )


class Latest:
    """The newest value of each variable of one station, from all its sources: what `obs/last` tells."""

    def __init__(self) -> None:
        self._newest: tuple[int, ObservationPayload] | None = None
        self._parts: dict[str, tuple[int, ObservationPayload]] = {}

    def add(self, t: int, payload: ObservationPayload) -> None:
        """Take up an observation, in whatever order they come. `t`: its time, UTC seconds. One whose time was put right
        takes the place of itself."""
        if payload.restamped_from is not UNSET:
            self._parts = {name: part for name, part in self._parts.items() if part[1].id != payload.id}
            if self._newest is not None and self._newest[1].id == payload.id:
                self._newest = max(self._parts.values(), key=itemgetter(0), default=None)
        if self._newest is None or t >= self._newest[0]:
            self._newest = (t, payload)
        for name in payload.v:
            if name not in self._parts or t >= self._parts[name][0]:
                self._parts[name] = (t, payload)

    def payload(self) -> LastObservationPayload | None:
        """Identity and time of the newest observation, with the values that are at most an hour older; None before the
        first."""
        if self._newest is None:
            return None
        now, newest = self._newest
        parts = {name: part for name, (t, part) in self._parts.items() if now - t <= MAX_LAST_AGE_S}
        return LastObservationPayload(
            id=newest.id,
            t=newest.t,
            period_s=newest.period_s,
            clock=newest.clock,
            historical=False,
            v={name: part.v[name] for name, part in parts.items()},
            qc={name: part.qc[name] for name, part in parts.items()},
            src=newest.src,
            at={name: part.t for name, part in parts.items()},
        )


def forecast_payload(forecast: Forecast, expiry_s: int) -> ForecastPayload:
    """A forecast as published, good for `expiry_s` from its issue.

    Raises:
        DataError: lead times that are not the multiples of the first: `start` and `step_s` cannot say them.
    """
    step = forecast.leads_s[0] if forecast.leads_s else 0
    if step <= 0 or any(lead != step * (i + 1) for i, lead in enumerate(forecast.leads_s)):
        raise DataError(f"forecast of {forecast.station}: leads {forecast.leads_s[:4]} are not multiples of the first")
    variables = {name: _variable(v) for name, v in forecast.variables.items()}
    ages = [s.age_s for s in variables.values() if s.mean is not None and s.age_s is not None]
    return ForecastPayload(
        issued=format_time(forecast.issued),
        start=format_time(forecast.origin + step),
        step_s=step,
        expires=format_time(forecast.issued + expiry_s),
        level=forecast.level,
        source=forecast.source,
        age_s=max(ages, default=None),
        bundle=forecast.bundle[:MAX_TEXT],
        quantiles=[float(level) for level in forecast.levels_q],
        vars=variables,
        events={name: EventSeries(p=probabilities(p)) for name, p in forecast.events.items()},
        why=forecast.why[:MAX_TEXT],
        adapted=list(forecast.adapted),
    )


def daily_payload(forecast: Forecast, days: Sequence[DayOutlook], timezone: str, expiry_s: int) -> DailyPayload:
    """The days of an hourly forecast as published, good for `expiry_s` from its issue."""
    ages = [own.age_s for own in forecast.variables.values() if own.age_s is not None]
    return DailyPayload(
        issued=format_time(forecast.issued),
        expires=format_time(forecast.issued + expiry_s),
        level=forecast.level,
        source=forecast.source,
        age_s=max(ages, default=None),
        timezone=timezone,
        quantiles=[float(level) for level in forecast.levels_q],
        days=[
            DayForecast(
                day=day.day.isoformat(),
                start=format_time(day.start),
                end=format_time(day.end),
                vars={
                    name: DayValue(
                        unit=variable(name).unit,
                        mean=series(np.array([mean]), variable(name))[0],
                        q=series(quantiles, variable(name)),
                    )
                    for name, (mean, quantiles) in day.values.items()
                },
            )
            for day in days
        ],
        why=forecast.why[:MAX_TEXT],
    )


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


def verify_payload(day: str, rows: Iterable[Score]) -> VerifyPayload:
    """The scores of one station and UTC day. Of several rows for one source, variable and lead the last stands."""
    table: dict[str, dict[str, dict[int, Score]]] = {}
    for row in rows:
        table.setdefault(row.source, {}).setdefault(row.variable, {})[row.lead_s] = row
    leads = sorted({lead for variables in table.values() for by_lead in variables.values() for lead in by_lead})
    return VerifyPayload(
        day=day,
        leads_s=leads,
        scores={
            source: {name: _score_series(name, by_lead, leads) for name, by_lead in variables.items()}
            for source, variables in table.items()
        },
    )


def to_json(payload: Payload) -> bytes:
    """The bytes that are published."""
    return msgspec.json.encode(payload)


def revision_payload(revision: Revision, made: float, *, by_operator: bool) -> RevisionPayload:
    """A later verdict on values of a source."""
    v = revision.verdict
    document = {
        "src": revision.source,
        "variable": revision.variable,
        "start": format_time(revision.start),
        "end": format_time(revision.end),
        "flag": v.flag.value,
        "test": v.test[:100],
        "why": v.why[:MAX_TEXT],
        "made": format_time(made),
        "by": "operator" if by_operator else "test",
    }
    return msgspec.convert(document, RevisionPayload)


def _judged(judged: Judged) -> tuple[dict[str, float], dict[str, Quality]]:
    values: dict[str, float] = {}
    quality: dict[str, Quality] = {}
    for name, raw in judged.observation.values.items():
        known = VARIABLES.get(name)
        value = rounded(raw, known.decimals if known else 6)
        verdict = judged.verdicts.get(name, Verdict(Flag.NOT_EVALUATED))
        test, why = verdict.test[:MAX_TEXT], verdict.why[:MAX_TEXT]
        if value is None:
            quality[name] = Quality(flag=9, test=test, why=why or "no number")
        else:
            values[name] = value
            quality[name] = Quality(flag=verdict.flag.value, test=test, why=why)
    return values, quality


def _variable(forecast: VariableForecast) -> VariableSeries:
    about = variable(forecast.variable)
    age = None if forecast.age_s is None else max(int(forecast.age_s), 0)
    if forecast.mean is None or forecast.quantiles is None:
        why = forecast.why or "no forecast"
        return VariableSeries(unit=about.unit, level=Level.NONE, mean=None, q=None, age_s=age, why=why[:MAX_TEXT])
    return VariableSeries(
        unit=about.unit,
        level=forecast.level,
        mean=series(forecast.mean, about),
        q=series(np.asarray(forecast.quantiles).T, about),
        age_s=age,
        why=forecast.why[:MAX_TEXT],
    )


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


def _score_series(name: str, by_lead: Mapping[int, Score], leads: Sequence[int]) -> ScoreSeries:
    about = VARIABLES.get(name)
    rows = [by_lead.get(lead) for lead in leads]

    def column(score: str) -> list[float | None]:
        return [rounded(getattr(row, score), 3) if row is not None and row.n else None for row in rows]

    return ScoreSeries(
        unit=about.unit if about else "1",
        n=[row.n if row is not None else 0 for row in rows],
        bias=column("bias"),
        mae=column("mae"),
        rmse=column("rmse"),
        crps=column("crps"),
        coverage80=column("coverage80"),
    )
