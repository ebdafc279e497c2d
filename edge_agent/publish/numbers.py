"""Numbers as they go on the wire: no more digits than they carry, no NaN, no infinity, no -0."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.variables import Kind, Variable

PROBABILITY_DECIMALS = 3
MAX_WHOLE = 2**53  # larger integers do not survive every JSON reader


def rounded(value: float, decimals: int) -> float | None:
    """The value with `decimals` digits, an integer where that is none, never -0; None where it is no finite number."""
    value = float(value)
    if not math.isfinite(value):
        return None
    short = round(value, decimals)
    whole = decimals <= 0 and abs(short) < MAX_WHOLE
    return int(short) if whole else short + 0.0


def series(values: NDArray[np.float64], about: Variable) -> list[Any]:
    """An array of any shape as nested lists, rounded, null where it is no finite number; directions in 0 <= d < 360."""
    with np.errstate(over="ignore"):  # beyond 1e300: becomes null
        short = np.round(np.asarray(values, np.float64), about.decimals)
    finite = np.isfinite(short)
    short = np.where(finite, short, 0.0)
    if about.kind is Kind.DIRECTION:
        short = short % 360  # after rounding, so that 359.7 without decimals is 0 and not 360
    whole = about.decimals <= 0 and bool(np.all(np.abs(short) < MAX_WHOLE))
    plain: NDArray[Any] = short.astype(np.int64) if whole else short + 0.0  # never -0
    if not finite.all():
        plain = plain.astype(object)
        plain[~finite] = None
    out: list[Any] = plain.tolist()
    return out


def probabilities(p: NDArray[np.float64]) -> list[float | None]:
    """Probabilities with `PROBABILITY_DECIMALS` digits, held within 0-1; None where there is none."""
    return [None if (v := rounded(x, PROBABILITY_DECIMALS)) is None else min(max(v, 0.0), 1.0) for x in p]
