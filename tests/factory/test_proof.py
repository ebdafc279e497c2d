"""Weights of whole records ship with the skill of a run that kept a part out, or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from edge_agent.bundle.manifest import SkillRow
from edge_agent.errors import DataError
from edge_agent.forecast import LEADS_S
from model_factory.bundles.proof import apart
from model_factory.cli import main
from model_factory.verification.paired import save
from tests.factory.test_bundle_build import CONFIG, cell, make, quick, run, samples
from tests.factory.test_gate import made
from tests.tiny_bundle import tiny_model

__all__ = ["quick", "run"]


def whole(proof: Path, **changes: Any) -> Path:
    """The run that saw whole records: as the proof, less its skill."""
    folder = proof.parent / "whole"
    folder.mkdir()
    config = CONFIG | {"test_fraction": 0.0, "settings": CONFIG["settings"] | {"test_fraction": 0.0}} | changes
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model_fp32.onnx").write_bytes(tiny_model())
    np.savez(folder / "calibration.npz", **samples())
    return folder


def test_it_ships_with_the_skill_of_its_proof_and_says_so(run: Path) -> None:
    bundle = make(whole(run), proof=run)
    assert {row.network for row in bundle.manifest.skill} == {"zurich-lake", "nerrs-apaeb"}
    training = bundle.manifest.provenance.training
    assert (training["test_fraction"], training["proof.test_fraction"]) == (0.0, 0.2)
    assert "learned from whole records" in bundle.card and "the proof's weights" in bundle.card
    assert "* The last" not in bundle.card  # of these weights nothing was kept


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"settings": {"steps": 20, "size": {"width": 320}, "hold_out": ["nerrs-apaeb"]}}, "settings.steps"),
        ({"hold_out": []}, "hold_out"),
        ({"networks": [*CONFIG["networks"], {"name": "another"}]}, "networks"),
        ({"test_fraction": 0.1}, "did not learn from whole records"),
    ],
)
def test_a_run_of_another_recipe_is_no_proof(run: Path, change: dict[str, Any], named: str) -> None:
    with pytest.raises(DataError, match=named):
        make(whole(run, **change), proof=run)


def test_a_proof_that_was_not_evaluated_is_none(run: Path) -> None:
    (run / "skill.json").unlink()
    with pytest.raises(DataError, match="model-factory evaluate"):
        make(whole(run), proof=run)


def test_weights_that_forecast_differently_are_not_proved(run: Path) -> None:
    """A usual error of a hundredth of a degree: the tiny models agree to that; one that was never trained does not."""
    folder = whole(run)
    (run / "skill.json").write_text(json.dumps([cell(rmse=0.01, rmse_fp32=None)]))
    make(folder, proof=run)
    (folder / "model_fp32.onnx").write_bytes(a_degree_warmer())
    with pytest.raises(DataError, match="forecast differently"):
        make(folder, proof=run)


def test_how_far_two_forecasts_lie_apart_is_told_in_usual_errors() -> None:
    one = np.zeros((3, len(LEADS_S), 8), np.float32)
    other = one.copy()
    other[..., 0] = 0.5
    other[0, :, 0] = np.nan
    rows = made_rows(rmse=2.0)
    assert apart(one, other, rows) == {"temperature": pytest.approx(0.25)}


def a_degree_warmer() -> bytes:
    """The tiny model, off by 1 in every variable."""
    model = onnx.load_model_from_string(tiny_model())
    [change] = [entry for entry in model.graph.initializer if entry.name == "no_change"]
    change.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(change) + np.float32(1.0), "no_change"))
    return bytes(model.SerializeToString())


def made_rows(rmse: float) -> list[Any]:
    return [SkillRow(**cell(rmse=rmse, lead_s=lead_s)) for lead_s in LEADS_S[:2]]


def test_the_gate_judges_the_proof_and_ships_the_whole(run: Path, tmp_path: Path) -> None:
    save(made(), run)
    registry = tmp_path / "registry"
    arguments = ["promote", str(run), "--ship", str(whole(run)), "--registry", str(registry)]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    [card] = [bundle.read_bytes() for bundle in registry.glob("*/*.bundle")]
    assert b"learned from whole records" in card and b"## The promotion gate" in card


def test_weights_are_shipped_into_a_registry_alone(run: Path) -> None:
    done = CliRunner().invoke(main, ["promote", str(run), "--ship", str(whole(run))])
    assert done.exit_code == 1 and "--registry DIR" in done.output


def test_a_run_of_whole_records_cannot_be_scored(run: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["evaluate", str(whole(run)), str(tmp_path)])
    assert done.exit_code == 1 and "nothing is left to score it on" in done.output
