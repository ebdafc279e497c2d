"""Plays a recording as a sensor would: onto a serial line or to an MQTT broker, at its recorded pace or faster.

Sends what was recorded, byte for byte, also what is wrong in it. Never reads a sensor, never changes a recording.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import click

from edge_agent.clock import Clock, ReplayClock, parse_time
from edge_agent.errors import ConfigError, DataError, NetworkError, SensorError
from edge_agent.packed import BROKEN, unpacked

if TYPE_CHECKING:
    import serial  # type: ignore[import-untyped]
    from paho.mqtt.client import Client

Write = Callable[[bytes], None]

MAX_LINE = 16 * 1024 * 1024  # bytes; more is no recording of a sensor
MAX_FILE = 10_000_000_000  # bytes, unpacked; a month of a sensor at its fastest
STEP_S = 1.0  # spacing of lines that were recorded without their times
PATIENCE_S = 10.0  # how long the other end may take a line
PASSWORD = "STATIONCAST_MQTT_PASSWORD"  # environment variable; an address would show it to everyone on this machine


@dataclass(frozen=True, slots=True)
class Line:
    """One recorded message. `t`: UTC seconds when it came, None if the recording does not say; `number` from 1."""

    payload: bytes
    t: float | None
    number: int


def read_recording(path: Path) -> Iterator[Line]:
    """The messages of a recording, one a line, blank lines left out; `.xz` and `.gz` are unpacked on the way.

    If the first line begins with a time and a TAB, all do.

    Raises:
        DataError: not readable, or a line without its time or with an impossible one; with file and line.
    """
    timed: bool | None = None
    for number, text in _numbered(path):
        prefix, tab, rest = text.partition(b"\t")
        if timed is None:
            timed = bool(tab) and looks_like_time(prefix)
        if not timed:
            yield Line(text, None, number)
            continue
        if not tab:
            raise DataError(f"{path}, line {number}: no TAB: each line must be TIME<TAB>MESSAGE, as the first one is")
        try:
            t = line_time(prefix)
        except DataError as error:
            raise DataError(f"{path}, line {number}: {error}") from None
        yield Line(rest, t, number)


def play(lines: Iterable[Line], write: Write, clock: Clock, stop: threading.Event | None = None) -> int:
    """Write each line when its time has come on `clock`; lines without a time one second apart. Returns how many.

    A line whose time has passed is written at once, so a recording can be joined in the middle. Give the agent the same
    clock, and recorded time and its time agree.
    """
    stop = stop or threading.Event()
    played = 0
    due = clock.now()
    for line in lines:
        if line.t is not None:
            due = line.t
        if not _sleep_until(due, clock, stop):
            break
        write(line.payload)
        played += 1
        due += STEP_S
    return played


@contextmanager
def serial_writer(port: str) -> Iterator[Write]:
    """Writes messages as lines to a serial port or pseudo-terminal.

    Raises:
        SensorError: it cannot be opened, went away, or nobody reads at its other end.
    """
    import serial

    try:
        device = serial.Serial(port, write_timeout=PATIENCE_S)
    except (serial.SerialException, OSError) as error:
        remedy = "make a pair with `socat -d -d pty,raw,echo=0 pty,raw,echo=0` and give one end to the agent"
        raise SensorError(f"{port} cannot be opened ({error}): {remedy}") from None
    try:
        yield lambda payload: _write_line(device, port, payload)
    finally:
        device.close()


@contextmanager
def mqtt_writer(url: str) -> Iterator[Write]:
    """Publishes messages to `mqtt://[user@]host[:port]/topic`, QoS 1, not retained. The user's password comes from the
    environment variable STATIONCAST_MQTT_PASSWORD.

    Raises:
        ConfigError: not such an address.
        NetworkError: the broker cannot be reached, refuses us, or went away.
    """
    from paho.mqtt.client import Client
    from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

    host, port, topic, user = _parse_url(url)
    answers: list[str] = []
    answered = threading.Event()

    def on_connect(client: Client, userdata: object, flags: object, reason: object, properties: object) -> None:
        answers.append(str(reason) if getattr(reason, "is_failure", False) else "")
        answered.set()

    # 3.1.1: every broker speaks it, and nothing of MQTT 5 is needed here
    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv311, reconnect_on_failure=False)
    client.on_connect = on_connect
    if user is not None:
        client.username_pw_set(user, os.environ.get(PASSWORD))
    try:
        client.connect(host, port)
    except OSError as error:
        raise NetworkError(
            f"broker {host}:{port} cannot be reached ({error}): is it running, and the port right?"
        ) from None
    client.loop_start()
    try:
        if not answered.wait(PATIENCE_S) or answers[0]:
            why = answers[0] if answers else "no answer"
            raise NetworkError(f"broker {host}:{port} does not let us in ({why}): check the user and ${PASSWORD}")
        yield lambda payload: _publish(client, f"{host}:{port}", topic, payload)
    finally:
        client.disconnect()
        client.loop_stop()


def replay_command(file: Path, port: str | None, mqtt: str | None, speed: float, loop: bool) -> None:
    """`edge-agent replay`. Raises as `read_recording` and the writers."""
    if (port is None) == (mqtt is None):
        raise ConfigError("say where to play it: either --port or --mqtt")
    if not 0 < speed < 1e6:
        raise ConfigError(f"--speed {speed:g}: must be above 0")
    first = next(read_recording(file), None)
    if first is None:
        raise DataError(f"{file}: no message in it")
    with serial_writer(port) if port is not None else mqtt_writer(str(mqtt)) as write:
        rounds = 0
        while rounds == 0 or loop:
            clock = ReplayClock(first.t or 0.0, speed)
            played = play(read_recording(file), write, clock)
            rounds += 1
            click.echo(f"{played} messages played to {port or _without_user(str(mqtt))}")
            _sleep_until(clock.now() + STEP_S, clock, threading.Event())  # the next round begins like a next message


# --- reading ---


def _numbered(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines that are not blank, without their ends, with their numbers."""
    number = 0
    try:
        with unpacked(path, MAX_FILE) as file:
            while line := file.readline(MAX_LINE + 1):
                number += 1
                if len(line) > MAX_LINE:
                    raise DataError(f"{path}, line {number}: longer than {MAX_LINE} bytes: not a recording of a sensor")
                text = line.rstrip(b"\r\n").removeprefix(b"\xef\xbb\xbf" if number == 1 else b"")
                if text.strip():
                    yield number, text
    except BROKEN as error:
        raise DataError(f"{path}, after line {number}: cannot be read ({error})") from None


