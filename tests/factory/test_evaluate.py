"""Scores are what they say: the same pairs for everyone, only the past, and the truth where the truth is known."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest

from edge_agent.adaptation.learner import Learner
from edge_agent.bundle.manifest import SkillRow
from edge_agent.bundle.reader import read_bundle
from edge_agent.bundle.station_task import OUTPUT_VARIABLES
from edge_agent.clock import format_time
from edge_agent.config import Station
from edge_agent.errors import ConfigError, DataError
from edge_agent.forecast import LEADS_S, QUANTILES
from edge_agent.forecast.hindcast import hindcast
from edge_agent.forecast.nowcast import Nowcaster
from edge_agent.history import History
from edge_agent.inference.onnx import OnnxSession
from model_factory.verification import adapted, baselines, evaluate, features, pairs
from model_factory.verification.models import onnx_model
from model_factory.verification.scoring import FP32, LIGHTGBM, MODEL, PERSISTENCE, RIDGE, Sums
from tests.tiny_bundle import make_tiny_bundle, tiny_model

START = 1_600_000_200 // 900 * 900
DAY_STEPS = 96
PLACE = (47.0, 8.0, 400.0)
HELD_BACK = 0.98  # what of an anomaly is left after 15 minutes


def synthetic(days: int, seed: int = 0) -> History:
    """A day's cycle and an anomaly that fades by 2 % a step: what persistence gets wrong, a regression can see."""
    rng = np.random.default_rng(seed)
    steps = np.arange(days * DAY_STEPS)
    anomaly = np.zeros(len(steps))
    for t in steps[1:]:
        anomaly[t] = HELD_BACK * anomaly[t - 1] + rng.normal(0, 0.3)
    temperature = 15 + 5 * np.sin(2 * np.pi * steps / DAY_STEPS) + anomaly
    return History(START + 900 * steps.astype(np.int64), {"temperature": temperature}, [])


def series(history: History, test_fraction: float = 0.2) -> pairs.Record:
    return pairs.record("made", "up", PLACE, history, test_fraction)


@pytest.fixture(scope="module")
def known() -> pairs.Record:
    return series(synthetic(32))


@pytest.fixture(scope="module")
def own(known: pairs.Record) -> baselines.Regressions:
    made = baselines.regressions(known, pairs.held_out_origins(known, 3600))
    assert made is not None
    return made


def rmse(forecast: np.ndarray, came: np.ndarray) -> float:
    return float(np.sqrt(np.nanmean((forecast - came) ** 2)))


def test_a_regression_comes_near_the_best_that_is_possible(known: pairs.Record, own: baselines.Regressions) -> None:
    """For a fading anomaly the least error is known: s sqrt((1 - r^2k) / (1 - r^2)), k steps ahead."""
    at = pairs.held_out_origins(known, 3600)
    came = pairs.observed(known, at)
    anomaly = features.base_forecasts(known, at, cycle=True)
    plain = features.base_forecasts(known, at, cycle=False)
    for k, steps in enumerate(features.LEAD_STEPS):
        least = 0.3 * np.sqrt((1 - HELD_BACK ** (2 * steps)) / (1 - HELD_BACK**2))
        truth = came[:, steps - 1, 0]
        ridge, trees = rmse(own.ridge[:, k, 0], truth), rmse(own.lightgbm[:, k, 0], truth)
        assert 0.85 * least < ridge < 1.2 * least, (steps, ridge, least)
        assert 0.85 * least < trees < 1.35 * least, (steps, trees, least)
        if steps >= 12:
            assert ridge < rmse(anomaly[:, steps - 1, 0], truth) < rmse(plain[:, steps - 1, 0], truth)


def test_regressions_answer_for_what_was_measured_only(own: baselines.Regressions) -> None:
    assert not np.isnan(own.ridge[..., 0]).any()
    assert np.isnan(own.ridge[..., 1:]).all() and np.isnan(own.lightgbm[..., 1:]).all()


def test_no_target_of_training_lies_in_the_part_that_is_scored(known: pairs.Record) -> None:
    assert baselines.training_origins(known).max() + max(features.LEAD_STEPS) < known.split
    assert pairs.held_out_origins(known, 3600).min() >= known.split


