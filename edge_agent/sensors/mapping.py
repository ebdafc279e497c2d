"""What all decoders share: from what a message holds under a path to a reading in the vocabulary's units.

Pure: bytes in, readings out. Never opens anything, never looks at the clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from edge_agent.clock import parse_time
from edge_agent.config import Sensor
from edge_agent.errors import BadMessage, ConfigError, DataError
from edge_agent.observation import Reading
from edge_agent.variables import conversion

EARLIEST = 946_684_800  # 2000-01-01: a device that reports earlier has not set its clock

Count = Callable[[str], None]  # told the reason of every value that is missing, though its message is read


def uncounted(reason: str) -> None:
    """For callers that do not count."""


class Decoder(Protocol):
    """Turns the messages of one sensor into readings.

    `detects_cuts`: a line that lost its beginning cannot pass for a whole one.
    """

    @property
    def detects_cuts(self) -> bool: ...

    def decode(self, payload: bytes, count: Count = uncounted) -> list[Reading]:
        """The readings of one message; none for a blank line or a comment. A field with `counter` is its running total.

        Raises:
            BadMessage: nothing in the message can be used.
        """


@dataclass(frozen=True, slots=True)
class Origin:
    """How a message came. `topic`: the MQTT topic, empty for other transports; `at`: seconds on a steady scale, of use
    only for differences."""

    topic: str
    at: float


@runtime_checkable
class OriginDecoder(Decoder, Protocol):
    """A decoder to which it matters how a message came: its topic names the value, or repeats are told by their time.
    The intake calls `decode_from` in place of `decode`."""

    def decode_from(self, payload: bytes, origin: Origin, count: Count = uncounted) -> list[Reading]:
        """As `decode`, raising as it does."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a sensor's map: value under `path` * `factor` + `offset` is `variable` in its own unit."""

    path: str
    variable: str
    factor: float
    offset: float


def entries_of(sensor: Sensor) -> tuple[Entry, ...]:
    """A sensor's map with its unit conversions.

    Raises:
        ConfigError: no map, unknown variable, or a unit that does not fit it.
    """
    if not sensor.map:
        example = 'map = { "temp" = { variable = "temperature", unit = "degC" } }'
        raise ConfigError(f'sensor "{sensor.name}": "map" says nothing: write {example}')
    entries = []
    for path, field in sensor.map.items():
        try:
            factor, offset = conversion(field.variable, field.unit)
        except ConfigError as error:
            raise ConfigError(f'sensor "{sensor.name}": map "{path}": {error}') from None
        entries.append(Entry(path, field.variable, factor, offset))
    return tuple(entries)


def word(raw: object) -> str:
    """A name or number in a message as text of at most 40 characters that can be shown; empty for anything else."""
    if not isinstance(raw, str | int | float):
        return ""
    return "".join(c for c in str(raw)[:40] if c.isprintable()).strip()


def number(raw: object) -> float:
    """A finite number from a JSON value or a cell of text.

    Raises:
        BadMessage: with the reason `null`, `nan`, `infinite`, `boolean` or `not-numeric`.
    """
    if isinstance(raw, str):
        raw = raw.strip()
        if not raw.isascii() or "_" in raw:
            raise BadMessage("not-numeric", raw[:40])
    if raw is None or raw == "":
        raise BadMessage("null")
    if isinstance(raw, bool):
        raise BadMessage("boolean")
    if not isinstance(raw, int | float | str):
        raise BadMessage("not-numeric", f"a {type(raw).__name__}")
    try:
        value = float(raw)
    except ValueError:
        raise BadMessage("not-numeric", str(raw)[:40]) from None
    except OverflowError:
        raise BadMessage("infinite") from None
    if math.isnan(value):
        raise BadMessage("nan")
    if math.isinf(value):
        raise BadMessage("infinite")
    return value


def measured(found: Iterable[tuple[str, object, str]], count: Count) -> dict[str, float]:
    """(variable, raw value, unit) as values in the vocabulary's units. A value that is not a finite number, or has no
    unit where it needs one, is missing and counted; of two values of a variable the first stands."""
    values: dict[str, float] = {}
    for variable, raw, unit in found:
        if not unit:
            count("no-unit")
            continue
        factor, offset = conversion(variable, unit)
        try:
            value = number(number(raw) * factor + offset)
        except BadMessage as error:
            count(error.reason)
            continue
        values.setdefault(variable, value)
    return values


def own_time(raw: object) -> int:
    """The time a message carries, UTC seconds.

    Raises:
        BadMessage: `bad-time`: missing, not a time, without a zone, or before 2000.
    """
    if isinstance(raw, bool) or not isinstance(raw, int | float | str):
        raise BadMessage("bad-time", "the message has no time where the configuration says it is")
    text = str(raw).strip()
    try:
        t = parse_time(text)
    except DataError as error:
        # the words are published, and in a line of noise anything may stand in the place of the time
        words = str(error).removeprefix(f'"{text[:40]}" ')
        raise BadMessage("bad-time", f"its time {words}") from None
    if t < EARLIEST:
        raise BadMessage("bad-time", "its time is before 2000: the device has not set its clock")
    return t


def clear_time(raw: object) -> int | None:
    """The time a message carries where it is beyond doubt: with a zone or in epoch seconds, and after 1999. None
    otherwise: such a message is stamped when it arrives."""
    try:
        return own_time(raw)
    except BadMessage:
        return None


def reading(found: Iterable[tuple[Entry, object]], t: int | None, count: Count) -> Reading:
    """One reading from the mapped values a message holds. A value that is not a finite number is missing and counted.

    Raises:
        BadMessage: `no-mapped-value` if the message holds none of the paths, `no-usable-value` if it holds no number
            under any.
    """
    values: dict[str, float] = {}
    seen = False
    for entry, raw in found:
        seen = True
        try:
            values[entry.variable] = number(number(raw) * entry.factor + entry.offset)
        except BadMessage as error:
            count(error.reason)
    if not seen:
        raise BadMessage("no-mapped-value", "none of the mapped names is in the message")
    if not values:
        raise BadMessage("no-usable-value", "no mapped value is a number")
    return Reading(values, t)
