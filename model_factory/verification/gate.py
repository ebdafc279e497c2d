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
from model_factory.verification.scoring import ANOMALY, LIGHTGBM, MODEL, PERSISTENCE, RIDGE
from model_factory.verification.significance import Paired, diebold_mariano, false_discovery, paired, pooled

CHAMPION = "champion"
RIVALS = (CHAMPION, PERSISTENCE, ANOMALY, RIDGE)
DRESSED_RIVALS = (CHAMPION, RIDGE, LIGHTGBM)  # of the CRPS, in each network of its own
FALSE_SHARE = 0.05  # of the cells called worse, at most so many are called so by chance
TOLERATED = 1.005  # RMSE over a rival's: what is sure and smaller than this is of no use to anybody
FEW_TIMES = 60  # origins of a network, below which it has no say
COVERAGE = 0.8
LOST = (0.01, 0.02)  # how much further from 80 % than the champion: over all leads, at one lead
FIRST = 0.05  # how far from 80 %, where there is no champion
VERDICT = "verdict.json"

Floats = NDArray[np.floating]
Precision = Literal["int8", "int4", "fp32"]
Score = Literal["rmse", "crps"]


class Cell(msgspec.Struct, frozen=True):
    """One test: `ratio`, the score over the rival's; `n`: times; `p_worse`, `p_better`: adjusted for the number of
    tests; `network`: the one it is about, all together where it is empty."""

    rival: str
    variable: str
    lead_s: int
    n: int
    ratio: float
    statistic: float
    p_worse: float
    p_better: float
    score: Score = "rmse"
    network: str = ""

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
    network, averaged over the stations of a network first; Diebold and Mariano's test with networks counting the same.
    The same for the CRPS, against the champion and the regressions dressed with their own errors, in each network of
    its own. p-values are adjusted over all these tests.

    Raises:
        DataError: the two were not evaluated alike: another setting, or a network of the champion's is missing; they
            share no origin, or there is a rival with nothing to compare.
    """
    _check_alike(candidate, champion or {})
    rivals = tuple(rival for rival in RIVALS if rival != CHAMPION or champion is not None)
    rows: list[tuple[Cell, Paired]] = []
    for rival in rivals:
        both = [_both(one, rival, champion, "rmse") for one in candidate.values()]
        rows += _tests(rival, [pair for pair in both if pair is not None], "rmse")
    missing = [rival for rival in rivals if rival not in {cell.rival for cell, _ in rows}]
    if missing:
        raise DataError(
            f"too few pairs with {', '.join(missing)} to judge by (at least {FEW_TIMES} origins of a network): "
            "evaluate candidate and champion on the same networks, with --baselines"
        )
    for rival in DRESSED_RIVALS:
        for one in candidate.values():
            pair = _both(one, rival, champion, "crps")
            rows += _tests(rival, [] if pair is None else [pair], "crps", one.network)
    found = [diebold_mariano(part) for _, part in rows]
    worse, better = (false_discovery([getattr(one, name) for one in found]) for name in ("p_worse", "p_better"))
    cells = tuple(
        msgspec.structs.replace(cell, statistic=round(t.statistic, 3), p_worse=float(w), p_better=float(b))
        for (cell, _), t, w, b in zip(rows, found, worse, better, strict=True)
    )
    coverage = tuple(_coverage(candidate, champion))
    why = (*(_lost(cell) for cell in cells if cell.worse), *(_uncovered(one) for one in coverage if not one.held))
    return Verdict(not why, why, _precision(candidate), rivals, tuple(candidate), cells, coverage)


def _check_alike(candidate: Mapping[str, Pairs], champion: Mapping[str, Pairs]) -> None:
    missing = [network for network in champion if network not in candidate]
    if missing:
        raise DataError(
            f"the champion was judged on {', '.join(missing)} as well: `model-factory evaluate CANDIDATE DATA --pairs`"
        )
    for network, theirs in champion.items():
        ours = candidate[network].setting
        if ours != theirs.setting:
            raise DataError(
                f'{network}: the candidate\'s pairs are of "{ours}", the champion\'s of "{theirs.setting}": evaluate'
                " both in the same way, with --pairs"
            )


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
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a verdict ({error}): run `model-factory promote` again") from error


def summary(verdict: Verdict, score: Score = "rmse") -> Iterator[tuple[str, str, int, int, int, float]]:
    """(rival, variable, cells, better, worse, score over the rival's as geometric mean over the cells)."""
    tested = [cell for cell in verdict.cells if cell.score == score]
    for rival in dict.fromkeys(cell.rival for cell in tested):
        for variable in OUTPUT_VARIABLES:
            cells = [cell for cell in tested if (cell.rival, cell.variable) == (rival, variable)]
            if cells:
                logs = [math.log(cell.ratio) for cell in cells if cell.ratio > 0]
                ratio = math.exp(sum(logs) / len(logs)) if logs else 1.0
                yield rival, variable, len(cells), sum(c.better for c in cells), sum(c.worse for c in cells), ratio


def squared_errors(pairs: Pairs, forecast: Floats) -> Floats:
    """[N, 7, 8]; directions on the circle."""
    columns = [errors(forecast[..., i], pairs.came[..., i], turns) ** 2 for i, turns in enumerate(CIRCULAR)]
    return np.stack(columns, axis=-1)


def _both(
    one: Pairs, rival: str, champion: Mapping[str, Pairs] | None, score: Score
) -> tuple[Pairs, Floats, Floats] | None:
    """(pairs, losses of the candidate, of the rival); None where the network has no such rival."""
    own = _losses(one, MODEL, score)
    other = one if rival != CHAMPION else (champion or {}).get(one.network)
    theirs = None if other is None else _losses(other, MODEL if rival == CHAMPION else rival, score)
    if own is None or other is None or theirs is None:
        return None
    if other is one:
        return one, own, theirs
    rows, from_ = _shared(one, other)
    if not len(rows):
        return None
    held = np.full_like(own, np.nan)
    held[rows] = theirs[from_]
    return one, own, held


def _losses(pairs: Pairs, source: str, score: Score) -> Floats | None:
    """[N, 7, 8]: squared errors, or CRPS; None where there are none of the source."""
    if score == "crps":
        return pairs.crps.get(source)
    return squared_errors(pairs, pairs.means[source]) if source in pairs.means else None


def _shared(one: Pairs, other: Pairs) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the two that are of the same station and origin."""
    keys = [[f"{p.stations[s]}@{t}" for s, t in zip(p.station, p.origin, strict=True)] for p in (one, other)]
    _, mine, theirs = np.intersect1d(keys[0], keys[1], assume_unique=True, return_indices=True)
    return mine, theirs


def _tests(
    rival: str, both: Sequence[tuple[Pairs, Floats, Floats]], score: Score, network: str = ""
) -> Iterator[tuple[Cell, Paired]]:
    """(cell that waits for its test, difference) of every cell that has enough pairs."""
    power = 0.5 if score == "rmse" else 1.0  # a ratio of mean squares, or of mean CRPS
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
                    logs.append(power * math.log(max(float(mine[there].mean()) / level, 1e-12)))
            if parts:
                whole, ratio = pooled(parts), round(math.exp(sum(logs) / len(logs)), 4)
                yield Cell(rival, variable, lead, whole.n, ratio, 0.0, 1.0, 1.0, score, network), whole


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
    """Share in the central 80 %, [7, 8], each network counting the same."""
    shares = []
    for pairs in networks.values():
        part = pairs.inside(COVERAGE)
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
        f"{cell.variable} at {cell.lead_s // 60} min{cell.network and f' in {cell.network}'}: {cell.score.upper()} "
        f"{100 * (cell.ratio - 1):.1f} % above that of {cell.rival.replace('_', ' ')} (p {cell.p_worse:.2g})"
    )


def _uncovered(one: Covered) -> str:
    at = "over all leads" if one.lead_s is None else f"at {one.lead_s // 60} min"
    beside = "" if one.champion is None else f", the champion's {100 * one.champion:.1f} %"
    return f"{one.variable} {at}: {100 * one.candidate:.1f} % of readings in the central 80 %{beside}"
