"""The one HTTP listener for devices that push: one an address, however many sensors name it.

Made for a hostile network: header, body, time and connections are bounded, whatever comes; a sender who is not allowed
is not read, and a path that is not known learns nothing. Nothing of a request is ever logged or told: paths, queries
and bodies carry the tokens and passwords of devices.
"""

from __future__ import annotations

import hmac
import io
import logging
import re
import select
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler

from edge_agent.clock import Clock
from edge_agent.config import read_secret
from edge_agent.errors import ConfigError
from edge_agent.sensors.bounded import Bounded, TooMuch
from edge_agent.sensors.fields import split_target
from edge_agent.sensors.listen import Listener, Listeners, ListeningSource
from edge_agent.sensors.source import Health, Intake

log = logging.getLogger(__name__)

ANSWER = b"success\n"  # Weather Underground's word; the others look at the 200 only
_TOKEN = re.compile(r"[A-Za-z0-9_.~-]{8,128}")


@dataclass(frozen=True, slots=True)
class Limits:
    """`head`: bytes of request line and headers. `request_s`: seconds for a whole request, its answer, and the end.
    `connections`: at once, `per_sender` of them from one address. `wait_s`: how soon `stop` is heard."""

    head: int = 16_384
    request_s: float = 10.0
    connections: int = 32
    per_sender: int = 8
    wait_s: float = 0.25
    linger_bytes: int = 65_536


LIMITS = Limits()


class HttpSource(ListeningSource):
    """One sensor that is pushed to. With a `token_file`, its path begins with the token, whatever follows; without
    one, the path is where such devices send by themselves."""

    def __init__(self, intake: Intake, listeners: Listeners, clock: Clock, path: str) -> None:
        """Raises ConfigError: no address, or another sensor that would take all its messages."""
        sensor = intake.sensor
        self.path = path.rstrip("/").lower()
        self._token_file, self._token, self._unreadable = sensor.token_file, "", ""
        self._turn = threading.Lock()
        listener = listeners.at(intake, serve)
        key = (sensor.token_file, self.path, sorted(sensor.allow))
        for other in listener.sources:
            theirs = other.intake.sensor
            if isinstance(other, HttpSource) and key == (theirs.token_file, other.path, sorted(theirs.allow)):
                raise ConfigError(
                    f'sensor "{sensor.name}": sensor "{theirs.name}" takes the same messages at {sensor.listen}: give '
                    "each its own token_file, its own path in its options, or its own allow"
                )
        super().__init__(intake, listener, clock)

    @property
    def problem(self) -> str:
        """Why nothing can come and what to do, empty if it can."""
        self.token()
        return super().problem or self._unreadable

    def take(self, payload: bytes) -> None:
        """As for all; messages come from as many threads as there are connections."""
        with self._turn:
            super().take(payload)

    def token(self) -> str:
        """The secret first part of its path; empty where it has none, or where it cannot be read yet."""
        if self._token_file and not self._token:
            try:
                found = read_secret(self._token_file)
                if not _TOKEN.fullmatch(found):
                    raise ConfigError(f"{self._token_file}: a token is 8 to 128 letters, digits, - _ . or ~")
                self._token, self._unreadable = found, ""
            except ConfigError as error:
                self._unreadable = str(error)
        return self._token

    def fits(self, first: str, path: str, rest: str) -> int:
        """How well a path fits: 2 as it should be, 1 by its token alone, 0 not at all. `first`: its first part,
        `rest`: what follows. Takes as long for a wrong token as for a right one."""
        if not self._token_file:
            return 2 if path == self.path else 0
        token = self.token()
        same = hmac.compare_digest(first.encode(), token.encode())
        return (2 if rest == self.path else 1) if same and token else 0

    def _hint(self, health: Health) -> str:
        return self._unreadable or super()._hint(health)


def serve(listener: Listener, limits: Limits = LIMITS) -> None:
    """Take connections until told to stop. Raises SensorError: the address cannot be had, or is lost."""
    stopping = listener.supervisor.stopping
    with listener.opened(socket.SOCK_STREAM) as server:
        desk = Desk(listener, limits)
        try:
            while not stopping.is_set():
                if select.select([server], [], [], limits.wait_s)[0]:
                    try:
                        connection, sender = server.accept()
                    except (BlockingIOError, ConnectionError):
                        continue  # it was gone before it was taken
                    desk.admit(connection, sender[0])
        finally:
            desk.close()


class Desk:
    """The connections of one listener, a thread each, and no more of them than there may be."""

    def __init__(self, listener: Listener, limits: Limits) -> None:
        self._listener, self._limits = listener, limits
        self._lock = threading.Lock()
        self._open: dict[socket.socket, str] = {}

    def admit(self, connection: socket.socket, sender: str) -> None:
        """Serve a connection in the background, or close it unread."""
        heard_by = self._listener.heard_by(sender)
        if heard_by:
            with self._lock:
                mine = Counter(self._open.values())[sender]
                free = len(self._open) < self._limits.connections and mine < self._limits.per_sender
                if free:
                    self._open[connection] = sender
            if free and self._begin(connection, sender):
                return
            for source in heard_by:
                source.intake.refuse("too-many-connections", f"from {sender}")
        connection.close()

    def close(self) -> None:
        """End all of them at once."""
        with self._lock:
            for connection in self._open:
                _shut(connection)

    def _begin(self, connection: socket.socket, sender: str) -> bool:
        """False if the system has no thread left."""
        try:
            threading.Thread(target=self._converse, args=(connection, sender), daemon=True).start()
        except RuntimeError:
            with self._lock:
                self._open.pop(connection, None)
            return False
        return True

    def _converse(self, connection: socket.socket, sender: str) -> None:
        try:
            Request(connection, sender, self._listener, self._limits)
        except OSError:
            self._refuse("cut-request", sender, "the connection was lost")
        except Exception as error:  # noqa: BLE001  # the thread's top; logged without words: they may hold a password
            self._refuse("internal-error", sender, type(error).__name__)
            log.error("listener %s: internal error: %s", self._listener.address, type(error).__name__)
        finally:
            with self._lock:
                self._open.pop(connection, None)
            connection.close()

    def _refuse(self, reason: str, sender: str, detail: str) -> None:
        for source in self._listener.heard_by(sender):
            source.intake.refuse(reason, f"from {sender}: {detail}")


