"""Writing a first agent.toml, and explaining every key in it.

Never replaces a file unasked, and never writes one that `load` would refuse.
"""

from __future__ import annotations

import json
from pathlib import Path

import click

from edge_agent.config import parse
from edge_agent.errors import ConfigError
from edge_agent.sensors.registry import find
from edge_agent.setup.questions import Answers, Flags, answered, broker

PUBLIC_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
TLS_PORT = 8883


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
    answers = answered(Flags(station_id, latitude, longitude, elevation, timezone, serial, driver, *broker(mqtt)))
    text = compose(answers)
    parse(text, out)
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{out}: cannot be written: {error.strerror}") from None
    click.echo(_next_steps(out, answers))


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
