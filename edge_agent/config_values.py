"""What each value of an agent.toml must be by itself, and how to say so.

Opens nothing and never repeats a value that could be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from functools import cache
from ipaddress import ip_network
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, get_args, get_origin
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

import msgspec

from edge_agent import config as c
from edge_agent.bundle.devices import DEVICES
from edge_agent.wire import WIRE

GUIDANCE_SOURCES = ("background", "open-meteo", "openweathermap")
MIN_KEEP_DAYS = 35  # a forecast reads 30 days of history

_Rule = Callable[[Any], str]  # a value -> what is wrong with it, or ""


def value_problem(section: type[msgspec.Struct], key: str, value: object) -> str:
    """What is wrong with one value by itself, in words; empty if nothing is."""
    kind = fields_of(section)[key].type
    if problem := type_problem(kind, value):
        return problem
    rule = _RULES.get((section, key))
    return rule(msgspec.convert(value, kind)) if rule and value is not None else ""


def type_problem(kind: Any, value: object, *, strict: bool = True) -> str:
    """Why a value is not of a type, in words; empty if it is. `strict`: text is no number."""
    try:
        msgspec.convert(value, kind, strict=strict)
    except msgspec.ValidationError:
        if wanted := _wanted(kind):
            return f"must be {wanted}, not {_kind(value)}"
        return f'is "{str(value)[:60]}": must be {_choice(kind)}'
    return ""


def nearest(name: str, known: Iterable[str]) -> str:
    """` (did you mean "x"?)`, or the list of what is known, or nothing where that would be long."""
    names = list(known)
    by_case = {n.lower(): n for n in names}
    near = get_close_matches(name.lower(), by_case, n=1)
    if near:
        return f' (did you mean "{by_case[near[0]]}"?)'
    return f"; known: {', '.join(names)}" if len(names) <= 30 else ""


@cache
def fields_of(table: type[msgspec.Struct]) -> dict[str, msgspec.structs.FieldInfo]:
    """The keys of a section, by name."""
    return {f.name: f for f in msgspec.structs.fields(table)}


_WORDS = {str: "text in quotes", int: "a whole number", float: "a number", bool: "true or false"}


def _wanted(kind: Any) -> str:
    """A type in words; empty for one that says which of its values it takes: `_choice`."""
    if any(get_origin(part) in (Literal, Annotated) for part in (kind, *get_args(kind))):
        return ""
    parts = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    return " or ".join(_WORDS.get(part, "a table") for part in parts if part is not NoneType)


def _choice(kind: Any) -> str:
    """The values that a type of choices, limits or a pattern takes."""
    part = next(part for part in (kind, *get_args(kind)) if get_origin(part) in (Literal, Annotated))
    if get_origin(part) is Literal:
        return " or ".join(f"{choice}" if isinstance(choice, int) else f'"{choice}"' for choice in get_args(part))
    base, meta = get_args(part)
    if meta.pattern is not None:
        return f"text of the form {meta.pattern}"
    return f"{_WORDS[base]} within {meta.ge:g} to {meta.le:g}"


def _kind(value: object) -> str:
    names = {
        bool: "true or false",
        str: "text",
        int: "a whole number",
        float: "a number",
        list: "a list",
        dict: "a table",
    }
    return names.get(type(value), "a date or time")


def _between(low: float, high: float, what: str = "") -> _Rule:
    def rule(value: float) -> str:
        return (
            ""
            if low <= value <= high
            else f"is {value:.10g}: must lie within {low:.10g} to {high:.10g}{what and f' ({what})'}"
        )

    return rule


def _matches(pattern: str, words: str) -> _Rule:
    return lambda value: "" if re.fullmatch(pattern, value) else f'is "{value[:60]}": must be {words}'


def _not_empty(value: str) -> str:
    return "" if value.strip() and "\0" not in value else "must not be empty"


def _one_of(*choices: str) -> _Rule:
    return lambda value: (
        ""
        if value in choices
        else f'is "{value[:60]}": must be {" or ".join(f"{x!r}" for x in choices)}'.replace("'", '"')
    )


def _timezone(value: str) -> str:
    if value == "UTC":
        return ""
    try:
        if value == "localtime" or value.startswith(("posix/", "right/")):  # files of the system, names of no zone
            raise ZoneInfoNotFoundError
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        known = available_timezones()
        if not known:
            return "cannot be looked up: this device has no time zone data (apt install tzdata, or pip install tzdata)"
        hint = nearest(value, sorted(known)) or ": write a name like Europe/Zurich"
        return f'is "{value[:60]}", which is not a time zone{hint}'
    return ""


def _host(value: str) -> str:
    if "://" in value or "/" in value:
        return "must be the name or address only, without mqtt:// or a path"
    if re.fullmatch(r"[^:]+:\d+", value):
        return f'must not hold the port: write host = "{value.split(":")[0]}" and port = {value.split(":")[1]}'
    if re.search(r"\s|:$|^[^:]*:[^:]*$", value):
        return "must be a name or an address, without spaces or a port"
    return _not_empty(value)


def _topic(value: str) -> str:
    levels = value.split("/")[2:] if value.startswith("$share/") else value.split("/")
    if not value or "\0" in value or len(value.encode()) > 1024:
        return "must hold 1 to 1024 bytes"
    if "/".join(levels[:2]) == WIRE:
        return f"lies below {WIRE}/, where this agent publishes: it would read itself. Choose the sensor's own topic"
    if any(
        ("+" in x and x != "+") or ("#" in x and x != "#") or ("{station}" in x and x != "{station}") for x in levels
    ):
        return "holds +, # or {station} beside other characters: each must be a whole level between slashes"
    if "#" in levels[:-1] or levels.count("{station}") > 1:
        return "may hold # only as its last level, and {station} only once"
    return ""


def _networks(value: list[str]) -> str:
    for text in value:
        try:
            ip_network(text, strict=False)
        except ValueError:
            return f'holds "{text[:60]}": must hold addresses and networks, like "192.168.1.0/24"'
    return ""


def _driver(value: str) -> str:
    from edge_agent.sensors.registry import names  # late: the sensors read the configuration

    return "" if value in names() else f'is "{value[:60]}", which is unknown{nearest(value, names())}'


def _sources(value: list[str]) -> str:
    """Guidance's sources: known ones, each once."""
    for name in value:
        if name not in GUIDANCE_SOURCES:
            return f'has "{name[:60]}", which is none{nearest(name, GUIDANCE_SOURCES)}'
    return "names a source twice" if len(set(value)) < len(value) else ""


