"""Writing a first agent.toml: asks on a terminal, takes flags in a script, and explains every key it writes.

Never replaces a file unasked, and never writes one that `load` would refuse.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import click
import msgspec

from edge_agent.config import Mqtt, Sensor, Station, parse
from edge_agent.config_values import value_problem
from edge_agent.errors import ConfigError
from edge_agent.sensors.registry import DRIVERS, find

PUBLIC_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
DEFAULT_PORT, TLS_PORT = 1883, 8883
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


def write_config(
    *,
    station_id: str | None,
    latitude: float | None,
    longitude: float | None,
    elevation: float | None,
    timezone: str | None,
    serial: str | None,
    driver: str | None,
    mqtt: str | None,
    out: Path,
    force: bool,
) -> None:
    """Write a commented agent.toml to `out` from flags and, on a terminal, answers; say what to do next.

    Raises:
        ConfigError: a flag is missing (in a script) or wrong, or the file is there and `force` is not given.
    """
    if out.exists() and not force:
        raise ConfigError(f"{out} is there already: add --force to replace it, or choose another --out")
    flags = Flags(station_id, latitude, longitude, elevation, timezone, serial, driver, *_broker(mqtt))
    if wrong := flags.problems():
        raise ConfigError("\n".join(wrong))
    answers = _ask(flags) if sys.stdin.isatty() else _complete(flags)
    text = compose(answers)
    parse(text, out)
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{out}: cannot be written: {error.strerror}") from None
    click.echo(_next_steps(out, answers))


def guess_timezone(etc: Path = Path("/etc")) -> str:
    """The system's IANA time zone, `UTC` where it says none or nonsense. `etc`: the folder of its settings."""
    guesses = []
    if (etc / "timezone").is_file():
        guesses.append((etc / "timezone").read_text(errors="replace").strip())
    if (etc / "localtime").is_symlink():
        guesses.append(str((etc / "localtime").readlink()).rpartition("zoneinfo/")[2])
    known = (name for name in guesses if name not in ("", "Etc/UTC") and not _problem(Station, "timezone", name))
    return next(known, "UTC")


def compose(answers: Answers) -> str:
    """The file. Lines that begin with `# ` explain; keys behind a bare `#` are optional and show their default or an
    example."""
    sensor = _sensor_block(answers) if answers.driver else _SENSOR_EXAMPLE
    tls = answers.port == TLS_PORT
    return _FILE.format(
        id=_quoted(answers.station_id),
        latitude=f"{answers.latitude:.10g}",
        longitude=f"{answers.longitude:.10g}",
        elevation=f"{answers.elevation:.10g}",
        timezone=_quoted(answers.timezone),
        host=_quoted(answers.host),
        port=answers.port,
        tls="" if tls else "#",
        authorities=PUBLIC_AUTHORITIES,
        sensor=sensor,
    )


# --- answers -----------------------------------------------------------------------------------------------------


def _broker(text: str | None) -> tuple[str | None, int | None]:
    """HOST[:PORT], the host of an IPv6 address in brackets."""
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
        host, port = _broker(click.prompt("Broker, HOST[:PORT]", default="localhost", value_proc=_checked_broker))
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
    host, port = _broker(answer.strip())
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


# --- the file ----------------------------------------------------------------------------------------------------


def _quoted(text: str) -> str:
    """A TOML basic string."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _sensor_block(answers: Answers) -> str:
    spec = find(answers.driver or "")
    other = _SERIAL_EXAMPLE
    if spec.transport == "serial":
        source = f"port = {_quoted(answers.serial or '')}\n#baud = {spec.baud}"
        other = _MQTT_EXAMPLE
    elif spec.transport == "mqtt":
        source = (
            f'# Change this to the topic your sensor publishes on; + and # work.\ntopic = "{answers.station_id}/sensor"'
        )
    else:
        source = _PLACES[spec.transport]
    block = _SENSOR.format(driver=answers.driver, source=source, station=answers.station_id)
    if not spec.maps:  # it knows what its values mean
        block = block.partition(_MAP_BEGINS)[0] + (f"options = {{ {spec.needs} }}\n" if spec.needs else _OPTIONS)
    return block + "\n" + other


def _next_steps(out: Path, answers: Answers) -> str:
    config = "" if out == Path("agent.toml") else f" --config {out}"
    first = "look at the map of your sensor in it" if answers.driver else "set up a sensor in it"
    first += ": its left side holds the names your sensor's messages use"
    if answers.driver and not find(answers.driver).maps:
        first = "look at [[sensor]] in it: docs/drivers.md says what its driver can be told"
    return (
        f"Wrote {out}. Next:\n"
        f"  1. {first}\n"
        f"  2. edge-agent check{config}\n"
        f"  3. edge-agent import HISTORY.csv{config}    (optional: a forecast on the first day)\n"
        f"  4. edge-agent run{config}"
    )


_FILE = """\
# Configuration of edge-agent. `edge-agent check` tests it; docs/configuration.md explains every key.
# Keys behind a # are optional and show their default or an example. Relative paths start in this file's folder.

