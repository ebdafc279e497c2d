"""What training left in a run's folder becomes one bundle that an agent reads, runs and can be honest about."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from edge_agent.bundle import station_task
from edge_agent.bundle.check import tolerated
from edge_agent.bundle.golden import unpack_golden, verify_golden
from edge_agent.bundle.manifest import SkillRow
from edge_agent.bundle.reader import Bundle, read_bundle
from edge_agent.errors import BundleError, ConfigError, DataError
from edge_agent.inference.onnx import OnnxSession
from model_factory.bundles import budget
from model_factory.bundles.build import build_bundle, check_answers, check_loss, read_skill
from model_factory.bundles.card import beaten_by, precision_changes
from model_factory.bundles.golden_inputs import STATIONS, golden_inputs
from model_factory.cli import main
from tests.tiny_bundle import tiny_expected, tiny_model

FEW_RUNS = ((1, 1, 5), (4, 64, 5))  # threads, stations, runs
CONFIG: dict[str, Any] = {
    "task": "station",
    "settings": {"steps": 10, "size": {"width": 320}, "hold_out": ["nerrs-apaeb"]},
    "test_fraction": 0.2,
    "hold_out": ["nerrs-apaeb"],
    "networks": [
        {
            "name": "zurich-lake",
            "licence": "CC0-1.0",
            "attribution": "Stadt Zuerich",
            "source": "open data",
            "notes": ["a", "b"],
            "reanalysis": False,
            "masked": {"direction of a calm": 3},
        }
    ],
    "parameters": 1234,
    "software": {"torch": "2.13.0"},
}


def cell(**changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "setting": "final-period",
        "network": "zurich-lake",
        "variable": "temperature",
        "lead_s": 900,
    }
    row |= {"n": 100, "rmse": 0.51234567, "rmse_fp32": 0.51, "mae": 0.4, "crps": 0.3, "coverage80": 0.78}
    return row | {"persistence": 0.9, "anomaly_persistence": 0.8, "ridge": 0.5, "lightgbm": 0.6} | changes


ROWS = [
    cell(),
    cell(lead_s=3600, rmse=1.0, rmse_fp32=0.99, ridge=1.2, persistence=2.0, anomaly_persistence=1.5, lightgbm=None),
    cell(setting="leave-one-network-out", network="nerrs-apaeb", rmse=0.6),
    cell(variable="rain", n=0),
]


def fill(folder: Path) -> Path:
    """A run's folder as training and evaluation leave it, with the tiny model."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "skill.json").write_text(json.dumps(ROWS))
    (folder / "model_fp32.onnx").write_bytes(tiny_model())
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return fill(tmp_path / "run")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Bundle]:
    """A finished run and the bundle made of it, for tests that only look."""
    folder = fill(tmp_path_factory.mktemp("made") / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(budget, "MEASURED", FEW_RUNS)
        return folder, make(folder)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "MEASURED", FEW_RUNS)


def samples() -> dict[str, Any]:
    """The golden samples of a model that does not look around."""
    return {name: value for name, value in golden_inputs().items() if name != "group"}


def make(run: Path, **changes: Any) -> Any:
    options: dict[str, Any] = {"name": "test", "counter": 3, "precision": "fp32"}
    return build_bundle(run, run / "out.bundle", **(options | changes))


def test_a_bundle_comes_out_that_an_agent_runs(made: tuple[Path, Bundle]) -> None:
    run, bundle = made
    assert read_bundle(run / "out.bundle", device="raspberry_pi_4").digest == bundle.digest
    verify_golden(run / "out.bundle", bundle.digest)
    inputs = samples()
    np.testing.assert_allclose(OnnxSession(bundle).run(inputs)["mean"], tiny_expected(inputs)["mean"], atol=1e-4)
    assert (bundle.manifest.name, bundle.manifest.counter) == ("test", 3)
    assert {path.name for path in run.iterdir()} == {"config.json", "skill.json", "model_fp32.onnx", "out.bundle"}


def test_the_manifest_says_where_it_came_from_and_what_it_costs(made: tuple[Path, Bundle]) -> None:
    manifest = made[1].manifest
    [network] = manifest.provenance.data
    assert (network["licence"], network["notes"]) == ("CC0-1.0", "a; b")
    assert (network["reanalysis"], network["masked"]) == ("false", '{"direction of a calm": 3}')
    assert manifest.provenance.training["settings.size.width"] == 320
    assert manifest.provenance.training["hold_out"] == "nerrs-apaeb"
    assert manifest.provenance.code["torch"] == "2.13.0"
    assert {row.device for row in manifest.budgets} == {"raspberry_pi_4", "jetson_nano"}
    assert all(row.basis == "estimated" and "nothing was run on such a device" in row.note for row in manifest.budgets)
    assert all(manifest.tolerance[name] > 0 for name in tolerated(manifest))
    assert [row.n for row in manifest.skill] == [100, 100, 100]
    assert manifest.skill[0].rmse == 0.51235


