"""The promotion gate: is a candidate, on pairs that no training saw, not worse than the champion and the baselines?

Decides, and says why; moves nothing. Decision 0018 has the reasons for its numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, cast, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle.station_task import OUTPUT_VARIABLES
from edge_agent.errors import DataError
from edge_agent.verification import errors
from model_factory.verification.paired import CIRCULAR, PAIRED_LEADS_S, Pairs
from model_factory.verification.scoring import ANOMALY, MODEL, PERSISTENCE, RIDGE
from model_factory.verification.significance import Paired, diebold_mariano, false_discovery, paired, pooled

CHAMPION = "champion"
RIVALS = (CHAMPION, PERSISTENCE, ANOMALY, RIDGE)
FALSE_SHARE = 0.05  # of the cells called worse, at most so many are called so by chance
TOLERATED = 1.005  # RMSE over a rival's: what is sure and smaller than this is of no use to anybody
FEW_TIMES = 60  # origins of a network, below which it has no say
COVERAGE = 0.8
LOST = (0.01, 0.02)  # how much further from 80 % than the champion: over all leads, at one lead
FIRST = 0.05  # how far from 80 %, where there is no champion
VERDICT = "verdict.json"

Floats = NDArray[np.floating]
Precision = Literal["int8", "int4", "fp32"]


class Cell(msgspec.Struct, frozen=True):
    """One test: `ratio`, RMSE over the rival's; `n`: times; `p_worse`, `p_better`: adjusted for the number of tests."""

    rival: str
    variable: str
    lead_s: int
    n: int
    ratio: float
    statistic: float
    p_worse: float
    p_better: float

    @property
    def worse(self) -> bool:
        return self.p_worse < FALSE_SHARE and self.ratio > TOLERATED

    @property
    def better(self) -> bool:
        return self.p_better < FALSE_SHARE and self.ratio < 1.0


class Covered(msgspec.Struct, frozen=True):
    """Share of readings in the central 80 % interval, ties by randomized PIT; `lead_s` None: over all leads."""

    variable: str
    lead_s: int | None
    candidate: float
    champion: float | None

    @property
    def held(self) -> bool:
        off = abs(self.candidate - COVERAGE)
        if self.champion is None:
            return off <= FIRST
        return off <= abs(self.champion - COVERAGE) + LOST[self.lead_s is not None]


class Verdict(msgspec.Struct, frozen=True):
    """`promoted`, and `why` not in words, of the candidate in a `precision`; without a champion, as of the first bundle
    of all, `rivals` lacks it."""

    promoted: bool
    why: tuple[str, ...]
    precision: Precision
    rivals: tuple[str, ...]
    networks: tuple[str, ...]
    cells: tuple[Cell, ...]
    coverage: tuple[Covered, ...]


def judge(candidate: Mapping[str, Pairs], champion: Mapping[str, Pairs] | None) -> Verdict:
    """The verdict on a candidate's pairs, of each network.

    Per rival, variable and lead: squared errors of both on the same pairs, in units of the rival's mean in that
    network, averaged over the stations of a network first; Diebold and Mariano's test with networks counting the same;
    p-values adjusted over all these tests.

    Raises:
        DataError: the candidate and the champion share no origin, or there is a rival with nothing to compare.
    """
    rivals = tuple(rival for rival in RIVALS if rival != CHAMPION or champion is not None)
    rows: list[tuple[str, str, int, float, Paired]] = []
    for rival in rivals:
        both = [_both(one, rival, champion) for one in candidate.values()]
        rows += _tests(rival, [pair for pair in both if pair is not None])
    missing = [rival for rival in rivals if rival not in {row[0] for row in rows}]
    if missing:
        raise DataError(
            f"too few pairs with {', '.join(missing)} to judge by (at least {FEW_TIMES} origins of a network): "
            "evaluate candidate and champion on the same networks, with --baselines"
        )
    found = [diebold_mariano(row[-1]) for row in rows]
    worse, better = (false_discovery([getattr(one, name) for one in found]) for name in ("p_worse", "p_better"))
    cells = tuple(
        Cell(rival, variable, lead, part.n, round(ratio, 4), round(t.statistic, 3), float(w), float(b))
        for (rival, variable, lead, ratio, part), t, w, b in zip(rows, found, worse, better, strict=True)
    )
    coverage = tuple(_coverage(candidate, champion))
    why = (*(_lost(cell) for cell in cells if cell.worse), *(_uncovered(one) for one in coverage if not one.held))
    return Verdict(not why, why, _precision(candidate), rivals, tuple(candidate), cells, coverage)


def _precision(candidate: Mapping[str, Pairs]) -> Precision:
    """That of the candidate's model. Raises DataError: its networks were not evaluated with the same."""
    found = {pairs.precision for pairs in candidate.values()}
    for precision in get_args(Precision):
        if found == {precision}:
            return cast(Precision, precision)
    raise DataError(
        f"the candidate's pairs are of models in {', '.join(sorted(found))}: evaluate all with one --precision"
    )


def write_verdict(verdict: Verdict, run: Path) -> None:
    """RUN/verdict.json, which `bundle` puts into the card."""
    (run / VERDICT).write_bytes(msgspec.json.format(msgspec.json.encode(verdict)))


