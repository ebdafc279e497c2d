"""What the forecast is meant to reach on pairs kept out of training, beside what it reached. Judges nothing else.

The numbers were set before any model was scored by them, and are no gate: `gate` is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle.station_task import OUTPUT_VARIABLES
from model_factory.verification.curves import slices, told
from model_factory.verification.gate import squared_errors
from model_factory.verification.paired import NAMED_EVENTS, PAIRED_LEADS_S, Pairs
from model_factory.verification.scoring import ANOMALY, CLIMATOLOGY, HELD_OUT, LIGHTGBM, MODEL, PERSISTENCE, RIDGE

LINEAR = ("temperature", "humidity", "pressure", "wind_speed")
KNOWN, KNOWN_WORST = 0.96, 1.02  # RMSE over the better of ridge and LightGBM: geometric mean, any cell
UNSEEN, UNSEEN_WORST = 0.94, 1.01  # RMSE over anomaly persistence, likewise
UNSEEN_OWN = 1.0  # RMSE over the unseen station's own ridge, once it is adapted
DRESSED = 0.96  # CRPS over that of a dressed regression
COVERED = {0.8: 0.015, 0.9: 0.01}  # central share -> how far off, per variable
AT_A_LEAD, IN_A_PART = 0.03, 0.05  # how far off at any lead; in any season, by day, by night
SETTLED_S = 60 * 86_400  # after a station's first reading: coverage is judged from here on
FEW_CAME = 10  # events, below which their skill says nothing

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Aim:
    """`got` is to be at most `bound`, or, where `above`, more than it; NaN: there was nothing to judge by. `where`: the
    cell that is meant."""

    network: str
    about: str
    got: float
    bound: float
    where: str = ""
    above: bool = False

    @property
    def met(self) -> bool | None:
        if math.isnan(self.got):
            return None
        return self.got > self.bound if self.above else self.got <= self.bound

    @property
    def sign(self) -> str:
        return ">" if self.above else "<="

    @property
    def verdict(self) -> str:
        if self.met is None:
            return "nothing to judge by"
        return "met" if self.met else f"missed by {abs(self.got - self.bound):.3f}"


def aims(networks: Mapping[str, Pairs]) -> Iterator[Aim]:
    """Every aim of every network."""
    for name, pairs in networks.items():
        yield from _errors(name, pairs)
        yield from _crps(name, pairs)
        yield from _coverage(name, pairs)
        yield from _events(name, pairs)


def _errors(network: str, pairs: Pairs) -> Iterator[Aim]:
    """RMSE, against what a station could run itself, or what is known of an unseen one."""
    if not pairs.setting.startswith(HELD_OUT):
        yield from _both(
            network, "RMSE / better of ridge and LightGBM", _rmse_ratio(pairs, (RIDGE, LIGHTGBM)), KNOWN, KNOWN_WORST
        )
        return
    yield from _both(network, "RMSE / anomaly persistence", _rmse_ratio(pairs, (ANOMALY,)), UNSEEN, UNSEEN_WORST)
    yield Aim(network, "RMSE / its own ridge", _mean(_rmse_ratio(pairs, (RIDGE,))), UNSEEN_OWN)


def _both(network: str, about: str, ratios: Floats, bound: float, worst: float) -> Iterator[Aim]:
    """The geometric mean over the cells, and the worst of them."""
    yield Aim(network, about, _mean(ratios), bound)
    cell, value = _worst(ratios)
    yield Aim(network, f"{about}, worst cell", value, worst, cell)


def _rmse_ratio(pairs: Pairs, rivals: tuple[str, ...]) -> Floats:
    """[7, 4]: RMSE over the best of the rivals' at each lead, on the pairs that all have; NaN where there is none."""
    columns = [OUTPUT_VARIABLES.index(name) for name in LINEAR]
    if any(rival not in pairs.means for rival in rivals):
        return np.full((len(PAIRED_LEADS_S), len(columns)), np.nan)
    own, *others = _common([squared_errors(pairs, pairs.means[source])[..., columns] for source in (MODEL, *rivals)])
    return np.asarray(np.sqrt(own / np.min(others, axis=0)))


