"""What an agent.toml must keep to, and how to say so: every problem with its place and its remedy, all at once.

Works on the parsed file; opens nothing and never repeats a value that could be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from ipaddress import ip_network
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, get_args, get_origin
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

import msgspec

from edge_agent import config as c
from edge_agent.bundle.devices import DEVICES
from edge_agent.errors import ConfigError
from edge_agent.toml_lines import Path
from edge_agent.variables import VARIABLES, Kind, conversion, units_of, variable
from edge_agent.wire import WIRE

_PASSWORD = (
    "a password does not belong in this file: put it into a file of its own (chmod 600) and name that: password_file"
)
MAX_NEIGHBOURS = 50
GUIDANCE_SOURCES = ("background", "open-meteo", "openweathermap")
MAX_GUIDED = 25  # stations: what waits to be verified is some megabytes of each
MIN_KEEP_DAYS = 35  # a forecast reads 30 days of history


_Rule = Callable[[Any], str]  # a value -> what is wrong with it, or ""
_TABLES: dict[str, type[msgspec.Struct]] = {
    "mqtt": c.Mqtt,
    "store": c.Store,
    "forecast": c.Forecast,
    "guidance": c.Guidance,
}
_ARRAYS: dict[str, type[msgspec.Struct]] = {"station": c.Station, "sensor": c.Sensor, "neighbour": c.Neighbour}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where in the file, in which section, and what to do."""

    path: Path
    section: str
    message: str


def value_problem(section: type[msgspec.Struct], key: str, value: object) -> str:
    """What is wrong with one value by itself, in words; empty if nothing is."""
    kind = _fields(section)[key].type
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


def problems(raw: dict[str, Any]) -> list[Problem]:
    """Everything wrong with a parsed agent.toml, in no particular order."""
    found = list(_unknown_sections(raw))
    built: dict[str, list[tuple[Path, Any]]] = {name: [] for name in _ARRAYS}
    for name, table in _TABLES.items():
        if name not in raw:
            found += [Problem((), "", f"missing section [{name}]: {_EXAMPLES[name]}")] if name == "store" else []
            continue
        mine = list(_section(table, raw[name], (name,), f"[{name}]"))
        if not mine:
            mine = list(_whole(msgspec.convert(raw[name], table), (name,)))
        found += mine
    for name, table in _ARRAYS.items():
        for path, label, entry in _entries(raw, name):
            mine = list(_section(table, entry, path, label))
            if not mine:
                built[name].append((path, msgspec.convert(entry, table)))
            found += mine
    if not raw.get("station"):
        found.append(Problem((), "", f"missing section [station]: {_EXAMPLES['station']}"))
    stations = {str(entry.get("id")) for _, _, entry in _entries(raw, "station") if isinstance(entry, dict)}
    found += _same(built["station"], "id", "station") + list(_neighbour_problems(built["neighbour"], stations))
    for path, sensor in built["sensor"]:
        label = f'sensor "{sensor.name}"'
        found += [Problem((*path, *at), label, text) for at, text in _sensor_problems(sensor, stations)]
    guided = raw.get("guidance")
    if isinstance(guided, dict) and guided.get("sources") and len(stations) > MAX_GUIDED:
        text = f"{len(stations)} stations: guidance is for at most {MAX_GUIDED}"
        found.append(Problem(("guidance", "sources"), "[guidance]", text))
    return found + _same(built["sensor"], "name", "sensor") + _ports(built["sensor"])


def nearest(name: str, known: Iterable[str]) -> str:
    """` (did you mean "x"?)`, or the list of what is known, or nothing where that would be long."""
    names = list(known)
    by_case = {n.lower(): n for n in names}
    near = get_close_matches(name.lower(), by_case, n=1)
    if near:
        return f' (did you mean "{by_case[near[0]]}"?)'
    return f"; known: {', '.join(names)}" if len(names) <= 30 else ""


# --- structure ---------------------------------------------------------------------------------------------------


def _unknown_sections(raw: dict[str, Any]) -> Iterator[Problem]:
    known = [f.name for f in msgspec.structs.fields(c.Config)]
    for name in raw:
        if name not in known:
            what = "section" if isinstance(raw[name], dict | list) else "key outside any section:"
            yield Problem((name,), "", f'unknown {what} "{name}"{nearest(name, known)}')


def _entries(raw: dict[str, Any], name: str) -> Iterator[tuple[Path, str, Any]]:
    """The tables of a section that may come several times: their path, what to call them, their content."""
    value = raw.get(name, [])
    if isinstance(value, dict) and name == "station":
        yield (name,), _label(name, value, 0), value
    elif isinstance(value, list):
        for i, entry in enumerate(value):
            yield (name, i), _label(name, entry, i), entry
    else:
        yield (name,), f"[{name}]", value


