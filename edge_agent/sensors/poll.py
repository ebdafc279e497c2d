"""A device on the network that is asked, supervised: asked again after a pause when it does not answer.

Its answers are bounded in bytes and in time, whatever it sends. One thread each.
"""

from __future__ import annotations

import socket

from edge_agent.clock import Clock
from edge_agent.errors import ConfigError, SensorError
from edge_agent.sensors.bounded import BoundedSocket, TooMuch
from edge_agent.sensors.driver import Poll
from edge_agent.sensors.framing import Refusal
from edge_agent.sensors.source import Health, Intake
from edge_agent.sensors.supervisor import Pauses, Supervisor

HEAD = 16_384  # bytes of an answer's status line and headers
QUIET_S = 900.0


class PollSource:
    """One sensor that is asked."""

    def __init__(self, intake: Intake, poll: Poll, clock: Clock, pauses: Pauses | None = None) -> None:
        """Raises ConfigError if the sensor has no host."""
        sensor = intake.sensor
        if not sensor.host:
            raise ConfigError(f'sensor "{sensor.name}": add host = "192.168.1.20"')
        self.name, self.host = sensor.name, sensor.host
        self._intake, self._poll, self._clock = intake, poll, clock
        self._heard = clock.monotonic()
        self._open = False
        self._supervisor = Supervisor(f"sensor {self.name}", self._work, clock, self._bug, pauses)

    def start(self) -> None:
        self._supervisor.start()

    def stop(self) -> None:
        """End it, within a second: a question that hangs dies with the process."""
        self._supervisor.stop()

    def health(self) -> Health:
        return self._intake.standing(self._supervisor.state(), self._hint)

    @property
    def problem(self) -> str:
        """Why it is waiting and what to do, empty if it is not."""
        return self._supervisor.state().problem

    @property
    def complaint(self) -> str:
        """The latest refusal in words."""
        return self._intake.last_complaint

    def _work(self) -> None:
        """Raises SensorError: the device does not answer."""
        self._open = False
        self._poll.run(self._take, self._supervisor.stopping, self._clock)

    def _take(self, message: bytes | Refusal) -> None:
        self._heard = self._clock.monotonic()
        if not self._open:
            self._open = True
            self._supervisor.opened()
        self._supervisor.progress()
        if isinstance(message, Refusal):
            self._intake.refuse(message.reason, message.detail)
        else:
            self._intake.message(message)

    def _bug(self, error: Exception) -> None:
        self._intake.refuse("internal-error", type(error).__name__)

    def _hint(self, health: Health) -> str:
        if health.rejected and not health.accepted:
            return f"nothing usable yet ({self.complaint})."
        silence = self._clock.monotonic() - self._heard
        if silence > QUIET_S:
            return f"{self.host} has said nothing for {silence:.0f} s. Is it powered?"
        return ""


def fetch(host: str, path: str, limit: int, timeout_s: float, port: int = 80) -> bytes:
    """The body that an HTTP server answers a GET with, of at most `limit` bytes, in about `timeout_s` real seconds.

    Raises:
        SensorError: no connection, no answer in time, another status than 200, or a longer answer.
    """
    from http.client import HTTPException, HTTPResponse  # late: few stations need it, and it is slow to load

    name = f"[{host}]" if ":" in host else host
    where = name if port == 80 else f"{name}:{port}"
    request = f"GET {path} HTTP/1.1\r\nHost: {where}\r\nAccept: application/json\r\nConnection: close\r\n\r\n"
    try:
        with socket.create_connection((host, port), timeout_s) as connection:
            connection.sendall(request.encode())
            answer = HTTPResponse(BoundedSocket(connection, HEAD + limit, timeout_s), method="GET")  # type: ignore[arg-type]
            answer.begin()
            body = answer.read(limit + 1)
    except TooMuch:
        raise SensorError(f"{where} answers with more than {limit} bytes. Raise max_message_bytes.") from None
    except HTTPException:
        raise SensorError(f"{where} does not answer in HTTP. Is it the right device, and the right port?") from None
    except OSError as error:
        raise SensorError(f"{where} {_why(error)}") from None
    if answer.status != 200:
        raise SensorError(f"{where} answers {path.partition('?')[0]} with HTTP status {answer.status}.")
    if len(body) > limit:
        raise SensorError(f"{where} answers with more than {limit} bytes. Raise max_message_bytes.")
    if answer.length:
        raise SensorError(f"{where} ends its answer early. Is the network between here and there sound?")
    return body


def split_host(host: str, port: int) -> tuple[str, int]:
    """Name and port of `host`, `host:port` or `[v6]:port`; `port` where it says none."""
    name, colon, end = host.rpartition(":")
    if colon and end.isascii() and end.isdigit() and len(end) < 6 and (":" not in name or name.endswith("]")):
        return name.strip("[]"), int(end)
    return host.strip("[]"), port


def _why(error: OSError) -> str:
    """Why there is no answer, and the remedy."""
    if isinstance(error, ConnectionRefusedError):
        return "refuses connections. Is it the right device, and is its local interface on?"
    if isinstance(error, socket.gaierror):
        return "is unknown by that name. Check host, or write its address."
    if isinstance(error, TimeoutError):
        return "does not answer. Is it powered and in the same network?"
    return f"cannot be reached ({error.strerror or error}). Check host and the network."
