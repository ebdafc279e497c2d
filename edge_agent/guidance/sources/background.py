"""The cloud background of our own service: `GET /v1/background?lat=&lon=`.

    {"model": "name", "run": "2026-01-02T00:00:00Z", "issued": "2026-01-02T06:40:00Z", "latitude": 52.5,
     "longitude": 13.25, "elevation": 48.0, "native": true, "licence": "...",
     "valid_time": ["2026-01-02T07:00:00Z", ...],
     "variables": {"temperature": {"unit": "degC", "values": [1.5, null, ...]}, "temperature__spread": ...}}

`issued` is when the run could first be used; `elevation` the height the numbers are for, null = not known. Pure.
"""

from __future__ import annotations

import math
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from edge_agent.clock import parse_time
from edge_agent.config import Station
from edge_agent.errors import ConfigError, DataError
from edge_agent.guidance import Run
from edge_agent.guidance.predictors import is_spread
from edge_agent.guidance.sources import MOST_STEPS, Guidance, height, query, some, valid_times
from edge_agent.variables import VARIABLES, conversion

MOST_VARIABLES = 100
Text = Annotated[str, Meta(max_length=200)]


class Column(msgspec.Struct, frozen=True, forbid_unknown_fields=False):
    """A variable's values [L], null = missing."""

    unit: Text
    values: Annotated[list[float | None], Meta(max_length=MOST_STEPS)]


class Answer(msgspec.Struct, frozen=True):
    """The service's answer."""

    model: Text
    run: Text
    issued: Text
    latitude: float
    longitude: float
    valid_time: Annotated[list[Text], Meta(min_length=1, max_length=MOST_STEPS)]
    variables: Annotated[dict[str, Column], Meta(max_length=MOST_VARIABLES)]
    elevation: float | None = None
    native: bool = True
    licence: Text = ""


class Background:
    """A source; `base`: the service's address."""

    name = "background"
    licence = ""

    def __init__(self, base: str) -> None:
        self._base = base.rstrip("/")

    def url(self, station: Station) -> str:
        return f"{self._base}/v1/background?" + query(lat=station.latitude, lon=station.longitude)

    def parse(self, answer: bytes, fetched: int) -> Guidance:
        """As `Source.parse`; a run that says it comes later than it came is refused."""
        try:
            told = msgspec.json.decode(answer, type=Answer)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise DataError(f"{self.name}: {error}") from None
        issued = parse_time(told.issued)
        if issued > fetched + 60:
            raise DataError(f"{self.name}: issued {told.issued}, which is yet to come: is this device's clock right?")
        valid = valid_times(list(told.valid_time), lambda text: parse_time(str(text)), self.name)
        values = {}
        for name, column in told.variables.items():
            base = name.partition("__")[0]
            if base not in VARIABLES:
                continue
            if len(column.values) != len(valid):
                raise DataError(f"{self.name}: {name}: {len(column.values)} values for {len(valid)} times")
            try:
                factor, shift = conversion(base, column.unit)
            except ConfigError as error:
                raise DataError(f"{self.name}: {error}") from None
            if is_spread(name):
                shift = 0.0
            numbers = np.array([math.nan if v is None or abs(v) > 1e12 else v for v in column.values], np.float64)
            values[name] = factor * numbers + shift
        run = Run(issued, valid, some(values, self.name))
        return Guidance(self.name, run, height(told.elevation, self.name), told.native, told.licence)
