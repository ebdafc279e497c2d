"""Forecast and observation side by side, pair by pair, kept so that a test or a report need not run a model again.

One file a network, `RUN/pairs/<network>.npz`, at the seven leads the regressions are made for. Holds numbers only and
is read without pickle.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle.manifest import Event
from edge_agent.bundle.station_task import EVENTS, OUTPUT_VARIABLES
from edge_agent.circle import near
from edge_agent.errors import DataError
from edge_agent.forecast import LEADS_S, QUANTILES
from edge_agent.forecast.chances import share_below, with_derived
from edge_agent.variables import VARIABLES, Kind
from model_factory.verification.features import LEAD_STEPS

PAIRED_LEADS_S = tuple(LEADS_S[k - 1] for k in LEAD_STEPS)
AT_LEADS = np.array(LEAD_STEPS) - 1
CIRCULAR = tuple(VARIABLES[name].kind is Kind.DIRECTION for name in OUTPUT_VARIABLES)
NAMED_EVENTS = with_derived(EVENTS)
MAX_PAIRS = 2_000_000  # origins in a file
FOLDER = "pairs"

Floats = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Of a network, N origins of K stations, 7 leads, 7 variables; NaN where there is nothing.

    `place` [K, 2]: latitude, longitude, degrees. `since` [K]: first reading, UTC s. `station` [N]: which of `stations`.
    `origin` [N]: UTC s. `came` [N, 7, 8]. `means`: source -> [N, 7, 8]. `crps`: the same of sources that forecast a
    distribution. `pit` [N, 7, 8, 2]: see `pit_interval`, of the model. `chances`: source -> [N, 7, E], probabilities of
    `NAMED_EVENTS`. `precision`: of the model.
    """

    setting: str
    network: str
    stations: tuple[str, ...]
    place: NDArray[np.float64]
    since: NDArray[np.int64]
    station: NDArray[np.int64]
    origin: NDArray[np.int64]
    came: Floats
    means: Mapping[str, Floats]
    crps: Mapping[str, Floats]
    pit: Floats
    chances: Mapping[str, Floats]
    precision: str = "fp32"

    def outcome(self, event: Event) -> Floats:
        """Whether an event came, [N, 7]: 1, 0 or NaN."""
        return event.came(self.came[..., OUTPUT_VARIABLES.index(event.variable)])

    def inside(self, share: float) -> NDArray[np.float64]:
        """Chance that a randomized PIT lies in the central `share` (0 to 1), [N, 7, 8]: its mean is the coverage of
        that interval, ties included."""
        low, edge = self.pit[..., 0].astype(np.float64), (1.0 - share) / 2.0
        width = np.maximum(self.pit[..., 1] - low, 1e-6)
        return np.asarray(np.clip(np.minimum(low + width, 1.0 - edge) - np.maximum(low, edge), 0.0, None) / width)

    def rows(self, chosen: NDArray[np.bool_]) -> Pairs:
        """Some of the origins, [N]."""
        parts: dict[str, Any] = {name: getattr(self, name)[chosen] for name in ("station", "origin", "came", "pit")}
        for name in ("means", "crps", "chances"):
            parts[name] = {source: values[chosen] for source, values in getattr(self, name).items()}
        return replace(self, **parts)

    def valid(self) -> NDArray[np.int64]:
        """Valid times, [N, 7], UTC s."""
        return np.asarray(self.origin[:, None] + np.array(PAIRED_LEADS_S))


