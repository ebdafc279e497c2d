"""`edge-agent sniff`: what is on a serial port. Listens at the usual bauds and lets every serial driver try its framer
and decoder on what came; sends nothing unless asked to, and then only what wakes a device without changing it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import click
import serial  # type: ignore[import-untyped]

from edge_agent.config import Sensor
from edge_agent.errors import BadMessage, ConfigError, SensorError
from edge_agent.observation import Reading
from edge_agent.sensors.driver import DriverSpec, Transport
from edge_agent.sensors.framing import Refusal
from edge_agent.sensors.guess import Text, text_of
from edge_agent.sensors.registry import find, names
from edge_agent.sensors.serial import TCP
from edge_agent.variables import variable

BAUDS = (9600, 19200, 4800, 115200, 2400, 38400, 57600, 1200)
MOST = 65_536  # bytes listened to at a baud
LEAST_SHARE = 0.3  # of what came must be messages that a driver can read
SHOWN = 5  # lines
WIDTH = 100
ANSWER_S = 1.2  # how long an answer may take; a console that sleeps needs the second or third call
TRIES = 3


@dataclass(frozen=True, slots=True)
class Ask:
    """What wakes a device that does not speak by itself, and what it then says."""

    driver: str
    send: bytes
    answer: re.Pattern[bytes]


ASKS = (
    Ask("davis_vantage", b"\n", re.compile(rb"\n\r")),  # the console's answer to LF
    Ask("vaisala_wxt", b"?\r\n", re.compile(rb"(?:\A|\n)[0-9A-Za-z]\r\n")),  # its address
)


@dataclass(frozen=True, slots=True)
class Trial:
    """What a driver made of the bytes: messages it read, what it left out, and its fullest reading."""

    driver: str
    read: int
    refused: int
    example: Reading | None

    @property
    def share(self) -> float:
        return self.read / max(self.read + self.refused, 1)


def sniff_command(port: str, baud: int | None, seconds: float, *, ask: bool) -> bool:
    """`edge-agent sniff`; True if something was made out.

    Raises:
        SensorError: the port cannot be opened or goes away, with the remedy.
    """
    bauds: Iterable[int] = (baud,) if baud is not None else BAUDS[:1] if port.startswith(TCP) else BAUDS
    texts: list[tuple[int, Text]] = []
    heard = 0
    untried: dict[str, str] = {}
    for rate in bauds:
        data, answered = _listen(port, rate, seconds, ask)
        heard += len(data)
        at = "" if port.startswith(TCP) else f" at {rate} baud"
        if answered is not None:
            _say(f"{port}{at}: a device answers as {answered} does")
            return _show(answered, port, rate)
        trials = list(_trials(data, untried))
        best = max(trials, key=lambda trial: (trial.read * trial.share, trial.share), default=None)
        if best is not None and best.read and best.share >= LEAST_SHARE:
            _say(f"{port}{at}: {best.driver}, {best.read} messages read, {best.refused} left out")
            if best.example is not None:
                _say(f"  {_words(best.example)}")
            return _show(best.driver, port, rate)
        text = text_of(data)
        if text is not None and text.kind:
            return _show_text(text, port, rate, at)
        if text is not None:
            texts.append((rate, text))
        _say(f"{port}{at}: {len(data)} bytes, no driver reads them")
    for rate, text in texts[:1]:
        return _show_text(text, port, rate, f" at {rate} baud")
    _give_up(port, heard, ask, untried)
    return False


# --- the port ----------------------------------------------------------------------------------------------------


def _listen(port: str, baud: int, seconds: float, ask: bool) -> tuple[bytes, str | None]:
    """What came within so many seconds; with `ask`, the driver of a device that answered. Raises SensorError."""
    try:
        device = (
            serial.serial_for_url(f"socket://{port.removeprefix(TCP)}", timeout=0.1)
            if port.startswith(TCP)
            else serial.Serial(port, baud, timeout=0.1, exclusive=True)
        )
    except (serial.SerialException, OSError, ValueError) as error:
        remedy = "is it there, is another program using it, and may this user read it?"
        raise SensorError(f"{port} cannot be opened at {baud} baud ({error}): {remedy}") from None
    try:
        with device:
            data = _read(device, seconds)
            if data or not ask:
                return data, None
            for question in ASKS:
                for _ in range(TRIES):
                    device.write(question.send)
                    data = _read(device, ANSWER_S)
                    if question.answer.search(data):
                        return data, question.driver
            return data, None
    except (serial.SerialException, OSError) as error:
        raise SensorError(f"{port} went away ({error}): plug the device in again") from None


def _read(device: serial.SerialBase, seconds: float) -> bytes:
    end, data = time.monotonic() + seconds, bytearray()
    try:
        while time.monotonic() < end and len(data) < MOST:
            data += device.read(min(max(device.in_waiting, 1), 4096))
    except (serial.SerialException, OSError):
        if not data:
            raise
    return bytes(data)  # what came before it went is worth a look


# --- the drivers -------------------------------------------------------------------------------------------------


def _trials(data: bytes, untried: dict[str, str]) -> Iterator[Trial]:
    """Every serial driver that knows by itself what its values mean."""
    for name in names() if data else ():
        try:
            spec = find(name)
            if spec.transport is Transport.SERIAL and not spec.maps:
                yield _trial(spec, data)
        except ConfigError as error:
            untried[name] = str(error)


def _trial(spec: DriverSpec, data: bytes) -> Trial:
    """Raises ConfigError: the driver needs options, or an extra that is not installed."""
    sensor = Sensor(spec.name, spec.name, port="-")
    decoder, framer = spec.decoder(sensor), spec.framer(sensor)
    read, refused, example = 0, 0, None
    for message in framer.feed(data):
        if isinstance(message, Refusal):
            refused += 1
            continue
        try:
            readings = decoder.decode(message)
        except BadMessage:
            refused += 1
            continue
        for reading in readings:
            if reading.values or reading.totals:
                read += 1
                example = max(example or reading, reading, key=lambda r: len(r.values))
    return Trial(spec.name, read, refused, example)


def _words(reading: Reading) -> str:
    return ", ".join(
        f"{name} {value:.{variable(name).decimals}f} {variable(name).unit}" for name, value in reading.values.items()
    )


# --- what is said ------------------------------------------------------------------------------------------------


def _show(driver: str, port: str, baud: int) -> bool:
    _say("\nFor agent.toml:\n")
    for line in _block(driver, port, baud):
        _say(line)
    return True


def _show_text(text: Text, port: str, baud: int, at: str) -> bool:
    """Lines that no driver knows by itself: what they are, and what could be mapped."""
    kind = {"json_lines": "JSON, one object a line", "csv_lines": "lines of separated values"}.get(text.kind, "text")
    _say(f"{port}{at}: {kind}:")
    for line in text.lines[-SHOWN:]:
        _say(f"  {''.join(c if c.isprintable() else '.' for c in line)[:WIDTH]}")
    if not text.kind:
        _say("No driver reads it. If it holds readings, a driver for it is short: see docs/drivers.md.")
        return True
    _say("\nFor agent.toml (guessed from the names: check every variable and unit):\n")
    for line in _block(text.kind, port, baud):
        _say(line)
    if text.delimiter not in ("", ","):
        _say(f'delimiter = "{text.delimiter}"'.replace("\t", "\\t"))
    for line in text.map_lines():
        _say(line)
    return True


def _block(driver: str, port: str, baud: int) -> Iterator[str]:
    yield "[[sensor]]"
    yield 'name = "station"'
    yield f'driver = "{driver}"'
    yield f'port = "{port}"'
    if not port.startswith(TCP):
        yield f"baud = {baud}"


def _give_up(port: str, heard: int, ask: bool, untried: dict[str, str]) -> None:
    if heard:
        _say(f"{port}: something speaks, and it is nothing known. Another baud rate (--baud), parity or protocol?")
    else:
        more = "" if ask else ", or does it wait to be asked (--ask)"
        _say(f"{port}: silence. Is the device powered, its cable sound{more}? A Modbus device never speaks by itself.")
    for name, why in untried.items():
        _say(f"not tried: {name}: {why}")


def _say(line: str) -> None:
    click.echo(line)
