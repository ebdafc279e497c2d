"""Weights that learned from whole records, and the run that proves them.

What a network has seen says nothing about what it can do. So a recipe is proved on a run that did not see the last part
of each record, and what ships may be a second run of it that did: more data, and nothing left to score it on. Here it
is made sure that the two are of one recipe and say much the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.bundle.manifest import SkillRow
from edge_agent.bundle.skill import root_mean_square
from edge_agent.bundle.station_task import OUTPUT_VARIABLES
from edge_agent.errors import DataError
from edge_agent.forecast import LEADS_S
from edge_agent.inference import Array
from edge_agent.inference.onnx import open_model
from model_factory.quantize.int8 import load_calibration
from model_factory.verification.gate import Precision
from model_factory.verification.scoring import FINAL_PERIOD

MOST = 0.5  # of a forecast's usual error: further apart, the proof proves another network
COMPARED = ("temperature", "humidity", "pressure", "wind_speed")
OWN = ("test_fraction", "mixed", "presentations", "software", "device")  # what runs of one recipe may differ in


@dataclass(frozen=True, slots=True)
class Proof:
    """`part`: share of each record that the proof never saw. `apart`: of each variable, root mean square difference of
    the two runs' means over the proof's RMSE, averaged over leads."""

    part: float
    apart: dict[str, float]


def prove(
    run: Path, config: Mapping[str, Any], proof: Path, proof_config: Mapping[str, Any], precision: Precision,
    rows: Sequence[SkillRow],
) -> Proof:  # fmt: skip
    """What the run `proof` says about RUN. `rows`: the proof's skill.

    Raises:
        DataError: the two are not of one recipe, RUN did not see all or the proof did, the proof was not evaluated, RUN
            has no calibration.npz, or their forecasts lie apart by more than half of the usual error.
    """
    part = float(proof_config["test_fraction"])
    if float(config["test_fraction"]):
        raise DataError(f"{run} did not learn from whole records (--test-fraction 0): evaluate it, it needs no proof")
    if not part:
        raise DataError(f"{proof} saw whole records itself: a proof keeps a part out (--test-fraction 0.2)")
    differ = _differences(_recipe(config), _recipe(proof_config))
    if differ:
        raise DataError(f"{proof} is no proof of {run}: they differ in {', '.join(differ)}")
    own = [row for row in rows if row.setting == FINAL_PERIOD]
    if not own:
        raise DataError(f"{proof} was not evaluated: model-factory evaluate {proof} DATA/")
    windows = load_calibration(run / "calibration.npz")
    shipped, proved = (_means(folder / f"model_{precision}.onnx", windows) for folder in (run, proof))
    found = apart(shipped, proved, own)
    far = {name: share for name, share in found.items() if share > MOST}
    if far:
        told = ", ".join(f"{name} {share:.2f}" for name, share in far.items())
        raise DataError(f"{run} and {proof} forecast differently ({told} of the usual error): was one cut short?")
    return Proof(part, found)


def apart(one: Array, other: Array, rows: Sequence[SkillRow]) -> dict[str, float]:
    """Root mean square difference of means [S, L, V] over the RMSE of the skill rows, averaged over leads, for each of
    `COMPARED` that has both."""
    found = {}
    for name in COMPARED:
        square_of_each = (one - other)[..., OUTPUT_VARIABLES.index(name)].astype(np.float64) ** 2
        there = ~np.isnan(square_of_each)
        squares = np.where(there, square_of_each, 0.0).sum(axis=0) / np.maximum(there.sum(axis=0), 1)
        shares = []
        for lead_s, square in zip(LEADS_S, squares, strict=True):
            cells = [(row.n, row.rmse) for row in rows if (row.variable, row.lead_s) == (name, lead_s) and row.n > 0]
            if cells and there.any():
                shares.append(float(np.sqrt(square)) / root_mean_square(cells))
        if shares:
            found[name] = float(np.mean(shares))
    return found


def _recipe(config: Mapping[str, Any]) -> dict[str, Any]:
    """What must be the same, the sets by their names."""
    kept = {key: value for key, value in config.items() if key not in OWN}
    settings = {key: value for key, value in dict(kept.get("settings", {})).items() if key != "test_fraction"}
    steps = [one["settings"]["steps"] for one in dict(config.get("mixed", {})).values()]
    networks = [network.get("network", network.get("name")) for network in config["networks"]]
    flat = {f"settings.{key}": value for key, value in settings.items()}
    return (
        {key: value for key, value in kept.items() if key != "settings"} | flat | {"steps": steps, "networks": networks}
    )


def _differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    return sorted(key for key in {*one, *other} if one.get(key) != other.get(key))


def _means(path: Path, windows: Mapping[str, Array]) -> Array:
    try:
        session = open_model(path.read_bytes(), name=str(path))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}: export and quantize both runs first") from error
    asked = {given.name for given in session.get_inputs()}
    [mean] = session.run(["mean"], {name: value for name, value in windows.items() if name in asked})
    return np.asarray(mean)
