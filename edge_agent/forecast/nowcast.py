"""The nowcast: a bundle's session over stations or origins in chunks, and the rungs below it when it cannot answer.

Every variable ends on one rung of the ladder with the reason in words. Must never raise because a model failed or a
value is missing, and never let a number through whose level, source and age are unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle.manifest import Event
from edge_agent.bundle.station_task import EVENTS, GROUP, OUTPUT_VARIABLES
from edge_agent.circle import compass
from edge_agent.config import Station
from edge_agent.errors import BundleError
from edge_agent.forecast import (
    LEADS_S,
    MAX_AGE_S,
    MIN_HISTORY_S,
    QUANTILES,
    Forecast,
    Level,
    VariableForecast,
    persistence,
)
from edge_agent.forecast.groups import Groups, whole
from edge_agent.grid import GRID_VARIABLES, STEP_S
from edge_agent.inference import Array, Session
from edge_agent.variables import VARIABLES, Kind

Floats = NDArray[np.float64]
History = NDArray[np.float32]

LADDER = (Level.NONE, Level.PERSISTENCE, Level.NOWCAST_ONLY)  # worst first
_COLUMN = {name: GRID_VARIABLES.index(name) for name in OUTPUT_VARIABLES}
_HOUR = 3600 // STEP_S


@dataclass(frozen=True, slots=True)
class Batch:
    """Forecasts of S rows as arrays, V variables as in `Nowcaster.variables`; NaN where there is none.

    `mean` [S, L, V]; `quantiles` [S, L, V, Q]; `probability` [S, L, E]; `rung` [S, V]: position in `LADDER`, -1 = the
    variable was not read in 30 days; `why`: per row, variable -> why its rung is not the highest; `adapted` [S, V]: the
    numbers are moved by what the station's own verdicts taught.
    """

    mean: Floats
    quantiles: Floats
    probability: Floats
    rung: NDArray[np.int8]
    why: list[dict[str, str]]
    adapted: NDArray[np.bool_]

    def rows(self, at: NDArray[np.int64]) -> Batch:
        """A copy of some rows, [N]."""
        return Batch(
            self.mean[at], self.quantiles[at], self.probability[at], self.rung[at],
            [dict(self.why[row]) for row in at.tolist()], self.adapted[at],
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Seen:
    """Rows that others see and that are not forecast themselves: what neighbours had read. Shapes as in `Nowcaster`."""

    site: NDArray[np.float32]
    history: History
    origin: NDArray[np.int64]
    group: Groups


Adapt = Callable[[Sequence[Station], History, NDArray[np.int64], Batch], None]  # moves a batch's numbers in place


class Nowcaster:
    """Forecasts with a session; without one, or where it fails, with persistence.

    `chunk` rows go through the session at a time, which bounds the memory. Attributes: `variables` [V], `leads_s` [L],
    `levels` [Q] and `events` [E], as the bundle has them; `source` and `bundle` name it; `looks_around`: what stations
    of one group read matters to each other's forecasts.
    """

    def __init__(self, session: Session | None, why_no_session: str = "", chunk: int = 32) -> None:
        self._session = session
        self._why_no_session = why_no_session or "no bundle is loaded"
        self._chunk = chunk
        self.variables: tuple[str, ...] = OUTPUT_VARIABLES
        self.leads_s: tuple[int, ...] = LEADS_S
        self.levels: tuple[float, ...] = QUANTILES
        self.events: tuple[Event, ...] = EVENTS
        self.source, self.bundle = Level.PERSISTENCE.value, ""
        self.looks_around = False
        if session is not None:
            manifest = session.manifest
            self.leads_s, self.levels, self.events = manifest.leads_s, manifest.quantiles, manifest.events
            self.source, self.bundle = manifest.name, f"{manifest.name} {manifest.version}"
            self.looks_around = any(tensor.name == GROUP.name for tensor in manifest.inputs)

    def forecast(
        self,
        stations: Sequence[Station],
        history: History,
        ages: Sequence[Mapping[str, int]],
        origin: int,
        issued: int,
        adapt: Adapt | None = None,
        group: Groups | None = None,
    ) -> list[Forecast]:
        """One forecast per station; `adapt` may move its numbers by what the station has taught.

        Args:
            history: [S, 2880, 8] on the 15-minute grid, columns as `GRID_VARIABLES`, ending at `origin`, NaN = missing.
            ages: per station, seconds from each variable's newest usable reading to `origin`.
            origin, issued: UTC seconds.
            group: [S], equal for stations that see each other, which stand side by side; None: each is by itself.

        Raises:
            ValueError: stations of one group do not stand side by side.
        """
        group = np.arange(len(stations)) if group is None else group
        site = np.array([site_of(station) for station in stations], np.float32).reshape(-1, 4)
        found: list[Forecast] = []
        for part in whole(group, self._chunk):
            origins = np.full(len(stations[part]), origin, np.int64)
            batch = self.batch(site[part], history[part], ages[part], origins, group[part])
            if adapt is not None:
                adapt(stations[part], history[part], origins, batch)
            for row, (station, age) in enumerate(zip(stations[part], ages[part], strict=True)):
                found.append(self.issue(batch, row, station.id, age, origin, issued))
        return found

    def batch(
        self,
        site: NDArray[np.float32],
        history: History,
        ages: Sequence[Mapping[str, int]],
        origins: NDArray[np.int64],
        group: Groups | None = None,
        seen: Seen | None = None,
    ) -> Batch:
        """Forecasts of a chunk of rows, each a station at its own origin. Shapes as in `forecast`; `site`: [S, 4];
        `group`: rows of equal group and origin see each other; `seen`: what they see besides."""
        answer, failure = self._ask(site, history, origins, group, seen)
        shape = (len(history), len(self.leads_s), len(self.variables))
        batch = Batch(
            mean=np.full(shape, np.nan),
            quantiles=np.full((*shape, len(self.levels)), np.nan),
            probability=np.full((*shape[:2], len(self.events)), np.nan),
            rung=np.full((shape[0], shape[2]), -1, np.int8),
            why=[{} for _ in range(shape[0])],
            adapted=np.zeros((shape[0], shape[2]), np.bool_),
        )
        for v, name in enumerate(self.variables):
            self._rungs(batch, v, history[:, :, _COLUMN[name]], ages, failure)
            if answer is not None:
                self._take(batch, v, answer)
            self._fall_back(batch, v, history[:, :, _COLUMN[name]])
        lift_gusts(self.variables, batch.mean, batch.quantiles)
        return batch

    def _ask(
        self,
        site: NDArray[np.float32],
        history: History,
        origins: NDArray[np.int64],
        group: Groups | None,
        seen: Seen | None,
    ) -> tuple[dict[str, NDArray[np.float32]] | None, str]:
        """The session's answer for the rows themselves, or None and why there is none."""
        if self._session is None:
            return None, self._why_no_session
        feed: dict[str, Array] = {"history": history, "site": site, "origin": origins}
        if self.looks_around and group is not None:
            feed["group"] = group
            if seen is not None:
                feed = {name: np.concatenate([feed[name], getattr(seen, name)]) for name in feed}
        try:
            answer = self._session.run(feed)
            return {name: value[: len(history)] for name, value in answer.items()}, ""
        except BundleError as error:
            return None, f"the model failed: {error}"

    def _rungs(self, batch: Batch, v: int, x: History, ages: Sequence[Mapping[str, int]], failure: str) -> None:
        """Which rung each row may stand on, and why not a higher one."""
        name = self.variables[v]
        valid = ~np.isnan(x)
        steps = _covered(valid, name)
        recent = np.asarray(valid[:, -persistence.NOW_STEPS :].any(axis=1))
        for row, (age, n) in enumerate(zip((a.get(name) for a in ages), steps.tolist(), strict=True)):
            if age is None and n == 0:
                continue
            why = ""
            if not recent[row] or (age is not None and age > MAX_AGE_S):
                rung, since = Level.NONE, MAX_AGE_S if age is None else max(age, MAX_AGE_S)
                why = f"no reading for {since // 60} min"
            elif n * STEP_S < MIN_HISTORY_S:
                rung = Level.PERSISTENCE
                why = f"{n * STEP_S / 3600:.3g} h of readings, {MIN_HISTORY_S // 3600} h are needed"
            elif failure:
                rung, why = Level.PERSISTENCE, failure
            else:
                rung = Level.NOWCAST_ONLY
            batch.rung[row, v] = LADDER.index(rung)
            if why:
                batch.why[row][name] = why

    def _take(self, batch: Batch, v: int, answer: Mapping[str, NDArray[np.float32]]) -> None:
        """The model's numbers where they may stand; a row where one is missing or infinite steps down."""
        name = self.variables[v]
        may = batch.rung[:, v] == LADDER.index(Level.NOWCAST_ONLY)
        mean, quantiles = answer["mean"][:, :, v].astype(np.float64), answer["quantiles"][:, :, v].astype(np.float64)
        whole = np.isfinite(mean).all(axis=1) & np.isfinite(quantiles).all(axis=(1, 2))
        for row in np.flatnonzero(may & ~whole):
            batch.rung[row, v] = LADDER.index(Level.PERSISTENCE)
            batch.why[row][name] = "the model gave no value"
        take = may & whole
        mean, quantiles = mean[take], quantiles[take]
        if VARIABLES[name].kind is Kind.DIRECTION:
            turned = compass(mean)
            quantiles, mean = quantiles + (turned - mean)[:, :, None], turned
        batch.mean[take, :, v], batch.quantiles[take, :, v] = mean, quantiles
        for e, event in enumerate(self.events):
            if event.variable == name:
                batch.probability[take, :, e] = answer["probability"][take, :, e]

    def _fall_back(self, batch: Batch, v: int, x: History) -> None:
        """Persistence for the rows that stand on its rung, and for events that the model left open."""
        name = self.variables[v]
        rows = np.flatnonzero(batch.rung[:, v] == LADDER.index(Level.PERSISTENCE))
        if len(rows):
            series = np.ascontiguousarray(x[rows])
            batch.mean[rows, :, v] = persistence.base(series, name, self.leads_s)
            batch.quantiles[rows, :, v] = persistence.quantiles(series, name, self.leads_s, self.levels)
        for e, event in enumerate(self.events):
            if event.variable == name:
                standing = batch.rung[:, v] >= LADDER.index(Level.PERSISTENCE)
                open_ = np.flatnonzero(standing & ~np.isfinite(batch.probability[:, :, e]).all(axis=1))
                batch.probability[open_, :, e] = persistence.event_probability(x[open_], event)[:, None]

    def issue(
        self, batch: Batch, row: int, station: str, ages: Mapping[str, int], origin: int, issued: int
    ) -> Forecast:
        """A row of a batch as the forecast of a station."""
        variables: dict[str, VariableForecast] = {}
        for v, name in enumerate(self.variables):
            rung = int(batch.rung[row, v])
            if rung >= 0:
                there = LADDER[rung] is not Level.NONE
                variables[name] = VariableForecast(
                    variable=name,
                    level=LADDER[rung],
                    mean=batch.mean[row, :, v].copy() if there else None,
                    quantiles=batch.quantiles[row, :, v].T.copy() if there else None,
                    age_s=ages.get(name),
                    why=batch.why[row].get(name, ""),
                )
        level = LADDER[max(int(batch.rung[row].max()), 0)]
        standing = {name for name, forecast in variables.items() if forecast.mean is not None}
        return Forecast(
            station=station,
            origin=origin,
            issued=issued,
            leads_s=self.leads_s,
            levels_q=self.levels,
            level=level,
            source=self.source if level is Level.NOWCAST_ONLY else Level.PERSISTENCE.value,
            bundle=self.bundle,
            variables=variables,
            events={
                event.name: batch.probability[row, :, e].copy()
                for e, event in enumerate(self.events)
                if event.variable in standing
            },
            why=_summary(batch.why[row], len(variables)),
            adapted=tuple(name for v, name in enumerate(self.variables) if batch.adapted[row, v]),
        )


