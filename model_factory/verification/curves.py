"""What a report draws, from pairs: scores by lead, PIT histograms, reliability, and the same by season and daylight."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle.manifest import Event
from edge_agent.forecast import QUANTILES
from edge_agent.quality.sun import sun_elevation
from edge_agent.verification import brier, errors
from model_factory.verification.gate import squared_errors
from model_factory.verification.paired import CIRCULAR, NAMED_EVENTS, PAIRED_LEADS_S, Pairs
from model_factory.verification.scoring import ANOMALY, MODEL

PIT_EDGES = np.array([0.0, *QUANTILES, 1.0])
SEASONS = {"Dec-Feb": (12, 1, 2), "Mar-May": (3, 4, 5), "Jun-Aug": (6, 7, 8), "Sep-Nov": (9, 10, 11)}
FEW = 100  # pairs, below which a part has no say
PIT_SEED = 0

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Slice:
    """Of a part of the pairs: RMSE over anomaly persistence's as a geometric mean over the leads, and the share of
    readings in the central 80 and 90 % by lead, [7] each."""

    ratio: float
    coverage: Floats
    coverage90: Floats


def curves(pairs: Pairs, i: int) -> dict[str, dict[str, Floats]]:
    """`RMSE` and `CRPS` of the i-th variable by lead, [7], by source, each on the pairs that all sources of that
    score have."""
    square = {s: errors(mean[..., i], pairs.came[..., i], CIRCULAR[i]) ** 2 for s, mean in pairs.means.items()}
    scores = {source: np.asarray(values[..., i], np.float64) for source, values in pairs.crps.items()}
    return {"RMSE": {s: np.sqrt(mean) for s, mean in _means(square).items()}, "CRPS": _means(scores)}


def pit_counts(pairs: Pairs, i: int) -> Floats:
    """Share of readings between neighbouring levels, [12], by randomized PIT over all leads; expected: the levels'
    distances. NaN without a reading."""
    low, high = (pairs.pit[:, :, i, end].ravel().astype(np.float64) for end in (0, 1))
    there = ~np.isnan(low)
    drawn = np.random.default_rng(PIT_SEED).uniform(0.0, 1.0, int(there.sum()))
    counts, _ = np.histogram(low[there] + drawn * (high - low)[there], PIT_EDGES)
    return np.asarray(counts / there.sum() if there.any() else np.full(len(counts), np.nan))


def reliability(
    pairs: Pairs, event: Event, leads: slice = slice(None), bins: int = 10
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Of an event over some leads: mean probability given and share that came in each class of probability that was
    used, [B], and how often it was. Source: Murphy (1973), J. Appl. Meteor. 12, 595-600."""
    p = np.asarray(pairs.chances[MODEL][:, leads, NAMED_EVENTS.index(event)], np.float64)
    came = pairs.outcome(event)[:, leads]
    there = ~np.isnan(p) & ~np.isnan(came)
    p, came = p[there], came[there]
    which = np.minimum((p * bins).astype(int), bins - 1)
    n = np.bincount(which, minlength=bins)
    used = n > 0
    given, share = (np.bincount(which, x, bins)[used] / n[used] for x in (p, came))
    return given, share, n[used]


@dataclass(frozen=True, slots=True)
class Told:
    """Of an event at a lead: on how many pairs, how often it came, the model's Brier score, and its skill over a
    baseline's, 1 - BS / BS', by baseline; NaN where the baseline's is 0."""

    n: int
    came: int
    brier: float
    skill: dict[str, float]


def told(pairs: Pairs, event: Event, leads: slice = slice(None)) -> Told:
    """An event over some leads, on the pairs that the model and all baselines have a probability for. Source of the
    skill score: Wilks (2011), Statistical Methods in the Atmospheric Sciences, 3rd ed., section 8.1.4."""
    outcome = pairs.outcome(event)[:, leads]
    given = {s: np.asarray(p[:, leads, NAMED_EVENTS.index(event)], np.float64) for s, p in pairs.chances.items()}
    there = ~np.isnan(outcome) & ~np.logical_or.reduce([np.isnan(p) for p in given.values()])
    scores = {source: brier(p[there], outcome[there]) for source, p in given.items()}
    own = scores.pop(MODEL)
    skill = {source: 1.0 - own / other if other > 0 else math.nan for source, other in scores.items()}
    return Told(int(there.sum()), int(outcome[there].sum()), own, skill)


def slices(pairs: Pairs, i: int) -> dict[str, Slice]:
    """The i-th variable: `all`, each of `SEASONS` (by the valid time's month), `day` and `night`; parts with fewer than
    100 pairs are left out."""
    months = pairs.valid().astype("datetime64[s]").astype("datetime64[M]").astype(int) % 12 + 1
    light = _day(pairs)
    parts = {"all": np.ones(months.shape, bool), "day": light, "night": ~light}
    parts |= {name: np.isin(months, season) for name, season in SEASONS.items()}
    there = ~np.isnan(pairs.came[..., i])
    return {name: _slice(pairs, i, part) for name, part in parts.items() if (part & there).sum() >= FEW}


def _slice(pairs: Pairs, i: int, part: Mask) -> Slice:
    own, bar = (squared_errors(pairs, pairs.means[source])[..., i] for source in (MODEL, ANOMALY))
    both = part & ~np.isnan(own) & ~np.isnan(bar)
    sums = [np.where(both, square, 0.0).sum(axis=0) for square in (own, bar)]
    known = (sums[0] > 0) & (sums[1] > 0)
    ratio = math.exp(0.5 * float(np.mean(np.log(sums[0][known] / sums[1][known])))) if known.any() else math.nan
    return Slice(ratio, *(_share(np.where(part, pairs.inside(p)[..., i], np.nan)) for p in (0.8, 0.9)))


def _share(held: Floats) -> Floats:
    """Mean over the pairs, by lead; NaN where there is none."""
    n = (~np.isnan(held)).sum(axis=0)
    return np.asarray(np.where(n > 0, np.nansum(held, axis=0) / np.maximum(n, 1), np.nan))


def _means(by_source: dict[str, Floats]) -> dict[str, Floats]:
    """Means by lead over the pairs that every source has at that lead; sources that have none there do not ask."""
    silent = {s: np.isnan(values).all(axis=0) for s, values in by_source.items()}
    there = np.logical_and.reduce([~np.isnan(values) | silent[s] for s, values in by_source.items()])
    n = there.sum(axis=0)
    return {
        s: np.where((n > 0) & ~silent[s], np.where(there, values, 0.0).sum(axis=0) / np.maximum(n, 1), np.nan)
        for s, values in by_source.items()
    }


def _day(pairs: Pairs) -> Mask:
    """Whether the sun is up at each valid time, [N, 7]; the station's own place, each time worked out once."""
    valid = pairs.valid()
    stations = pairs.station.repeat(len(PAIRED_LEADS_S))
    keys, where = np.unique(np.stack([stations, valid.ravel()], 1), axis=0, return_inverse=True)
    up = [sun_elevation(float(t), *map(float, pairs.place[station])) > 0.0 for station, t in keys]
    return np.asarray(np.array(up, bool)[where.ravel()].reshape(valid.shape))