def _crps(network: str, pairs: Pairs) -> Iterator[Aim]:
    columns = [OUTPUT_VARIABLES.index(name) for name in LINEAR]
    for rival, words in ((RIDGE, "ridge"), (LIGHTGBM, "LightGBM")):
        if rival in pairs.crps:
            own, other = _common([pairs.crps[source][..., columns] for source in (MODEL, rival)])
            yield Aim(network, f"CRPS / dressed {words}", _mean(own / other), DRESSED)


def _common(losses: Sequence[NDArray[np.floating]]) -> list[Floats]:
    """Means over the origins that all have, [7, V] each; NaN where there is none, and where the first is 0."""
    there = ~np.logical_or.reduce([np.isnan(loss) for loss in losses])
    n = there.sum(axis=0)
    sums = [np.where(there, loss, 0.0).sum(axis=0, dtype=np.float64) for loss in losses]
    known = (n > 0) & np.logical_and.reduce([total > 0 for total in sums])
    return [np.where(known, total / np.maximum(n, 1), np.nan) for total in sums]


def _coverage(network: str, pairs: Pairs) -> Iterator[Aim]:
    """How far the central intervals are off, at worst: per variable, at any lead, in any season or light."""
    settled = pairs.rows(pairs.origin >= pairs.since[pairs.station] + SETTLED_S)
    parts = {name: slices(settled, i) for i, name in enumerate(OUTPUT_VARIABLES)}
    for share, allowed in COVERED.items():
        whole: dict[str, float] = {}
        leads: dict[str, float] = {}
        seasons: dict[str, float] = {}
        for name, by_part in parts.items():
            for part, one in by_part.items():
                held = (one.coverage if share == 0.8 else one.coverage90) - share
                if part == "all":
                    whole[name] = _plain(held)
                    leads |= {f"{name}, {lead // 60} min": x for lead, x in zip(PAIRED_LEADS_S, held, strict=True)}
                else:
                    seasons[f"{name}, {part}"] = _plain(held)
        for words, off, bound in (
            ("", whole, allowed), (", any lead", leads, AT_A_LEAD), (", any season or light", seasons, IN_A_PART),
        ):  # fmt: skip
            where, value = _furthest(off)
            yield Aim(network, f"{100 * share:.0f} % interval off by{words}", value, bound, where)


def _events(network: str, pairs: Pairs) -> Iterator[Aim]:
    for event in NAMED_EVENTS:
        if MODEL in pairs.chances and not np.isnan(pairs.outcome(event)).all():
            found = told(pairs, event)
            for source in (CLIMATOLOGY, PERSISTENCE):
                skill = found.skill.get(source, math.nan) if found.came >= FEW_CAME else math.nan
                yield Aim(network, f"Brier skill of {event.name} over {source}", skill, 0.0, f"{found.came} came", True)


def _mean(ratios: Floats) -> float:
    """Geometric mean of what is there."""
    known = ratios[~np.isnan(ratios)]
    return float(np.exp(np.log(known).mean())) if known.size else math.nan


def _plain(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan


def _worst(ratios: Floats) -> tuple[str, float]:
    if np.isnan(ratios).all():
        return "", math.nan
    k, i = np.unravel_index(np.nanargmax(ratios), ratios.shape)
    return f"{LINEAR[i]}, {PAIRED_LEADS_S[k] // 60} min", float(ratios[k, i])


def _furthest(off: Mapping[str, float]) -> tuple[str, float]:
    """The name and size of the largest, without its sign; the name tells it."""
    known = {name: value for name, value in off.items() if not math.isnan(value)}
    if not known:
        return "", math.nan
    name = max(known, key=lambda key: abs(known[key]))
    return f"{name}: {'too wide' if known[name] > 0 else 'too narrow'}", abs(known[name])