def _label(name: str, entry: Any, index: int) -> str:
    own = entry.get("name" if name == "sensor" else "id") if isinstance(entry, dict) else None
    return f'{name} "{own[:40]}"' if isinstance(own, str) else f"{name} {index + 1}"


def _section(table: type[msgspec.Struct], raw: Any, path: Path, label: str) -> Iterator[Problem]:
    """Unknown and missing keys, wrong types, and values that are wrong by themselves."""
    listed = path[0] in ("sensor", "neighbour")
    if not isinstance(raw, dict) or (listed and len(path) == 1):
        header = f"[[{path[0]}]]" if listed else f"[{path[0]}]"
        yield Problem(path, "", f'"{path[0]}" must be a section: write {header} on a line of its own above its keys')
        return
    fields = _fields(table)
    for key, value in raw.items():
        if key == "password":
            yield Problem((*path, key), label, _PASSWORD)
        elif key not in fields:
            yield Problem((*path, key), label, f'unknown key "{key[:60]}"{nearest(key, fields)}')
        elif key == "options" and isinstance(value, dict):
            continue  # its driver knows them: `_sensor_problems`
        elif key == "map":
            yield from _map(value, (*path, key), label)
        elif problem := value_problem(table, key, value):
            yield Problem((*path, key), label, f'"{key}" {problem}')
    for key, field in fields.items():
        if field.required and key not in raw:
            yield Problem(path, label, f'missing key "{key}": add {_EXAMPLES.get(key, key)}')


def _map(raw: Any, path: Path, label: str) -> Iterator[Problem]:
    """The map of a sensor: message path -> { variable, unit }."""
    if not isinstance(raw, dict):
        yield Problem(path, label, f'"map" must be {_EXAMPLES["map"]}')
        return
    for name, entry in raw.items():
        here = f'{label}: map "{name[:60]}"'
        if not isinstance(entry, dict):
            yield Problem((*path, name), here, f"must be {_EXAMPLES['field']}")
        else:
            mine = list(_section(c.Field, entry, (*path, name), here))
            yield from mine or [
                Problem((*path, name), here, text) for text in _field_problems(msgspec.convert(entry, c.Field))
            ]


@cache
def _fields(table: type[msgspec.Struct]) -> dict[str, msgspec.structs.FieldInfo]:
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


# --- values by themselves ----------------------------------------------------------------------------------------


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

