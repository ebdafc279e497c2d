"""paho's client with a bound on what it takes in: a packet is refused by the length its header claims, before there is
memory for it.

The one place that touches paho's inside: it has no such bound, and MQTT 3.1.1 no word to tell a broker of one.
"""

from __future__ import annotations

from typing import Any

from paho.mqtt.client import Client

CHUNK = 64 * 1024  # bytes asked of the socket at once: the system's buffer is made for all of them


class BoundedClient(Client):
    """`largest`: bytes of a packet that are taken in. The connection on which a larger one begins is lost, and
    `oversize` says so."""

    def __init__(self, *args: Any, largest: int, **more: Any) -> None:
        super().__init__(*args, **more)
        self.largest, self.oversize = largest, ""

    def _sock_recv(self, bufsize: int) -> bytes:
        """Called for one byte of a header, or for all of a packet that is still to come."""
        if bufsize > self.largest:
            self.oversize = f"begins a packet of {bufsize} bytes, and at most {self.largest} are taken in"
            raise ConnectionError(self.oversize)
        return super()._sock_recv(min(bufsize, CHUNK))
