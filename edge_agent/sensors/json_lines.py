"""JSON objects, one a line, as Arduino and ESP boards print them.

Pure: bytes in, readings out. Blank lines and `#` comments are no messages; anything else that is no object is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from edge_agent.config import Sensor
from edge_agent.errors import BadMessage
from edge_agent.observation import Reading
from edge_agent.sensors.driver import DriverSpec, Pressure, Transport
from edge_agent.sensors.mapping import Count, Entry, entries_of, own_time, reading, uncounted

_BLANK = b" \t\r\n\0"
# what C prints for a float that is no number; JSON has no word for it
_PRINTED = re.compile(r"(?<=[:,\[\s])[+-]?(?:nan|inf|ovf)(?=\s*[,}\]])", re.IGNORECASE)


class JsonLines:
    """Decodes the lines of one sensor; map keys are paths as in `lookup`."""

    detects_cuts = True  # what is left of an object without its beginning is no object

    def __init__(self, sensor: Sensor) -> None:
        """Raises ConfigError as `entries_of`."""
        self._entries = entries_of(sensor)
        self._time = sensor.time

    def decode(self, payload: bytes, count: Count = uncounted) -> list[Reading]:
        """The reading of one line.

        Raises:
            BadMessage: `not-json`, `not-object`, `bad-time`, `no-mapped-value` or `no-usable-value`.
        """
        line = payload.strip(_BLANK)
        if not line or line.startswith(b"#"):
            return []
        return [read_object(line, self._entries, self._time, count)]


def read_object(text: bytes, entries: tuple[Entry, ...], time: str | None, count: Count) -> Reading:
    """One JSON object as a reading. Raises BadMessage as `JsonLines.decode`."""
    message = object_of(text)
    t = None
    if time is not None:
        t = own_time(next(lookup(message, time), None))
    found = ((entry, raw) for entry in entries for raw in lookup(message, entry.path))
    return reading(found, t, count)


def object_of(text: bytes) -> dict[str, object]:
    """The JSON object that a message is. Raises BadMessage `not-json` or `not-object`."""
    message = _parse(text)
    if not isinstance(message, dict):
        raise BadMessage("not-object", f"a JSON {type(message).__name__} by itself has no paths")
    return message


def lookup(value: object, path: str) -> Iterator[object]:
    """The value under a dotted path, if there is one. A level is a key, or the index of an array; keys that hold dots
    themselves are tried before the path is taken apart, the longest first."""
    if isinstance(value, dict):
        if path in value:
            yield value[path]
            return
        cut = path.rfind(".")
        while cut != -1:
            if path[:cut] in value:
                below = list(lookup(value[path[:cut]], path[cut + 1 :]))
                if below:
                    yield below[0]
                    return
            cut = path.rfind(".", 0, cut)
    elif isinstance(value, list):
        index, _, rest = path.partition(".")
        if index.isascii() and index.isdigit() and len(index) < 6 and int(index) < len(value):
            if rest:
                yield from lookup(value[int(index)], rest)
            else:
                yield value[int(index)]


def _parse(text: bytes) -> object:
    """Raises BadMessage `not-json`, also for what is nested too deep or has numbers of thousands of digits."""
    try:
        words = text.decode("utf-8-sig")
        try:
            return json.loads(words)
        except json.JSONDecodeError:
            return json.loads(_PRINTED.sub("NaN", words))
    except (ValueError, RecursionError):
        # the words are published, and a board may print its Wi-Fi password as it starts: none of the line is in them
        raise BadMessage("not-json", f"{len(text)} bytes that are no JSON") from None


DRIVERS = (
    DriverSpec(
        "json_lines",
        Transport.SERIAL,
        JsonLines,
        "a board that prints one JSON object a line",
        maps=True,
        pressure=Pressure.MAPPED,
        stamps="`time` where the map names it, else on arrival",
    ),
)
