"""The agent's door to MQTT: what is published, when, and how it is doing.

Used from the main loop only. Nothing here waits for the network, save `stop`, for at most a second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from edge_agent.clock import Clock
from edge_agent.config import Config
from edge_agent.forecast import Forecast
from edge_agent.guidance.daily import DayOutlook, NightOutlook
from edge_agent.publish.connection import Connection
from edge_agent.publish.corrections import Corrections, Revised
from edge_agent.publish.feed import Feed, Outbox
from edge_agent.publish.payloads import daily_payload, forecast_payload, to_json
from edge_agent.publish.policy import Waits
from edge_agent.publish.session import Message
from edge_agent.publish.structs import Availability, InfoPayload, Payload, StatusPayload, VerifyPayload
from edge_agent.publish.topics import KINDS, topic

STOP_WAIT_S = 1.0
HOURLY_EXPIRY_S = 3 * 3600  # of an hourly forecast, replaced each hour


@dataclass(frozen=True, slots=True)
class PublisherHealth:
    """`protocol`: MQTT version in use; `detail`: what is wrong and what to do, empty when all is well; `published`:
    acknowledged by the broker; `refused`: not taken by it, by reason; `reconnects`: connections after the first."""

    connected: bool
    protocol: str
    detail: str
    published: int
    in_flight: int
    reconnects: int
    refused: Mapping[str, int] = field(default_factory=dict)


class Kept(Outbox, Revised, Protocol):
    """What the publisher needs of the store."""


class Publisher:
    """Publishes for all stations of a configuration over one connection. The last will stands on the first station's
    availability: where a gateway dies, that one says so for all."""

    def __init__(self, config: Config, clock: Clock, waits: Waits | None = None) -> None:
        self._config, self._clock = config, clock
        self._stations = tuple(station.id for station in config.stations)
        first = self._stations[0]
        self._connection = Connection(
            config.mqtt,
            config.mqtt.client_id or f"stationcast-{first}",
            _availability(first, "offline"),
            clock,
            waits or Waits(),
        )
        self._corrections = Corrections(self._connection)
        self._feed = Feed(self._connection, clock, others=self._corrections.settle)
        for station in self._stations:
            self._connection.keep(_availability(station, "online"))

    def start(self) -> None:
        """Begin connecting; returns at once, also without a broker."""
        self._connection.start()

    def stop(self) -> None:
        """Publish `stopped` for each station and disconnect; takes about a second at most. A `pump` afterwards settles
        what the broker acknowledged at the end."""
        self._connection.stop([_availability(s, "stopped") for s in self._stations], STOP_WAIT_S)

    def pump(self, store: Kept, *, verdicts: bool = True) -> int:
        """Send what waits in the outbox, and later verdicts on what went out unless there are to be none now; settle
        what has arrived. The number of rows sent. Takes milliseconds.

        Raises:
            StoreError: the store failed.
        """
        sent = self._feed.pump(store)
        if verdicts:
            self._corrections.pump(store)
        return sent

    def forecast(self, forecast: Forecast) -> None:
        """Publish a station's nowcast; the broker forgets it when it expires.

        Raises:
            DataError: lead times that cannot be published (`payloads.forecast_payload`).
        """
        expiry_s = self._config.forecast.expiry_s
        payload = forecast_payload(forecast, expiry_s)
        self._keep(forecast.station, "forecast/nowcast", payload, expires=forecast.issued + expiry_s)

    def hourly(self, forecast: Forecast) -> None:
        """Publish a station's hourly forecast. Raises DataError: as `forecast`."""
        payload = forecast_payload(forecast, HOURLY_EXPIRY_S)
        self._keep(forecast.station, "forecast/hourly", payload, expires=forecast.issued + HOURLY_EXPIRY_S)

    def daily(
        self, forecast: Forecast, days: Sequence[DayOutlook], timezone: str, nights: Sequence[NightOutlook] = ()
    ) -> None:
        """Publish the civil days and the nights of a station's hourly forecast."""
        payload = daily_payload(forecast, days, timezone, HOURLY_EXPIRY_S, nights)
        self._keep(forecast.station, "forecast/daily", payload, expires=forecast.issued + HOURLY_EXPIRY_S)

    def status(self, station: str, payload: StatusPayload) -> None:
        """Publish how a station is doing."""
        self._keep(station, "status", payload)

    def info(self, station: str, payload: InfoPayload) -> None:
        """Publish what a station runs."""
        self._keep(station, "info", payload)

    def verify_daily(self, station: str, payload: VerifyPayload) -> None:
        """Publish a day's scores of a station."""
        self._keep(station, "verify/daily", payload)

    @property
    def hung(self) -> bool:
        """Nothing can be published any more in this process: every thread that was begun for it hangs. To be asked
        often, as one that hangs is found and replaced here."""
        return self._connection.hung

    def health(self) -> PublisherHealth:
        """How the connection is doing."""
        c = self._connection
        return PublisherHealth(
            connected=c.session is not None,
            protocol=c.version,
            detail=c.detail,
            published=c.published,
            in_flight=c.in_flight,
            reconnects=c.reconnects,
            refused=dict(c.refused),
        )

    def _keep(self, station: str, kind: str, payload: Payload, expires: float | None = None) -> None:
        about = KINDS[kind]
        message = Message(topic(station, kind), to_json(payload), about.retained, about.content_type, expires)
        self._connection.keep(message)


def _availability(station: str, word: Availability) -> Message:
    about = KINDS["availability"]
    return Message(topic(station, about.name), word.encode(), about.retained, about.content_type)
