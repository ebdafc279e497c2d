"""What both connections to the broker share: the root of the agent's topics, and which version of MQTT to speak.

Pure: no sockets, no sleeping.
"""

from __future__ import annotations

from typing import Literal

WIRE: Literal["wx/v1"] = "wx/v1"
V5 = "5"
V311 = "3.1.1"
UNSUPPORTED_VERSION = 0x84  # reason code of a CONNACK; a 3.1.1 broker's own code comes as this one too
SESSION_TAKEN_OVER = 0x8E  # of a DISCONNECT: another client has connected with our id
TAKEN_OVER_WAIT_S = 600.0  # until we try again then: sooner, the two would throw each other out for ever
EARLY_CLOSES = 2  # connections closed before any answer, after which the other version is tried


class VersionChoice:
    """Which MQTT version to speak. From a configured 5 it falls back to 3.1.1 when the broker says it does not know 5,
    or twice closes the connection without an answer; the latter is undone if 3.1.1 fares no better, since a proxy
    before a broker that is down looks the same. A version that once worked is not given up for closed connections."""

    def __init__(self, configured: str) -> None:
        self.current = configured
        self._fixed = configured == V311
        self._early = 0

    def accepted(self) -> None:
        """The broker took the connection."""
        self._fixed = True

    def refused(self) -> bool:
        """The broker does not speak this version; True if another is tried next."""
        if self.current != V5:
            return False
        self.current, self._fixed = V311, True
        return True

    def closed_early(self) -> bool:
        """The connection ended before any answer; True if another version is tried next."""
        self._early += 1
        if self._fixed or self._early < EARLY_CLOSES:
            return False
        self.current, self._early = (V311 if self.current == V5 else V5), 0
        return True
