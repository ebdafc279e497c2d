"""A run at full hours, whatever its own steps: what guidance with steps of 15 minutes to 3 hours says of each hour, and
between them.

Pure. Must never change the total of a sum, or fill a gap of more than 3 hours.
"""

from __future__ import annotations

import numpy as np

from edge_agent.guidance import MOST_GAP_S, Floats, Run, Times
from edge_agent.variables import VARIABLES, Kind

HOUR_S = 3600


def in_hours(run: Run) -> Run:
    """A run at the full hours that its steps cover, NaN where they say nothing.

    States as `Run.at` has them: in a straight line between steps at most 3 h apart. A sum is spread evenly over its
    step, the maximum of a step stands for each of its hours; the first step is as long as the second. Further
    predictors, `<name>__<what>`, as their variable.
    """
    starts = _starts(run.valid)
    hours = np.arange((starts[0] // HOUR_S + 1) * HOUR_S, run.valid[-1] + 1, HOUR_S, dtype=np.int64)
    if not len(hours) or np.array_equal(hours, run.valid):
        return run
    values = {}
    for name in run.values:
        about = VARIABLES.get(name.partition("__")[0])
        if about is not None and about.kind in (Kind.SUM, Kind.MAXIMUM):
            values[name] = _of_steps(starts, run.valid, run.values[name], hours, about.kind)
        else:
            values[name] = run.at(name, hours)
    return Run(run.issued, hours, values)


def with_quarters(run: Run, quarters: Run) -> Run:
    """A run that also has the states of another one at times between its own, where that knows them."""
    inside = (quarters.valid > run.valid[0]) & (quarters.valid < run.valid[-1])
    valid = np.union1d(run.valid, quarters.valid[inside])
    between = ~np.isin(valid, run.valid)
    values = {}
    for name in run.values:
        values[name] = own = run.at(name, valid)
        if name in quarters.values and VARIABLES[name].kind in (Kind.STATE, Kind.DIRECTION):
            said = quarters.at(name, valid)
            values[name] = np.where(between & ~np.isnan(said), said, own)
    return Run(run.issued, valid, values)


def _starts(valid: Times) -> Times:
    """When each step begins, [L]."""
    first = valid[1] - valid[0] if len(valid) > 1 else HOUR_S
    return np.concatenate([[valid[0] - first], valid[:-1]])


def _of_steps(starts: Times, ends: Times, value: Floats, hours: Times, kind: Kind) -> Floats:
    """The sum or maximum of the hour that ends at each of `hours`, [H]; NaN where known steps do not cover it."""
    known = np.where(ends - starts <= MOST_GAP_S, value, np.nan)
    out = np.full(len(hours), np.nan)
    for i, hour in enumerate(hours.tolist()):
        first, last = np.searchsorted(ends, hour - HOUR_S, side="right"), np.searchsorted(ends, hour) + 1
        part = slice(first, last)
        inside = np.minimum(ends[part], hour) - np.maximum(starts[part], hour - HOUR_S)
        if inside.sum() == HOUR_S:
            sum_ = (known[part] * inside / (ends[part] - starts[part])).sum()
            out[i] = sum_ if kind is Kind.SUM else known[part].max()
    return out