def site_of(station: Station) -> tuple[float, float, float, float]:
    """A row of the `site` tensor: latitude, longitude (degrees), elevation, guidance elevation (m; NaN = none)."""
    return (station.latitude, station.longitude, station.elevation_m, float("nan"))


def lift_gusts(variables: Sequence[str], mean: Floats, quantiles: Floats) -> None:
    """No gust below the mean wind, also where the two stand on different rungs and know nothing of each other: the gust
    is raised to the wind, in place, mean [..., V] and each quantile [..., V, Q], which stay in order."""
    if not {"wind_speed", "wind_gust"} <= set(variables):
        return
    wind, gust = variables.index("wind_speed"), variables.index("wind_gust")
    for values in (mean[..., None], quantiles):
        lifted = np.fmax(values[..., gust, :], values[..., wind, :])  # the gust's own where there is no wind
        values[..., gust, :] = np.where(np.isnan(values[..., gust, :]), np.nan, lifted)


def _covered(valid: NDArray[np.bool_], name: str) -> NDArray[np.int64]:
    """Steps that the values stand for, [S]. Sums are not held on the grid: one that comes every hour stands for 4."""
    steps = np.asarray(valid.sum(axis=1))
    if VARIABLES[name].kind is Kind.SUM:
        for row in np.flatnonzero(steps > 1):
            spacing = np.median(np.diff(np.flatnonzero(valid[row])))
            steps[row] *= int(min(spacing, _HOUR))
    return steps


def _summary(why: Mapping[str, str], variables: int) -> str:
    """The reasons of a forecast in one line, equal ones told once."""
    if not variables:
        return "no readings in 30 days"
    by_reason: dict[str, list[str]] = {}
    for name, reason in why.items():
        by_reason.setdefault(reason, []).append(name)
    return "; ".join(
        reason if len(names) == variables else f"{', '.join(names)}: {reason}" for reason, names in by_reason.items()
    )
