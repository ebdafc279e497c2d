"""The laws that the parts of the adaptation keep, each beside an independent way to the same numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.adaptation import calibration as calibration_
from edge_agent.adaptation import correction as correction_
from edge_agent.adaptation import curves as curves_
from edge_agent.adaptation import expert as expert_
from edge_agent.adaptation.calibration import Calibration, below, hour_terms
from edge_agent.adaptation.chances import Chances
from edge_agent.adaptation.correction import Correction
from edge_agent.adaptation.curves import Curves
from edge_agent.adaptation.expert import Expert
from edge_agent.adaptation.features import ALL, BENT_INPUTS, OWN, bent, inputs
from edge_agent.adaptation.pending import Pending
from edge_agent.adaptation.recent import Recent
from edge_agent.forecast import LEADS_S, QUANTILES
from tests.forecast.series import windows

LEVELS = np.asarray(QUANTILES)
LEADS = np.asarray(LEADS_S)


# --- the regressions ------------------------------------------------------------------------------


def test_the_expert_is_the_ridge_of_all_rows_it_has_seen():
    rng = np.random.default_rng(0)
    rows, inputs_, targets = 400, 7, 2
    x, y = rng.standard_normal((rows, 1, inputs_)), rng.standard_normal((rows, 1, targets))
    expert = Expert(1, inputs_, targets)
    for one, came in zip(x, y, strict=True):
        expert.learn(np.array([0]), one, came)
    expert.solve_all()
    weight = 0.5 ** (np.arange(rows)[::-1] / expert_.HALF_LIFE)
    n = weight.sum()

    def ridge(columns: int, target: np.ndarray) -> np.ndarray:
        z = x[:, 0, :columns]
        products = z.T @ (weight[:, None] * z)
        share = expert_.PENALTY + expert_.PRIOR_ROWS / n
        penalty = np.diag(share * np.diagonal(products) + expert_.TINY * n)
        return np.linalg.solve(products + penalty, z.T @ (weight[:, None] * target))

    probe = rng.standard_normal((1, inputs_))
    own, beside = expert.forecast(probe)
    network = x[:, 0, -targets:]
    np.testing.assert_allclose(own, probe[:, :-targets] @ ridge(inputs_ - targets, y[:, 0]), atol=1e-4)
    np.testing.assert_allclose(beside, probe[:, -targets:] + probe @ ridge(inputs_, y[:, 0] - network), atol=1e-4)


def test_an_expert_finds_all_its_weights_in_turn():
    rng = np.random.default_rng(1)
    expert, at_once = Expert(6, 4, 1), Expert(6, 4, 1)
    for _ in range(200):
        x = rng.standard_normal((6, 4))
        for one in (expert, at_once):
            one.learn(np.arange(6), x, x[:, :1] * 2.0)
    for origin in range(0, 900 * 6, 900):
        expert.solve(origin)
    at_once.solve_all()
    probe = rng.standard_normal((6, 4))
    np.testing.assert_allclose(expert.forecast(probe)[0], at_once.forecast(probe)[0])


def curve_errors(curves: Curves, steps: int, truth, *, every: int = 1) -> np.ndarray:
    """What is left of `truth(g)` [K] at each origin and lead, [O, L, K], where verdicts come in time, one step late,
    at `every` steps."""
    rng, leads = np.random.default_rng(8), np.array([1, 3])
    g = rng.standard_normal((steps, 3))
    made, left = np.zeros((steps, 2, 1)), np.zeros((steps, 2, 1))
    for k in range(steps):
        if k > 4 and (k - 1) % every == 0:
            curves.learn(900 * (k - 1), np.arange(2), left[k - 1 - leads, np.arange(2)])
        made[k] = curves.forecast(900 * k, g[k])
        left[k] = truth(g[k]) - made[k]
    return left


def test_curves_find_what_no_line_can_and_at_each_lead():
    left = curve_errors(Curves(900 * np.array([1, 3]), 3, 1), 6000, lambda g: np.cos(1.5 * g[0]) * np.array([[1], [2]]))
    early, late = (np.sqrt((part**2).mean(axis=(0, 2))) for part in (left[:90], left[-1000:]))
    assert (late < 0.5 * early).all()


def test_curves_learn_as_well_where_verdicts_are_hourly():
    """Leads' verdicts then are of different origins, and one matrix of products stands for both."""
    curves = Curves(900 * np.array([1, 3]), 3, 1)
    left = curve_errors(curves, 24_000, lambda g: np.cos(1.5 * g[0]) * np.array([[1], [2]]), every=4)
    early, late = (np.sqrt((part**2).mean(axis=(0, 2))) for part in (left[:90], left[-1000:]))
    assert (late < 0.5 * early).all()


