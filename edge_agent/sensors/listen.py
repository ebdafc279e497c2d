"""Addresses that sensors listen at, over HTTP or UDP: opened once for all sensors that name them; who may send; and
what is wrong when nobody can.

Never answers and never decodes. Who is not in a sensor's allow-list is counted there and not heard.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import socket
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING

from edge_agent.clock import Clock
from edge_agent.errors import ConfigError, SensorError
from edge_agent.sensors.source import Health, Intake
from edge_agent.sensors.supervisor import HUNG_S, Pauses, Supervisor, Users, left_behind

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Who may send where nothing is said: this machine, and networks that no router of the Internet forwards.
PRIVATE = tuple(
    ipaddress.ip_network(text)
    for text in (
        "127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16",
        "::1/128", "fc00::/7", "fe80::/10",
    )
)  # fmt: skip
QUIET_S = 900.0  # silence worth a word to the user


class AllowList:
    """Addresses and networks that may send."""

    def __init__(self, name: str, allow: list[str]) -> None:
        """Raises ConfigError: what is neither an address nor a network."""
        self._networks: list[Network] = []
        for text in allow:
            try:
                self._networks.append(ipaddress.ip_network(text, strict=False))
            except ValueError:
                example = 'allow = ["192.168.1.0/24"]'
                raise ConfigError(
                    f'sensor "{name}": allow: "{text[:60]}" is neither an address nor a network: write {example}'
                ) from None

    def __contains__(self, address: str) -> bool:
        """True if `address`, as a socket names it, may send."""
        found = ipaddress.ip_address(address.partition("%")[0])
        mapped = getattr(found, "ipv4_mapped", None)
        return any((mapped or found) in network for network in self._networks or PRIVATE)


class Listener:
    """One address. `serve` opens it with `opened`, works until `stopping` is set and raises SensorError with the
    remedy when it cannot be had or is lost. Sources join before it starts; it runs from the first start to the last
    stop."""

    def __init__(
        self,
        address: str,
        serve: Callable[[Listener], None],
        clock: Clock,
        pauses: Pauses | None = None,
        hung_s: float = HUNG_S,
    ) -> None:
        self.address = address
        self.bound: tuple[str, int] | None = None  # what it really is, where the port was left to the system
        self.sources: list[ListeningSource] = []
        self._socket: socket.socket | None = None  # of the thread at work
        self.supervisor = Supervisor(
            f"listener {address}",
            lambda: serve(self),
            clock,
            self._bug,
            pauses,
            release=self._let_go,
            hung_s=hung_s,
        )
        self.users = Users(self.supervisor)

    @contextmanager
    def opened(self, kind: socket.SocketKind) -> Iterator[socket.socket]:
        """The socket, bound and not blocking, for as long as it is used.

        Raises:
            SensorError: it cannot be had.
        """
        host, port = split_address(self.address)
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            with socket.socket(family, kind) as opened:
                self._socket = opened
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                opened.bind((host, port))
                if kind is socket.SOCK_STREAM:
                    opened.listen(32)
                opened.setblocking(False)
                self.bound = opened.getsockname()[:2]
                self.supervisor.opened()
                yield opened
        except OSError as error:
            raise SensorError(_why_closed(self.address, port, kind, error)) from None
        finally:
            if not left_behind():  # else it is the next thread's
                self._socket = self.bound = None

    def heard_by(self, address: str) -> list[ListeningSource]:
        """Sources that take what comes from `address`; the others count it."""
        active = [source for source in self.sources if source.active]
        found = [source for source in active if address in source.allow]
        if not found:
            for source in active:
                source.intake.refuse("not-allowed", f"from {address}, which is not in allow")
        return found

    def _let_go(self) -> None:
        """Free the address for the next thread. What the one that hangs still does with it fails."""
        opened, self._socket, self.bound = self._socket, None, None
        if opened is not None:
            opened.close()

    def _bug(self, error: Exception) -> None:
        for source in self.sources:
            source.intake.refuse("internal-error", type(error).__name__)


class ListeningSource:
    """One sensor at an address."""

    def __init__(self, intake: Intake, listener: Listener, clock: Clock) -> None:
        """Raises ConfigError: an allow-list that says nothing."""
        self.name = intake.sensor.name
        self.allow = AllowList(self.name, intake.sensor.allow)
        self.intake, self.listener = intake, listener
        self.active = False
        self._clock = clock
        self._heard = clock.monotonic()
        listener.sources.append(self)

    def start(self) -> None:
        self.active = True
        self.listener.users.start(self.name)

    def stop(self) -> None:
        """End it; the address is let go with its last sensor, within a second."""
        self.active = False
        self.listener.users.stop(self.name)

    def health(self) -> Health:
        return self.intake.standing(self.listener.supervisor.state(), self._hint, active=self.active)

    @property
    def problem(self) -> str:
        """Why nothing can come and what to do, empty if it can."""
        return self.listener.supervisor.state().problem

    @property
    def complaint(self) -> str:
        """The latest refusal in words."""
        return self.intake.last_complaint

    def take(self, payload: bytes) -> None:
        """A message for this sensor. Whatever it holds, its neighbours and the listener go on."""
        self._heard = self._clock.monotonic()
        self.listener.supervisor.progress()
        try:
            self.intake.message(payload)
        except Exception as error:  # noqa: BLE001  # this sensor's top: its neighbours share the listener
            # logged without its words: they may hold a password
            self.intake.refuse("internal-error", type(error).__name__)
            log.error("sensor %s: internal error: %s", self.name, type(error).__name__)

    def _hint(self, health: Health) -> str:
        if health.rejected and not health.accepted:
            return f"nothing usable yet ({self.complaint})."
        silence = self._clock.monotonic() - self._heard
        if silence > QUIET_S:
            return f"nothing came to {self.listener.address} for {silence:.0f} s. Does the device send there?"
        return ""


class Listeners:
    """The listeners of a configuration: one for each address that its sensors name."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._found: dict[tuple[str, Callable[[Listener], None]], Listener] = {}

    def at(self, intake: Intake, serve: Callable[[Listener], None]) -> Listener:
        """The listener of a sensor's address. Raises ConfigError: it has none, or one that cannot be."""
        sensor = intake.sensor
        if not sensor.listen:
            raise ConfigError(f'sensor "{sensor.name}": add listen = "0.0.0.0:8080"')
        if split_address(sensor.listen)[1] > 65_535:
            raise ConfigError(f'sensor "{sensor.name}": listen "{sensor.listen}": ports end at 65535')
        return self._found.setdefault((sensor.listen, serve), Listener(sensor.listen, serve, self._clock))


def split_address(listen: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[v6]:port`."""
    host, _, port = listen.rpartition(":")
    return host.strip("[]"), int(port)


def _why_closed(address: str, port: int, kind: socket.SocketKind, error: OSError) -> str:
    """Why an address cannot be listened at, and the remedy."""
    if error.errno == errno.EADDRINUSE:
        flags = "-ltnp" if kind is socket.SOCK_STREAM else "-lunp"
        return (
            f"{address} is already taken by another program. Stop it (sudo ss {flags} shows it), or choose another "
            f"port in listen and in the device."
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{address}: ports below 1024 are not for this user. Choose one above, such as {port + 8000}."
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{address} is no address of this machine now. 0.0.0.0:{port} listens at all it has."
    if isinstance(error, socket.gaierror):
        return f"{address}: this name is unknown. Write an address, such as 0.0.0.0:{port}."
    return f"{address} cannot be listened at ({error.strerror or error}). Choose another address in listen."
