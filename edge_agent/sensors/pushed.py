"""What devices that push their readings over HTTP have in common: options, batteries, the rain counter to follow.

Pure. A gateway reports its rain in several counters at once; one of them is followed, always the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

from edge_agent.config import Sensor
from edge_agent.errors import BadMessage, ConfigError
from edge_agent.observation import Reading
from edge_agent.sensors.driver import Options, options_of
from edge_agent.sensors.fields import device_time, entry, present, values_of
from edge_agent.sensors.mapping import Count, Entry, number
from edge_agent.variables import variable

PATH = "/data/report"
METRIC = {"degF": "degC", "inHg": "hPa", "mph": "km/h", "in": "mm", "in/h": "mm/h"}

Row = tuple[str, str, str]  # a field's name, its variable, its unit


class PushOptions(Options, frozen=True):
    """`path`: where the device sends to, where it is not the usual path. `stamp`: whose clock stamps a reading: the
    `device`'s, or ours on `arrival`. `fields`: names of further fields and the variable each of them is: a table, or
    `name=variable, name=variable`."""

    path: str = ""
    stamp: Literal["device", "arrival"] = "device"
    fields: dict[str, str] | str = ""


def path_of(sensor: Sensor, usual: str = PATH) -> str:
    """Where a sensor's device sends to. Raises ConfigError: the option does not begin with a slash."""
    path = str(sensor.options.get("path", "")) or usual
    if not path.startswith("/"):
        raise ConfigError(f'sensor "{sensor.name}": option path "{path[:60]}" must begin with /, as in "{usual}"')
    return path


def table(rows: Iterable[Row], metric: bool = False) -> tuple[Entry, ...]:
    """Rows ready for use. `metric`: metric values stand under the imperial names."""
    return tuple(entry(name, found, METRIC.get(unit, unit) if metric else unit) for name, found, unit in rows)


def further_rows(sensor: Sensor, kind: type[PushOptions]) -> tuple[Row, ...]:
    """The rows of the option `fields`, in the units that such devices use by default.

    Raises:
        ConfigError: a word that is no `name=variable`, or an unknown variable.
    """
    fields = options_of(sensor, kind).fields
    if isinstance(fields, str):
        words = [word.partition("=") for word in fields.replace(",", " ").split()]
        fields = {name: found for name, _, found in words}
    try:
        return tuple(
            (name.lower(), found, "degF" if variable(found).unit == "degC" else variable(found).unit)
            for name, found in fields.items()
        )
    except ConfigError as error:
        example = 'fields = { "tf_ch1" = "soil_temperature" }'
        raise ConfigError(f'sensor "{sensor.name}": option fields: {error}. Write {example}') from None


def stamp_of(message: Mapping[str, object], options: PushOptions, count: Count) -> int | None:
    """The time of a message, UTC seconds; None = on arrival."""
    raw = message.get("dateutc")
    if options.stamp == "arrival" or raw is None or raw == "now":
        return None
    return device_time(raw, count)


def rain_total(message: Mapping[str, object], counters: Iterable[Entry], count: Count) -> float | None:
    """Millimetres of the first counter that the message has; None if it has none, or no number in it. Which counter is
    followed depends on the names in the message only: another one's total would look like rain."""
    for row in counters:
        if row.path in message:
            try:
                return number(present(message[row.path]) * row.factor)
            except BadMessage as error:
                count(error.reason)
                return None
    return None


def readings(
    values: Mapping[str, float],
    t: int | None,
    total: float | None,
    device: str,
    battery: Mapping[str, str | float],
    period_s: int | None = None,
) -> list[Reading]:
    """One reading, and one that holds only batteries where the rain gauge is a device of its own.

    Raises:
        BadMessage: `no-usable-value`.
    """
    totals = {} if total is None else {"rain": total}
    if not values and not totals and not battery:
        raise BadMessage("no-usable-value", "no field is a number")
    if not device:
        return [Reading(values, t, totals=totals, battery=battery, period_s=period_s)]
    found = [Reading(values, t, totals=totals, device=device, period_s=period_s)]
    return [*found, Reading({}, t, battery=battery)] if battery else found


def reading_of(
    message: Mapping[str, object],
    rows: Iterable[Entry],
    counters: Iterable[Entry],
    battery: Mapping[str, str | float],
    options: PushOptions,
    count: Count,
    *,
    whose: str,
    gauge: str = "",
    period_s: int | None = None,
) -> list[Reading]:
    """What a message says. `whose`: what sends such messages, in words.

    Raises:
        BadMessage: `no-mapped-value`, `no-usable-value`.
    """
    values, seen = values_of(message, rows, count)
    total = rain_total(message, counters, count)
    if not seen and total is None and not battery:
        raise BadMessage("no-mapped-value", f"no field of {whose} is in the message")
    return readings(values, stamp_of(message, options, count), total, gauge, battery, period_s)


def states(message: Mapping[str, object]) -> Iterator[tuple[str, float]]:
    """The batteries of a message: field and number. What is no number says nothing of a battery."""
    for name, raw in message.items():
        if "batt" in name and len(name) <= 24:
            try:
                yield name, number(raw)
            except BadMessage:
                continue


def part(name: str) -> str:
    """What a battery field belongs to: `wh65batt` -> `wh65`, `soilbatt2` -> `soil2`, `batt3` -> `channel 3`."""
    rest = name.replace("batt", "").replace("_", "")
    return f"channel {rest}" if rest.isdigit() else rest or "battery"