def test_the_card_is_honest(made: tuple[Path, Bundle]) -> None:
    card = made[1].card
    for words in ("Stadt Zuerich", "last 20 % of every station", "Anything of nerrs-apaeb", "These weights never saw",
                  "places it knows", "0.9 (0.57)", "final-period, zurich-lake, temperature: 15 min, up to 2.5 % worse",
                  "which is no board", "Limits of use", "![RMSE by lead](skill.png)"):  # fmt: skip
        assert words in card


def test_rows_of_other_runs_of_the_recipe_are_told_apart(run: Path) -> None:
    other = [cell(setting="leave-one-network-out", rmse=0.7)]
    (run / "skill-without-zurich.json").write_text(json.dumps(other))
    bundle = make(run)
    assert len(bundle.manifest.skill) == 4
    assert "They are the recipe's" in bundle.card


def test_without_an_evaluation_the_card_says_that_nothing_is_known(run: Path) -> None:
    (run / "skill.json").unlink()
    bundle = make(run)
    assert "was not evaluated" in bundle.card
    assert not bundle.plots


def test_golden_samples_are_nobodys_measurements_and_the_same_every_time(made: tuple[Path, Bundle]) -> None:
    inputs, _ = unpack_golden(made[1].golden)
    assert set(inputs) == set(samples())
    for name, value in samples().items():
        np.testing.assert_array_equal(inputs[name], value)
    missing = np.isnan(inputs["history"]).mean(axis=(1, 2))
    assert len(STATIONS) == 9 and missing.min() == 0.0 and missing.max() > 0.95


def test_a_model_that_looks_around_is_declared_to_and_shown_to(run: Path) -> None:
    (run / "model_fp32.onnx").write_bytes(tiny_model(near=True))
    bundle = make(run)
    inputs, _ = unpack_golden(bundle.golden)
    assert bundle.manifest.looks_around
    assert len(set(inputs["group"].tolist())) < len(inputs["group"])  # some of the samples see each other


def test_own_golden_samples_replace_them(run: Path) -> None:
    own: dict[str, Any] = {name: value[:2] for name, value in golden_inputs().items()}
    np.savez(run / "golden_inputs.npz", **own)
    inputs, _ = unpack_golden(make(run).golden)
    assert inputs["history"].shape[0] == 2


def test_a_release_counter_below_one_is_refused(run: Path) -> None:
    with pytest.raises(ConfigError, match="--release"):
        make(run, counter=0)


@pytest.mark.parametrize("name", ["config.json", "model_fp32.onnx"])
def test_a_run_that_is_not_finished_is_an_error_that_names_the_file(run: Path, name: str) -> None:
    (run / name).unlink()
    with pytest.raises(DataError, match=name):
        make(run)


@pytest.mark.parametrize("text", ["{", "{}", '{"test_fraction": "x", "hold_out": [], "networks": []}'])
def test_a_broken_configuration_is_an_error(run: Path, text: str) -> None:
    (run / "config.json").write_text(text)
    with pytest.raises(DataError, match=r"config\.json"):
        make(run)


@pytest.mark.parametrize("rows", ["{", '[{"setting": 1}]', json.dumps([cell(), cell()])])
def test_a_broken_skill_table_is_an_error(run: Path, rows: str) -> None:
    (run / "skill.json").write_text(rows)
    with pytest.raises(DataError):
        read_skill(run)


def test_a_bundle_that_its_reader_refuses_is_not_written(run: Path) -> None:
    with pytest.raises(BundleError, match="Not A Name"):
        make(run, name="Not A Name")
    assert not (run / "out.bundle").exists()
    assert not [path for path in run.iterdir() if path.is_dir()]


