"""What an agent.toml must keep to, and how to say so: every problem with its place and its remedy, all at once.

Works on the parsed file; opens nothing and never repeats a value that could be a secret.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from edge_agent import config as c
from edge_agent.config_sensors import field_problems, port_problems, sensor_problems
from edge_agent.config_values import EXAMPLES, fields_of, nearest, value_problem
from edge_agent.toml_lines import Path

_PASSWORD = (
    "a password does not belong in this file: put it into a file of its own (chmod 600) and name that: password_file"
)
MAX_NEIGHBOURS = 50
MAX_GUIDED = 25  # stations: what waits to be verified is some megabytes of each

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


def problems(raw: dict[str, Any]) -> list[Problem]:
    """Everything wrong with a parsed agent.toml, in no particular order."""
    found = list(_unknown_sections(raw))
    built: dict[str, list[tuple[Path, Any]]] = {name: [] for name in _ARRAYS}
    for name, table in _TABLES.items():
        if name not in raw:
            found += [Problem((), "", f"missing section [{name}]: {EXAMPLES[name]}")] if name == "store" else []
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
        found.append(Problem((), "", f"missing section [station]: {EXAMPLES['station']}"))
    stations = {str(entry.get("id")) for _, _, entry in _entries(raw, "station") if isinstance(entry, dict)}
    found += _same(built["station"], "id", "station") + list(_neighbour_problems(built["neighbour"], stations))
    for path, sensor in built["sensor"]:
        label = f'sensor "{sensor.name}"'
        found += [Problem((*path, *at), label, text) for at, text in sensor_problems(sensor, stations)]
    for path, sensor, text in port_problems(built["sensor"]):
        found.append(Problem((*path, "port"), f'sensor "{sensor.name}"', text))
    guided = raw.get("guidance")
    if isinstance(guided, dict) and guided.get("sources") and len(stations) > MAX_GUIDED:
        text = f"{len(stations)} stations: guidance is for at most {MAX_GUIDED}"
        found.append(Problem(("guidance", "sources"), "[guidance]", text))
    return found + _same(built["sensor"], "name", "sensor")


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
    fields = fields_of(table)
    for key, value in raw.items():
        if key == "password":
            yield Problem((*path, key), label, _PASSWORD)
        elif key not in fields:
            yield Problem((*path, key), label, f'unknown key "{key[:60]}"{nearest(key, fields)}')
        elif key == "options" and isinstance(value, dict):
            continue  # its driver knows them: `sensor_problems`
        elif key == "map":
            yield from _map(value, (*path, key), label)
        elif problem := value_problem(table, key, value):
            yield Problem((*path, key), label, f'"{key}" {problem}')
    for key, field in fields.items():
        if field.required and key not in raw:
            yield Problem(path, label, f'missing key "{key}": add {EXAMPLES.get(key, key)}')


def _map(raw: Any, path: Path, label: str) -> Iterator[Problem]:
    """The map of a sensor: message path -> { variable, unit }."""
    if not isinstance(raw, dict):
        yield Problem(path, label, f'"map" must be {EXAMPLES["map"]}')
        return
    for name, entry in raw.items():
        here = f'{label}: map "{name[:60]}"'
        if not isinstance(entry, dict):
            yield Problem((*path, name), here, f"must be {EXAMPLES['field']}")
        else:
            mine = list(_section(c.Field, entry, (*path, name), here))
            yield from mine or [
                Problem((*path, name), here, text) for text in field_problems(msgspec.convert(entry, c.Field))
            ]


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
