"""`edge-agent decode`: a recording through the same framer, decoder and intake as a live sensor; observations as JSON
lines. Opens no device, and never fails because of what a recording holds."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from edge_agent.clock import SystemClock, format_time
from edge_agent.config import Config, Field, Sensor, load
from edge_agent.errors import ConfigError
from edge_agent.observation import Reading
from edge_agent.packed import BROKEN, unpacked
from edge_agent.sensors.driver import DriverSpec, Transport, options_from
from edge_agent.sensors.framing import Refusal
from edge_agent.sensors.recording import Piece, Readable, pieces
from edge_agent.sensors.registry import find
from edge_agent.sensors.source import Intake
from edge_agent.timekeeping.sources import Report

MAX_FILE = 10_000_000_000  # bytes, unpacked
STEP_S = 1.0  # between messages that were recorded without their times
MAP = "map."  # --option map.PATH=VARIABLE:UNIT[:counter]
_EXAMPLE = "--option map.temp=temperature:degC"
_KEYS = ("time", "delimiter")  # keys of a sensor that go with a map
_PROGRESS_S = 0.5


class RecordingClock:
    """Follows a recording: by the times of its lines where it has them, else a step a message. `now` is this device's
    time until a line says another."""

    def __init__(self, now: float) -> None:
        self._now, self._elapsed = now, 0.0
        self.boot_id = "recording"
        self.told = False  # the newest message's line has said its time

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._elapsed

    def wall(self, span_s: float) -> float:
        return 0.0

    def state(self) -> str:
        return "synced"

    def readings(self) -> Sequence[Report]:
        return ()

    def arrive(self, piece: Piece) -> None:
        """Go on to when a piece came."""
        if piece.t is not None:
            if self.told:
                self._elapsed += max(piece.t - self._now, 0.0)
            self._now = piece.t
        elif piece.elapsed is not None:
            self._elapsed = max(self._elapsed, piece.elapsed)
        self.told = piece.t is not None

    def step(self) -> None:
        """A message without its time has come."""
        self._elapsed += STEP_S


class Decoding:
    """One recording on its way through a sensor's intake."""

    def __init__(self, sensor: Sensor, spec: DriverSpec, stations: list[str]) -> None:
        """Raises ConfigError as the driver's decoder."""
        self._sensor, self._spec = sensor, spec
        self._found: list[dict[str, Any]] = []
        self._clock = RecordingClock(SystemClock().now())
        self._intake = Intake(sensor, spec.decoder(sensor), self._emit, self._clock, stations)
        self._framer = spec.framer(sensor) if spec.transport is Transport.SERIAL else None
        levels = (sensor.topic or "").split("/")
        self._level = levels.index("{station}") if "{station}" in levels else None

    def run(self, stream: Readable) -> Iterator[dict[str, Any]]:
        """The observations of a recording, as what is printed of each. What lies behind the damage in a packed one is
        counted as `broken-archive`."""
        tabbed = self._spec.maps and self._sensor.delimiter == "\t"
        parts = pieces(stream, self._spec, self._sensor.max_message_bytes, tabbed=tabbed)
        while True:
            try:
                piece = next(parts, None)
            except BROKEN as error:
                self._intake.refuse("broken-archive", str(error))
                break
            if piece is None:
                break
            self._take(piece)
            yield from self._handed_on()
        if self._framer is not None:
            for message in () if self._spec.binary else self._framer.feed(b"\n"):  # the last line may lack its end
                self._message(message)
            if self._framer.drop():
                self._intake.refuse("cut-line", "the recording ends in the middle of a message")
        yield from self._handed_on()

    def summary(self) -> dict[str, Any]:
        """What was accepted, and what was not, by reason."""
        health = self._intake.health("reading", "", 0)
        return {"accepted": health.accepted, "rejected": dict(sorted(health.rejected.items()))}

    def _take(self, piece: Piece | Refusal) -> None:
        if isinstance(piece, Refusal):
            self._intake.refuse(piece.reason, piece.detail)
            return
        self._clock.arrive(piece)
        if piece.whole or self._framer is None:
            self._message(piece.data, piece)
            return
        for message in self._framer.feed(piece.data):
            self._message(message, piece)

    def _message(self, message: bytes | Refusal, piece: Piece | None = None) -> None:
        if isinstance(message, Refusal):
            self._intake.refuse(message.reason, message.detail)
            return
        if piece is None or (piece.t is None and piece.elapsed is None):
            self._clock.step()
        topic = piece.topic if piece is not None else ""
        levels = topic.split("/")
        named = self._level is not None and self._level < len(levels) and topic
        self._intake.message(message, station=levels[self._level or 0] if named else None, topic=topic)

    def _emit(self, sensor: Sensor, reading: Reading, arrived: float) -> bool:
        t = reading.t if reading.t is not None else arrived if self._clock.told else None
        line: dict[str, Any] = {} if t is None else {"t": format_time(t)}
        line["source"] = sensor.name
        if reading.station:
            line["station"] = reading.station
        if reading.device:
            line["device"] = reading.device
        line["v"] = _short(reading.values)
        if reading.totals:
            line["totals"] = _short(reading.totals)
        if reading.battery:
            line["battery"] = _short(reading.battery)
        if reading.period_s is not None:
            line["period_s"] = reading.period_s
        if reading.historical:
            line["historical"] = True
        self._found.append(line)
        return True

    def _handed_on(self) -> Iterator[dict[str, Any]]:
        found, self._found = self._found, []
        yield from found


