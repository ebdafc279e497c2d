"""agent.toml as frozen structs: what the agent is told, checked before anything starts.

Never holds a secret: passwords are read from their file when a connection needs them.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.errors import ConfigError

MAX_BYTES = 4_000_000  # of agent.toml
MAX_SECRET_BYTES = 65_535  # MQTT's own bound of a password
MAX_PROBLEMS = 25  # told at once
CREDENTIAL = "credential:"


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of every section."""


class Station(_Section, frozen=True):
    """Where a station stands. `elevation_m` above sea level; `timezone`: IANA name, for civil days. `publish_position`:
    `rounded` to 0.01 degree (about a kilometre), `exact` or `none`, in what the agent tells others."""

    id: str
    latitude: float
    longitude: float
    elevation_m: float
    timezone: str = "UTC"
    publish_position: str = "rounded"


class Neighbour(_Section, frozen=True):
    """Another agent's station near by, heard over the broker: its readings are compared with ours. As `Station`."""

    id: str
    latitude: float
    longitude: float
    elevation_m: float


class Mqtt(_Section, frozen=True):
    """The broker forecasts and observations go to. `protocol`: "5" or "3.1.1"; `password_file` may also be
    `credential:NAME`, a systemd credential."""

    host: str = "localhost"
    port: int = 1883
    username: str | None = None
    password_file: str | None = None
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    protocol: str = "5"
    client_id: str | None = None
    keepalive_s: int = 30


class Store(_Section, frozen=True):
    """The SQLite file. `keep_days`: raw observations; the grid, forecasts and scores follow their own bounds.
    `commit_s`: the loss window at a power cut, seconds. `outbox_mb`, `outbox_days`: bounds of what waits for a broker;
    `outbox_policy`: what becomes of what `outbox_mb` has no room for."""

    path: str
    keep_days: int = 90
    commit_s: float = 60.0
    outbox_mb: float = 200.0
    outbox_days: float = 90.0
    outbox_policy: str = "drop_oldest"


class Field(_Section, frozen=True):
    """What a path, column name or column number of a message means. `counter`: the value is a running total."""

    variable: str
    unit: str
    counter: bool = False


class Sensor(_Section, frozen=True):
    """One source. Serial drivers take `port` (a path, or tcp://host:port) and `baud`; MQTT drivers take `topic`
    (`{station}` matches one level and names the station); drivers that devices push to take `listen` (address:port),
    `allow` (addresses or networks that may send) and `token_file` (the secret part of the path); drivers that ask over
    the network take `host`. `time`: path or column of the message's own time. `station`: which station it belongs to,
    needed when there are several. `options`: the driver's own. Bounds: `max_message_bytes`, `max_messages_s`."""

    name: str
    driver: str
    port: str | None = None
    baud: int | None = None
    topic: str | None = None
    listen: str | None = None
    allow: list[str] = []
    token_file: str | None = None
    host: str | None = None
    options: dict[str, Any] = {}
    map: dict[str, Field] = {}
    time: str | None = None
    station: str | None = None
    period_s: int | None = None
    delimiter: str = ","
    max_message_bytes: int = 8192
    max_messages_s: float = 20.0


class Forecast(_Section, frozen=True):
    """`bundle`: a file, empty for the one shipped; `allow_unsigned` lets the agent run a bundle nobody signed.
    `device`: which class this board is, for its limits and its graphics processor; empty: neither. `adapt`: learn from
    each verdict."""

    bundle: str = ""
    device: str = ""
    allow_unsigned: bool = False
    adapt: bool = True
    threads: int = 1
    expiry_s: int = 3600


class Guidance(_Section, frozen=True):
    """Forecasts of weather models, corrected here. `sources`: asked in this order, the first that answers is taken:
    "background" (`background_url`: a Stationcast service), "open-meteo", "openweathermap" (`openweathermap_key_file`).
    None: off. `refresh_s`: between questions; `allow_http`: addresses without TLS will do."""

    sources: list[str] = []
    refresh_s: int = 3600
    background_url: str | None = None
    openweathermap_key_file: str | None = None
    allow_http: bool = False


class Config(_Section, frozen=True):
    """The whole file. `station` is one table or, on a gateway, an array of tables."""

    station: Station | list[Station]
    store: Store
    mqtt: Mqtt = Mqtt()
    sensor: list[Sensor] = []
    forecast: Forecast = Forecast()
    neighbour: list[Neighbour] = []
    guidance: Guidance = Guidance()

    @property
    def stations(self) -> tuple[Station, ...]:
        return tuple(self.station) if isinstance(self.station, list) else (self.station,)

    def station_of(self, sensor: Sensor) -> str | None:
        """The station a sensor belongs to; None where its messages name it."""
        if sensor.topic and "{station}" in sensor.topic:
            return None
        return sensor.station or self.stations[0].id