def test_curves_learn_nothing_of_a_forecast_that_a_wrong_clock_has_overwritten():
    """Five steps wait for verdicts here: one made five steps ahead takes the place of one made now."""
    curves = Curves(900 * np.array([1, 3]), 3, 1)
    curves.forecast(900 * 10, np.ones(3))
    curves.forecast(900 * 15, np.zeros(3))
    curves.learn(900 * 11, np.array([0]), np.ones((1, 1)))
    assert not curves.crossed.any() and not curves.rows.any()


def test_curves_are_the_ridge_of_all_rows_they_have_seen():
    rng = np.random.default_rng(9)
    curves, rows = Curves(np.array([900]), 3, 2), 400
    g, y = rng.standard_normal((rows, 3)), rng.standard_normal((rows, 2))
    y[::7, 1] = np.nan
    said = np.zeros((rows, 2))
    for k in range(rows):
        said[k] = curves.forecast(900 * k, g[k])[0]
        curves.learn(900 * (k + 1), np.array([0]), (y[k] - said[k])[None])
    curves.solve()
    directions, turns = curves_._drawn(3)
    x = np.concatenate([np.ones((rows, 1)), np.cos(g @ directions + turns)], axis=1)
    weight = 0.5 ** (np.arange(rows)[::-1] / curves_.HALF_LIFE)
    products, n = x.T @ (weight[:, None] * x), weight.sum()
    share = curves_.PENALTY + curves_.PRIOR_ROWS / n
    penalized = products + np.diag(share * np.diagonal(products) + curves_.TINY * n)
    weights = np.linalg.solve(penalized, x.T @ (weight[:, None] * np.where(np.isnan(y), said, y)))
    probe = rng.standard_normal(3)
    seen = np.append(1.0, np.cos(probe @ directions + turns))
    np.testing.assert_allclose(curves.forecast(900 * rows, probe)[0], seen @ weights, atol=2e-3)


def test_curves_that_met_every_reading_say_nothing():
    curves = Curves(900 * np.array([1, 3]), 3, 1)
    for k in range(300):
        assert not curves.forecast(900 * k, np.full(3, k / 100)).any()
        curves.learn(900 * k, np.arange(2), np.zeros((2, 1)))


def test_what_curves_see_is_bounded_and_there_whatever_is_missing():
    history = np.full((2880, 8), np.nan, np.float32)
    base = network = np.full((len(LEADS), 5), np.nan)
    g = bent(history, inputs(history, 0, base, network, LEADS), LEADS)
    assert g.shape == (BENT_INPUTS,) and np.isfinite(g).all() and (np.abs(g) <= 4.0).all()


def test_the_correction_is_least_squares_drawn_to_its_prior(monkeypatch):
    monkeypatch.setattr(correction_, "HALF_LIFE", 1e12)
    rng = np.random.default_rng(2)
    prior = np.array([1.0, 0.0, 0.0])
    z, truth = rng.standard_normal((300, 1, 3)), np.array([0.7, 0.2, -0.3])
    y = z @ truth + 0.1 * rng.standard_normal((300, 1))
    learned = Correction(prior, 1)
    for one, came in zip(z, y, strict=True):
        learned.learn(np.array([0]), one, came)
    rows = z[:, 0]
    eye = correction_.PRECISION * np.eye(3)
    expected = np.linalg.solve(rows.T @ rows + eye, rows.T @ y[:, 0] + eye @ prior)
    np.testing.assert_allclose(learned.weights[0], expected, rtol=1e-6)


def test_a_correction_that_is_told_nothing_does_not_run_away():
    learned = Correction(np.array([1.0, 0.0]), 1)
    for _ in range(20_000):
        learned.learn(np.array([0]), np.array([[0.0, 0.0]]), np.array([0.0]))
    assert np.trace(learned.covariances(np.array([0]))[0]) <= correction_.MOST_TRACE + 1e-6
    np.testing.assert_array_equal(learned.weights[0], [1.0, 0.0])