def test_a_model_that_makes_up_what_nobody_read_is_not_bundled(run: Path) -> None:
    """Exporters turn NaN into 0 in some operators: a silent station must stay silent."""
    model = onnx.load_from_string(tiny_model())
    for node in model.graph.node:  # the newest value, with 0 where it is missing
        if node.output[0] == "newest":
            node.output[0] = "read"
            where = onnx.helper.make_node("Where", ["gone", "nothing", "read"], ["newest"])
            model.graph.node.insert(1, where)
            model.graph.node.insert(1, onnx.helper.make_node("IsNaN", ["read"], ["gone"]))
            break
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(1, np.float32), "nothing"))
    (run / "model_fp32.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(DataError, match="makes up a temperature"):
        make(run)


def test_answers_that_cannot_be_right_are_refused() -> None:
    inputs = samples()
    good = tiny_expected(inputs)
    check_answers(inputs, good)
    falling = good | {"quantiles": good["quantiles"][..., ::-1]}
    with pytest.raises(DataError, match="monotone"):
        check_answers(inputs, falling)
    lacking = good | {"mean": np.where(np.arange(len(inputs["origin"]))[:, None, None] == 0, np.nan, good["mean"])}
    with pytest.raises(DataError, match="gives no temperature"):
        check_answers(inputs, lacking)


def test_the_command_says_what_it_wrote(run: Path) -> None:
    out = run / "a" / "b.bundle"
    arguments = ["bundle", str(run), "--out", str(out), "--precision", "fp32", "--release", "9", "--name", "mine"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "mine release 9" in result.output and "golden samples verified" in result.output
    assert read_bundle(out).manifest.counter == 9


def rows(*cells: dict[str, Any]) -> list[SkillRow]:
    return [SkillRow(**one) for one in cells]


def test_lost_cells_are_listed_with_their_leads() -> None:
    every = rows(
        cell(ridge=0.1), cell(lead_s=1800, ridge=0.1), cell(network="b", ridge=9.0), cell(network="c", ridge=None)
    )
    [line] = beaten_by(every, "ridge")
    assert line.startswith("* final-period, zurich-lake, temperature: every lead")


def test_the_change_by_quantization_is_pooled_over_pairs() -> None:
    """RMSE 1 and 3 against 1 and 2, equally many: sqrt(10 / 5) - 1 = +41.4 %."""
    changes = precision_changes(rows(cell(rmse=1.0, rmse_fp32=1.0), cell(network="b", rmse=3.0, rmse_fp32=2.0)))
    assert changes == {("temperature", 900): pytest.approx(41.42, abs=0.01)}


def test_outputs_are_declared_as_the_task_says(made: tuple[Path, Bundle]) -> None:
    manifest = made[1].manifest
    assert manifest.outputs == station_task.outputs()
    assert manifest.inputs == station_task.INPUTS


def test_quantization_that_costs_too_much_crps_is_refused(run: Path) -> None:
    rows = [cell(crps=0.303, crps_fp32=0.3)]
    (run / "skill.json").write_text(json.dumps(rows))
    loss = read_skill(run)
    check_loss(loss, "int4")
    with pytest.raises(DataError, match=r"int8 costs 1\.32 % of CRPS in temperature at 15 min"):
        check_loss((*loss, SkillRow(**cell(lead_s=900, n=1, crps=0.4, crps_fp32=0.3))), "int8")


def test_a_bundle_of_int4_has_its_own_skill_and_devices(run: Path) -> None:
    (run / "skill_int4.json").write_text(json.dumps([cell(crps=0.301, crps_fp32=0.3, rmse=0.52)]))
    assert [row.rmse for row in read_skill(run, "int4")] == [0.52]
    assert set(budget.SLOWER["int4"]) == {"mobile", "browser"}


def test_a_bundle_is_held_against_the_devices_it_is_meant_for(run: Path) -> None:
    bundle = make(run, device=("jetson_nano",))
    assert [row.device for row in bundle.manifest.budgets] == ["jetson_nano"]
    with pytest.raises(ConfigError, match="--device browser: fp32 is for raspberry_pi_4, jetson_nano"):
        make(run, device=("browser",))


def refused(run: Path, *options: str) -> str:
    """The one line that `model-factory bundle` ends with."""
    done = CliRunner().invoke(main, ["bundle", str(run), "--out", str(run / "a.bundle"), *options])
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit), done.exception
    assert done.output.count("\n") == 1
    return done.output


@pytest.mark.parametrize("damaged", [b"", b"garbage", tiny_model()[:-400]])
def test_a_damaged_model_is_named_with_the_command_that_makes_it(run: Path, damaged: bytes) -> None:
    (run / "model_int8.onnx").write_bytes(damaged)
    (run / "skill.json").unlink()
    told = refused(run)
    assert f"{run}/model_int8.onnx" in told and f"model-factory quantize {run}" in told
    (run / "model_fp32.onnx").write_bytes(damaged)
    told = refused(run, "--precision", "fp32")
    assert f"{run}/model_fp32.onnx" in told and f"model-factory export {run}" in told


def test_a_model_that_the_runtime_does_not_load_is_named(run: Path) -> None:
    model = onnx.load_from_string(tiny_model())
    model.graph.node[0].op_type = "Nonsense"
    (run / "model_fp32.onnx").write_bytes(model.SerializeToString())
    assert f"{run}/model_fp32.onnx: onnxruntime cannot load it" in refused(run, "--precision", "fp32")


def test_without_a_litert_model_its_own_command_is_named(run: Path) -> None:
    assert f"python -m model_factory.quantize.litert {run}" in refused(run, "--runtime", "ai-edge-litert")


def test_of_its_own_draft_it_does_not_say_that_it_is_not_signed(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    make(run)
    assert "not signed" not in caplog.text


@pytest.mark.parametrize("name", ["config.json", "model_fp32.onnx", "skill.json", "pairs/zurich-lake.npz"])
def test_no_file_of_the_run_is_written_over(run: Path, name: str) -> None:
    (run / "pairs").mkdir()
    (run / "pairs" / "zurich-lake.npz").write_bytes(b"pairs")
    before = (run / name).read_bytes()
    done = CliRunner().invoke(main, ["bundle", str(run), "--precision", "fp32", "--out", str(run / name)])
    assert done.exit_code == 1 and "this command reads that file" in done.output
    assert (run / name).read_bytes() == before