def test_what_comes_later_changes_no_forecast(tmp_path: Path) -> None:
    """Readings after a time are replaced by nonsense: every forecast issued until then stays the same."""
    history = synthetic(8, seed=1)
    other = {"temperature": history.values["temperature"].copy()}
    one = series(history)
    middle = (one.split + len(one.steps)) // 2
    other["temperature"][middle + 1 :] = 40.0
    two = series(History(history.times, other, []))
    at = pairs.held_out_origins(one, 3600)
    before = at[at <= middle]
    assert 0 < len(before) < len(at)
    (tmp_path / "m.onnx").write_bytes(tiny_model())
    model = onnx_model(tmp_path / "m.onnx")
    np.testing.assert_array_equal(features.features(one, before), features.features(two, before))
    np.testing.assert_array_equal(pairs.windows(one, before), pairs.windows(two, before))
    for forecast_one, forecast_two in (
        *zip(evaluate.forecasts(model, one, before), evaluate.forecasts(model, two, before), strict=True),
        *((features.base_forecasts(s, before, cycle=c) for s in (one, two)) for c in (True, False)),
    ):
        np.testing.assert_array_equal(forecast_one, forecast_two)
    ours, theirs = baselines.regressions(one, before), baselines.regressions(two, before)
    assert ours is not None and theirs is not None
    np.testing.assert_array_equal(ours.ridge, theirs.ridge)
    np.testing.assert_array_equal(ours.lightgbm, theirs.lightgbm)


def test_a_station_with_a_short_past_has_no_regression() -> None:
    one = series(synthetic(4))
    assert baselines.regressions(one, pairs.held_out_origins(one, 3600)) is None