_PLACE: dict[str, _Rule] = {
    "id": _matches(r"[a-z0-9-]{3,40}", "3 to 40 of a-z, 0-9 and - (it becomes part of every topic)"),
    "latitude": _between(-90, 90, "degrees, north positive"),
    "longitude": _between(-180, 180, "degrees, east positive"),
    "elevation_m": _between(-430, 9000, "metres above sea level"),
}
_RULES: dict[tuple[type[msgspec.Struct], str], _Rule] = {
    **{(table, key): rule for table in (c.Station, c.Neighbour) for key, rule in _PLACE.items()},
    (c.Station, "timezone"): _timezone,
    (c.Station, "publish_position"): _one_of("rounded", "exact", "none"),
    (c.Mqtt, "host"): _host,
    (c.Mqtt, "port"): _between(1, 65535),
    (c.Mqtt, "username"): _not_empty,
    (c.Mqtt, "password_file"): _not_empty,
    (c.Mqtt, "tls_ca"): _not_empty,
    (c.Mqtt, "tls_cert"): _not_empty,
    (c.Mqtt, "tls_key"): _not_empty,
    (c.Mqtt, "protocol"): _one_of("5", "3.1.1"),
    (c.Mqtt, "client_id"): _matches(r"[!-~]{1,64}", "1 to 64 visible ASCII characters"),
    (c.Mqtt, "keepalive_s"): _between(5, 3600, "seconds"),
    (c.Store, "path"): _not_empty,
    (c.Store, "keep_days"): _between(MIN_KEEP_DAYS, 36_500, "days; a forecast reads the last 30"),
    (c.Store, "commit_s"): _between(1, 600, "seconds that a power cut may cost"),
    (c.Store, "outbox_mb"): _between(0.1, 1_000_000, "megabytes"),
    (c.Store, "outbox_days"): _between(0.1, 36_500, "days"),
    (c.Store, "outbox_policy"): _one_of("drop_oldest", "drop_lowest_priority", "reject"),
    (c.Sensor, "name"): _matches(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}", "1 to 40 of letters, digits, _ . and -"),
    (c.Sensor, "driver"): _driver,
    (c.Sensor, "port"): _not_empty,
    (c.Sensor, "baud"): _between(50, 4_000_000),
    (c.Sensor, "topic"): _topic,
    (c.Sensor, "listen"): _matches(
        r"(\[[0-9a-fA-F:]+\]|[^\s:]+):\d{1,5}", 'an address and a port, like "0.0.0.0:8080"'
    ),
    (c.Sensor, "allow"): _networks,
    (c.Sensor, "token_file"): _not_empty,
    (c.Sensor, "host"): _not_empty,
    (c.Sensor, "time"): _not_empty,
    (c.Sensor, "period_s"): _between(1, 86_400, "seconds"),
    (c.Sensor, "delimiter"): lambda value: "" if len(value) == 1 else "must be one character",
    (c.Sensor, "max_message_bytes"): _between(16, 1_048_576, "bytes"),
    (c.Sensor, "max_messages_s"): _between(0.01, 10_000, "messages a second"),
    (c.Forecast, "device"): _one_of("", *DEVICES),
    (c.Forecast, "threads"): _between(1, 64),
    (c.Forecast, "expiry_s"): _between(60, 604_800, "seconds"),
    (c.Guidance, "sources"): _sources,
    (c.Guidance, "refresh_s"): _between(600, 86_400, "seconds"),
    (c.Guidance, "background_url"): _matches(r"https?://[!-~]{1,500}", "an address like https://weather.example"),
    (c.Guidance, "openweathermap_key_file"): _not_empty,
}
EXAMPLES = {
    "port": "/dev/serial/by-id/...",
    "topic": "tele/roof/SENSOR",
    "listen": "0.0.0.0:8080",
    "host": "192.168.1.20",
    "station": 'add [station] with id = "my-station", latitude, longitude and elevation_m',
    "store": 'add [store] with path = "stationcast.sqlite"',
    "id": 'id = "my-station"',
    "latitude": "latitude = 47.36 (degrees, north positive)",
    "longitude": "longitude = 8.54 (degrees, east positive)",
    "elevation_m": "elevation_m = 408 (metres above sea level)",
    "path": 'path = "stationcast.sqlite"',
    "name": 'name = "roof"',
    "driver": 'driver = "json_lines"',
    "variable": 'variable = "temperature"',
    "unit": 'unit = "degC"',
    "field": '{ variable = "temperature", unit = "degC" }',
    "map": 'a table like map = { "temp" = { variable = "temperature", unit = "degC" } }',
}
