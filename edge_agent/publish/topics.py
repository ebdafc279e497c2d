"""Every topic the agent publishes to, and how: the one table that code, schemas and docs are held against.

A topic is `wx/v1/<station>/<kind>`. Everything goes out at QoS 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edge_agent.publish import structs
from edge_agent.wire import WIRE

JSON = "application/json"
TEXT = "text/plain"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of message. `payload`: its struct (or, for plain text, the words it may be); `retained`: the broker
    keeps the last one for whoever comes later; `expires`: the broker forgets it when it is of no more use (MQTT 5)."""

    name: str
    payload: Any
    retained: bool
    expires: bool = False
    content_type: str = JSON


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("availability", structs.Availability, retained=True, content_type=TEXT),
        Kind("info", structs.InfoPayload, retained=True),
        Kind("status", structs.StatusPayload, retained=True),
        Kind("obs", structs.ObservationPayload, retained=False),
        Kind("obs/last", structs.LastObservationPayload, retained=True),
        Kind("obs/history", structs.ObservationPayload, retained=False),
        Kind("qc", structs.RevisionPayload, retained=False),
        Kind("forecast/nowcast", structs.ForecastPayload, retained=True, expires=True),
        Kind("forecast/hourly", structs.ForecastPayload, retained=True, expires=True),
        Kind("forecast/daily", structs.DailyPayload, retained=True, expires=True),
        Kind("verify/daily", structs.VerifyPayload, retained=True),
    )
}


def topic(station: str, kind: str) -> str:
    """Where a kind of message of a station goes; `kind` is a key of `KINDS`."""
    return f"{WIRE}/{station}/{KINDS[kind].name}"


def kind_of(topic: str) -> str | None:
    """The kind a topic stands for; None where it is none of ours."""
    parts = topic.split("/", 3)
    ours = len(parts) == 4 and "/".join(parts[:2]) == WIRE and parts[3] in KINDS
    return parts[3] if ours else None