def looks_like_time(prefix: bytes) -> bool:
    """A date, or a number too large for anything a sensor measures."""
    return re.match(rb"\s*(\d{4}-\d\d-\d\d|\d{9,}(\.\d*)?\s*$)", prefix) is not None


def line_time(prefix: bytes) -> float:
    """The time before a TAB, like `parse_time` with its fraction of a second. Raises DataError."""
    text = prefix.decode("ascii", "replace").strip()
    whole = parse_time(text)
    try:
        return float(text)
    except ValueError:
        return whole + datetime.fromisoformat(text).microsecond / 1e6


# --- writing ---


def _sleep_until(due: float, clock: Clock, stop: threading.Event) -> bool:
    """False if told to stop meanwhile."""
    while (left := due - clock.now()) > 0:
        if stop.wait(min(max(clock.wall(left), 0.001), 1.0)):
            return False
    return not stop.is_set()


def _write_line(device: serial.Serial, port: str, payload: bytes) -> None:
    import serial

    try:
        device.write(payload + b"\n")
    except serial.SerialTimeoutException:
        raise SensorError(
            f"{port}: nobody has read its other end for {PATIENCE_S:.0f} s: start the agent on it"
        ) from None
    except (serial.SerialException, OSError) as error:
        raise SensorError(f"{port} went away ({error}): open the pair again and start over") from None


def _publish(client: Client, where: str, topic: str, payload: bytes) -> None:
    sent = client.publish(topic, payload, qos=1)
    try:
        sent.wait_for_publish(PATIENCE_S)
        done = sent.is_published()
    except (RuntimeError, ValueError):
        done = False
    if not done:
        raise NetworkError(f"broker {where} went away or does not take messages: start over when it is back")


def _parse_url(url: str) -> tuple[str, int, str, str | None]:
    """Host, port, topic, user. Raises ConfigError."""
    form = "write mqtt://[user@]host[:port]/topic"
    try:
        parts = urlsplit(url)
        port = parts.port or 1883
    except ValueError as error:
        raise ConfigError(f"--mqtt: {error}: {form}") from None
    topic = unquote(parts.path.lstrip("/"))
    if parts.password is not None:
        raise ConfigError(f"--mqtt: no password in an address, others can see it: put it into ${PASSWORD}")
    if parts.scheme != "mqtt" or not parts.hostname or not topic or parts.query or parts.fragment:
        raise ConfigError(f'--mqtt "{url}": {form}')
    if set("+#") & set(topic):
        raise ConfigError(f'--mqtt "{url}": a message goes to one topic, without + and #')
    return parts.hostname, port, topic, unquote(parts.username) if parts.username else None


def _without_user(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//", url)