# Where each transport finds its device.
_PLACES = {"serial": "port", "mqtt": "topic", "http": "listen", "udp": "listen", "poll": "host"}
_READS = {
    "serial": "reads a serial line",
    "mqtt": "reads MQTT messages",
    "http": "is pushed to",
    "udp": "hears broadcasts",
    "poll": "asks its device over the network",
}
_EXAMPLES = {
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


# --- values together ---------------------------------------------------------------------------------------------


def _whole(section: Any, path: Path) -> Iterator[Problem]:
    """What holds between the keys of [mqtt], or of [guidance]."""
    if isinstance(section, c.Guidance):
        yield from _guidance_problems(section, path)
    if not isinstance(section, c.Mqtt):
        return
    label = "[mqtt]"
    if section.password_file and not section.username:
        yield Problem((*path, "password_file"), label, 'a password needs a user: add username = "..."')
    if bool(section.tls_cert) != bool(section.tls_key):
        yield Problem(path, label, '"tls_cert" and "tls_key" go together: give both, or neither')
    elif section.tls_cert and not section.tls_ca:
        yield Problem(
            (*path, "tls_cert"),
            label,
            "a client certificate needs TLS: add tls_ca = the authority that signed the broker's certificate",
        )


def _guidance_problems(section: c.Guidance, path: Path) -> Iterator[Problem]:
    """Each source needs its own key; an address without TLS must be allowed."""
    needs = {"background": "background_url", "openweathermap": "openweathermap_key_file"}
    for source, key in needs.items():
        if source in section.sources and not getattr(section, key):
            yield Problem((*path, "sources"), "[guidance]", f'"{source}" needs {key}: add {key} = "..."')
    if (section.background_url or "").startswith("http://") and not section.allow_http:
        what = "is without TLS: write https, or add allow_http = true where the network is your own"
        yield Problem((*path, "background_url"), "[guidance]", what)


def _neighbour_problems(entries: list[tuple[Path, Any]], stations: set[str]) -> Iterator[Problem]:
    """A neighbour is another agent's, and there once."""
    yield from _same(entries, "id", "neighbour")
    for path, neighbour in entries:
        if neighbour.id in stations:
            text = "is a station of this file: those are neighbours of each other anyway, take it out here"
            yield Problem((*path, "id"), f'neighbour "{neighbour.id}"', text)
    if len(entries) > MAX_NEIGHBOURS:
        yield Problem(("neighbour",), "", f"{len(entries)} neighbours: the nearest {MAX_NEIGHBOURS} are enough")


def _same(entries: list[tuple[Path, Any]], key: str, what: str) -> list[Problem]:
    """Values that two entries share though each needs its own."""
    seen: set[object] = set()
    found = []
    for path, entry in entries:
        value = getattr(entry, key)
        if value is not None and value in seen:
            label = f'{what} "{entry.name if what == "sensor" else entry.id}"'
            found.append(
                Problem((*path, key), label, f'{key} "{value}" is already taken by another {what}: each needs its own')
            )
        seen.add(value)
    return found


def _ports(entries: list[tuple[Path, Any]]) -> list[Problem]:
    """Ports that two sensors share though their drivers cannot, or not like this."""
    from edge_agent.sensors.registry import why_not_shared  # late: the sensors read the configuration

    found = []
    seen: dict[str, list[c.Sensor]] = {}
    for path, sensor in entries:
        others = seen.setdefault(sensor.port, []) if sensor.port is not None else []
        for problem in filter(None, (why_not_shared(other, sensor) for other in others)):
            found.append(Problem((*path, "port"), f'sensor "{sensor.name}"', f'port "{sensor.port}" {problem}'))
            break
        others.append(sensor)
    return found


def _sensor_problems(sensor: c.Sensor, stations: set[str]) -> Iterator[tuple[Path, str]]:
    from edge_agent.sensors.driver import options_of  # late: the sensors read the configuration
    from edge_agent.sensors.registry import driver

    try:
        spec = driver(sensor)
    except ConfigError as error:
        yield ("driver",), str(error).removeprefix(f'sensor "{sensor.name}": ')
        return
    needed = _PLACES[spec.transport]
    if getattr(sensor, needed) is None:
        yield (), f'driver "{sensor.driver}" {_READS[spec.transport]}: add {needed} = "{_EXAMPLES[needed]}"'
    for other in sorted(set(_PLACES.values()) - {needed}):
        if getattr(sensor, other) is not None:
            yield (
                (other,),
                f'driver "{sensor.driver}" {_READS[spec.transport]}: "{other}" has no meaning here, take it out',
            )
    if spec.maps and not sensor.map:
        yield ("map",), f'"map" says nothing: write {_EXAMPLES["map"]}'
    elif sensor.map and not spec.maps:
        yield ("map",), f'driver "{sensor.driver}" knows what its values mean: take "map" out'
    try:
        options_of(sensor, spec.options)
    except ConfigError as error:
        yield ("options",), str(error).removeprefix(f'sensor "{sensor.name}": ')
    names = [field.variable for field in sensor.map.values()]
    for name in sorted({n for n in names if names.count(n) > 1}):
        yield ("map",), f'variable "{name}" is mapped twice: keep one, or make two sensors'
    yield from (((*at,), text) for at, text in _station_problems(sensor, stations))


def _station_problems(sensor: c.Sensor, stations: set[str]) -> Iterator[tuple[Path, str]]:
    """Which station the readings belong to must be said once, and only once."""
    by_topic = sensor.topic is not None and "{station}" in sensor.topic
    if sensor.station is not None and by_topic:
        yield ("station",), '"station" and {station} in the topic contradict each other: keep one'
    elif sensor.station is not None and sensor.station not in stations:
        yield (
            ("station",),
            f'station "{sensor.station[:60]}" is not in this file{nearest(sensor.station, sorted(stations))}',
        )
    elif sensor.station is None and not by_topic and len(stations) > 1:
        yield (), f'there are {len(stations)} stations: add station = "{min(stations)}", or {{station}} to the topic'


def _field_problems(field: c.Field) -> Iterator[str]:
    try:
        kind = variable(field.variable).kind
    except ConfigError:
        yield f'unknown variable "{field.variable[:60]}"{nearest(field.variable, VARIABLES)}'
        return
    try:
        conversion(field.variable, field.unit)
    except ConfigError:
        units = units_of(field.variable)
        yield f'unit "{field.unit[:20]}" does not fit {field.variable}{nearest(field.unit, units)}'
    if field.counter and kind is not Kind.SUM:
        yield f'"counter" is for running totals like rain, not for {field.variable}: take it out'
