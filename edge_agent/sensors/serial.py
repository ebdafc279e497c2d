"""A serial sensor, supervised: opened by its path (or as tcp://host:port, for a serial line behind a network), read
message by message or spoken to, opened again after unplugging.

One thread each. Never decodes, never ends because of what a device sends or because a port is gone; memory is bounded
by the sensor's `max_message_bytes`, whatever comes.
"""

from __future__ import annotations

import errno
import fcntl
import grp
import os
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import serial  # type: ignore[import-untyped]
from serial.tools import list_ports  # type: ignore[import-untyped]

from edge_agent.clock import Clock
from edge_agent.errors import ConfigError, SensorError
from edge_agent.sensors.driver import CatchesUp, Framer, Talk
from edge_agent.sensors.framing import Lines, Refusal
from edge_agent.sensors.source import Health, Intake
from edge_agent.sensors.supervisor import HUNG_S, Pauses, Supervisor

_GONE = (serial.SerialException, OSError, termios.error)  # termios.error is no OSError
_BY_ID = Path("/dev/serial/by-id")
TCP = "tcp://"
DEFAULT_BAUD = 9600


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds, except `chunk` (bytes).

    `pauses`: between attempts to open. `read`: how long a read waits, so also how soon
    `stop` is heard. `gather`: pause after each read, so that bytes come in handfuls and noise at full speed leaves the
    processor to others. `half_line`: silence after which the rest of a line is not waited for. `in_step`: silence
    after opening that proves that the next byte begins a line. `quiet`: silence worth a word to the user. `hung`: real
    seconds in one call to the port, after which its thread is left behind.
    """

    pauses: Pauses = field(default_factory=Pauses)
    read: float = 0.25
    gather: float = 0.005
    half_line: float = 10.0
    in_step: float = 0.05
    quiet: float = 900.0
    hung: float = HUNG_S
    chunk: int = 4096


class SerialSource:
    """The port of one sensor. `framer` makes what cuts its bytes into messages, lines by default; with a `talk`, that
    asks for them."""

    def __init__(
        self,
        intake: Intake,
        clock: Clock,
        limits: Limits | None = None,
        *,
        framer: Callable[[], Framer] | None = None,
        talk: Talk | None = None,
    ) -> None:
        """Raises ConfigError if the sensor has no port."""
        sensor = intake.sensor
        self._framer, self._talk = framer or (lambda: Lines(sensor.max_message_bytes)), talk
        if isinstance(talk, CatchesUp):
            talk.newest = lambda: intake.newest
        if sensor.port is None:
            raise ConfigError(f'sensor "{sensor.name}": add port = "/dev/serial/by-id/..."')
        self.name, self.port, self.baud = sensor.name, sensor.port, sensor.baud or DEFAULT_BAUD
        self._intake, self._clock, self._limits = intake, clock, limits or Limits()
        self._supervisor = Supervisor(
            f"sensor {self.name}",
            self._work,
            clock,
            self._bug,
            self._limits.pauses,
            release=self._let_go,
            hung_s=self._limits.hung,
        )
        self._heard = clock.monotonic()
        self._lock = threading.Lock()
        self._port: serial.Serial | None = None

    def start(self) -> None:
        self._supervisor.start()

    def stop(self) -> None:
        """End it; the port is closed when this returns, at once unless the device hangs."""
        self._supervisor.stopping.set()
        with self._lock:
            if self._port is not None and hasattr(self._port, "cancel_read"):
                self._port.cancel_read()  # not after its time-out: a station may have many sensors
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

    # --- the thread ---

    def _work(self) -> None:
        """Raises SensorError: the port cannot be opened, or is gone."""
        try:
            port = self._open()
        except (*_GONE, ValueError) as error:
            raise SensorError(why_closed(self.port, self.baud, error)) from None
        try:
            with _socket_closed(port), port, self._interruptible(port):
                if self._talk is None:
                    self._read(port)
                else:
                    self._speak(port, self._talk)
        except _GONE as error:
            raise SensorError(self._why_lost(error)) from None

    def _open(self) -> serial.SerialBase:
        if self.port.startswith(TCP):
            return serial.serial_for_url(f"socket://{self.port.removeprefix(TCP)}", timeout=self._limits.in_step)
        return serial.Serial(self.port, self.baud, timeout=self._limits.in_step, exclusive=True)

    def _speak(self, port: serial.Serial, talk: Talk) -> None:
        """Let the conversation run. Raises SensorError and what pyserial raises."""
        port.timeout = self._limits.read
        self._supervisor.opened()
        talk.run(port, self._hand_on, self._supervisor.stopping)

    @contextmanager
    def _interruptible(self, port: serial.Serial) -> Iterator[None]:
        """Lets `stop` end a read, and never after the port is closed."""
        with self._lock:
            self._port = port
        try:
            yield
        finally:
            with self._lock:
                if self._port is port:  # and not the next thread's
                    self._port = None

    def _let_go(self) -> None:
        """Free the port that a thread hangs in for the next one: its lock, and the waits of pyserial's own."""
        with self._lock:
            port, self._port = self._port, None
            if isinstance(port, serial.Serial):  # a network port has neither
                let_go(port)

    def _read(self, port: serial.Serial) -> None:
        """Messages to the intake until told to stop. Raises what pyserial raises when the port goes."""
        limits, stopping = self._limits, self._supervisor.stopping
        lines = self._framer()
        first = b"" if self._intake.detects_cuts else port.read(1)
        if first:
            lines.skip()  # opened in the middle of a line
            self._intake.refuse("cut-line")
            self._take(lines, first)
        port.timeout = limits.read
        self._supervisor.opened()
        silence = 0.0
        try:
            while not stopping.is_set():
                chunk = port.read(min(max(port.in_waiting, 1), limits.chunk))
                if chunk:
                    silence = 0.0
                    self._take(lines, chunk)
                    stopping.wait(limits.gather)
                    continue
                silence += limits.read
                if silence >= limits.half_line and lines.drop():
                    self._intake.refuse("cut-line", "half a line, and nothing after it")
        finally:
            if lines.drop():
                self._intake.refuse("cut-line", "the port went in the middle of a line")

    def _take(self, lines: Framer, chunk: bytes) -> None:
        for message in lines.feed(chunk):
            self._hand_on(message)

    def _hand_on(self, message: bytes | Refusal) -> None:
        self._heard = self._clock.monotonic()
        self._supervisor.progress()
        if isinstance(message, Refusal):
            self._intake.refuse(message.reason, message.detail)
        else:
            self._intake.message(message)

    def _bug(self, error: Exception) -> None:
        self._intake.refuse("internal-error", f"{type(error).__name__}: {error}")

    # --- words ---

    def _hint(self, health: Health) -> str:
        """What to look at when the port is open but no reading comes of it."""
        silence = self._clock.monotonic() - self._heard
        if health.rejected and not health.accepted:
            return f"nothing usable yet ({self._intake.last_complaint}). Is {self.baud} baud right, and the map?"
        if silence > self._limits.quiet:
            return f"silent for {silence:.0f} s. Is the sensor powered and its cable sound? Is {self.baud} baud right?"
        return ""

    def _why_lost(self, error: Exception) -> str:
        shared = "returned no data" in str(error)  # pyserial's words for a port that two programs read
        other = _holder(self.port) if shared and os.path.exists(self.port) else ""
        if other:
            return f"{self.port} is also read by another program{other}. Stop it, or choose another port."
        return f"{self.port} went away ({error}). Plug the sensor in again."


