"""paho's client, bounded: a packet is refused by the length its header claims, before there is memory for it, and a
thread that was left behind does not connect.

The one place that touches paho's inside: it has no bound on packets, and MQTT 3.1.1 no word to tell a broker of one.
"""

from __future__ import annotations

from typing import Any

from paho.mqtt.client import Client

from edge_agent.sensors.supervisor import left_behind

CHUNK = 64 * 1024  # bytes asked of the socket at once: the system's buffer is made for all of them


class BoundedClient(Client):
    """`largest`: bytes of a packet that are taken in. The connection on which a larger one begins is lost, and
    `oversize` says so."""

    def __init__(self, *args: Any, largest: int, **more: Any) -> None:
        super().__init__(*args, **more)
        self.largest, self.oversize = largest, ""
        self.on_socket_open = _before_connect

    def _sock_recv(self, bufsize: int) -> bytes:
        """Called for one byte of a header, or for all of a packet that is still to come."""
        if bufsize > self.largest:
            self.oversize = f"begins a packet of {bufsize} bytes, and at most {self.largest} are taken in"
            raise ConnectionError(self.oversize)
        return super()._sock_recv(min(bufsize, CHUNK))


def _before_connect(client: Client, userdata: Any, sock: Any) -> None:
    """Raises ConnectionAbortedError in a thread that hung until now: it would throw out the one that took its place."""
    if left_behind():
        raise ConnectionAbortedError("another thread has connected meanwhile")
