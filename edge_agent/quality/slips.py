"""In which other unit a column of a file may be, where its own makes its values impossible. Converts nothing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_agent.quality import checks, limits
from edge_agent.variables import VARIABLES, conversion

MOST = 0.9  # of the values
LEAP = 0.1  # of the largest possible value: what is no farther beyond it goes on from it, a spike does not

Values = NDArray[np.float64]


def other_unit(name: str, column: Values, out: NDArray[np.bool_], elevation_m: float | None) -> str | None:
    """The unit in which a column would be ordinary; None: there is none.

    It is where `MOST` of what is impossible and of all values are ordinary in that unit; and where that is `MOST` of
    the column, or its values go on across the limit without a leap, as 60, 64 and 67 degF do.

    Args:
        column: [N] in the variable's own unit, NaN = missing; `out`: [N], which of it is impossible.
        elevation_m: of the station, for its pressure; None = not known.
    """
    there, like = ~np.isnan(column), limits.UNIT_LIKE.get(name, name)
    if not out.any() or not (nearly_all(column, out) or _goes_on(column, out)):
        return None
    for unit in limits.UNIT_SLIPS.get(like, ()):
        meant = in_unit(name, column, unit)
        low, high = limits.UNIT_ORDINARY.get(like, VARIABLES[name].suspect)
        [(_, wrong)] = checks.impossible({name: meant}, elevation_m)
        fits = (meant >= low) & (meant <= high) & ~wrong
        if min(fits[out].mean(), fits[there].mean()) >= MOST:
            return unit
    return None


def nearly_all(column: Values, out: NDArray[np.bool_]) -> bool:
    """Whether `MOST` of the values of a column are impossible."""
    return bool(out.sum() >= MOST * (~np.isnan(column)).sum())


def advice(name: str, impossible: Values, unit: str) -> str:
    """What values that are impossible would be in another unit, and how to convert their column."""
    factor, offset = conversion(name, unit)
    usual = float(np.median(in_unit(name, impossible, unit)))
    times = f" * {factor:.6g}" if factor != 1.0 else ""
    plus = f" {'-' if offset < 0 else '+'} {abs(offset):.6g}" if offset else ""
    return (
        f"in {unit} they would be {usual:.1f} {VARIABLES[name].unit} or so: if the column is in {unit}, convert all of"
        f" it: value{times}{plus}"
    )


def in_unit(name: str, column: Values, unit: str) -> Values:
    """Values that were meant in `unit` in the variable's own."""
    factor, offset = conversion(name, unit)
    return column * factor + offset


def _goes_on(column: Values, out: NDArray[np.bool_]) -> bool:
    """Whether what is too large begins where the rest of the column ends."""
    largest = np.nanmax(column[~out])
    beyond = column[out & (column > largest)]
    return bool(beyond.size and beyond.min() - largest <= LEAP * largest)
