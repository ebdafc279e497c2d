"""paho's client, bounded: a packet is refused by the length its header claims, before there is memory for it, and a
thread that was left behind does not connect.

The one place that touches paho's inside: it has no bound on packets, and MQTT 3.1.1 no word to tell a broker of one.
"""

from __future__ import annotations

import ssl
from typing import Any

from paho.mqtt.client import Client

from edge_agent.config import Mqtt, read_secret
from edge_agent.errors import ConfigError
from edge_agent.sensors.supervisor import left_behind

CHUNK = 64 * 1024  # bytes asked of the socket at once: the system's buffer is made for all of them


class BoundedClient(Client):
    """`largest`: bytes of a packet that are taken in. The connection on which a larger one begins is lost, and
    `oversize` says so."""

    def __init__(self, *args: Any, largest: int, **more: Any) -> None:
        super().__init__(*args, **more)
        self.largest, self.oversize = largest, ""
        self.on_socket_open = _before_connect

    def introduce(self, settings: Mqtt) -> None:
        """Have the name, password and TLS of the configuration for the next connection.

        Raises:
            ConfigError: the password or a TLS file cannot be read.
        """
        if settings.username:
            secret = settings.password_file
            self.username_pw_set(settings.username, read_secret(secret) if secret else None)
        if settings.tls_ca and self._ssl_context is None:
            self.tls_set_context(_tls(settings))

    def _sock_recv(self, bufsize: int) -> bytes:
        """Called for one byte of a header, or for all of a packet that is still to come."""
        if bufsize > self.largest:
            self.oversize = f"begins a packet of {bufsize} bytes, and at most {self.largest} are taken in"
            raise ConnectionError(self.oversize)
        return super()._sock_recv(min(bufsize, CHUNK))


class _ClosingSocket(ssl.SSLSocket):
    """paho leaves one whose handshake fails to the garbage collector."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


def _before_connect(client: Client, userdata: Any, sock: Any) -> None:
    """Raises ConnectionAbortedError in a thread that hung until now: it would throw out the one that took its place."""
    if left_behind():
        raise ConnectionAbortedError("another thread has connected meanwhile")


def _tls(settings: Mqtt) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.tls_ca)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"mqtt.tls_ca: {settings.tls_ca}: cannot be used as a PEM certificate ({error})") from None
    context.sslsocket_class = _ClosingSocket
    if settings.tls_cert:
        try:
            context.load_cert_chain(settings.tls_cert, settings.tls_key)
        except (OSError, ssl.SSLError) as error:
            names = f"mqtt.tls_cert, mqtt.tls_key: {settings.tls_cert}, {settings.tls_key}"
            raise ConfigError(f"{names}: cannot be used as a PEM certificate and its key ({error})") from None
    return context
