"""JSON Schemas (2020-12) of every payload, and the check at run time that needs no schema library.

The files beside this one are generated from `publish.structs` by `python -m edge_agent.publish.schemas`; a test fails
when they have drifted. Never edit them by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.resources import files
from itertools import pairwise
from typing import Any

import msgspec

from edge_agent.errors import DataError
from edge_agent.forecast import Level
from edge_agent.publish.structs import (
    ForecastPayload,
    LastObservationPayload,
    ObservationPayload,
    RevisionPayload,
    StatusPayload,
    VerifyPayload,
)
from edge_agent.publish.topics import KINDS, TEXT
from edge_agent.variables import VARIABLES, Kind

MAX_BYTES = 1_000_000  # a longer payload is refused unread


def load_schema(kind: str) -> dict[str, Any]:
    """The JSON Schema of a kind of message (`obs`, `forecast/nowcast`, ...; `topics.KINDS` has them all).

    Raises:
        DataError: no such kind.
    """
    schema: dict[str, Any] = msgspec.json.decode(files(__name__).joinpath(_file(kind)).read_bytes())
    return schema


def validate(kind: str, data: bytes) -> Any:
    """A received payload as its struct (`availability`: as its word), if it keeps to everything the wire promises.

    Stricter than the schema, which cannot say that series are equally long and quantiles do not cross.

    Raises:
        DataError: no such kind, not JSON, a field too many or too few, a value out of bounds, parts that contradict
            each other; the message names the place.
    """
    _file(kind)
    if len(data) > MAX_BYTES:
        raise DataError(f"{kind}: {len(data)} bytes, at most {MAX_BYTES} are read")
    about = KINDS[kind]
    try:
        if about.content_type == TEXT:
            return msgspec.convert(data.decode(), about.payload)
        payload = msgspec.json.decode(data, type=about.payload)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DataError(f"{kind}: {error}") from None
    if kind in _HISTORICAL and payload.historical is not _HISTORICAL[kind]:
        raise DataError(f"{kind}: historical must be {str(_HISTORICAL[kind]).lower()} on this topic")
    check = _CHECKS.get(about.payload)
    for fault in check(payload) if check else ():
        raise DataError(f"{kind}: {fault}")
    return payload


def generate(kind: str) -> dict[str, Any]:
    """The JSON Schema of a kind, made from its struct. Raises as `load_schema`."""
    _file(kind)
    about = KINDS[kind]
    schema: dict[str, Any] = msgspec.json.schema(about.payload)
    series = schema.get("$defs", {}).get("VariableSeries")
    if series is not None:
        series |= _NONE_MEANS_NULL
    head: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:stationcast:wx:v1:{kind.replace('/', '-')}",
        "title": f"wx/v1/<station>/{kind}",
    }
    if kind in _HISTORICAL:
        head["properties"] = {"historical": {"const": _HISTORICAL[kind]}}
    whole: dict[str, Any] = _one_line(head | schema)
    return whole


def file_name(kind: str) -> str:
    """The name of a kind's schema file."""
    return f"{kind.replace('/', '-')}.json"


# The late go to a topic of their own.
_HISTORICAL = {"obs": False, "obs/last": False, "obs/history": True}

# A level of none goes with nulls and a reason, every other with numbers.
_NONE_MEANS_NULL = {
    "if": {"properties": {"level": {"const": Level.NONE.value}}},
    "then": {
        "properties": {"mean": {"type": "null"}, "q": {"type": "null"}, "why": {"minLength": 1}},
        "required": ["why"],
    },
    "else": {"properties": {"mean": {"type": "array"}, "q": {"type": "array"}}},
}


def _file(kind: str) -> str:
    if kind not in KINDS:
        raise DataError(f'no kind of message is called "{kind[:60]}": known are {", ".join(KINDS)}')
    return file_name(kind)


def _one_line(node: Any) -> Any:
    """The schema with every description on one line: Python versions differ in how they indent docstrings."""
    if isinstance(node, list):
        return [_one_line(part) for part in node]
    if isinstance(node, dict):
        return {key: " ".join(v.split()) if key == "description" else _one_line(v) for key, v in node.items()}
    return node


def _check_observation(payload: ObservationPayload) -> Iterator[str]:
    for name in sorted(payload.v.keys() - payload.qc.keys()):
        yield f"v.{name} has no verdict in qc"
    for name in sorted(payload.qc.keys() - payload.v.keys()):
        if payload.qc[name].flag != 9:
            yield f"qc.{name} judges a value that is not there"


def _check_last(payload: LastObservationPayload) -> Iterator[str]:
    yield from _check_observation(payload)
    if payload.v.keys() != payload.at.keys():
        yield "v and at name different variables"
    if any(at > payload.t for at in payload.at.values()):
        yield "a value is newer than t"


def _check_forecast(payload: ForecastPayload) -> Iterator[str]:
    if payload.expires <= payload.issued:
        yield "expires before it was issued"
    if any(low >= high for low, high in pairwise(payload.quantiles)):
        yield "quantiles do not ascend"
    lengths = {len(s.mean) for s in payload.vars.values() if s.mean is not None}
    lengths |= {len(event.p) for event in payload.events.values()}
    if len(lengths) > 1:
        yield f"series differ in length: {sorted(lengths)}"
    for name, series in payload.vars.items():
        if (series.mean is None, series.q is None) != ((series.level is Level.NONE),) * 2:
            yield f"vars.{name}: mean and q must be null at level none, and only there"
        elif series.mean is None or series.q is None:
            if not series.why:
                yield f"vars.{name}: no forecast and no reason"
        elif len(series.q) != len(series.mean) or any(len(step) != len(payload.quantiles) for step in series.q):
            yield f"vars.{name}: q is not {len(series.mean)} steps of {len(payload.quantiles)} quantiles"
        elif name in VARIABLES and VARIABLES[name].kind is not Kind.DIRECTION and _crosses(series.q):
            yield f"vars.{name}: quantiles cross"


def _crosses(q: list[list[float | None]]) -> bool:
    known = [[v for v in step if v is not None] for step in q]
    return any(low > high for step in known for low, high in pairwise(step))


def _check_status(payload: StatusPayload) -> Iterator[str]:
    for name, books in payload.outbox.items():
        if books.accepted != books.acknowledged + books.queued + sum(books.dropped.values()):
            yield f"outbox.{name}: accepted is not acknowledged + queued + dropped"


def _check_verify(payload: VerifyPayload) -> Iterator[str]:
    size = len(payload.leads_s)
    for source, variables in payload.scores.items():
        for name, s in variables.items():
            if any(len(column) != size for column in (s.n, s.bias, s.mae, s.rmse, s.crps, s.coverage80)):
                yield f"scores.{source}.{name}: a column has not one entry per lead"
            if any(a is not None and b is not None and a > b + 0.0015 for a, b in zip(s.mae, s.rmse, strict=False)):
                yield f"scores.{source}.{name}: an MAE above its RMSE"


def _check_revision(payload: RevisionPayload) -> Iterator[str]:
    if payload.end < payload.start:
        yield "ends before it starts"
    if (payload.by == "operator") != (payload.test == "operator"):
        yield "by and test name different judges"


_CHECKS: dict[Any, Callable[[Any], Iterator[str]]] = {
    ObservationPayload: _check_observation,
    LastObservationPayload: _check_last,
    ForecastPayload: _check_forecast,
    RevisionPayload: _check_revision,
    StatusPayload: _check_status,
    VerifyPayload: _check_verify,
}
