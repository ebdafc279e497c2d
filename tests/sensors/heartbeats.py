"""A status message with one sensor in it."""

from __future__ import annotations

import msgspec

from edge_agent.publish.payloads import status_payload
from edge_agent.sensors import Health


def heartbeat_of(health: Health) -> bytes:
    payload = status_payload(
        1_700_000_000,
        uptime_s=1,
        clock="synced",
        sensors=[health],
        outbox={},
        forecast=None,
        flags={},
        lost={},
    )
    return msgspec.json.encode(payload)