def test_a_correction_kept_in_halves_stays_least_squares_where_inputs_are_the_same():
    """Without a local expert two inputs always are: what tells them apart is never learned, and harms nothing."""
    rng = np.random.default_rng(3)
    prior, rows = np.array([1.0, 0.0, 0.0]), 12_000
    z = rng.standard_normal((rows, 1, 2))[..., [0, 0, 1]]
    y = z @ np.array([0.4, 0.4, -0.5]) + 0.2 * rng.standard_normal((rows, 1))
    learned, whole, weights = Correction(prior, 1), np.eye(3) / correction_.PRECISION, prior.copy()
    keep = 0.5 ** (1.0 / correction_.HALF_LIFE)
    for one, came in zip(z, y, strict=True):
        learned.learn(np.array([0]), one, came)
        gain = whole @ one[0] / (keep + one[0] @ whole @ one[0])
        weights += gain * np.clip(came[0] - one[0] @ weights, -correction_.CLIP, correction_.CLIP)
        whole = (whole - np.outer(gain, one[0] @ whole)) / keep
    probe = np.array([0.7, 0.7, -1.2])
    assert learned.forecast(probe[None])[0] == pytest.approx(probe @ weights, abs=1e-4)
    assert np.linalg.eigvalsh(learned.covariances(np.array([0]))[0]).min() > 0
    half = learned.covariances(np.array([0]))[:, *np.triu_indices(3)]
    np.testing.assert_array_equal(learned.covariance, half)  # as saved states have it, older ones too


# --- what waits for verdicts ----------------------------------------------------------------------