def read_verdict(run: Path) -> Verdict | None:
    """RUN/verdict.json; None where there is none. Raises DataError: it is not one."""
    path = run / VERDICT
    if not path.exists():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=Verdict)
    except msgspec.DecodeError as error:
        raise DataError(f"{path}: not a verdict ({error}): run `model-factory promote` again") from error


def summary(verdict: Verdict) -> Iterator[tuple[str, str, int, int, int, float]]:
    """(rival, variable, leads, better, worse, RMSE over the rival's as geometric mean over the leads)."""
    for rival in verdict.rivals:
        for variable in OUTPUT_VARIABLES:
            cells = [cell for cell in verdict.cells if (cell.rival, cell.variable) == (rival, variable)]
            if cells:
                logs = [math.log(cell.ratio) for cell in cells if cell.ratio > 0]
                ratio = math.exp(sum(logs) / len(logs)) if logs else 1.0
                yield rival, variable, len(cells), sum(c.better for c in cells), sum(c.worse for c in cells), ratio


def squared_errors(pairs: Pairs, forecast: Floats) -> Floats:
    """[N, 7, 7]; directions on the circle."""
    columns = [errors(forecast[..., i], pairs.came[..., i], turns) ** 2 for i, turns in enumerate(CIRCULAR)]
    return np.stack(columns, axis=-1)


def _both(one: Pairs, rival: str, champion: Mapping[str, Pairs] | None) -> tuple[Pairs, Floats, Floats] | None:
    """(pairs, squared errors of the candidate, of the rival); None where the network has no such rival."""
    own = squared_errors(one, one.means[MODEL])
    if rival != CHAMPION:
        return (one, own, squared_errors(one, one.means[rival])) if rival in one.means else None
    other = (champion or {}).get(one.network)
    if other is None:
        return None
    mine, theirs = _shared(one, other)
    if not len(mine):
        return None
    held = np.full_like(one.means[MODEL], np.nan)
    held[mine] = other.means[MODEL][theirs]
    return one, own, squared_errors(one, held)


def _shared(one: Pairs, other: Pairs) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the two that are of the same station and origin."""
    keys = [[f"{p.stations[s]}@{t}" for s, t in zip(p.station, p.origin, strict=True)] for p in (one, other)]
    _, mine, theirs = np.intersect1d(keys[0], keys[1], assume_unique=True, return_indices=True)
    return mine, theirs


def _tests(rival: str, both: Sequence[tuple[Pairs, Floats, Floats]]) -> Iterator[tuple[str, str, int, float, Paired]]:
    """(rival, variable, lead, ratio of RMSE, difference) of every cell that has enough pairs."""
    for i, variable in enumerate(OUTPUT_VARIABLES):
        for k, lead in enumerate(PAIRED_LEADS_S):
            parts, logs = [], []
            for pairs, own, other in both:
                mine, theirs = own[:, k, i], other[:, k, i]
                there = ~np.isnan(mine) & ~np.isnan(theirs)
                level = float(theirs[there].mean()) if there.any() else 0.0
                part = paired(pairs.origin[there], (mine - theirs)[there] / level, lead) if level > 0 else None
                if part is not None and part.n >= FEW_TIMES:
                    parts.append(part)
                    logs.append(0.5 * math.log(max(float(mine[there].mean()) / level, 1e-12)))
            if parts:
                yield rival, variable, lead, math.exp(sum(logs) / len(logs)), pooled(parts)


def _coverage(candidate: Mapping[str, Pairs], champion: Mapping[str, Pairs] | None) -> Iterator[Covered]:
    ours = _inside(candidate)
    theirs = None if champion is None else _inside({k: v for k, v in champion.items() if k in candidate})
    for i, variable in enumerate(OUTPUT_VARIABLES):
        for leads in (slice(None), *(slice(k, k + 1) for k in range(len(PAIRED_LEADS_S)))):
            share = _mean(ours[leads, i])
            if not math.isnan(share):
                lead = None if leads == slice(None) else PAIRED_LEADS_S[leads.start]
                beside = None if theirs is None else _mean(theirs[leads, i])
                yield Covered(variable, lead, round(share, 4), None if beside is None else round(beside, 4))


def _inside(networks: Mapping[str, Pairs]) -> NDArray[np.float64]:
    """Share in the central 80 %, [7, 7], each network counting the same."""
    shares = []
    for pairs in networks.values():
        part = pairs.inside80()
        n = (~np.isnan(part)).sum(axis=0)
        shares.append(np.where(n >= FEW_TIMES, np.nansum(part, axis=0) / np.maximum(n, 1), np.nan))
    stacked = np.stack(shares)
    n = (~np.isnan(stacked)).sum(axis=0)
    return np.asarray(np.where(n > 0, np.nansum(stacked, axis=0) / np.maximum(n, 1), np.nan))


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan


def _lost(cell: Cell) -> str:
    return (
        f"{cell.variable} at {cell.lead_s // 60} min: RMSE {100 * (cell.ratio - 1):.1f} % above that of "
        f"{cell.rival.replace('_', ' ')} (p {cell.p_worse:.2g})"
    )


def _uncovered(one: Covered) -> str:
    at = "over all leads" if one.lead_s is None else f"at {one.lead_s // 60} min"
    beside = "" if one.champion is None else f", the champion's {100 * one.champion:.1f} %"
    return f"{one.variable} {at}: {100 * one.candidate:.1f} % of readings in the central 80 %{beside}"
