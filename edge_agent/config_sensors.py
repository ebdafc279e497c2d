"""What must hold between the keys of a sensor, with its driver, its map, its station and the other sensors.

Works on sections whose values are right by themselves; opens nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from edge_agent import config as c
from edge_agent.config_values import EXAMPLES, nearest
from edge_agent.errors import ConfigError
from edge_agent.toml_lines import Path
from edge_agent.variables import VARIABLES, Kind, conversion, units_of, variable

# Where each transport finds its device.
_PLACES = {"serial": "port", "mqtt": "topic", "http": "listen", "udp": "listen", "poll": "host"}
_READS = {
    "serial": "reads a serial line",
    "mqtt": "reads MQTT messages",
    "http": "is pushed to",
    "udp": "hears broadcasts",
    "poll": "asks its device over the network",
}


def sensor_problems(sensor: c.Sensor, stations: set[str]) -> Iterator[tuple[Path, str]]:
    """What is wrong with a sensor in a file with these stations: where in its section, and what to do."""
    from edge_agent.sensors.driver import options_of  # late: the sensors read the configuration
    from edge_agent.sensors.registry import driver

    try:
        spec = driver(sensor)
    except ConfigError as error:
        yield ("driver",), str(error).removeprefix(f'sensor "{sensor.name}": ')
        return
    needed = _PLACES[spec.transport]
    if getattr(sensor, needed) is None:
        yield (), f'driver "{sensor.driver}" {_READS[spec.transport]}: add {needed} = "{EXAMPLES[needed]}"'
    for other in sorted(set(_PLACES.values()) - {needed}):
        if getattr(sensor, other) is not None:
            yield (
                (other,),
                f'driver "{sensor.driver}" {_READS[spec.transport]}: "{other}" has no meaning here, take it out',
            )
    if spec.maps and not sensor.map:
        yield ("map",), f'"map" says nothing: write {EXAMPLES["map"]}'
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


def field_problems(field: c.Field) -> Iterator[str]:
    """What is wrong with an entry of a sensor's map."""
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


def port_problems(entries: Iterable[tuple[Path, c.Sensor]]) -> Iterator[tuple[Path, c.Sensor, str]]:
    """Ports that two sensors share though their drivers cannot, or not like this."""
    from edge_agent.sensors.registry import why_not_shared  # late: the sensors read the configuration

    seen: dict[str, list[c.Sensor]] = {}
    for path, sensor in entries:
        others = seen.setdefault(sensor.port, []) if sensor.port is not None else []
        problem = next(filter(None, (why_not_shared(other, sensor) for other in others)), None)
        if problem:
            yield path, sensor, f'port "{sensor.port}" {problem}'
        others.append(sensor)
