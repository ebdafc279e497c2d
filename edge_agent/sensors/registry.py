"""All drivers by name: the built-in ones, and those that installed packages bring."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points

from edge_agent.config import Sensor
from edge_agent.errors import ConfigError
from edge_agent.sensors.driver import ENTRY_POINTS, DriverSpec

# One module a protocol, each with its DRIVERS.
_MODULES = (
    "json_lines",
    "csv_lines",
    "mqtt_json",
    "vaisala_wxt",
    "nmea",
    "ultimeter",
    "modbus",
    "sds011",
    "pms5003",
    "ecowitt",
    "ambient",
    "wunderground",
    "tempest",
    "weatherlink_live",
    "davis_vantage",
)


def _built_in() -> dict[str, DriverSpec]:
    modules = [import_module(f"edge_agent.sensors.{name}") for name in _MODULES]
    return {spec.name: spec for module in modules for spec in module.DRIVERS}


def _installed() -> dict[str, DriverSpec]:
    """Drivers of other packages. One that cannot be imported is told when it is asked for."""
    return {point.name: point.load() for point in entry_points(group=ENTRY_POINTS) if point.name not in DRIVERS}


DRIVERS: dict[str, DriverSpec] = _built_in()


def driver(sensor: Sensor) -> DriverSpec:
    """The driver of a sensor.

    Raises:
        ConfigError: no driver of that name.
    """
    spec = DRIVERS.get(sensor.driver) or _installed().get(sensor.driver)
    if spec is None:
        raise ConfigError(f'sensor "{sensor.name}": unknown driver "{sensor.driver}"; known: {", ".join(DRIVERS)}')
    return spec


def why_not_shared(one: Sensor, other: Sensor) -> str:
    """Why two sensors cannot be on one port, empty if they can."""
    place = driver(other).place
    if place is None or one.driver != other.driver:
        return "is already taken by another sensor: each needs its own"
    try:
        (line, address), (other_line, other_address) = place(one), place(other)
    except ConfigError:
        return ""  # what is wrong with one of them is told by itself
    if line != other_line:
        return f'is shared with sensor "{one.name}": give both the same settings ({line}; {other_line})'
    return f'is shared with sensor "{one.name}", which is {address} too' if address == other_address else ""
