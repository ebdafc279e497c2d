"""`bundle.json`, format 1: everything a bundle says of itself. Names, units and order are checked, never assumed."""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent.variables import VARIABLES

SCHEMA_VERSION = 1

Device = Literal["raspberry_pi_4", "jetson_nano", "mobile", "browser"]


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of every part."""


class Axis(_Part, frozen=True):
    """One entry along a tensor's last axis: a vocabulary name (or site field) and its unit."""

    name: str
    unit: str


class Tensor(_Part, frozen=True):
    """A graph input or output. `shape`: numbers, or "S" for the dynamic station axis. `axis`: the meaning of the
    variable axis, in order."""

    name: str
    dtype: Literal["float32", "int64"]
    shape: tuple[int | str, ...]
    axis: tuple[Axis, ...] = ()


class Event(_Part, frozen=True):
    """An event with a forecast probability: `variable` in the step reaching `threshold`, which `least` decides, or
    staying below it."""

    name: str
    variable: str
    threshold: float
    unit: str
    comparison: Literal[">=", "<"] = ">="

    @property
    def least(self) -> float:
        """The smallest value that reaches the threshold: below it by a tenth of the last digit that the variable
        carries. Nobody measures that little (0.001 mm of rain), but sums of tips and conversions of units round by it:
        0.00787 in are 0.1999 mm."""
        return self.threshold - 10.0 ** -(VARIABLES[self.variable].decimals + 1)

    def came(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Whether the event came: 1 or 0 for each value of its variable in a step, NaN where that is missing."""
        reached = values >= self.least
        return np.asarray(np.where(np.isnan(values), np.nan, reached if self.comparison == ">=" else ~reached))


class FileEntry(_Part, frozen=True):
    """A file in the bundle."""

    name: str
    bytes: int
    sha256: str


class Budget(_Part, frozen=True):
    """What a device class costs. `basis` says how the figures came about; the two are never mixed in one row."""

    device: Device
    basis: Literal["measured", "estimated"]
    model_bytes: int
    peak_rss_mb: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    note: str = ""


class SkillRow(_Part, frozen=True):
    """One cell of the skill table. `setting` says what was seen in training: e.g. `final-period` or
    `leave-one-network-out`. Scores are RMSE in the variable's unit; None where a baseline does not exist."""

    setting: str
    network: str
    variable: str
    lead_s: int
    n: int
    rmse: float
    rmse_fp32: float | None
    mae: float
    crps: float
    coverage80: float
    persistence: float | None = None
    anomaly_persistence: float | None = None
    ridge: float | None = None
    lightgbm: float | None = None
    crps_fp32: float | None = None


class Provenance(_Part, frozen=True):
    """Where it came from: `data` names sets with licence and period, `code` the version, `training` the settings."""

    data: tuple[dict[str, str], ...]
    code: dict[str, str]
    training: dict[str, str | int | float]


class Manifest(_Part, frozen=True):
    """The whole of bundle.json. `counter` grows with every release, also with one that goes back to old weights;
    `tolerance`: largest golden difference per variable, in its unit."""

    schema: int
    name: str
    version: str
    counter: int
    task: Literal["station"]
    created: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    step_s: int
    leads_s: tuple[int, ...]
    quantiles: tuple[float, ...]
    events: tuple[Event, ...]
    precision: Literal["fp32", "int8", "int4"]
    runtime: dict[str, str]
    files: tuple[FileEntry, ...]
    budgets: tuple[Budget, ...]
    tolerance: dict[str, float]
    skill: tuple[SkillRow, ...]
    provenance: Provenance
    licence: str

    @property
    def looks_around(self) -> bool:
        """True if rows of one group see each other: then what neighbours read matters."""
        return any(tensor.name == "group" for tensor in self.inputs)

    def output_variables(self) -> tuple[str, ...]:
        """Names along the last variable axis of `mean`."""
        return next(tuple(a.name for a in t.axis) for t in self.outputs if t.name == "mean")

    def input_variables(self) -> tuple[str, ...]:
        """Names along the variable axis of `history`."""
        return next(tuple(a.name for a in t.axis) for t in self.inputs if t.name == "history")
