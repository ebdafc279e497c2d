"""What one station learns from its verified forecasts, and the forecasts it then gives.

Joins the local expert and its curves, the recursive correction, the mix and the calibration. Must never use a reading
that was not known at the origin, and never be worse than the bundle for long: what loses by verified error is not used.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_agent.adaptation.calibration import Calibration, Rungs, hour_terms
from edge_agent.adaptation.chances import Chances
from edge_agent.adaptation.correction import Correction
from edge_agent.adaptation.curves import Curves
from edge_agent.adaptation.darkness import DARK, Darkness
from edge_agent.adaptation.expert import Expert
from edge_agent.adaptation.features import ALL, BENT_INPUTS, COLUMNS, CORRECTED, UNITS, bent, inputs
from edge_agent.adaptation.pending import Pending
from edge_agent.adaptation.recent import RECENT, Recent
from edge_agent.bundle.manifest import Event
from edge_agent.bundle.station_task import OUTPUT_VARIABLES
from edge_agent.circle import near
from edge_agent.forecast import Level
from edge_agent.forecast.nowcast import LADDER, lift_gusts
from edge_agent.forecast.persistence import BOUNDS, ORDINARY_SPREAD
from edge_agent.grid import GRID_VARIABLES, STEP_S, STEPS_PER_DAY
from edge_agent.verification import resolution_of

Floats = NDArray[np.float64]

PERSISTS, BY_BUNDLE = LADDER.index(Level.PERSISTENCE), LADDER.index(Level.NOWCAST_ONLY)
DELAY_S = STEP_S  # a reading may stand up to 150 s after its valid time: its verdict is known at the next origin
NETWORK, BASE, OWN, BESIDE, CORRECTION, MIXED = range(6)  # the candidates, the last one what is issued of them
PRIOR_RATIO = (1.0, 3.0, 3.0, 1.3, 1.0, 1.0)  # of their squared errors to the network's, before any verdict ...
PRIOR_VERDICTS = 100.0  # ... and for how many verdicts it stands
HALF_LIFE = 30 * 96  # verdicts that squared errors are remembered
SHARPNESS = 20.0  # a candidate whose squared error is 1 / SHARPNESS larger than the best has 1 / e of its weight
OUTLIER = 25.0  # a squared error counts at most so many times the network's usual one
UNIT_SHARE = 0.8  # what an ordinary spread of persistence is worth as a first typical error
_LIMIT = 8.0  # no input of the correction is larger, in typical errors

_C = len(CORRECTED)
_V = len(OUTPUT_VARIABLES)
_INDEX = {name: v for v, name in enumerate(OUTPUT_VARIABLES)}
_GRID = [GRID_VARIABLES.index(name) for name in OUTPUT_VARIABLES]
_TURNS = _INDEX["wind_direction"]
_SUN = _INDEX["solar_radiation"]
_LOW, _HIGH = np.array([BOUNDS.get(name, (-np.inf, np.inf)) for name in OUTPUT_VARIABLES]).T
_INPUTS = 3 + 1 + RECENT + 2
_PRIOR = np.eye(_INPUTS)[0]  # the network as it is
_COLUMNS = np.array(COLUMNS)


class Learner:
    """One station's state for a bundle's leads and levels. `expert`: with the local expert, which takes nine tenths of
    the room. `learned_until`: the last valid time whose verdicts were taken."""

    def __init__(
        self, leads_s: Sequence[int], levels: Sequence[float], events: Sequence[Event], *, expert: bool = True
    ) -> None:
        self.leads_s, self.levels, self.events = tuple(leads_s), tuple(levels), tuple(events)
        self.bundle = ""
        self.learned_until = 0
        self._leads = np.asarray(leads_s, np.int64)
        n = len(self._leads)
        self.expert = Expert(n, ALL, _C) if expert else None
        self.curves = Curves(self._leads, BENT_INPUTS, _C) if expert else None
        self.calibration = Calibration(len(LADDER), n, _V, levels)
        self.chances = Chances(n, len(events))
        self.darkness = Darkness(levels)
        self.resolution, self._looked = np.zeros(_V), -1  # the step in which sensors are read, and the day it is of
        spread = [ORDINARY_SPREAD[name] for name in OUTPUT_VARIABLES]
        self.unit_squares = np.stack([(UNIT_SHARE * a * (self._leads / 3600.0) ** b) ** 2 for a, b in spread], axis=1)
        self._begin_network()

    def _begin_network(self) -> None:
        """What belongs to a network, from its beginning."""
        n = len(self._leads)
        self.correction = Correction(_PRIOR, n * _C)
        self.recent = Recent(n, _C)
        self.squares = np.asarray(PRIOR_RATIO)[:, None, None] * self.unit_squares[:, _COLUMNS]
        self.taken = np.zeros((n, _C))  # verdicts that are in them
        self.pending = Pending(
            self._leads, DELAY_S, levels=len(self.levels), events=len(self.events), candidates=MIXED + 1, means=_C,
            z=_INPUTS, x=0 if self.expert is None else ALL,
        )  # fmt: skip

    def use(self, bundle: str) -> None:
        """From now on forecasts come from that bundle. After another one the network's part begins anew; local expert
        and calibration go on."""
        if self.bundle and bundle != self.bundle:
            self._begin_network()
            if self.expert is not None and self.curves is not None:
                self.expert.discount()
                self.curves.discount()
        self.bundle = bundle

    # --- verdicts -----------------------------------------------------------------------------------------------------

    def due(self, origin: int) -> NDArray[np.int64]:
        """Valid times whose verdicts may be taken at an origin and were not, UTC seconds, ascending."""
        last = origin - DELAY_S
        self.learned_until = min(self.learned_until, last)  # the clock was set back
        first = max(self.learned_until + STEP_S, last - int(self._leads.max()))
        return np.arange(first, last + 1, STEP_S, dtype=np.int64)

    def learn(self, valid: int, came: Floats) -> None:
        """Take the verdicts of a valid time: `came` [V], NaN where nothing was read. Valid times must ascend."""
        self.learned_until = valid
        at, leads = self.pending.due(valid)
        shape = len(self._leads), _V
        observed = np.full(shape, np.nan)
        observed[leads] = came
        issued = np.full((*shape, len(self.levels)), np.nan)
        issued[leads] = self.pending.issued(at)
        rung = np.zeros(shape, np.int8)
        rung[leads] = np.maximum(self.pending.rung[at], 0)
        observed[:, _TURNS] = near(observed[:, _TURNS], issued[:, _TURNS, len(self.levels) // 2])
        judged = observed.copy()
        judged[np.maximum(issued[:, _SUN, -1], observed[:, _SUN]) <= DARK, _SUN] = np.nan  # says nothing of the widths
        self.darkness.learn(issued[:, _SUN, -1], came[_SUN])
        at_bound = (judged == _LOW) | (judged == _HIGH)  # calm, saturated air, no rain: not what a step rounded
        self.calibration.learn(rung, issued, judged, hour_terms(valid), np.where(at_bound, 0.0, self.resolution))
        outcome = np.array([event.came(came[_INDEX[event.variable]]) for event in self.events])
        self.chances.learn(leads, self.pending.chance[at].astype(np.float64), outcome)
        self._learn_means(valid, at, leads, observed[:, _COLUMNS])

    def _learn_means(self, valid: int, at: NDArray[np.int64], leads: NDArray[np.int64], observed: Floats) -> None:
        """`observed`: [L, C]."""
        missed = np.full((MIXED + 1, len(self._leads), _C), np.nan)
        missed[:, leads] = observed[leads] - self.pending.means(at)
        unit = np.ones((len(self._leads), _C))
        unit[leads] = self.pending.unit[at]
        there = ~np.isnan(missed).any(axis=0)
        self.recent.take(valid, np.where(there, missed[NETWORK] / unit, np.nan))
        if not there.any():
            return
        squares = np.minimum(missed**2, OUTLIER * self.squares[NETWORK])
        keep = 0.5 ** (1.0 / HALF_LIFE)
        rate = np.where(there, np.maximum(1.0 - keep, 1.0 / (self.taken + PRIOR_VERDICTS)), 0.0)
        self.squares += rate * np.where(there, squares - self.squares, 0.0)
        self.taken += there
        of_base = keep * self.unit_squares[:, _COLUMNS] + (1.0 - keep) * squares[BASE]
        self.unit_squares[:, _COLUMNS] = np.where(there, of_base, self.unit_squares[:, _COLUMNS])
        z = np.zeros((len(self._leads), _C, _INPUTS))
        z[leads] = self.pending.z(at, valid)
        cells = np.flatnonzero(there)
        self.correction.learn(cells, z.reshape(-1, _INPUTS)[cells], (missed[BASE] / unit).ravel()[cells])
        if self.expert is not None and self.curves is not None:
            some = there.any(axis=1)[leads]
            x, which = self.pending.x[at[some]].astype(np.float64), leads[some]
            self.expert.learn(which, x, np.where(there[which], missed[BASE, which], np.nan) / np.asarray(UNITS))
            self.curves.learn(valid, which, np.where(there[which], missed[BESIDE, which] / unit[which], np.nan))

    # --- forecasts ----------------------------------------------------------------------------------------------------

    def adapt(
        self,
        origin: int,
        history: NDArray[np.float32],
        base: Floats,
        rung: Rungs,
        mean: Floats,
        quantiles: Floats,
        probability: Floats,
    ) -> NDArray[np.bool_]:
        """Correct and calibrate a bundle's forecast in place, and remember it until its verdicts come. Returns which
        variables were moved, [V].

        Args:
            history: [T, 8], T a multiple of 96, ending at `origin`, UTC seconds.
            base: [L, C], anomaly persistence of `CORRECTED`.
            rung: [V], positions in `LADDER`: a mean from a bundle is corrected, quantiles of any rung are calibrated.
            mean: [L, V]; quantiles: [L, V, Q]; probability: [L, E].
        """
        day = origin // (STEPS_PER_DAY * STEP_S)
        if day != self._looked:
            self._looked = day
            self.resolution = np.array([resolution_of(history[:, column]) for column in _GRID])
        alone, fan = mean.copy(), quantiles.copy()
        corrected = (rung > PERSISTS)[_COLUMNS]
        candidates, z = self._candidates(origin, history, base, mean[:, _COLUMNS])
        use = corrected & self.used() & np.isfinite(candidates[MIXED])
        mean[:, _COLUMNS] = np.where(use, candidates[MIXED], mean[:, _COLUMNS])
        standing = rung >= PERSISTS
        unit = np.sqrt(self.unit_squares)
        shifted = quantiles + (mean - alone)[..., None]
        ready = self.calibration.apply(np.maximum(rung, 0), shifted, unit, hour_terms(origin + self._leads))
        dark = standing[_SUN] & (quantiles[:, _SUN, -1] <= DARK)
        ready[dark, _SUN] = quantiles[dark, _SUN]
        quantiles[:, standing] = np.clip(ready, _LOW[:, None], _HIGH[:, None])[:, standing]
        mean[dark, _SUN], quantiles[dark, _SUN] = self.darkness.shown(mean[dark, _SUN], quantiles[dark, _SUN])
        ahead = mean[:, _TURNS, None]
        quantiles[:, _TURNS] = np.clip(quantiles[:, _TURNS], ahead - 180.0, ahead + 180.0)
        lift_gusts(OUTPUT_VARIABLES, mean, quantiles)
        at, pending = self.pending.at(origin), self.pending
        pending.chance[at] = self.chances.apply(probability)
        pending.origin[at], pending.rung[at], pending.unit[at] = origin, rung, unit[:, _COLUMNS]
        pending.keep(at, base, quantiles, np.where(corrected, candidates, np.nan), z)
        return np.asarray(standing & (_moved(mean, alone).any(axis=0) | _moved(quantiles, fan).any(axis=(0, 2))))

    def used(self) -> NDArray[np.bool_]:
        """Where the corrected mean is used, [L, C]: where it was not worse than the network's there, nor over all leads
        of the variable."""
        ratio = self.squares[MIXED] / self.squares[NETWORK]
        return np.asarray((ratio <= 1.0) & (np.log(ratio).mean(axis=0) <= 0.0))

    def _candidates(
        self, origin: int, history: NDArray[np.float32], base: Floats, network: Floats
    ) -> tuple[Floats, Floats]:
        """[MIXED + 1, L, C], and the correction's inputs [L, C, Z]; the expert's are put into the ring."""
        units, unit = np.asarray(UNITS), np.sqrt(self.unit_squares[:, _COLUMNS])
        own, beside = base, network
        if self.expert is not None and self.curves is not None:
            self.expert.solve(origin)
            x = inputs(history, origin, base, network, self._leads)
            self.pending.x[self.pending.at(origin)] = x
            own, beside = (base + part * units for part in self.expert.forecast(x))
            beside = beside + unit * self.curves.forecast(origin, bent(history, x, self._leads))
        hours = hour_terms(origin + self._leads)[:, None, 1:]
        departures = np.stack([network - base, own - base, beside - base], axis=-1) / unit[..., None]
        ones = np.ones((*base.shape, 1))
        z = np.concatenate(
            [departures, ones, self.recent.at(origin + self._leads), np.broadcast_to(hours, (*base.shape, 2))], axis=-1
        )
        z = np.clip(np.nan_to_num(z), -_LIMIT, _LIMIT)
        found = np.full((MIXED + 1, *base.shape), np.nan)
        found[:CORRECTION] = network, base, own, beside
        found[CORRECTION] = base + unit * self.correction.forecast(z.reshape(-1, _INPUTS)).reshape(base.shape)
        weights = np.exp(-SHARPNESS * (self.squares[:MIXED] / self.squares[:MIXED].min(axis=0) - 1.0))
        found[MIXED] = (weights * found[:MIXED]).sum(axis=0) / weights.sum(axis=0)
        return np.clip(found, _LOW[_COLUMNS], _HIGH[_COLUMNS]), z


def _moved(values: Floats, before: Floats) -> NDArray[np.bool_]:
    """Where a number is another one, by more than rounding."""
    return np.asarray(np.abs(values - before) > 1e-6)
