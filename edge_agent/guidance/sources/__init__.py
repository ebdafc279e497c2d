"""Where guidance comes from: each source is a URL for a station and a pure `parse(bytes) -> Guidance`.

Must never trust an answer: it is bounded in size and time, and every number in it is checked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec
import numpy as np

from edge_agent.config import Station
from edge_agent.config_values import value_problem
from edge_agent.errors import DataError
from edge_agent.guidance import Floats, Run, Times, beyond_limits
from edge_agent.guidance.place import at_height
from edge_agent.variables import VARIABLES

MOST_STEPS = 2_000
EARLIEST, LATEST = 0, 7_258_118_400  # 1970 to 2200


@dataclass(frozen=True, slots=True)
class Guidance:
    """An answer of a source for one station.

    `run`: its numbers, from the earliest time they could be used; `elevation_m`: the height it answered for, NaN = not
    said; `native`: the model's own steps, False where the source interpolated them; `licence`: what must be said of it;
    `quarters`: the first hours in steps of 15 minutes, where the source has them, with a `native` of their own.
    """

    source: str
    run: Run
    elevation_m: float
    native: bool
    licence: str
    quarters: Guidance | None = None

    def at(self, station: Station) -> Run:
        """The run as of the station's height, without the quarters; what is impossible there is missing."""
        values = possible(at_height(self.run.values, self.elevation_m, station.elevation_m))
        return Run(self.run.issued, self.run.valid, values)


class Source(Protocol):
    """`name`, `licence`; `url` of the answer for a station; `parse` of its bytes, `fetched` (UTC seconds).

    `parse` raises DataError: not such an answer.
    """

    @property
    def name(self) -> str: ...
    @property
    def licence(self) -> str: ...
    def url(self, station: Station) -> str: ...
    def parse(self, answer: bytes, fetched: int) -> Guidance: ...


def decoded(answer: bytes, source: str) -> Mapping[str, object]:
    """A JSON object. Raises DataError: anything else."""
    try:
        found = msgspec.json.decode(answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{source}: the answer is no JSON ({error})") from None
    if not isinstance(found, dict):
        raise DataError(f"{source}: the answer is no JSON object")
    return found


def numbers(values: object, length: int, source: str, name: str) -> Floats:
    """A list of numbers or nulls as [L], NaN = missing. Raises DataError: no such list."""
    if not isinstance(values, list) or len(values) != length:
        raise DataError(f"{source}: {name}: not a list of {length} values")
    return np.array([number(value) for value in values], np.float64)


def number(value: object) -> float:
    """A finite number, or NaN."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12
    return float(value) if good and math.isfinite(value) else math.nan  # type: ignore[arg-type]


def height(value: object, source: str) -> float:
    """The height a source answered for, m; NaN = not said. Raises DataError: no place on land is there."""
    elevation_m = number(value)
    problem = None if value is None else value_problem(Station, "elevation_m", elevation_m)
    if problem:
        raise DataError(f"{source}: elevation {problem}")
    return elevation_m


def valid_times(values: object, read: Callable[[object], int], source: str) -> Times:
    """Times [L], ascending. Raises DataError: no such list, or too long."""
    if not isinstance(values, list) or not 0 < len(values) <= MOST_STEPS:
        raise DataError(f"{source}: no list of 1 to {MOST_STEPS} times")
    try:
        times = np.array([read(value) for value in values], np.int64)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{source}: a time cannot be read ({error})") from None
    if (times < EARLIEST).any() or (times > LATEST).any() or (np.diff(times) <= 0).any():
        raise DataError(f"{source}: times do not ascend, or lie outside 1970-2200")
    return times


def possible(values: Mapping[str, Floats]) -> dict[str, Floats]:
    """Impossible values taken as missing; columns without any value left out."""
    out = {}
    for name, column in values.items():
        column = np.where(beyond_limits(name, column), np.nan, column)
        if not np.isnan(column).all():
            out[name] = column
    return out


def some(values: Mapping[str, Floats], source: str) -> dict[str, Floats]:
    """`possible`. Raises DataError: nothing is left."""
    found = possible(values)
    if not any(name in VARIABLES for name in found):
        raise DataError(f"{source}: no value of a variable that is known")
    return found


def query(**parameters: object) -> str:
    """Parameters of a URL; lists with commas."""
    from urllib.parse import urlencode

    flat = {key: ",".join(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
            for key, value in parameters.items()}  # fmt: skip
    return urlencode(flat, safe=",")