# Where the station stands. A gateway writes [[station]] once for each of its stations.
[station]
# 3 to 40 of a-z, 0-9 and -; the topics are wx/v1/<id>/...
id = {id}
# Degrees, north and east positive; metres above sea level.
latitude = {latitude}
longitude = {longitude}
elevation_m = {elevation}
# Civil days are counted in it.
timezone = {timezone}
# What is published of the place: "rounded" (to about a kilometre), "exact" or "none".
#publish_position = "rounded"

# The broker that observations and forecasts go to.
[mqtt]
host = {host}
port = {port}
# The password stands in a file of its own (chmod 600), or is a systemd credential: "credential:NAME".
#username = "station"
#password_file = "mqtt.password"
# TLS: the authority that signed the broker's certificate; and, if the broker asks for one, a certificate of our own.
{tls}tls_ca = "{authorities}"
#tls_cert = "station.crt"
#tls_key = "station.key"
# MQTT "5" or "3.1.1".
#protocol = "5"
# Default: made from the station's id.
#client_id = "my-agent"
#keepalive_s = 30

# The file that holds observations, forecasts, scores and what waits for the broker.
[store]
path = "stationcast.sqlite"
# Days of raw observations, at least 35.
#keep_days = 90
# Seconds between writes to disk: what a power cut may cost.
#commit_s = 60
# What may wait while the broker is away: megabytes and days; beyond the megabytes "drop_oldest",
# "drop_lowest_priority" or "reject".
#outbox_mb = 200
#outbox_days = 90
#outbox_policy = "drop_oldest"

# One [[sensor]] for each source. Where two measure the same, the earlier one is preferred.
{sensor}
[forecast]
# A bundle file; empty: the one shipped with the agent.
#bundle = ""
# Run a bundle that nobody signed.
#allow_unsigned = false
# What this board is (raspberry_pi_4, jetson_nano): a bundle too large or too slow for it is refused.
#device = ""
# Learn from each verdict: correct the bundle's forecasts and keep their intervals honest.
#adapt = true
#threads = 1
# Seconds after which the broker drops a forecast that nothing replaced.
#expiry_s = 3600

# Forecasts to 7 days: guidance of a weather model, corrected by this station. No source: off.
[guidance]
# Asked in this order, the first that answers is taken: "background", "open-meteo", "openweathermap".
#sources = ["open-meteo"]
# Seconds between questions.
#refresh_s = 3600
# A Stationcast service that has a background; an address without TLS needs allow_http.
#background_url = "https://weather.example"
#allow_http = false
# The file that holds the key of an OpenWeatherMap account (chmod 600).
#openweathermap_key_file = "openweathermap.key"
"""

_SENSOR = """\
[[sensor]]
name = "main"
driver = "{driver}"
{source}
# Path or column of the message's own time; without it a message is stamped when it arrives.
#time = "time"
# Whose sensor it is, where there are several stations.
#station = "{station}"
# Seconds a value stands for, where known.
#period_s = 60
# csv_lines: what separates columns.
#delimiter = ","
# Longer and more frequent messages are refused and counted.
#max_message_bytes = 8192
#max_messages_s = 20
# Left: the name in the message (a.b for nested JSON, a column's name or number for CSV).
# Right: what it is, and the unit the sensor speaks. A running total of rain has counter = true.
[sensor.map]
temperature = {{ variable = "temperature", unit = "degC" }}
humidity = {{ variable = "humidity", unit = "%" }}
pressure = {{ variable = "pressure", unit = "hPa" }}
#wind = {{ variable = "wind_speed", unit = "m/s" }}
#rain = {{ variable = "rain", unit = "mm", counter = true }}
"""

_MAP_BEGINS = "# Left:"
_OPTIONS = """\
# What this driver can be told: docs/drivers.md.
#options = {}
"""
_PLACES = {
    "http": '# Where devices push to: an address of this machine, and a port.\nlisten = "0.0.0.0:8080"',
    "udp": '# Where broadcasts are heard.\nlisten = "0.0.0.0:50222"',
    "poll": '# Change this to the address of your device.\nhost = "192.168.1.20"',
}

_SERIAL_EXAMPLE = """\
# A board that prints JSON on a serial line:
#[[sensor]]
#name = "roof"
#driver = "json_lines"
#port = "/dev/serial/by-id/usb-..."
#baud = 9600
#[sensor.map]
#temp = { variable = "temperature", unit = "degC" }
#hum = { variable = "humidity", unit = "%" }
"""

_MQTT_EXAMPLE = """\
# A sensor that publishes JSON:
#[[sensor]]
#name = "garden"
#driver = "mqtt_json"
#topic = "tele/garden/SENSOR"
#[sensor.map]
#"BME280.Temperature" = { variable = "temperature", unit = "degC" }
#"BME280.Pressure" = { variable = "pressure", unit = "hPa" }
"""

_SENSOR_EXAMPLE = _SERIAL_EXAMPLE + "\n" + _MQTT_EXAMPLE
