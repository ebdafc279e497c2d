"""What a first configuration needs to know: from flags in a script, and asked for on a terminal.

Wrong flags are told all at once; wrong answers are asked again.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import click
import msgspec

from edge_agent.config import Mqtt, Sensor, Station
from edge_agent.config_values import value_problem
from edge_agent.errors import ConfigError
from edge_agent.sensors.registry import DRIVERS, find

DEFAULT_PORT = 1883
DEFAULT_DRIVER = "json_lines"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Flags:
    """What the command line said, None where it said nothing."""

    station_id: str | None
    latitude: float | None
    longitude: float | None
    elevation: float | None
    timezone: str | None
    serial: str | None
    driver: str | None
    host: str | None
    port: int | None

    def problems(self) -> list[str]:
        """What is wrong with those that are given, one line each."""
        rules: tuple[tuple[str, type[msgspec.Struct], str, object], ...] = (
            ("--station-id", Station, "id", self.station_id),
            ("--latitude", Station, "latitude", self.latitude),
            ("--longitude", Station, "longitude", self.longitude),
            ("--elevation", Station, "elevation_m", self.elevation),
            ("--timezone", Station, "timezone", self.timezone),
            ("--serial", Sensor, "port", self.serial),
            ("--driver", Sensor, "driver", self.driver),
            ("--mqtt HOST", Mqtt, "host", self.host),
            ("--mqtt PORT", Mqtt, "port", self.port),
        )
        found = [f"{flag} {text}" for flag, table, key, value in rules if (text := _problem(table, key, value))]
        if not found and self.serial and _transport(self.driver) not in ("", "serial"):
            found.append(f"--driver {self.driver} reads no serial port: leave out --serial, or choose another driver")
        return found


@dataclass(frozen=True, slots=True)
class Answers:
    """What a configuration needs to know. `driver` is None where no sensor is set up yet."""

    station_id: str
    latitude: float
    longitude: float
    elevation: float
    timezone: str
    serial: str | None
    driver: str | None
    host: str
    port: int


def answered(flags: Flags) -> Answers:
    """The answers: flags, and on a terminal what is said there.

    Raises:
        ConfigError: a flag is wrong or, in a script, missing.
    """
    if wrong := flags.problems():
        raise ConfigError("\n".join(wrong))
    return _ask(flags) if sys.stdin.isatty() else _complete(flags)


def guess_timezone(etc: Path = Path("/etc")) -> str:
    """The system's IANA time zone, `UTC` where it says none or nonsense. `etc`: the folder of its settings."""
    guesses = []
    if (etc / "timezone").is_file():
        guesses.append((etc / "timezone").read_text(errors="replace").strip())
    if (etc / "localtime").is_symlink():
        guesses.append(str((etc / "localtime").readlink()).rpartition("zoneinfo/")[2])
    known = (name for name in guesses if name not in ("", "Etc/UTC") and not _problem(Station, "timezone", name))
    return next(known, "UTC")


def broker(text: str | None) -> tuple[str | None, int | None]:
    """Host and port of HOST[:PORT], the host of an IPv6 address in brackets; None where there is none."""
    if text is None:
        return None, None
    match = re.fullmatch(r"(?:\[([^\]]+)\]|([^:]*))(?::(\d{1,5}))?", text)
    if match is None:
        return text, None
    return match[1] or match[2], int(match[3]) if match[3] else None


def _problem(section: type[msgspec.Struct], key: str, value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str) and not value.isprintable():
        return "holds characters that cannot be shown"
    return value_problem(section, key, value)


def _transport(driver: str | None) -> str:
    """`serial`, `mqtt`, ...; empty for no driver."""
    return find(driver).transport if driver else ""


