"""A model's forecasts as a station would get them: moved by what it has learned of its own verdicts.

The learner of the agent runs through the record, every quarter hour from its second day on or from so many days before
the part that is scored, by the agent's own cycle. What it gives at an origin rests on nothing later.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from edge_agent.adaptation import cycle
from edge_agent.adaptation.learner import BY_BUNDLE, Learner
from edge_agent.bundle.station_task import EVENTS, OUTPUT_VARIABLES
from edge_agent.errors import DataError
from edge_agent.forecast import LEADS_S, QUANTILES
from edge_agent.forecast.persistence import NOW_STEPS
from edge_agent.grid import GRID_VARIABLES, STEP_S, STEPS_PER_DAY
from model_factory.verification.models import CHUNK, Model, ask
from model_factory.verification.pairs import Index, Record, windows

_COLUMNS = [GRID_VARIABLES.index(name) for name in OUTPUT_VARIABLES]

Rows = NDArray[np.float32]
Floats = NDArray[np.float64]


def adapted_forecasts(
    model: Model, one: Record, at: Index, others: Sequence[Record] = (), days: int | None = None
) -> tuple[Rows, Rows, Rows]:
    """Mean [O, 24, 8], quantiles [O, 24, 8, 11] and probability [O, 24, E] from the origins `at`, ascending. A variable
    without a reading in the hour before an origin has none: NaN. `days`: learning begins so many before the first
    origin; None: with the record.

    Raises:
        DataError: an origin in the first day, before there is a forecast.
    """
    if at[0] < STEPS_PER_DAY:
        raise DataError(f"{one.network} {one.station}: less than a day of readings before the part that is scored")
    parts: list[list[Rows]] = [[], [], []]
    first = STEPS_PER_DAY if days is None else max(int(at[0]) - days * STEPS_PER_DAY, STEPS_PER_DAY)
    for origins, made in _issued(model, one, others, first, int(at[-1])):
        chosen = np.isin(origins, at)
        for part, values in zip(parts, made, strict=True):
            part.append(values[chosen].astype(np.float32))
    mean, quantiles, probability = (np.concatenate(part) for part in parts)
    return mean, quantiles, probability


def _issued(
    model: Model, one: Record, others: Sequence[Record], first: int, last: int
) -> Iterator[tuple[Index, tuple[Floats, Floats, Floats]]]:
    """Adapted mean, quantiles and probability from each quarter hour, `first` to `last`, in chunks."""
    learner = Learner(LEADS_S, QUANTILES, EVENTS)
    start = int(one.steps[0])

    def came(valid: Index) -> Floats:
        at = (valid - start) // STEP_S
        return np.where((at >= 0)[:, None], one.came[np.maximum(at, 0)], np.nan)

    chunk = max(CHUNK // (1 + len(others)), 1)
    for begin in range(first, last + 1, chunk):
        origins = np.arange(begin, min(begin + chunk, last + 1), dtype=np.int64)
        x = windows(one, origins)
        history = np.ascontiguousarray(x.transpose(0, 2, 1))
        read = np.asarray(~np.isnan(history[:, -NOW_STEPS:][..., _COLUMNS]).all(axis=1))
        rung = np.where(read, BY_BUNDLE, 0).astype(np.int8)
        mean, quantiles, probability = (part.astype(np.float64) for part in ask(model, one, one.steps[origins], others))
        mean[~read[:, None].repeat(len(LEADS_S), axis=1)] = np.nan
        quantiles[np.isnan(mean)] = np.nan
        base = cycle.bases(history, LEADS_S)
        for row, origin in enumerate(one.steps[origins].tolist()):
            cycle.take(learner, origin, came)
            learner.adapt(origin, history[row], base[row], rung[row], mean[row], quantiles[row], probability[row])
        yield origins, (mean, quantiles, probability)