def load(path: Path) -> Config:
    """Read and check agent.toml. Relative paths in it are taken from its own folder.

    Raises:
        ConfigError: not readable, not TOML, unknown key (with the nearest name), wrong type or value; one line each,
            with its place and remedy.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{path}: larger than {MAX_BYTES} bytes: this is not a configuration")
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file. Write one with `edge-agent init --out {path}`") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: byte {error.start + 1} is not UTF-8: save the file as UTF-8") from None
    return parse(text, path)


def parse(text: str, path: Path) -> Config:
    """The text of an agent.toml, checked as `load` does and raising as it does. `path`: the file's name in messages;
    relative paths start in its folder."""
    from edge_agent.config_rules import problems
    from edge_agent.toml_lines import key_lines, line_of

    raw = _toml(text, path)
    found = problems(raw)
    if found:
        lines = key_lines(text)
        rows = sorted((line_of(lines, p.path) or 0, p.section, p.message) for p in found)
        told = [
            f"{path}{f', line {line}' if line else ''}: {f'{section}: ' if section else ''}{message}"
            for line, section, message in rows[:MAX_PROBLEMS]
        ]
        if len(rows) > MAX_PROBLEMS:
            told.append(f"{path}: and {len(rows) - MAX_PROBLEMS} more")
        raise ConfigError("\n".join(told))
    return _absolute(msgspec.convert(raw, Config), path.absolute().parent)


def read_secret(reference: str) -> str:
    """The secret a file path or `credential:NAME` refers to, without its trailing newline.

    Raises:
        ConfigError: the file is missing, unreadable, empty, or readable by others.
    """
    path = _secret_path(reference)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_SECRET_BYTES:
            raise ConfigError(f"{path}: not a file of at most {MAX_SECRET_BYTES} bytes: a secret is one line of text")
        if status.st_mode & 0o077 and not _is_credential(path):
            raise ConfigError(f"{path}: others on this machine may read the secret: run chmod 600 {path}")
        secret = path.read_bytes().decode().removesuffix("\n").removesuffix("\r")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file: write the secret into it, then chmod 600 {path}") from None
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}): it must belong to the user the agent runs as"
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8: a secret is one line of text") from None
    if not secret:
        raise ConfigError(f"{path}: empty: write the secret into it")
    return secret


def redacted(config: Config) -> dict[str, Any]:
    """The configuration for `info` and logs: no secret is in it, coordinates rounded to 0.01 degree."""
    stations = [
        {
            "id": s.id,
            "latitude": round(s.latitude, 2),
            "longitude": round(s.longitude, 2),
            "elevation_m": round(s.elevation_m),
        }
        | {"timezone": s.timezone}
        for s in config.stations
    ]
    mqtt = {"host": config.mqtt.host, "port": config.mqtt.port, "protocol": config.mqtt.protocol}
    return {
        "station": stations,
        "mqtt": mqtt | {"tls": config.mqtt.tls_ca is not None, "login": config.mqtt.username is not None},
        "store": msgspec.to_builtins(config.store),
        "sensor": [msgspec.to_builtins(s) for s in config.sensor],
        "neighbour": [neighbour.id for neighbour in config.neighbour],
        "forecast": msgspec.to_builtins(config.forecast),
        "guidance": {"sources": config.guidance.sources, "refresh_s": config.guidance.refresh_s},
    }


def _toml(text: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        place = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", str(error))
        what = str(error)[: place.start()] if place else str(error)
        at = f", line {place[1]}, column {place[2]}" if place and place[1] else ""
        hint = " (text needs quotes; true, false and numbers do not)" if what == "Invalid value" else ""
        raise ConfigError(f"{path}{at}: not TOML: {what}{hint}") from None


def _absolute(config: Config, folder: Path) -> Config:
    """Every path in it absolute."""

    def full(value: str | None) -> str | None:
        return value and str(_in_folder(folder, value))

    def secret_file(reference: str | None) -> str | None:
        return reference if reference and reference.startswith(CREDENTIAL) else full(reference)

    mqtt = msgspec.structs.replace(
        config.mqtt,
        password_file=secret_file(config.mqtt.password_file),
        tls_ca=full(config.mqtt.tls_ca),
        tls_cert=full(config.mqtt.tls_cert),
        tls_key=full(config.mqtt.tls_key),
    )
    return msgspec.structs.replace(
        config,
        mqtt=mqtt,
        store=msgspec.structs.replace(config.store, path=full(config.store.path)),
        sensor=[
            msgspec.structs.replace(
                _absolute_options(s, folder),
                token_file=secret_file(s.token_file),
                port=s.port and (s.port if "://" in s.port else str(folder / s.port)),
            )
            for s in config.sensor
        ],
        forecast=msgspec.structs.replace(config.forecast, bundle=full(config.forecast.bundle)),
        guidance=msgspec.structs.replace(
            config.guidance, openweathermap_key_file=secret_file(config.guidance.openweathermap_key_file)
        ),
    )


def _in_folder(folder: Path, value: str) -> Path:
    """A path of the file, absolute. Raises ConfigError: a `~name` of nobody."""
    try:
        return folder / Path(value).expanduser()
    except RuntimeError:
        raise ConfigError(f'"{value[:200]}": there is no such home folder: write the whole path') from None


def _absolute_options(sensor: Sensor, folder: Path) -> Sensor:
    """A sensor whose options name files by absolute paths."""
    from edge_agent.sensors.registry import driver  # late: the sensors read the configuration

    paths = {key: sensor.options.get(key) for key in driver(sensor).files}
    full = {k: str(_in_folder(folder, v)) for k, v in paths.items() if isinstance(v, str) and "." in v}
    return msgspec.structs.replace(sensor, options=sensor.options | full) if full else sensor


def _secret_path(reference: str) -> Path:
    if not reference.startswith(CREDENTIAL):
        return Path(reference)
    name = reference.removeprefix(CREDENTIAL)
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*", name):
        raise ConfigError(f'"{reference}": a credential\'s name is made of letters, digits, _ . and -')
    if not folder:
        remedy = f"add LoadCredential={name}:/path/of/the/secret to the unit, or name a file instead"
        raise ConfigError(f'"{reference}": the service manager passed no credentials: {remedy}')
    return Path(folder) / name


def _is_credential(path: Path) -> bool:
    """True below the folder systemd made for this service alone; its files may show group bits."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    return bool(folder) and path.resolve().is_relative_to(Path(str(folder)).resolve())