def _complete(flags: Flags) -> Answers:
    """The flags alone, for scripts. Raises ConfigError with the names of those that are missing."""
    needed = {
        "--station-id": flags.station_id,
        "--latitude": flags.latitude,
        "--longitude": flags.longitude,
        "--elevation": flags.elevation,
    }
    if _transport(flags.driver) == "serial":
        needed["--serial"] = flags.serial
    missing = [flag for flag, value in needed.items() if value is None]
    station_id, latitude, longitude, elevation = flags.station_id, flags.latitude, flags.longitude, flags.elevation
    if missing or station_id is None or latitude is None or longitude is None or elevation is None:
        raise ConfigError(f"missing {', '.join(missing)}: give them as flags, or run this on a terminal to be asked")
    driver = flags.driver or (DEFAULT_DRIVER if flags.serial else None)
    place = (station_id, latitude, longitude, elevation, flags.timezone or guess_timezone())
    return Answers(*place, flags.serial, driver, flags.host or "localhost", flags.port or DEFAULT_PORT)


def _ask(flags: Flags) -> Answers:
    """Ask for what no flag gave. Wrong answers are asked again."""
    place = (
        flags.station_id
        or _prompt("Station id (a-z, 0-9 and -; part of every topic)", str, Station, "id", "my-station"),
        _given(flags.latitude, lambda: _prompt("Latitude, degrees, north positive", float, Station, "latitude")),
        _given(flags.longitude, lambda: _prompt("Longitude, degrees, east positive", float, Station, "longitude")),
        _given(flags.elevation, lambda: _prompt("Elevation, metres above sea level", float, Station, "elevation_m")),
        flags.timezone or _prompt("Time zone", str, Station, "timezone", guess_timezone()),
    )
    serial, driver, host, port = flags.serial, flags.driver, flags.host, flags.port
    if serial is None and _transport(driver) in ("", "serial"):
        serial = _ask_port()
        driver = driver if serial else None
    if serial and driver is None:
        driver = _ask_driver()
    if host is None:
        host, port = broker(click.prompt("Broker, HOST[:PORT]", default="localhost", value_proc=_checked_broker))
    return Answers(*place, serial, driver, host or "localhost", port or DEFAULT_PORT)


def _given(value: T | None, ask: Callable[[], T]) -> T:
    return ask() if value is None else value


def _prompt(
    text: str, kind: Callable[[str], T], section: type[msgspec.Struct], key: str, default: str | None = None
) -> T:
    def read(answer: str) -> T:
        try:
            value = kind(answer.strip())
        except ValueError:
            raise click.UsageError("write a number, with a decimal point where needed") from None
        if problem := _problem(section, key, value):
            raise click.UsageError(problem)
        return value

    answer: T = click.prompt(text, default=default, value_proc=read)
    return answer


def _checked_broker(answer: str) -> str:
    host, port = broker(answer.strip())
    problem = _problem(Mqtt, "host", host or "") or _problem(Mqtt, "port", port)
    if problem:
        raise click.UsageError(problem)
    return answer.strip()


def _ask_port() -> str | None:
    from edge_agent.sensors import serial_ports

    ports = serial_ports()
    click.echo("Serial ports seen here:" if ports else "No serial port is seen here.")
    for number, (path, description) in enumerate(ports, 1):
        click.echo(f"  {number}  {path}  {description}")

    def read(answer: str) -> str:
        answer = answer.strip()
        if answer.isdecimal() and 1 <= int(answer) <= len(ports):
            return ports[int(answer) - 1][0]
        if answer == "none" or (answer.startswith("/") and not _problem(Sensor, "port", answer)):
            return answer
        raise click.UsageError("write its number, its path, or none")

    answer: str = click.prompt("Sensor on a serial port: number, path, or none", default="none", value_proc=read)
    return None if answer == "none" else answer


def _ask_driver() -> str:
    drivers = [spec for spec in DRIVERS.values() if spec.transport == "serial"]
    for spec in drivers:
        click.echo(f"  {spec.name}: {spec.help}")
    choice: str = click.prompt("Driver", default=DEFAULT_DRIVER, type=click.Choice([spec.name for spec in drivers]))
    return choice