def test_regressions_are_made_once(known: pairs.Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the next evaluation asks for sparser origins."""
    hourly, daily = (pairs.held_out_origins(known, span) for span in (3600, 86_400))
    values = np.random.default_rng(0).normal(size=(2, len(hourly), 7, 8)).astype(np.float32)
    made = baselines.Regressions(*values)
    calls = []
    monkeypatch.setattr(baselines, "regressions", lambda *a: calls.append(1) or made)
    for at in (daily, hourly, daily):
        got = baselines.cached_regressions(known, at, tmp_path)
        assert got is not None
        np.testing.assert_array_equal(got.ridge, made.ridge[np.isin(hourly, at)])
    assert len(calls) == 1
    changed = series(synthetic(32, seed=3))
    baselines.cached_regressions(changed, daily, tmp_path)
    assert len(calls) == 2  # other readings, other forecasts


def blank(origins: int) -> np.ndarray:
    return np.full((origins, len(LEADS_S), len(OUTPUT_VARIABLES)), np.nan)


def cell(origins: int, name: str, lead: int, values: list[float]) -> np.ndarray:
    out = blank(origins)
    out[:, lead, OUTPUT_VARIABLES.index(name)] = values
    return out


def around(mean: np.ndarray, width: float) -> np.ndarray:
    return mean[..., None] + width * (np.array(QUANTILES) - 0.5)


def test_scores_are_those_of_a_worked_example() -> None:
    came = cell(4, "temperature", 3, [1.0, 2.0, 3.0, np.nan])
    mean = cell(4, "temperature", 3, [1.0, 4.0, 3.5, 7.0])
    last = cell(4, "temperature", 3, [2.0, 2.0, np.nan, 1.0])
    total = Sums()
    total.add(came, {MODEL: mean, FP32: mean + 1, PERSISTENCE: last}, around(mean, 1.0))
    [row] = total.rows("final-period", "made")
    assert (row.variable, row.lead_s, row.n) == ("temperature", 3600, 2)  # a pair needs a reading and every source
    assert row.rmse == pytest.approx(np.sqrt(2), abs=1e-5) and row.mae == 1.0
    assert row.rmse_fp32 == pytest.approx(np.sqrt(5), abs=1e-5)
    assert row.persistence == pytest.approx(np.sqrt(0.5), abs=1e-5)
    assert row.coverage80 == 0.5 and row.ridge is None


def test_directions_are_scored_on_the_circle() -> None:
    came = cell(1, "wind_direction", 0, [10.0])
    mean = cell(1, "wind_direction", 0, [350.0])
    total = Sums()
    total.add(came, {MODEL: mean}, around(mean, 100.0))
    [row] = total.rows("s", "n")
    assert row.rmse == 20.0 and row.coverage80 == 1.0


def test_a_regression_that_is_asked_and_silent_takes_the_pair_from_everyone() -> None:
    came = cell(2, "temperature", 3, [0.0, 0.0])
    mean = cell(2, "temperature", 3, [1.0, 3.0])
    ridge = cell(2, "temperature", 3, [1.0, np.nan])
    asked = np.zeros((len(LEADS_S), len(OUTPUT_VARIABLES)), bool)
    for here, n, score, bar in ((True, 1, 1.0, 1.0), (False, 2, round(float(np.sqrt(5)), 5), None)):
        asked[3, 0] = here
        total = Sums()
        total.add(
            came,
            {MODEL: mean, RIDGE: ridge, LIGHTGBM: blank(2)},
            around(mean, 1.0),
            {RIDGE: asked, LIGHTGBM: asked & False},
        )
        [row] = total.rows("s", "n")
        assert (row.n, row.rmse, row.ridge, row.lightgbm) == (n, score, bar, None)


def write_data(folder: Path, network: str, days: int, reanalysis: bool = False) -> None:
    (folder / network).mkdir(parents=True)
    history = synthetic(days, seed=len(network))
    rows = [f"{format_time(t)},{x:.3f}" for t, x in zip(history.times, history.values["temperature"], strict=True)]
    (folder / network / "one.csv").write_text("\n".join(["time,temperature", *rows]) + "\n")
    (folder / network / "stations.csv").write_text("station,latitude,longitude,elevation\none,47,8,400\n")
    (folder / network / "network.json").write_text(json.dumps({"name": network, "reanalysis": reanalysis}))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    out = tmp_path / "run"
    out.mkdir()
    (out / "config.json").write_text(json.dumps({"test_fraction": 0.5, "hold_out": ["left-out"]}))
    (out / "model_fp32.onnx").write_bytes(tiny_model())
    return out


def skill(run: Path) -> list[SkillRow]:
    return msgspec.json.decode((run / "skill.json").read_bytes(), type=list[SkillRow])


def test_a_run_is_scored_on_every_network_under_its_setting(run: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_data(data, "seen", 5)
    write_data(data, "left-out", 5)
    write_data(data, "model-output", 5, reanalysis=True)
    evaluate.evaluate_command(run, data, (), "final-period", False, "1h", tmp_path / "skill.png")
    rows = skill(run)
    assert {(row.setting, row.network) for row in rows} == {
        ("final-period", "seen"),
        ("leave-one-network-out", "left-out"),
    }
    for row in rows:  # the tiny model is persistence
        assert row.rmse == pytest.approx(row.persistence, abs=1e-4) and row.rmse_fp32 == row.rmse
        assert row.n > 50 and 0 <= row.coverage80 <= 1 and row.crps <= row.mae
    assert (tmp_path / "skill.png").read_bytes().startswith(b"\x89PNG")


def test_scoring_again_replaces_the_rows_of_that_setting_and_network(run: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_data(data, "seen", 5)
    write_data(data, "left-out", 5)
    for every, setting in (("1h", "final-period"), ("2h", "final-period"), ("2h", "other")):
        evaluate.evaluate_command(run, data, ("seen",), setting, False, every, None)
    evaluate.evaluate_command(run, data, ("left-out",), "other", False, "1h", None)
    rows = skill(run)
    cells = [(row.setting, row.network, row.variable, row.lead_s) for row in rows]
    assert len(set(cells)) == len(cells) == 3 * len(LEADS_S)
    two_hours = {row.n for row in rows if row.setting == "final-period"}
    assert max(two_hours) <= 5 * DAY_STEPS // 2 // 8


def test_int8_leads_and_fp32_stands_beside_it(run: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_data(data, "seen", 4)
    (run / "model_int8.onnx").write_bytes(tiny_model())
    evaluate.evaluate_command(run, data, (), "final-period", False, "3h", None)
    assert all(row.rmse_fp32 == row.rmse for row in skill(run))
    evaluate.evaluate_command(run, data, (), "final-period", False, "3h", None, adapt=True)
    adapted_rows = [row for row in skill(run) if row.setting.endswith(", adapted")]
    assert adapted_rows and all(row.rmse_fp32 is None and row.crps_fp32 is None for row in adapted_rows)


def test_a_station_too_short_for_regressions_is_named(run: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_data(data, "seen", 4)
    with pytest.raises(DataError, match="seen one: too few readings"):
        evaluate.evaluate_command(run, data, (), "final-period", True, "3h", None)


def test_what_cannot_be_scored_is_said(run: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_data(data, "seen", 4)
    with pytest.raises(DataError, match="no network elsewhere"):
        evaluate.evaluate_command(run, data, ("elsewhere",), "s", False, "1h", None)
    with pytest.raises(ConfigError, match="15 minutes"):
        evaluate.evaluate_command(run, data, (), "s", False, "10min", None)
    (run / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"config\.json"):
        evaluate.evaluate_command(run, data, (), "s", False, "1h", None)
    (run / "model_fp32.onnx").unlink()
    with pytest.raises(DataError, match="no model_fp32"):
        evaluate.evaluate_command(run, data, (), "s", False, "1h", None)


def test_an_adapted_model_is_scored_on_what_a_hindcast_issues(tmp_path: Path) -> None:
    """The same learner over the same record: the same numbers, and they are other ones than the model's own."""
    history = synthetic(2)
    one, at = series(history, 0.25), np.arange(150, 190, 4)
    path = make_tiny_bundle(tmp_path / "tiny.bundle")
    (tmp_path / "model.onnx").write_bytes(tiny_model())
    model = onnx_model(tmp_path / "model.onnx")
    mean, quantiles, probability = adapted.adapted_forecasts(model, one, at)
    nowcaster = Nowcaster(OnnxSession(read_bundle(path)))
    station = Station(id="up", latitude=PLACE[0], longitude=PLACE[1], elevation_m=PLACE[2])
    learner = Learner(nowcaster.leads_s, nowcaster.levels, nowcaster.events)
    parts = list(hindcast(history, station, nowcaster, one.steps[at], learner=learner))
    v = OUTPUT_VARIABLES.index("temperature")
    for ours, name in ((mean, "mean"), (quantiles, "quantiles")):
        theirs = np.concatenate([getattr(part.batch, name) for part in parts])
        np.testing.assert_allclose(ours[:, :, v], theirs[:, :, v], rtol=1e-4)
    assert probability.shape[:2] == mean.shape[:2]
    assert not np.allclose(mean[:, :, v], evaluate.forecasts(model, one, at)[0][:, :, v])
    np.testing.assert_array_equal(adapted.adapted_forecasts(model, one, at, days=1000)[0], mean)
    longer, late = series(synthetic(4), 0.25), np.arange(300, 340, 4)
    month, whole = (adapted.adapted_forecasts(model, longer, late, days=days)[0][:, :, v] for days in (1, None))
    assert not np.allclose(month, whole)
    with pytest.raises(DataError, match="less than a day"):
        adapted.adapted_forecasts(model, one, np.array([3, 200]))


@pytest.mark.parametrize("damaged", [b"garbage", tiny_model()[:-400]])
def test_a_damaged_model_is_named_with_the_command_that_makes_it(tmp_path: Path, damaged: bytes) -> None:
    path = tmp_path / "model_int8.onnx"
    path.write_bytes(damaged)
    with pytest.raises(DataError, match=f"{path}: .*model-factory quantize {tmp_path}`"):
        onnx_model(path)


def test_the_runtime_warns_about_nothing_in_a_model(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """An initializer that nothing uses, as quantization leaves some: ONNX Runtime would say so."""
    model = onnx.load_from_string(tiny_model())
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(1, np.float32), "left over"))
    path = tmp_path / "model_int8.onnx"
    path.write_bytes(model.SerializeToString())
    onnx_model(path)
    assert capfd.readouterr().err == ""
