"""Lines of separated values, as Arduino and ESP boards print them, with or without a header line.

Bytes in, readings out; all it remembers is the header and the number of columns. Blank lines and `#` comments are no
messages. A line with another number of columns is refused: its values could stand under the wrong names.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator

from edge_agent.config import Sensor
from edge_agent.errors import BadMessage
from edge_agent.observation import Reading
from edge_agent.sensors.driver import DriverSpec, Pressure, Transport
from edge_agent.sensors.mapping import Count, Entry, entries_of, own_time, reading, uncounted

STEADY = 5  # so many lines in a row with one new number of columns: the device has changed, not the line


class CsvLines:
    """Decodes the lines of one sensor; map keys are names of the header line, or column numbers from 1."""

    detects_cuts = False  # "1.5,60" is what is left of "21.5,60"

    def __init__(self, sensor: Sensor) -> None:
        """Raises ConfigError as `entries_of`."""
        self._entries = entries_of(sensor)
        self._time = sensor.time
        self._delimiter = sensor.delimiter
        keys = [entry.path for entry in self._entries] + ([sensor.time] if sensor.time is not None else [])
        self._names = frozenset(key for key in keys if not _is_number(key))
        self._needed = max((int(key) for key in keys if _is_number(key)), default=1)
        self._columns: dict[str, int] = {key: int(key) - 1 for key in keys if _is_number(key)}
        self._headed = not self._names
        self._width: int | None = None
        self._other = (0, 0)  # another number of columns, and how many lines in a row have had it

    def decode(self, payload: bytes, count: Count = uncounted) -> list[Reading]:
        """The reading of one line; none for a header line.

        Raises:
            BadMessage: `not-text`, `no-header`, `columns`, `bad-time`, `no-mapped-value` or `no-usable-value`.
        """
        cells = self._cells(payload)
        if not cells:
            return []
        if self._names.intersection(cells):
            self._columns |= {name: cells.index(name) for name in self._names if name in cells}
            self._headed, self._width = True, len(cells)
            return []
        if not self._headed:
            raise BadMessage("no-header", "no header line yet: reset the board, or map columns by number")
        if len(cells) < self._needed or (self._width is not None and len(cells) != self._width):
            self._refuse_width(cells)
        t = None
        if self._time is not None:
            at = self._columns.get(self._time)
            t = own_time(None if at is None else cells[at])
        found = reading(self._found(cells), t, count)
        self._width, self._other = len(cells), (0, 0)
        return [found]

    def _cells(self, payload: bytes) -> list[str]:
        """The cells of a line without spaces around them; none for a blank line or a comment."""
        try:
            line = payload.strip(b" \r\n\0").decode("utf-8-sig")
        except UnicodeDecodeError:
            raise BadMessage("not-text", "bytes that are no text: is the baud rate right?") from None
        if not line.strip() or line.startswith("#"):
            return []
        if self._delimiter == " ":
            return line.split()
        try:
            rows = list(csv.reader([line], delimiter=self._delimiter, skipinitialspace=True))
        except csv.Error as error:
            raise BadMessage("not-text", str(error)) from None
        return [cell.strip() for cell in rows[0]]

    def _refuse_width(self, cells: list[str]) -> None:
        """Raises BadMessage `columns`. A steady new number of columns becomes the expected one; with a header line only
        the next header can change it."""
        width = len(cells)
        times = self._other[1] + 1 if self._other[0] == width else 1
        self._other = (width, times)
        if times >= STEADY and not self._names and width >= self._needed:
            self._width = width
        expected = self._width if self._width is not None else f"at least {self._needed}"
        raise BadMessage("columns", f"{width} columns where {expected} are expected")

    def _found(self, cells: list[str]) -> Iterator[tuple[Entry, str]]:
        for entry in self._entries:
            at = self._columns.get(entry.path)
            if at is not None:
                yield entry, cells[at]


def _is_number(key: str) -> bool:
    return key.isascii() and key.isdigit() and 0 < int(key) < 1000


DRIVERS = (
    DriverSpec(
        "csv_lines",
        Transport.SERIAL,
        CsvLines,
        "a board that prints lines of values, with or without a header",
        maps=True,
        pressure=Pressure.MAPPED,
        stamps="`time` where the map names it, else on arrival",
    ),
)