def decode_command(name: str, file: str, option: tuple[str, ...], config: Path | None) -> None:
    """`edge-agent decode`. `name`: a driver's, or with `config` a sensor's.

    Raises:
        ConfigError: unknown driver or option, or a map that is missing or wrong.
        DataError: the file cannot be opened.
    """
    sensor, stations = sensor_of(name, options_from(list(option)), None if config is None else load(config))
    decoding = Decoding(sensor, find(sensor.driver), stations)
    progress = _Progress()
    with unpacked(sys.stdin.buffer if file == "-" else Path(file), MAX_FILE) as stream:
        for line in decoding.run(stream):
            sys.stdout.write(json.dumps(line) + "\n")
            progress.line()
    sys.stdout.flush()
    progress.end()
    click.echo(json.dumps(decoding.summary()), err=True)


def sensor_of(name: str, options: dict[str, Any], config: Config | None) -> tuple[Sensor, list[str]]:
    """The sensor that a recording comes from, and the stations it may name: the one of that name in the configuration,
    else the first with that driver, else one made of the options alone.

    Raises:
        ConfigError: unknown driver; no such sensor in the configuration; a map that is missing, or not written as
            PATH=VARIABLE:UNIT.
    """
    sensor, stations = Sensor(name, name), []
    if config is not None:
        named = [s for s in config.sensor if s.name == name] or [s for s in config.sensor if s.driver == name]
        if not named:
            known = ", ".join(f"{s.name} ({s.driver})" for s in config.sensor) or "none"
            raise ConfigError(
                f'no sensor in the configuration is called "{name[:60]}" or has that driver; it has {known}'
            )
        sensor, stations = named[0], [station.id for station in config.stations]
    spec = find(sensor.driver)
    fields = {key[len(MAP) :]: _field(key, value) for key, value in options.items() if key.startswith(MAP)}
    own = {key: value for key, value in options.items() if not key.startswith(MAP)}
    keys = {key: own.pop(key) for key in _KEYS if key in own} if spec.maps else {}
    if fields and not spec.maps:
        raise ConfigError(f'driver "{spec.name}" knows what its values mean: take {MAP}... out')
    sensor = msgspec.structs.replace(
        sensor, options={**sensor.options, **own}, map={**sensor.map, **fields}, max_messages_s=1e9, **keys
    )
    if spec.maps and not sensor.map:
        raise ConfigError(f'driver "{spec.name}" must be told what values mean: {_EXAMPLE}, or --config agent.toml')
    return sensor, stations


def _field(key: str, text: str) -> Field:
    parts = text.split(":")
    if len(parts) not in (2, 3) or parts[2:] not in ([], ["counter"]):
        raise ConfigError(f"--option {key}={text}: write PATH=VARIABLE:UNIT, as in {_EXAMPLE}, or :counter behind it")
    return Field(parts[0], parts[1], len(parts) == 3)


def _short(values: Any) -> dict[str, Any]:
    """Without the digits that conversion leaves behind."""
    return {name: round(x, 6) if isinstance(x, float) else x for name, x in values.items()}


class _Progress:
    """A line on a terminal that says how far a long recording has come; nothing anywhere else."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty() and not sys.stdout.isatty()
        self._lines, self._next = 0, time.monotonic() + _PROGRESS_S

    def line(self) -> None:
        self._lines += 1
        if self._shown and time.monotonic() >= self._next:
            self._next = time.monotonic() + _PROGRESS_S
            click.echo(f"\r{self._lines} observations ...", err=True, nl=False)

    def end(self) -> None:
        if self._shown:
            click.echo("\r\033[K", err=True, nl=False)
