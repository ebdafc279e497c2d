"""How a Davis WeatherLink Live is spoken to: asked over HTTP, and heard over UDP between two questions where wanted.

Source: WeatherLink Live Local API: one question every 10 s at most; a broadcast lasts as long as it was asked for.
"""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable
from typing import Literal

from edge_agent.clock import Clock
from edge_agent.config import Sensor
from edge_agent.errors import ConfigError, SensorError
from edge_agent.sensors.driver import Options, options_of
from edge_agent.sensors.framing import Refusal
from edge_agent.sensors.poll import fetch, split_host

Take = Callable[[bytes | Refusal], None]

BROADCAST_PORT = 22_222
MAX_DATAGRAM = 65_535
_LASTS_S = 3_600  # of broadcast, asked for anew at half time
_TIMEOUT_S = 5.0  # real seconds for an answer
_WAIT_S = 0.25  # real seconds; how soon `stopping` is heard
_BATCH = 50  # datagrams taken in a row
_GATHER_S = 0.02  # real seconds; then the processor is left to others


class LiveOptions(Options, frozen=True):
    """`poll_s`: seconds between questions, 10 at least. `broadcast_s`: above 0, the device is asked to broadcast too,
    and one broadcast in so many seconds is taken. `wind`: the ten-minute `mean`, or the `last` speed measured. `txid`:
    take this transmitter only; 0 = all."""

    poll_s: float = 60.0
    broadcast_s: float = 0.0
    wind: Literal["mean", "last"] = "mean"
    txid: int = 0


class LivePoll:
    """Asks one device for its conditions, and hears its broadcasts in between."""

    def __init__(self, sensor: Sensor, port: int = BROADCAST_PORT) -> None:
        """`port`: where it broadcasts to. Raises ConfigError: an option that is not one, or out of its bounds."""
        self._options = options_of(sensor, LiveOptions)
        if not 10 <= self._options.poll_s <= 3_600:
            raise ConfigError(f'sensor "{sensor.name}": option poll_s must lie within 10 to 3600 seconds')
        if not 0 <= self._options.broadcast_s <= 3_600:
            raise ConfigError(f'sensor "{sensor.name}": option broadcast_s must lie within 0 (none) to 3600 seconds')
        self._host, self._port = split_host(sensor.host or "", 80)
        self._limit, self._udp = sensor.max_message_bytes, port

    def run(self, take: Take, stopping: threading.Event, clock: Clock) -> None:
        """As `Poll.run`. A broadcast that cannot be had is counted; the questions go on.

        Raises:
            SensorError: the device does not answer.
        """
        ear: Ear | None = None
        try:
            while not stopping.is_set():
                asked = clock.monotonic()
                take(self._ask("/v1/current_conditions"))
                if self._options.broadcast_s:
                    ear = self._renewed(ear, take, clock)
                while not stopping.is_set() and clock.monotonic() < asked + self._options.poll_s:
                    left = clock.wall(asked + self._options.poll_s - clock.monotonic())
                    if ear is None:
                        stopping.wait(min(max(left, 0.01), _WAIT_S))
                    else:
                        ear.hear(take, min(left, _WAIT_S), clock.monotonic())
                        stopping.wait(_GATHER_S)
        finally:
            if ear is not None:
                ear.close()

    def _ask(self, path: str) -> bytes:
        return fetch(self._host, path, self._limit, _TIMEOUT_S, self._port)

    def _renewed(self, ear: Ear | None, take: Take, clock: Clock) -> Ear | None:
        """The ear, with a broadcast that goes on; None if there is none to be had now."""
        now = clock.monotonic()
        if ear is not None and now < ear.asked + _LASTS_S / 2:
            return ear
        try:
            self._ask(f"/v1/real_time?duration={_LASTS_S}")
            ear = ear or Ear(self._host, self._udp, self._options.broadcast_s)
            ear.asked = now
        except SensorError as error:
            take(Refusal("no-broadcast", str(error)))
        return ear


class Ear:
    """The broadcasts of one device. The port is shared with whoever else hears them."""

    def __init__(self, host: str, port: int, every_s: float) -> None:
        """Raises SensorError: the port or the device's address cannot be had."""
        self.asked = 0.0
        self._every_s, self._taken = every_s, float("-inf")
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._senders = {str(found[4][0]) for found in socket.getaddrinfo(host, None)}
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind(("0.0.0.0", port))
            self._socket.setblocking(False)
        except OSError as error:
            self._socket.close()
            raise SensorError(f"UDP port {port} cannot be listened at ({error.strerror or error})") from None

    def hear(self, take: Take, wait_s: float, now: float) -> None:
        """Wait so many real seconds for a broadcast, and take it if it is time for one."""
        if not select.select([self._socket], [], [], max(wait_s, 0.0))[0]:
            return
        for _ in range(_BATCH):
            try:
                payload, sender = self._socket.recvfrom(MAX_DATAGRAM)
            except OSError:  # BlockingIOError: no more of them
                return
            if sender[0] not in self._senders:
                take(Refusal("not-allowed", f"a broadcast from {sender[0]}, which is not the device"))
            elif now >= self._taken + self._every_s:
                self._taken = now
                take(payload)

    def close(self) -> None:
        self._socket.close()
