"""What unknown lines of text may hold: JSON or separated values, and which variables their names point to. Guesses, for
a person to check; the agent itself never guesses."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from edge_agent.errors import BadMessage
from edge_agent.sensors.mapping import number

LEAST_TEXT = 0.9  # share of printable bytes
LEAST_LINES = 0.6  # share of lines that are of one kind
DEEP = 4  # levels of a JSON object that are looked into
MAX_VALUES = 40
DELIMITERS = (",", ";", "\t", " ")

# what a name holds -> variable, unit; the first that fits
_HINTS = (
    (r"dew", "dew_point", "degC"),
    (r"soil.*(moist|hum)|moisture", "soil_moisture", "%"),
    (r"soil.*temp", "soil_temperature", "degC"),
    (r"temp|^t(_?out|_?air)?$", "temperature", "degC"),
    (r"hum|(^|_)rh$|^h$", "humidity", "%"),
    (r"slp|msl|sea", "pressure_msl", "hPa"),
    (r"press|baro|(^|_)p$|^qfe$", "pressure", "hPa"),
    (r"gust|wind.*max", "wind_gust", "m/s"),
    (r"wind.*dir|^dir|(^|_)wd$", "wind_direction", "degree"),
    (r"wind|speed|(^|_)ws$", "wind_speed", "m/s"),
    (r"rain.*rate", "rain_rate", "mm/h"),
    (r"rain|precip", "rain", "mm"),
    (r"solar|radiation|irradiance|pyran", "solar_radiation", "W/m2"),
    (r"uv", "uv_index", "1"),
    (r"pm_?2[._]?5", "pm2_5", "ug/m3"),
    (r"pm_?10", "pm10", "ug/m3"),
)


# what the name of a running total holds
_TOTAL = re.compile(r"total|count|accum|cumul|sum|tips|today|day|daily|month|year|event")


@dataclass(frozen=True, slots=True)
class Text:
    """Lines that came. `kind`: `json_lines`, `csv_lines`, or empty for other text; `values`: by path, column name or
    column number, the last number there."""

    kind: str
    lines: tuple[str, ...]
    values: tuple[tuple[str, float], ...] = ()
    delimiter: str = ""

    def map_lines(self) -> Iterator[str]:
        """A `[sensor.map]` for agent.toml; what no name points to is a comment."""
        yield "[sensor.map]"
        given: set[str] = set()
        for path, value in self.values:
            hint = _hint(path, value)
            key = json.dumps(path, ensure_ascii=False)
            if hint is None or hint[0] in given:
                yield f'#{key} = {{ variable = "...", unit = "..." }}  # {value:g}'
            else:
                given.add(hint[0])
                told, note = f'variable = "{hint[0]}", unit = "{hint[1]}"', ""
                if hint[0] == "rain" and _TOTAL.search(path.lower()):
                    told += ", counter = true"
                elif hint[0] == "rain":
                    note = "; a running total needs counter = true"
                yield f"{key} = {{ {told} }}  # {value:g}{note}"


def text_of(data: bytes) -> Text | None:
    """The lines in these bytes; None if they are no text. The first and last one may be cut."""
    printable = sum(32 <= byte < 127 or byte in b"\t\r\n" for byte in data)
    if not data or printable < LEAST_TEXT * len(data):
        return None
    lines = [line for line in re.split(r"[\r\n]+", data.decode("ascii", "replace")) if line.strip()]
    inner = lines[1:-1] or lines
    if not inner:
        return None
    return _json(inner) or _csv(inner) or Text("", tuple(inner))


def _json(lines: list[str]) -> Text | None:
    objects = []
    for line in lines:
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            objects.append(found)
    if not objects or len(objects) < LEAST_LINES * len(lines):
        return None
    values: dict[str, float] = {}
    for message in objects:
        values |= dict(_numbers(message, ""))
    return Text("json_lines", tuple(lines), tuple(values.items())[:MAX_VALUES])


def _numbers(value: object, path: str, depth: int = 0) -> Iterator[tuple[str, float]]:
    """Paths to numbers, as a map names them."""
    if depth > DEEP:
        return
    below: list[tuple[str, object]] = []
    if isinstance(value, dict):
        below = list(value.items())[:MAX_VALUES]
    elif isinstance(value, list):
        below = [(str(i), each) for i, each in enumerate(value[:MAX_VALUES])]
    else:
        try:
            yield path, number(value)
        except BadMessage:
            return
    for key, each in below:
        if not key.isprintable():
            continue  # it could not stand in a configuration
        yield from _numbers(each, f"{path}.{key}" if path else key, depth + 1)


def _csv(lines: list[str]) -> Text | None:
    """Lines with the same number of columns, at least two, most of them numbers."""
    for delimiter in DELIMITERS:
        rows = [_cells(line, delimiter) for line in lines]
        width, times = Counter(len(row) for row in rows).most_common(1)[0]
        if width < 2 or times < LEAST_LINES * len(rows):
            continue
        even = [row for row in rows if len(row) == width]
        header = next((row for row in even if not any(_is_number(cell) for cell in row) and all(row)), None)
        names = header or [str(i + 1) for i in range(width)]
        last = next((row for row in reversed(even) if row is not header), [])
        values = [(name, number(cell)) for name, cell in zip(names, last, strict=False) if _is_number(cell)]
        if len(values) * 2 >= width:
            return Text("csv_lines", tuple(lines), tuple(values[:MAX_VALUES]), delimiter)
    return None


def _cells(line: str, delimiter: str) -> list[str]:
    return line.split() if delimiter == " " else [cell.strip() for cell in line.split(delimiter)]


def _is_number(cell: str) -> bool:
    try:
        number(cell)
    except BadMessage:
        return False
    return True


def _hint(path: str, value: float) -> tuple[str, str] | None:
    name = re.sub(r"[^a-z0-9_.]", "_", path.rpartition(".")[2].lower())
    for pattern, found, unit in _HINTS:
        if re.search(pattern, name):
            return found, _pressure_unit(value) if "pressure" in found else unit
    return None


def _pressure_unit(value: float) -> str:
    """The unit in which a number is a pressure of the air."""
    ranges = ((300, 1100, "hPa"), (30_000, 110_000, "Pa"), (110, 300, "hPa"), (33, 110, "kPa"), (20, 33, "inHg"))
    return next((unit for low, high, unit in ranges if low <= value <= high), "hPa")