def pit_interval(name: str, quantiles: Floats, came: Floats, resolution: float) -> NDArray[np.float64]:
    """Where an observation lies in a forecast distribution, as the interval [F(o - r/2), F(o + r/2)], [..., 2].

    F runs straight between the quantiles and falls off exponentially beyond (`share_below`). An honest forecast's
    randomized PIT, drawn evenly from the interval, is uniform, also where readings are tied (calm, saturated air, whole
    hPa, no rain). Source: Czado, Gneiting and Held (2009), Biometrics 65, 1254-1261, eq. 2, with the reading's rounding
    as the tie.

    Args:
        name: the variable; directions are unwrapped.
        quantiles: [..., Q]; came: [...].
        resolution: r, in the variable's unit.
    """
    q, o = np.asarray(quantiles, np.float64), np.asarray(came, np.float64)
    if VARIABLES[name].kind is Kind.DIRECTION:
        o = near(o, q[..., q.shape[-1] // 2])
    low = share_below(q, QUANTILES, o - resolution / 2)
    high = share_below(q, QUANTILES, o + resolution / 2, ties=True)
    missing = np.asarray(np.isnan(o) | np.isnan(q).any(-1))
    return np.where(missing[..., None], np.nan, np.stack([low, high], axis=-1))


def joined(parts: Sequence[Pairs]) -> Pairs:
    """Stations of one network as one."""
    counts = np.cumsum([0, *(len(part.stations) for part in parts)])

    def column(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(part, name) for part in parts])

    def by_source(name: str) -> dict[str, Floats]:
        shared = [s for s in getattr(parts[0], name) if all(s in getattr(part, name) for part in parts)]
        return {source: np.concatenate([getattr(part, name)[source] for part in parts]) for source in shared}

    return replace(
        parts[0],
        stations=tuple(name for part in parts for name in part.stations),
        station=np.concatenate([part.station + start for part, start in zip(parts, counts, strict=False)]),
        means=by_source("means"),
        crps=by_source("crps"),
        chances=by_source("chances"),
        place=column("place"),
        since=column("since"),
        origin=column("origin"),
        came=column("came"),
        pit=column("pit"),
    )


def save(pairs: Pairs, run: Path) -> Path:
    """Write RUN/pairs/<network>.npz, beside and moved into place."""
    path = run / FOLDER / f"{pairs.network}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    maps = {"mean": pairs.means, "crps": pairs.crps, "chance": pairs.chances}
    arrays: dict[str, NDArray[Any]] = {
        f"{kind}:{source}": v.astype(np.float32) for kind, by_source in maps.items() for source, v in by_source.items()
    }
    arrays |= {"about": np.array([pairs.setting, pairs.network, pairs.precision]), "stations": np.array(pairs.stations)}
    arrays |= {"place": pairs.place, "since": pairs.since, "station": pairs.station, "origin": pairs.origin}
    arrays |= {"came": pairs.came.astype(np.float32), "pit": pairs.pit.astype(np.float16)}
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    part.replace(path)
    return path


def load_all(run: Path) -> dict[str, Pairs]:
    """Every network's pairs in a run's folder.

    Raises:
        DataError: there are none, or a file is not one.
    """
    found = [load(path) for path in sorted((run / FOLDER).glob("*.npz"))]
    if not found:
        raise DataError(f"{run / FOLDER}: no pairs: `model-factory evaluate {run} DATA/ --pairs` writes them")
    return {pairs.network: pairs for pairs in found}


def load(path: Path) -> Pairs:
    """One file of pairs; one of an earlier version has chances of nothing. Raises DataError: it cannot be read, or its
    arrays do not fit each other."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
            arrays = {name: held[name] for name in held.files}
        n, shape = len(arrays["origin"]), (len(PAIRED_LEADS_S), len(OUTPUT_VARIABLES))
        named: dict[str, dict[str, Floats]] = {"mean": {}, "crps": {}, "chance": {}}
        for kind, _, source in (key.partition(":") for key in arrays):
            if source:
                named[kind][source] = arrays[f"{kind}:{source}"]
        whole = [arrays["came"], *named["mean"].values(), *named["crps"].values(), arrays["pit"][..., 0]]
        odd = [p for p in named["chance"].values() if p.shape != (n, shape[0], len(NAMED_EVENTS))]
        if n > MAX_PAIRS or odd or any(values.shape != (n, *shape) for values in whole):
            raise DataError(f"{path}: its arrays do not belong together: evaluate again")
        setting, network, precision = (str(word) for word in arrays["about"])
        return Pairs(
            setting, network, tuple(map(str, arrays["stations"])), arrays["place"],
            arrays.get("since", np.zeros(len(arrays["stations"]), np.int64)), arrays["station"],
            arrays["origin"], arrays["came"], named["mean"], named["crps"], arrays["pit"].astype(np.float32),
            named["chance"], precision,
        )  # fmt: skip
    except (OSError, ValueError, KeyError, IndexError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"{path}: not a file of pairs ({error!r}): evaluate again") from error
