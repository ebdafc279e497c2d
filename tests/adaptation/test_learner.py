"""What a station learns: it helps, it never knows the future, it is kept, and live and hindcast agree."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from edge_agent.adaptation import cycle
from edge_agent.adaptation.darkness import DARK, ENOUGH, READINGS, Darkness
from edge_agent.adaptation.features import CORRECTED
from edge_agent.adaptation.learner import BY_BUNDLE, DELAY_S, Learner
from edge_agent.adaptation.live import Adaptation
from edge_agent.adaptation.saved import pack, unpack
from edge_agent.bundle.reader import read_bundle
from edge_agent.bundle.station_task import EVENTS, OUTPUT_VARIABLES
from edge_agent.cli import main
from edge_agent.errors import DataError
from edge_agent.forecast import LEADS_S, QUANTILES
from edge_agent.forecast.hindcast import hindcast, origins_between
from edge_agent.forecast.nowcast import Nowcaster
from edge_agent.forecast.skill import ALONE, ISSUED, Skill
from edge_agent.grid import GRID_VARIABLES
from edge_agent.history import History
from edge_agent.inference.onnx import OnnxSession
from edge_agent.store import Store
from tests.adaptation.station import STATION, filled, follow
from tests.agents import HOME, write_config
from tests.forecast.series import DAY_S, START, STATES, recorded
from tests.tiny_bundle import make_tiny_bundle


@pytest.fixture(scope="module")
def nowcaster(tmp_path_factory) -> Nowcaster:
    path = make_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny.bundle")
    return Nowcaster(OnnxSession(read_bundle(path)))


def new() -> Learner:
    return Learner(LEADS_S, QUANTILES, EVENTS)


def learned(past: History, nowcaster: Nowcaster, origins=None) -> tuple[Learner, list]:
    learner = new()
    origins = origins_between(past, 900) if origins is None else origins
    return learner, list(hindcast(past, STATION, nowcaster, origins, learner=learner))


# --- what it does ---------------------------------------------------------------------------------


def test_a_network_that_misses_the_day_is_corrected_and_its_intervals_become_honest(nowcaster):
    names = ("temperature", "humidity")
    past = recorded(8, 900, names=names)
    skill = Skill(nowcaster, adapted=True)
    origins = origins_between(past, 3600, start=START + 5 * DAY_S)
    for part in hindcast(past, STATION, nowcaster, origins, learner=new()):
        skill.add(part)
    for name in names:
        issued, alone = (skill.row(source, name, 10_800) for source in (ISSUED, ALONE))
        assert issued.n == alone.n > 60
        assert issued.rmse < alone.rmse and issued.crps < alone.crps
        assert abs(issued.coverage80 - 0.8) < abs(alone.coverage80 - 0.8)
    temperature = skill.row(ISSUED, "temperature", 10_800).rmse / skill.row(ALONE, "temperature", 10_800).rmse
    assert temperature < 0.6  # the bundle is persistence, the series a sine of the hour


def test_numbers_stay_physical_and_in_order(nowcaster):
    past = recorded(2.5, 900)
    past.values["humidity"][:] = np.minimum(past.values["humidity"] + 30.0, 100.0)
    past.values["wind_speed"][:] = np.maximum(past.values["wind_speed"] - 2.0, 0.0)
    _, parts = learned(past, nowcaster)
    at = {name: v for v, name in enumerate(OUTPUT_VARIABLES)}
    for part in parts:
        mean, quantiles = part.batch.mean, part.batch.quantiles
        assert (np.diff(quantiles, axis=-1) >= 0).all()
        for name in ("humidity", "wind_speed", "wind_gust", "rain"):
            assert (mean[:, :, at[name]] >= 0).all() and (quantiles[:, :, at[name]] >= 0).all()
        assert quantiles[:, :, at["humidity"]].max() <= 100.0
        for values in (mean[..., None], quantiles):
            assert (values[:, :, at["wind_gust"]] >= values[:, :, at["wind_speed"]]).all()
        away = quantiles[:, :, at["wind_direction"]] - mean[:, :, at["wind_direction"], None]
        assert np.abs(away).max() <= 180.0
        assert ((part.batch.probability >= 0) & (part.batch.probability <= 1)).all()


def test_a_correction_that_loses_is_not_used():
    learner = new()
    learner.squares[5, 3, 0] = 1.2 * learner.squares[0, 3, 0]  # one lead of the temperature
    learner.squares[5, :, 1] = 1.01 * learner.squares[0, :, 1]  # humidity as a whole
    used = learner.used()
    assert not used[3, 0] and not used[:, 1].any() and used[:, 2:].all()


def test_a_member_of_the_mix_is_known_by_its_own_verdicts_after_a_day_of_them():
    learner, n = new(), 99
    prior = learner.squares[:, 0, 0].copy()
    for valid in range(START, START + 900 * n, 900):
        at = learner.pending.at(valid - 900)
        learner.pending.origin[at] = valid - 900
        said, inputs = learner.pending.means(at), learner.pending.z(at, valid)
        means = np.full(said.shape, 10.0)
        learner.pending.keep(at, means[0], np.full_like(learner.pending.issued(at), np.nan), means, 0.0 * inputs)
        learner.learn(valid, np.full(len(OUTPUT_VARIABLES), 10.5))
    assert learner.taken[0, 0] == n
    np.testing.assert_allclose(learner.squares[:, 0, 0], (prior + 0.25) / 2, rtol=1e-6)


# --- what it may know -----------------------------------------------------------------------------


@pytest.mark.parametrize("hours", [30, 51])
def test_nothing_later_than_the_origin_changes_an_adapted_forecast(nowcaster, hours):
    past = recorded(2.5, 600)
    origin = START + hours * 3600
    after = past.times > origin
    other = History(past.times, {name: np.where(after, 7.0, column) for name, column in past.values.items()}, [])
    [ours], [theirs] = (learned(h, nowcaster, np.array([origin]))[1] for h in (past, other))
    np.testing.assert_array_equal(ours.batch.mean, theirs.batch.mean)
    np.testing.assert_array_equal(ours.batch.quantiles, theirs.batch.quantiles)
    np.testing.assert_array_equal(ours.batch.probability, theirs.batch.probability)


def test_a_verdict_waits_until_its_reading_must_be_there():
    learner = new()
    assert learner.due(START).max() == START - DELAY_S
    learner.learn(START - DELAY_S, np.full(len(OUTPUT_VARIABLES), np.nan))
    assert len(learner.due(START)) == 0
    assert learner.due(START + 1800).tolist() == [START, START + 900]
    assert len(learner.due(START + 30 * DAY_S)) == LEADS_S[-1] // 900 + 1  # after an outage: what may still be pending
    assert learner.due(START - DAY_S).tolist() == []  # the clock was set back: it goes on from there
    assert learner.due(START - DAY_S + 900).tolist() == [START - DAY_S]


def test_beside_the_adapted_forecast_stands_the_bundle_alone(nowcaster):
    past = recorded(1.5, 900, names=STATES)
    origins = origins_between(past, 3600)
    _, adapted = learned(past, nowcaster, origins)
    alone = list(hindcast(past, STATION, nowcaster, origins))
    for name in ("mean", "quantiles", "probability"):
        beside = np.concatenate([getattr(part.alone, name) for part in adapted])
        np.testing.assert_allclose(beside, np.concatenate([getattr(part.batch, name) for part in alone]), rtol=1e-6)
    assert all(part.alone is None and not part.batch.adapted.any() for part in alone)


def test_which_rows_are_written_does_not_change_what_is_learned(nowcaster):
    past = recorded(2.5, 900, names=STATES)
    every = origins_between(past, 900)
    few = origins_between(past, 6 * 3600, start=START + 2 * DAY_S)
    (_, all_), (_, some) = learned(past, nowcaster, every), learned(past, nowcaster, few)
    at = np.isin(np.concatenate([part.origins for part in all_]), few)
    mean = np.concatenate([part.batch.mean for part in all_])[at]
    np.testing.assert_array_equal(mean, np.concatenate([part.batch.mean for part in some]))


# --- live -----------------------------------------------------------------------------------------


def without(store: Store, nowcaster: Nowcaster, origin: int):
    return nowcaster.forecast([STATION], store.history(["home"], origin), store.ages(["home"], origin), origin, 0)[0]


def test_live_and_hindcast_agree(tmp_path, nowcaster):
    past = recorded(2, 900, names=(*STATES, "rain"))
    origins = origins_between(past, 900)
    _, parts = learned(past, nowcaster)
    expected = np.concatenate([part.batch.mean for part in parts])
    spread = np.concatenate([part.batch.quantiles for part in parts])
    with filled(tmp_path / "s.sqlite", past) as store:
        adaptation = Adaptation(store, ["home"])
        adaptation.take_up(nowcaster, "a" * 64)
        for row, origin in enumerate(origins.tolist()):
            forecast = follow(adaptation, store, nowcaster, origin)
            for v, name in enumerate(nowcaster.variables):
                if name in past.values:
                    own = forecast.variables[name]
                    np.testing.assert_allclose(own.mean, expected[row, :, v], rtol=1e-5, atol=1e-5)
                    np.testing.assert_allclose(own.quantiles.T, spread[row, :, v], rtol=1e-5, atol=1e-5)
    assert "temperature" in forecast.adapted and "wind_gust" not in forecast.adapted


def test_what_was_learned_survives_a_restart_and_a_reset_begins_anew(tmp_path, nowcaster):
    past = recorded(2.3, 900, names=STATES)
    config = write_config(tmp_path)
    at = origins_between(past, 900)[:110].tolist()
    with filled(tmp_path / "store.sqlite", past) as store:
        first = Adaptation(store, ["home"])
        first.take_up(nowcaster, "a" * 64)
        for origin in at:
            follow(first, store, nowcaster, origin)
        first.save_at_stop()
        store.commit()
        second = Adaptation(store, ["home"])
        second.take_up(nowcaster, "a" * 64)
        ours, theirs = (follow(one, store, nowcaster, at[-1] + 900) for one in (first, second))
        unmoved = without(store, nowcaster, at[-1] + 900)
        assert ours.adapted == theirs.adapted == STATES and unmoved.adapted == ()
        shown = CliRunner().invoke(main, ["adaptation", "show", "--config", str(config), "--json"])
        assert shown.exit_code == 0, shown.output
        rows = json.loads(shown.stdout)["rows"]
        assert {row["variable"] for row in rows} == set(STATES) and all(row["verdicts"] > 30 for row in rows)
        assert "used" in CliRunner().invoke(main, ["adaptation", "show", "--config", str(config)]).stdout
        reset = CliRunner().invoke(main, ["adaptation", "reset", "--config", str(config), "--station", HOME["id"]])
        assert reset.exit_code == 0, reset.output
        anew = follow(second, store, nowcaster, at[-1] + 1800)
        alone = without(store, nowcaster, at[-1] + 1800)
        np.testing.assert_allclose(anew.variables["humidity"].mean, alone.variables["humidity"].mean, rtol=1e-12)
        assert not store.learned_is_handed("home")
        store.commit()
    gone = CliRunner().invoke(main, ["adaptation", "show", "--config", str(config), "--station", "attic"])
    assert gone.exit_code != 0 and "no station" in gone.stderr


def test_a_station_without_a_verdict_has_nothing_to_show(tmp_path, nowcaster):
    config, past = write_config(tmp_path), recorded(1.2, 900, names=STATES)
    with filled(tmp_path / "store.sqlite", past) as store:
        adaptation = Adaptation(store, ["home"])
        adaptation.take_up(nowcaster, "a" * 64)
        follow(adaptation, store, nowcaster, int(origins_between(past, 900)[0]))
        adaptation.save_at_stop()
        store.commit()
    shown = CliRunner().invoke(main, ["adaptation", "show", "--config", str(config)])
    assert shown.exit_code == 1 and "nothing is learned yet" in shown.stderr and "1970" not in shown.output


@pytest.mark.parametrize("body", ["text where bytes belong", 7, b"noise" * 99])
def test_a_row_that_nobody_learned_is_told_and_begun_anew(tmp_path, nowcaster, body, caplog):
    config, past = write_config(tmp_path), recorded(1.2, 900, names=STATES)
    with filled(tmp_path / "store.sqlite", past) as store:
        store.keep_learned("home", body)
        store.commit()
        shown = CliRunner().invoke(main, ["adaptation", "show", "--config", str(config)])
        assert shown.exit_code == 1 and "is not used" in shown.stderr
        adaptation = Adaptation(store, ["home"])
        adaptation.take_up(nowcaster, "a" * 64)
        assert follow(adaptation, store, nowcaster, int(origins_between(past, 900)[0])).variables
        assert "begins anew" in caplog.text


def test_a_bundle_of_other_levels_makes_a_station_begin_anew(tmp_path, nowcaster):
    past = recorded(1.6, 900, names=STATES)
    other = Nowcaster(OnnxSession(read_bundle(make_tiny_bundle(tmp_path / "tiny.bundle"))))
    other.levels = other.levels[1:-1]
    last = origins_between(past, 900)[-1]
    with filled(tmp_path / "s.sqlite", past) as store:
        adaptation = Adaptation(store, ["home"])
        adaptation.take_up(nowcaster, "a" * 64)
        for origin in (last - 900, last):
            follow(adaptation, store, nowcaster, int(origin))
        adaptation.take_up(Nowcaster(None), "")
        assert follow(adaptation, store, Nowcaster(None), int(last) + 900).variables["humidity"].mean is not None
        adaptation.take_up(other, "b" * 64)
        assert adaptation._learner("home").levels == other.levels


def test_another_bundle_begins_the_networks_part_anew_and_keeps_the_stations_own(nowcaster):
    past = recorded(2.5, 900, names=STATES)
    learner, _ = learned(past, nowcaster)
    learner.use("a" * 64)
    calibration, weights = learner.calibration.terms.copy(), learner.correction.weights.copy()
    x = np.random.default_rng(0).standard_normal((len(LEADS_S), learner.expert.products.shape[1]))
    own = learner.expert.forecast(x)[0]
    learner.use("a" * 64)
    np.testing.assert_array_equal(learner.correction.weights, weights)
    learner.use("b" * 64)
    np.testing.assert_array_equal(learner.calibration.terms, calibration)
    np.testing.assert_array_equal(learner.expert.forecast(x)[0], own)
    assert not np.array_equal(learner.correction.weights, weights)
    assert (learner.pending.origin == -1).all()


@pytest.mark.parametrize(("came", "verdicts"), [(2.0, 0), (60.0, 1)])
def test_a_dark_step_says_nothing_of_the_suns_widths(came, verdicts):
    learner = Learner(LEADS_S, QUANTILES, EVENTS, expert=False)
    leads, sun = len(LEADS_S), OUTPUT_VARIABLES.index("solar_radiation")
    quantiles = np.linspace(-1.0, 1.0, len(QUANTILES)) + np.full((leads, len(OUTPUT_VARIABLES), 1), 5.0)
    quantiles[:, sun] = 0.0
    mean = quantiles[..., len(QUANTILES) // 2].copy()
    rung = np.full(len(OUTPUT_VARIABLES), BY_BUNDLE, np.int8)
    history = np.full((2880, 8), 5.0, np.float32)
    base, chance = np.full((leads, len(CORRECTED)), 5.0), np.full((leads, len(EVENTS)), 0.1)
    learner.adapt(1_600_000_200, history, base, rung, mean, quantiles, chance)
    readings = np.full(len(OUTPUT_VARIABLES), 5.0)
    readings[sun] = came
    learner.learn(1_600_000_200 + 900, readings)
    assert learner.calibration.verdicts[BY_BUNDLE, 0, sun] == verdicts
    assert learner.calibration.verdicts[BY_BUNDLE, 0, 0] == 1


def test_in_a_dry_month_the_quantiles_of_rain_go_to_zero():
    """A tip of 0.2 mm is the step in which rain is read, but none is none."""
    learner = Learner(LEADS_S, QUANTILES, EVENTS, expert=False)
    rain = OUTPUT_VARIABLES.index("rain")
    history = np.zeros((2880, 8), np.float32)
    history[::50, GRID_VARIABLES.index("rain")] = 0.2
    for k in range(400):
        origin = 1_600_000_200 + 900 * k
        quantiles = np.zeros((24, 8, len(QUANTILES)))
        quantiles[:, rain] = np.linspace(0.001, 0.02, len(QUANTILES))
        learner.adapt(
            origin, history, np.zeros((24, len(CORRECTED))), np.full(8, BY_BUNDLE, np.int8), np.zeros((24, 8)),
            quantiles, np.full((24, len(EVENTS)), 0.1),
        )  # fmt: skip
        learner.learn(origin, np.zeros(8))
    assert learner.resolution[rain] == pytest.approx(0.2)
    assert (quantiles[0, rain, : len(QUANTILES) // 2] == 0.0).all()


def test_the_dark_is_forecast_as_the_sensor_shows_it():
    darkness, dark = Darkness(QUANTILES), np.array([np.nan, 0.0])
    mean, quantiles = np.zeros(3), np.zeros((3, len(QUANTILES)))
    shows = np.random.default_rng(0).gamma(4.0, 0.4, 400)
    for value in shows[: ENOUGH - 1]:
        darkness.learn(dark, value)
    for highest, nothing in ((np.array([DARK + 0.1]), 1.0), (dark, DARK + 0.1), (dark, np.nan)):
        darkness.learn(highest, nothing)
    np.testing.assert_array_equal(darkness.shown(mean, quantiles)[1], 0.0)
    for value in shows[ENOUGH - 1 :]:
        darkness.learn(dark, value)
    newest = shows[-READINGS:]
    shown, fan = darkness.shown(mean, quantiles)
    np.testing.assert_allclose(shown, newest.mean())
    np.testing.assert_allclose(fan, np.tile(np.quantile(newest, QUANTILES), (3, 1)))


def test_what_day_taught_does_not_light_the_night():
    learner = Learner(LEADS_S, QUANTILES, EVENTS, expert=False)
    sun = OUTPUT_VARIABLES.index("solar_radiation")
    learner.calibration.terms[:, :, sun, :, 0] = 0.5
    mean, quantiles = np.zeros((24, 8)), np.zeros((24, 8, len(QUANTILES)))
    mean[:12, sun], quantiles[:12, sun] = 200.0, np.linspace(100.0, 300.0, len(QUANTILES))
    learner.adapt(
        1_600_000_200, np.zeros((2880, 8), np.float32), np.zeros((24, len(CORRECTED))),
        np.full(8, BY_BUNDLE, np.int8), mean, quantiles, np.full((24, len(EVENTS)), 0.1),
    )  # fmt: skip
    assert (quantiles[:12, sun, 0] != 100.0).all()
    np.testing.assert_array_equal(quantiles[12:, sun], 0.0)
    np.testing.assert_array_equal(mean[12:, sun], 0.0)


# --- what is kept ---------------------------------------------------------------------------------


def test_bytes_are_the_state_and_anything_else_is_refused(nowcaster):
    past = recorded(2.2, 900, names=STATES)
    learner, _ = learned(past, nowcaster)
    data = pack(learner)
    assert len(data) < 2_500_000
    again = new()
    unpack(data, again)
    assert pack(again) == data and again.learned_until == learner.learned_until
    for broken in (b"", data[:-7], b"learned0" + data[8:], data[:60] + bytes([data[60] ^ 1]) + data[61:]):
        with pytest.raises(DataError):
            unpack(broken, new())
    with pytest.raises(DataError, match="other leads"):
        unpack(data, Learner(LEADS_S[:8], QUANTILES, EVENTS))
    with pytest.raises(DataError, match="other leads"):
        unpack(data, Learner(LEADS_S, QUANTILES, EVENTS, expert=False))


def test_a_large_gateway_goes_without_local_experts_and_little_state(nowcaster):
    small = Learner(LEADS_S, QUANTILES, EVENTS, expert=False)
    past = recorded(2, 900, names=STATES)
    parts = list(hindcast(past, STATION, nowcaster, origins_between(past, 3600), learner=small))
    assert np.isfinite(parts[-1].batch.mean[:, :, 0]).all()
    assert len(pack(small)) < 400_000


def test_bases_are_anomaly_persistence(nowcaster):
    past = recorded(7, 900)
    origin = START + 6 * DAY_S
    [part] = hindcast(past, STATION, nowcaster, np.array([origin]))
    base = cycle.bases(past.grid_ending(origin)[None], nowcaster.leads_s)
    np.testing.assert_allclose(base[0], part.base["anomaly-persistence"][0][0, :, :5], rtol=1e-6)
