"""What goes over the wire: one builder per payload, shapes as in `structs.py`.

Pure: values in, structs out, `to_json` to bytes. Never lets NaN or an infinity through, and never sends more digits
than a variable carries (`Variable.decimals`).
"""

from __future__ import annotations

import msgspec

from edge_agent.publish.payloads.forecasts import daily_payload, forecast_payload, verify_payload
from edge_agent.publish.payloads.observations import Latest, observation_payload, revision_payload
from edge_agent.publish.payloads.status import clock_status, forecast_status, info_payload, status_payload
from edge_agent.publish.structs import Payload

__all__ = [
    "Latest",
    "clock_status",
    "daily_payload",
    "forecast_payload",
    "forecast_status",
    "info_payload",
    "observation_payload",
    "revision_payload",
    "status_payload",
    "to_json",
    "verify_payload",
]


def to_json(payload: Payload) -> bytes:
    """The bytes that are published."""
    return msgspec.json.encode(payload)
