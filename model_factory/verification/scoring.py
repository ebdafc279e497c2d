"""Sums of errors over pairs, and the skill rows they make. Every source is scored on the same pairs.

The definitions of the scores are those of `edge_agent.verification`: a figure in a bundle's card and one that an agent
measured mean the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle.manifest import SkillRow
from edge_agent.bundle.station_task import OUTPUT_VARIABLES
from edge_agent.forecast import LEADS_S, QUANTILES
from edge_agent.variables import VARIABLES, Kind
from edge_agent.verification import crps, errors, inside

MODEL, FP32, PERSISTENCE, ANOMALY, RIDGE, LIGHTGBM = (
    "model", "fp32", "persistence", "anomaly_persistence", "ridge", "lightgbm",
)  # fmt: skip
FINAL_PERIOD = "final-period"  # the setting of networks that it knows, unless it is named otherwise
HELD_OUT = "leave-one-network-out"  # the setting of networks that a run never saw
CLIMATOLOGY = "climatology"  # as a distribution alone
LIGHTGBM_ALL, FOUNDATION = "lightgbm_all", "fracast"  # beside the others in pairs and reports, not in skill rows

_SHAPE = (len(LEADS_S), len(OUTPUT_VARIABLES))
_CIRCULAR = tuple(VARIABLES[name].kind is Kind.DIRECTION for name in OUTPUT_VARIABLES)

Floats = NDArray[np.floating]
Mask = NDArray[np.bool_]


def _zeros() -> NDArray[np.float64]:
    return np.zeros(_SHAPE)


@dataclass(slots=True)
class Sums:
    """Of a network's pairs, [24, 8] each: how many, squared errors per source, and the model's further scores."""

    n: NDArray[np.float64] = field(default_factory=_zeros)
    squares: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    absolute: NDArray[np.float64] = field(default_factory=_zeros)
    crps: NDArray[np.float64] = field(default_factory=_zeros)
    crps_fp32: NDArray[np.float64] | None = None
    inside80: NDArray[np.float64] = field(default_factory=_zeros)

    def add(
        self,
        came: Floats,
        means: Mapping[str, Floats],
        quantiles: Floats,
        asked: Mapping[str, Mask] | None = None,
        quantiles_fp32: Floats | None = None,
    ) -> None:
        """Take a station's pairs: those where a reading came and every source has a forecast.

        Args:
            came: [O, 24, 8]; means: source -> [O, 24, 8], `model` among them; quantiles: [O, 24, 8, Q] of the model.
            quantiles_fp32: those of the model before quantization.
            asked: source -> [24, 8], the cells a source answers for; elsewhere its absence leaves no pair out.
        """
        asked = asked or {}
        pairs = ~np.isnan(came) & ~np.isnan(quantiles).any(axis=-1)
        for source, mean in means.items():
            pairs &= ~np.isnan(mean) | ~asked.get(source, np.ones(_SHAPE, bool))
        self.n += pairs.sum(axis=0)
        for i, circular in enumerate(_CIRCULAR):
            there, truth = pairs[:, :, i], came[:, :, i]
            for source, mean in means.items():
                wrong = errors(mean[:, :, i], truth, circular)
                total = self.squares.setdefault(source, _zeros())
                total[:, i] += np.where(there, wrong**2, 0.0).sum(axis=0)
                if source == MODEL:
                    self.absolute[:, i] += np.where(there, np.abs(wrong), 0.0).sum(axis=0)
            q = quantiles[:, :, i]
            self.crps[:, i] += np.where(there, crps(q, truth, QUANTILES, circular), 0.0).sum(axis=0)
            if quantiles_fp32 is not None:
                self.crps_fp32 = _zeros() if self.crps_fp32 is None else self.crps_fp32
                before = crps(quantiles_fp32[:, :, i], truth, QUANTILES, circular)
                self.crps_fp32[:, i] += np.where(there, before, 0.0).sum(axis=0)
            held = inside(q[..., QUANTILES.index(0.1)], q[..., QUANTILES.index(0.9)], truth, circular)
            self.inside80[:, i] += np.where(there, held, 0.0).sum(axis=0)

    def rows(self, setting: str, network: str) -> list[SkillRow]:
        """One row per variable and lead that has pairs."""
        return [
            self._row(setting, network, name, k, i)
            for i, name in enumerate(OUTPUT_VARIABLES)
            for k in range(len(LEADS_S))
            if self.n[k, i]
        ]

    def _row(self, setting: str, network: str, name: str, k: int, i: int) -> SkillRow:
        n = float(self.n[k, i])

        def rmse(source: str) -> float | None:
            total = self.squares.get(source)
            return None if total is None or math.isnan(total[k, i]) else round(math.sqrt(total[k, i] / n), 5)

        return SkillRow(
            setting=setting,
            network=network,
            variable=name,
            lead_s=LEADS_S[k],
            n=int(n),
            rmse=rmse(MODEL) or 0.0,
            rmse_fp32=rmse(FP32),
            mae=round(float(self.absolute[k, i]) / n, 5),
            crps=round(float(self.crps[k, i]) / n, 5),
            coverage80=round(float(self.inside80[k, i]) / n, 5),
            persistence=rmse(PERSISTENCE),
            anomaly_persistence=rmse(ANOMALY),
            ridge=rmse(RIDGE),
            lightgbm=rmse(LIGHTGBM),
            crps_fp32=None if self.crps_fp32 is None else round(float(self.crps_fp32[k, i]) / n, 5),
        )
