"""LightGBM grown on all stations at once: what a shared model without a network would be.

Sees the features of a station's own regressions, less the absolute pressure, which would tell stations apart by their
height; and only the training part of networks that the run was trained on, too.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model_factory.training.data import StationFile
from model_factory.verification.baselines import (
    GAP_STEPS,
    TARGETS,
    TREE_TARGETS,
    as_variables,
    bases,
    departures,
    training_origins,
)
from model_factory.verification.features import LEAD_STEPS, features
from model_factory.verification.pairs import Index, Record, held_out_origins, load_record
from model_factory.verification.trees import Split, tree_pool

RECIPE = "1"  # grows when it changes: what was kept of another is not used
EVERY_S = 3600  # origins that are forecast; others have no forecast of it
NETWORK_ROWS = 5000  # training origins of a network, spread over its stations and its time
PRESSURE = 2  # the column of the absolute pressure

Rows = NDArray[np.float32]
Key = tuple[str, str]


def pooled_forecasts(
    files: Sequence[StationFile],
    hold_out: Sequence[str],
    test_fraction: float,
    folder: Path,
    tick: Callable[[], None] = lambda: None,
) -> dict[Key, Rows]:
    """(network, station) -> forecasts [O, 7, 8] from every full hour of the part kept out, NaN but for the linear
    variables; trained on the stations of networks that are not held out. Kept in `folder`. `tick` is called after each
    lead."""
    digest = hashlib.sha256(f"{RECIPE} {test_fraction} {sorted(hold_out)}".encode())
    for file in files:
        digest.update(f"{file.network}/{file.station}".encode() + hashlib.sha256(file.path.read_bytes()).digest())
    path = folder / f"all-stations--{digest.hexdigest()[:16]}.npz"
    if not path.exists():
        made = _grow([load_record(file, test_fraction) for file in files], hold_out, tick)
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")
        with part.open("wb") as out:
            np.savez_compressed(out, **{f"{n}/{s}": rows for (n, s), rows in made.items()})  # type: ignore[arg-type]
        part.replace(path)
    with np.load(path) as held:
        return {(name.partition("/")[0], name.partition("/")[2]): held[name] for name in held.files}


def at_origins(whole: Rows, one: Record, at: Index) -> Rows:
    """Those of `pooled_forecasts` at the origins `at` [O]; NaN between the hours."""
    hours = held_out_origins(one, EVERY_S)
    out = np.full((len(at), *whole.shape[1:]), np.nan, np.float32)
    there = np.isin(at, hours)
    out[there] = whole[np.searchsorted(hours, at[there])]
    return out


def _grow(records: Sequence[Record], hold_out: Sequence[str], tick: Callable[[], None]) -> dict[Key, Rows]:
    trained = [one for one in records if one.network not in hold_out]
    count = Counter(one.network for one in trained)
    chosen = [_spread(training_origins(one), NETWORK_ROWS // count[one.network]) for one in trained]
    cuts = [at[int(0.8 * len(at))] if len(at) else 0 for at in chosen]
    split = Split(
        np.concatenate([_inputs(one, at) for one, at in zip(trained, chosen, strict=True)]),
        np.concatenate([at < cut - GAP_STEPS for at, cut in zip(chosen, cuts, strict=True)]),
        np.concatenate([at >= cut for at, cut in zip(chosen, cuts, strict=True)]),
    )
    y = np.concatenate([departures(one, at) for one, at in zip(trained, chosen, strict=True)])
    hours = [held_out_origins(one, EVERY_S) for one in records]
    ahead = np.concatenate([_inputs(one, at) for one, at in zip(records, hours, strict=True)])
    moved = np.full((len(ahead), len(LEAD_STEPS), len(TARGETS)), np.nan)
    with tree_pool(split, ahead) as forecast_by_trees:
        for k in range(len(LEAD_STEPS)):
            grown = [forecast_by_trees(y[:, k, i]) for i in range(len(TREE_TARGETS))]
            for i, forecast in enumerate(grown):
                moved[:, k, i] = forecast.result()
            tick()
    ends = np.cumsum([len(at) for at in hours])
    return {
        (one.network, one.station): as_variables(bases(one, at) + moved[end - len(at) : end])
        for one, at, end in zip(records, hours, ends, strict=True)
    }


def _spread(at: Index, most: int) -> Index:
    """At most so many of the origins, evenly."""
    return at if len(at) <= most else at[np.linspace(0, len(at) - 1, most).astype(np.int64)]


def _inputs(one: Record, at: Index) -> Rows:
    """[O, F]; a missing value stays NaN, which trees can use."""
    return np.delete(features(one, at), PRESSURE, axis=1)
