"""All drivers by name: the built-in ones, and those that installed packages bring."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

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
    "rtl_433",
    "weewx",
    "tasmota",
    "esphome",
    "zigbee2mqtt",
)


def _built_in() -> dict[str, DriverSpec]:
    modules = [import_module(f"edge_agent.sensors.{name}") for name in _MODULES]
    return {spec.name: spec for module in modules for spec in module.DRIVERS}


DRIVERS: dict[str, DriverSpec] = _built_in()


def names() -> list[str]:
    """Every driver there is, built-in ones first. Imports no package."""
    return [*DRIVERS, *sorted(point.name for point in _installed() if point.name not in DRIVERS)]


def driver(sensor: Sensor) -> DriverSpec:
    """The driver of a sensor. Raises ConfigError as `find`, with the sensor's name."""
    try:
        return find(sensor.driver)
    except ConfigError as error:
        raise ConfigError(f'sensor "{sensor.name}": {error}') from None


def find(name: str) -> DriverSpec:
    """The driver of that name.

    Raises:
        ConfigError: there is none, with the nearest one; or its package cannot be used.
    """
    built_in = DRIVERS.get(name)
    if built_in is not None:
        return built_in
    for point in _installed():
        if point.name == name:
            return _load(point)
    from edge_agent.config_values import nearest  # late: it reads the configuration with the help of the drivers

    raise ConfigError(f'unknown driver "{name[:60]}"{nearest(name, names())}')


def _installed() -> list[EntryPoint]:
    return list(entry_points(group=ENTRY_POINTS))


def _load(point: EntryPoint) -> DriverSpec:
    """The driver that a package brings. Raises ConfigError: it cannot be imported, or is no driver."""
    package = point.dist.name if point.dist is not None else point.value
    remedy = f"update or remove the package {package}"
    try:
        spec = point.load()
    except (ImportError, AttributeError, SyntaxError) as error:
        raise ConfigError(f'driver "{point.name}" cannot be imported ({error}): {remedy}') from None
    if not isinstance(spec, DriverSpec) or spec.name != point.name:
        raise ConfigError(f'driver "{point.name}": {point.value} is no DriverSpec of that name: {remedy}')
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