class Request(BaseHTTPRequestHandler):
    """One request and its answer; then the connection ends. Works when it is made, and raises OSError."""

    protocol_version = "HTTP/1.1"

    def __init__(self, connection: socket.socket, sender: str, listener: Listener, limits: Limits) -> None:
        self._sender, self._listener, self._limits = sender, listener, limits
        super().__init__(connection, (sender, 0), None)  # type: ignore[arg-type]  # no server of its own kind

    def setup(self) -> None:
        self.connection = self.request
        self._raw = Bounded(self.connection, self._limits.head, self._limits.request_s)
        self.rfile = io.BufferedReader(self._raw)
        self.wfile = self._said = io.BytesIO()

    def handle(self) -> None:
        try:
            self.handle_one_request()  # swallows TimeoutError
        except TooMuch:
            self._refuse("bad-request", f"more than {self._limits.head} bytes of headers")
            self._answer(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        if time.monotonic() >= self._raw.deadline:
            self._refuse("timed-out", f"no whole request in {self._limits.request_s:.0f} s")

    def finish(self) -> None:
        """Send the answer, and hear out a sender who is still speaking, so that it is not lost on him."""
        self.connection.settimeout(1.0)
        self.connection.sendall(self._said.getvalue())
        self.connection.shutdown(socket.SHUT_WR)
        left, until = self._limits.linger_bytes, time.monotonic() + 1.0
        while left > 0 and time.monotonic() < until:
            try:
                count = len(self.connection.recv(8192))
            except TimeoutError:
                return
            if not count:
                return
            left -= count

    def do_GET(self) -> None:
        """A reading in the query, or in a body."""
        path, query = split_target(self.path)
        source = self._source(path)
        if source is None:
            self._refuse("wrong-path", "no sensor has that path or token")
            self._answer(HTTPStatus.NOT_FOUND)
            return
        payload = self._body(source) or query.encode()
        if self._said.getvalue():
            return  # it is answered: the body was refused
        if not payload:
            source.intake.refuse("empty-request", f"from {self._sender}: neither a query nor a body")
            self._answer(HTTPStatus.BAD_REQUEST)
            return
        source.take(payload)
        self._answer(HTTPStatus.OK, ANSWER)

    do_POST = do_GET

    def handle_expect_100(self) -> bool:
        self.connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        return True

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the standard library finds wrong with a request."""
        self._refuse("bad-request", f"HTTP status {int(code)}")
        self._answer(HTTPStatus(code))

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: its words hold the path."""

    def _source(self, path: str) -> HttpSource | None:
        """The sensor that a path belongs to."""
        first, _, rest = path.lstrip("/").partition("/")
        whole = f"/{first}/{rest}".rstrip("/").lower()
        below = f"/{rest}".rstrip("/").lower()
        heard_by = [s for s in self._listener.heard_by(self._sender) if isinstance(s, HttpSource)]
        fits = [source.fits(first, whole, below) for source in heard_by]
        best = max(fits, default=0)
        return heard_by[fits.index(best)] if best else None

    def _body(self, source: HttpSource) -> bytes:
        """The body of a request; empty if it has none, or was refused and answered."""
        lengths = self.headers.get_all("Content-Length", [])
        plain = all(re.fullmatch(r"[0-9]{1,9}", length.strip()) for length in lengths)
        if "Transfer-Encoding" in self.headers or len(lengths) > 1 or not plain:
            self._refuse("bad-request", "a body needs one Content-Length")
            self._answer(HTTPStatus.LENGTH_REQUIRED)
            return b""
        length, most = int(lengths[0]) if lengths else 0, source.intake.sensor.max_message_bytes
        if length > most:
            source.intake.refuse("too-large", f"a body of {length} bytes; max_message_bytes is {most}")
            self._answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return b""
        self._raw.bytes_left += length
        body = self.rfile.read(length)
        if len(body) < length:
            source.intake.refuse("cut-request", f"from {self._sender}: {len(body)} of {length} bytes")
            self._answer(HTTPStatus.BAD_REQUEST)
        return body

    def _refuse(self, reason: str, detail: str) -> None:
        for source in self._listener.heard_by(self._sender):
            source.intake.refuse(reason, f"from {self._sender}: {detail}")

    def _answer(self, status: HTTPStatus, body: bytes = b"") -> None:
        head = f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
        self.wfile.write(head.encode() + b"Connection: close\r\n\r\n" + body)


def _shut(connection: socket.socket) -> None:
    """End a connection that another thread reads from."""
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it had ended by itself