@given(at=st.integers(0, 200), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_what_was_said_waits_for_its_verdict_and_no_longer(at, seed):
    """Each lead's until the last cycle at which its verdict may be due; numbers to less than a sensor tells."""
    rng = np.random.default_rng(seed)
    pending = Pending(LEADS, 900, levels=11, events=1, candidates=6, means=5, z=11, x=3)
    first, shape = 900 * at, (len(LEADS), 8, 11)
    typical = np.array([12.0, 60.0, 850.0, 4.0, 7.0, 200.0, 1.0, 300.0])[:, None]
    said = []
    for origin in (first, first + 900):
        here = pending.at(origin)
        quantiles = typical + np.sort(rng.uniform(-1, 1, shape), axis=-1)
        quantiles[:, 6] = np.nan
        base = rng.normal(10.0, 3.0, (len(LEADS), 5))
        means = base + rng.normal(0.0, 2.0, (6, len(LEADS), 5))
        z = np.concatenate([rng.uniform(-8, 8, (len(LEADS), 5, 9)), np.zeros((len(LEADS), 5, 2))], axis=-1)
        z[..., -2:] = hour_terms(origin + LEADS)[:, None, 1:]
        pending.origin[here] = origin
        pending.keep(here, base, quantiles, means, z)
        said.append((quantiles, means, z))
    for lead, valid in enumerate((first + LEADS).tolist()):
        there, leads = pending.due(valid)
        mine = there[leads == lead]
        assert len(mine) == 1
        np.testing.assert_allclose(pending.issued(mine)[0], said[0][0][lead], atol=0.025 + 1e-9)
        np.testing.assert_allclose(pending.means(mine)[:, 0], said[0][1][:, lead], atol=0.01)
        np.testing.assert_allclose(pending.z(mine, valid)[0], said[0][2][lead], atol=0.005)
        later = first + int(LEADS[lead]) + 2 * 900
        pending.origin[pending.at(later)[lead]] = later
        assert lead not in pending.due(valid)[1]


def test_numbers_beyond_what_two_bytes_hold_come_back_as_the_largest():
    pending = Pending(LEADS[:1], 900, levels=1, events=1, candidates=1, means=5, z=3, x=0)
    wild = np.full((1, 8, 1), 1e9)
    pending.keep(pending.at(0), np.zeros((1, 5)), wild, np.zeros((1, 1, 5)), np.zeros((1, 5, 3)))
    issued = pending.issued(pending.at(0))[0, :, 0]
    assert np.isfinite(issued).all() and (issued > 100).all()


# --- inputs ---------------------------------------------------------------------------------------


def test_inputs_are_finite_whatever_is_missing_and_know_nothing_before_the_last_day_but_its_mean():
    for gaps in (0.0, 0.5, 1.0):
        history = windows(1, gaps=gaps)[0]
        if gaps == 1.0:
            history[:] = np.nan
        base = np.full((len(LEADS), 5), np.nan if gaps == 1.0 else 3.0)
        x = inputs(history, 1_700_000_100 // 900 * 900, base, base + 1.0, LEADS)
        assert x.shape == (len(LEADS), ALL) and np.isfinite(x).all()
    np.testing.assert_array_equal(x[:, OWN:], 0.0)


def test_what_the_expert_alone_sees_does_not_depend_on_the_network():
    history, base = windows(1)[0], np.full((len(LEADS), 5), 3.0)
    one, other = (inputs(history, 900, base, base + move, LEADS) for move in (0.0, 2.0))
    np.testing.assert_array_equal(one[:, :OWN], other[:, :OWN])
    assert (one[:, OWN:] != other[:, OWN:]).all()


def test_the_newest_errors_are_those_of_their_times():
    recent = Recent(3, 1)
    recent.take(900, np.array([[1.0], [2.0], [np.nan]]))
    short, newest, yesterday, week, hours = np.moveaxis(recent.at(np.array([900 + 86_400] * 3))[:, 0], 1, 0)
    np.testing.assert_array_equal(short, [2.0, 2.0, 2.0])
    np.testing.assert_array_equal(newest, [1.0, 2.0, 0.0])
    np.testing.assert_array_equal(yesterday, [1.0, 2.0, 0.0])
    assert (week[:2] > 0).all() and (week[:2] < hours[:2]).all() and (hours[:2] < newest[:2]).all()


# --- intervals ------------------------------------------------------------------------------------


def test_a_reading_on_several_quantiles_stands_for_all_of_them():
    levels = np.array([0.1, 0.5, 0.9])
    np.testing.assert_allclose(below(np.array([0.0, 0.0, 2.0]), np.array(0.0), levels), [1 / 7, 5 / 7, 1.0])
    np.testing.assert_allclose(below(np.array([1.0, 2.0, 3.0]), np.array(2.5), levels), [0.0, 0.0, 1.0])
    np.testing.assert_allclose(below(np.array([5.0, 9.0, 9.0]), np.array(9.0), levels), [0.0, 2 / 7, 6 / 7])
    np.testing.assert_allclose(below(np.array([0.0, 1.0, 2.0]), np.array(1.25), levels, 1.0), [0.0, 0.25, 1.0])


@settings(max_examples=20)
@given(st.floats(0.0, 0.9), st.integers(0, 1000))
def test_a_verdict_on_honest_quantiles_is_the_level_on_average_also_with_ties(calm, seed):
    rng = np.random.default_rng(seed)
    ends = np.concatenate([[0.0], (LEVELS[1:] + LEVELS[:-1]) / 2])  # where a tie is taken to end
    calm = ends[np.argmin(np.abs(ends - calm))]
    quantiles = np.maximum(LEVELS - calm, 0.0)
    came = np.maximum(rng.random(20_000) - calm, 0.0)
    share = below(np.broadcast_to(quantiles, (len(came), len(LEVELS))), came, LEVELS).mean(axis=0)
    np.testing.assert_allclose(share, LEVELS, atol=0.02)


@pytest.mark.parametrize(("spread", "bias"), [(0.4, 0.0), (2.5, 0.0), (1.0, 0.7)])
def test_intervals_that_are_wrong_become_honest(spread, bias):
    rng = np.random.default_rng(4)
    normal = np.quantile(rng.standard_normal(100_000), LEVELS)
    calibration, unit = Calibration(1, 1, 1, QUANTILES), np.ones((1, 1))
    rung, inside = np.zeros(1, np.int8), []
    for t in range(5000):
        hours = hour_terms(900 * t)
        issued = calibration.apply(rung, spread * normal[None, None], unit, hours[None])
        assert (np.diff(issued) >= 0).all()
        came = np.array([[bias + rng.standard_normal()]])
        inside.append(issued[0, 0, 1] <= came[0, 0] <= issued[0, 0, -2])
        calibration.learn(rung[None], issued, came, hours, np.zeros(1))
    assert np.mean(inside[2000:]) == pytest.approx(0.8, abs=0.03)


def pits(came: np.ndarray, normal: np.ndarray, calibration: Calibration) -> np.ndarray:
    """Share of each verdict below every quantile, [N, Q], as the calibration issues the same forecast again and again:
    quantiles `normal`, none below 0, every half hour."""
    rung, unit, found = np.zeros(1, np.int8), np.ones((1, 1)), []
    for t, reading in enumerate(came):
        hours, observed = hour_terms(1800 * t), np.full((1, 1), reading)
        issued = np.maximum(calibration.apply(rung, normal[None, None], unit, hours[None]), 0.0)
        assert (np.diff(issued) >= 0).all()
        found.append(below(issued, observed, LEVELS)[0, 0])
        calibration.learn(rung[None], issued, observed, hours, np.zeros(1))
    return np.array(found)


def test_intervals_hold_what_they_should_through_calms_and_seasons():
    """A third of the readings are calms, and the spread changes by half within each year."""
    rng = np.random.default_rng(6)
    spread = 1.0 + 0.5 * np.sin(2 * np.pi * np.arange(17_520) / 17_520)
    came = np.maximum(0.45 + spread * rng.standard_normal(17_520), 0.0)
    normal = np.maximum(0.45 + np.quantile(rng.standard_normal(100_000), LEVELS), 0.0)
    held = np.diff(pits(came, normal, Calibration(1, 1, 1, QUANTILES))[2880:, [1, -2]], axis=1)
    assert held.mean() == pytest.approx(0.8, abs=0.01)
    for part in np.array_split(held, 4):
        assert part.mean() == pytest.approx(0.8, abs=0.02)


def test_intervals_of_whole_numbers_hold_what_they_should():
    """A pressure in whole hPa, true to 0.4 hPa and forecast to twice that, judged as it was before rounding."""
    rng = np.random.default_rng(8)
    normal = np.quantile(rng.standard_normal(100_000), LEVELS)
    calibration, unit, rung = Calibration(1, 1, 1, QUANTILES), np.ones((1, 1)), np.zeros(1, np.int8)
    inside, share = [], []
    for t in range(6000):
        hours, middle = hour_terms(900 * t), 1000.0 + 10.0 * rng.random()
        issued = calibration.apply(rung, middle + 0.8 * normal[None, None], unit, hours[None])
        truth = middle + 0.4 * rng.standard_normal()
        inside.append(issued[0, 0, 1] <= truth <= issued[0, 0, -2])
        came = np.round([[truth]])
        share.append(np.diff(below(issued, came, LEVELS, 1.0)[0, 0, [1, -2]]))
        calibration.learn(rung[None], issued, came, hours, np.ones(1))
    assert np.mean(share[2000:]) == pytest.approx(0.8, abs=0.01)
    assert np.mean(inside[2000:]) == pytest.approx(0.8, abs=0.03)


def test_what_a_sensor_did_for_a_fortnight_is_let_go_of(monkeypatch):
    """An anemometer that sticks widens the lower side; once it turns again, the 10 % quantile is back within the month.
    With the slow terms alone it is not: it rises by at most a tenth of the rate a verdict."""
    rng = np.random.default_rng(7)
    wind = np.maximum(2.0 + 0.8 * rng.standard_normal(5280), 0.0)
    wind[2880:3840] = np.where(rng.random(960) < 0.6, 0.0, wind[2880:3840])  # 20 of 110 days
    normal = 2.0 + 0.8 * np.quantile(rng.standard_normal(100_000), LEVELS)
    off = []
    for quick in (calibration_.QUICK_RATE, 0.0):
        monkeypatch.setattr(calibration_, "QUICK_RATE", quick)
        off.append(abs(pits(wind, normal, Calibration(1, 1, 1, QUANTILES))[3840:, 1].mean() - 0.1))
    assert off[0] < 0.04 and off[1] > 0.07


def test_each_rung_has_a_calibration_of_its_own_and_a_missing_verdict_moves_none():
    calibration = Calibration(2, 1, 1, QUANTILES)
    issued = np.linspace(-1, 1, len(QUANTILES))[None, None]
    calibration.learn(np.array([[1]], np.int8), issued, np.array([[9.0]]), hour_terms(0), np.zeros(1))
    assert not calibration.terms[0].any() and calibration.terms[1].any()
    before, quick = calibration.terms.copy(), calibration.quick.copy()
    assert not quick[0].any() and quick[1].any()
    calibration.learn(np.array([[1]], np.int8), issued, np.array([[np.nan]]), hour_terms(0), np.zeros(1))
    np.testing.assert_array_equal(calibration.terms, before)
    np.testing.assert_array_equal(calibration.quick, quick)


def test_probabilities_that_promise_too_much_become_reliable_and_good_ones_stay():
    rng = np.random.default_rng(5)
    for stretch in (1.0, 2.0):
        chances, said, made = Chances(1, 1), [], []
        for _ in range(4000):
            p = rng.beta(0.4, 2.0)
            told = np.array([[min(stretch * p, 0.999)]])
            pair = chances.apply(told)
            came = np.array([float(rng.random() < p)])
            chances.learn(np.array([0]), pair, came)
            said.append((pair[0, 0, 0] - came[0]) ** 2)
            made.append((told[0, 0] - came[0]) ** 2)
        ratio = np.mean(made[1500:]) / np.mean(said[1500:])
        assert ratio < 1.01 if stretch == 1.0 else ratio < 0.97
