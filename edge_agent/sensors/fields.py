"""What the decoders of pushed and polled devices share: messages of named fields, and tables of what these mean.

Pure. Says nothing of a message's content in its errors: these messages carry passwords.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from urllib.parse import parse_qsl

from edge_agent.errors import BadMessage
from edge_agent.sensors.mapping import Count, Entry, number, own_time
from edge_agent.variables import conversion

MAX_FIELDS = 1_000  # of a form; the fullest known message has some 300
MISSING = -9999.0  # what such devices send for a sensor that is not there
SET_SINCE = 1_325_376_000  # 2012-01-01: these devices are younger, and start at 1970 or 2000 until their clock is set

_REQUEST = re.compile(r"(?:GET|POST) (\S+)(?: HTTP/1\.[01])?")
_MOMENT = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})[ T+](\d{1,2}):(\d{1,2}):(\d{1,2})Z?")


def entry(path: str, variable: str, unit: str) -> Entry:
    """A row of a driver's own table: the field `path` holds `variable` in `unit`."""
    return Entry(path, variable, *conversion(variable, unit))


def json_object(payload: bytes) -> dict[str, object]:
    """A message that is one JSON object.

    Raises:
        BadMessage: `not-json`, also for what is nested too deep or has numbers of thousands of digits; `not-object`.
    """
    try:
        found = json.loads(payload.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        raise BadMessage("not-json", f"{len(payload)} bytes that are no JSON") from None
    if not isinstance(found, dict):
        raise BadMessage("not-object", f"a JSON {type(found).__name__} has no names")
    return found


def form_object(payload: bytes) -> dict[str, object]:
    """The fields of a pushed message, names in lower case: a form body, a query, a whole request line, or JSON.

    Raises:
        BadMessage: `not-text`, `not-form`, or as `json_object`.
    """
    text = payload.strip(b" \t\r\n\0")
    if text[:1] in (b"{", b"["):
        found: Iterable[tuple[str, object]] = json_object(text).items()
    else:
        try:
            found = parse_qsl(_form(text.decode()), keep_blank_values=True, max_num_fields=MAX_FIELDS)
        except UnicodeDecodeError:
            raise BadMessage("not-text", f"{len(payload)} bytes that are no text") from None
        except ValueError:
            raise BadMessage("not-form", f"more than {MAX_FIELDS} fields") from None
        if b"=" not in text:
            raise BadMessage("not-form", f"{len(payload)} bytes that are no form (name=value&...)")
    return {name.lower(): value for name, value in found}


def split_target(target: str) -> tuple[str, str]:
    """Path and query of a request's target, also where a console has left out the `?` between them."""
    path, mark, query = target.partition("?")
    if mark or "=" not in path:
        return path, query
    cut = path.rfind("/", 0, path.index("=")) + 1
    return path[:cut], path[cut:].lstrip("&")


def _form(words: str) -> str:
    """The form in a body, a query, a URL or a request line."""
    request = _REQUEST.fullmatch(words)
    if request or words.startswith(("/", "http://", "https://")):
        return split_target(request[1] if request else words)[1]
    before, mark, form = words.partition("?")
    return form if mark and "=" not in before else words


def present(value: object) -> float:
    """A number that is not the marker of a missing one.

    Raises:
        BadMessage: `missing-marker`, or as `number`.
    """
    found = number(value)
    if found == MISSING:
        raise BadMessage("missing-marker")
    return found


def values_of(message: Mapping[str, object], rows: Iterable[Entry], count: Count) -> tuple[dict[str, float], bool]:
    """The values that a message holds of a table, in the vocabulary's units, and whether it has any of its names.

    The first name of a variable that is in the message stands for it; a value that is missing is counted.
    """
    values: dict[str, float] = {}
    seen: set[str] = set()
    for row in rows:
        if row.variable in seen or row.path not in message:
            continue
        seen.add(row.variable)
        try:
            values[row.variable] = number(present(message[row.path]) * row.factor + row.offset)
        except BadMessage as error:
            count(error.reason)
    return values, bool(seen)


def device_time(raw: object, count: Count) -> int | None:
    """The time a device puts into its messages: epoch seconds, or `YYYY-MM-DD HH:MM:SS` in UTC. None, counted as
    `clock-unset`, where it cannot be right: what has just come is then stamped on arrival, and not lost."""
    try:
        civil = _MOMENT.fullmatch(raw.strip()) if isinstance(raw, str) else None
        t = _moment(civil) if civil else own_time(raw)
        if t < SET_SINCE:
            raise BadMessage("clock-unset")
    except BadMessage:
        count("clock-unset")
        return None
    return t


def _moment(found: re.Match[str]) -> int:
    """Raises BadMessage `bad-time`: a day or an hour that there is not."""
    year, month, day, hour, minute, second = (int(part) for part in found.groups())
    try:
        return int(datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp())
    except ValueError:
        raise BadMessage("bad-time", "its time is not in the calendar") from None