def why_closed(port: str, baud: int, error: Exception) -> str:
    """Why the port cannot be opened, and the remedy."""
    code = getattr(error, "errno", None)
    if isinstance(error, ValueError):
        return f"{port} does not take {baud} baud. Choose a baud rate that the device has."
    if code in (errno.ENOENT, errno.ENXIO, errno.ENODEV, errno.ENOTDIR):
        seen = ", ".join(path for path, _ in serial_ports()[:4]) or "none"
        return f"{port} is not there. Plug the sensor in, or choose another port (seen: {seen})."
    if code in (errno.EACCES, errno.EPERM):
        return f"{port} may not be opened by this user. {_how_to_get_access(port)}"
    if code in (errno.EAGAIN, errno.EBUSY):
        return f"{port} is held by another program{_holder(port)}. Stop it, or choose another port."
    return f"{port} cannot be opened ({error}). Is it a serial port?"


def let_go(port: serial.Serial) -> None:
    """Free a port that another thread hangs in: its lock, and the waits of pyserial's own. Never blocks."""
    with suppress(*_GONE):
        fcntl.flock(port.fd, fcntl.LOCK_UN)
        port.cancel_read()
        port.cancel_write()


@contextmanager
def _socket_closed(port: serial.SerialBase) -> Iterator[None]:
    """pyserial leaves a socket open whose other side went first."""
    held = getattr(port, "_socket", None)
    try:
        yield
    finally:
        if held is not None:
            held.close()


def serial_ports() -> list[tuple[str, str]]:
    """Serial ports of this machine: the path that survives replugging where there is one, and what is said to be
    there."""
    lasting: dict[str, str] = {}
    try:
        for link in sorted(_BY_ID.iterdir()):
            lasting.setdefault(os.path.realpath(link), str(link))
    except OSError:
        lasting.clear()  # no such folder without a USB port
    ports = sorted(list_ports.comports(), key=lambda port: str(port.device))
    return [(lasting.get(os.path.realpath(p.device), str(p.device)), str(p.description)) for p in ports]


def _holder(path: str) -> str:
    """` (pid 812, gpsd)` for a program of another process that has the port open, as far as this user may see."""
    device = os.path.realpath(path)
    for process in Path("/proc").glob("[0-9]*"):
        if int(process.name) == os.getpid():
            continue
        try:
            if any(os.readlink(fd) == device for fd in (process / "fd").iterdir()):
                return f" (pid {process.name}, {(process / 'comm').read_text().strip()})"
        except OSError:
            continue  # ended meanwhile, or another user's
    return ""


def _how_to_get_access(path: str) -> str:
    try:
        group = grp.getgrgid(os.stat(path).st_gid).gr_name
    except (OSError, KeyError):
        return "Ask for read and write access to it."
    return f"Add the user to its group: sudo usermod -aG {group} $USER, then log in again."
