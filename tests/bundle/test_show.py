"""`edge-agent bundle show` tells a person what a bundle is, and a script exactly what its bundle.json says."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from edge_agent.bundle import refusal, show
from edge_agent.cli import main
from tests.tiny_bundle import make_tiny_bundle


def skill_row(**changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "setting": "final-period",
        "network": "a",
        "variable": "temperature",
        "lead_s": 900,
        "n": 100,
    }
    scores = {"rmse": 0.5, "rmse_fp32": 0.5, "mae": 0.4, "crps": 0.3, "coverage80": 0.8, "persistence": 1.0}
    return row | scores | changes


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["bundle", "show", *arguments])


def test_a_person_sees_name_tensors_budget_skill_provenance_and_card(tmp_path: Path) -> None:
    data = [{"name": "lake", "licence": "CC0-1.0"}]
    provenance = {"data": data, "code": {"version": "0.1"}, "training": {"steps": 5}}
    path = make_tiny_bundle(tmp_path / "a.bundle", skill=[skill_row()], provenance=provenance, counter=12)
    result = run(str(path), "--verify")
    assert result.exit_code == 0
    seen = ("tiny 0.0.1, release 12", "history float32 [S, 2880, 8]", "temperature degC", "raspberry_pi_4, estimated")
    for words in (*seen, "final-period", "0.500", "CC0-1.0", "steps 5", "unsigned", "verified here", "The last value"):
        assert words in result.output


def test_a_bundle_that_looks_at_neighbours_is_told_from_one_that_does_not(tmp_path: Path) -> None:
    near, plain = (make_tiny_bundle(tmp_path / f"{near}.bundle", near=near) for near in (True, False))
    assert "sees      stations near by" in run(str(near)).output and "sees" not in run(str(plain)).output


def test_json_is_the_file_itself(tmp_path: Path) -> None:
    path = make_tiny_bundle(tmp_path / "a.bundle")
    result = run(str(path), "--json")
    with zipfile.ZipFile(path) as archive:
        assert result.stdout.strip() == archive.read("bundle.json").decode().strip()
    assert json.loads(result.stdout)["schema"] == 1


def test_without_a_name_the_shipped_bundle_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(show, "default_bundle", lambda: make_tiny_bundle(tmp_path / "default.bundle"))
    assert "tiny 0.0.1" in run().output


def test_a_refused_bundle_ends_with_one_line_and_status_1(tmp_path: Path) -> None:
    result = run(str(make_tiny_bundle(tmp_path / "a.bundle", task="grid")))
    assert result.exit_code == 1
    assert "refused (task)" in result.output


def test_a_card_cannot_drive_the_terminal(tmp_path: Path) -> None:
    result = run(str(make_tiny_bundle(tmp_path / "a.bundle", card="# \x1b[2J\x9b31mred ä °C\n")))
    assert "\x1b" not in result.output and "\x9b" not in result.output
    assert "red ä °C" in result.output


@pytest.mark.parametrize("arguments", [["bundle", "show"], ["benchmark"], ["nowcast"], ["hindcast"]])
def test_every_command_that_reads_a_bundle_names_a_refused_one_and_what_to_do(
    tmp_path: Path, arguments: list[str]
) -> None:
    path = make_tiny_bundle(tmp_path / "a.bundle")
    path.write_bytes(path.read_bytes()[:-100])
    site = ["--latitude", "47", "--longitude", "8", "--elevation", "400"]
    from_file = arguments[0] in ("nowcast", "hindcast")
    done = CliRunner().invoke(main, [*arguments, str(path), *([*site, "--bundle", str(path)] if from_file else [])])
    assert done.exit_code == 1
    assert done.stderr == (
        f"edge-agent: bundle {path}: refused (not-a-zip): it is not a zip file, or it was cut short: copy the file"
        " again, or make it anew with `model-factory bundle`\n"
    )


def test_the_remedy_is_that_of_what_is_wrong(tmp_path: Path) -> None:
    told = run(str(make_tiny_bundle(tmp_path / "a.bundle", schema=2))).output
    assert f"bundle {tmp_path}/a.bundle: refused (schema-version)" in told and "update Stationcast" in told
    told = run(str(make_tiny_bundle(tmp_path / "b.bundle", runtime={"onnxruntime": "99"}))).output
    assert f"bundle {tmp_path}/b.bundle: refused (runtime)" in told and "another version of the runtime" in told


def test_every_word_with_a_remedy_of_its_own_is_one_of_the_reasons() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "bundle.md").read_text()
    assert all(f"| `{word}` |" in page for word in refusal.REMEDIES)
