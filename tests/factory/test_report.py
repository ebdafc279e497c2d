"""The page that `evaluate --html` writes: whole in itself, and its numbers are those of the pairs."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_agent.bundle.station_task import OUTPUT_VARIABLES, RAIN_EVENT
from edge_agent.forecast import QUANTILES
from model_factory.verification import distributions, evaluate
from model_factory.verification.curves import curves, pit_counts, reliability, slices, told
from model_factory.verification.html import page
from model_factory.verification.paired import NAMED_EVENTS, PAIRED_LEADS_S, Pairs, load_all
from model_factory.verification.scoring import ANOMALY, CLIMATOLOGY, MODEL, PERSISTENCE
from tests.factory.test_evaluate import run, write_data
from tests.factory.test_gate import SHAPE, made, scaled

__all__ = ["run"]


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    return made()


def test_a_run_leaves_its_pairs_and_a_page_without_anything_to_fetch(run: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_data(data, "seen", 5)
    evaluate.evaluate_command(run, data, (), "final-period", False, "1h", None, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert "seen, final-period" in text and text.count("<svg") >= 2 and "</html>" in text
    assert not re.search(r"""(src|href)\s*=\s*["'](?!#)""", text.replace('xlink:href="#', "")) and "@import" not in text
    kept = load_all(run)["seen"]
    # the tiny model is persistence: so are its pairs
    np.testing.assert_allclose(kept.means[MODEL][..., 0], kept.means[PERSISTENCE][..., 0], atol=1e-3)
    assert (~np.isnan(kept.crps[ANOMALY][:, :, 0])).any(axis=1).sum() > 5
    assert kept.stations == ("one",) and kept.place.tolist() == [[47.0, 8.0]]


def test_the_page_tells_aims_and_events_with_their_reliability(pairs: Pairs) -> None:
    right = np.where(np.arange(SHAPE[0])[:, None] % 3, 0.0, 1.0).repeat(7, 1)
    often = np.full(SHAPE[:2], 1 / 3)
    text = "\n".join(page({"made": rainy(pairs, {MODEL: right, CLIMATOLOGY: often, PERSISTENCE: often})}, [], "run"))
    assert "<h2>Aims</h2>" in text and "Brier skill of rain over climatology" in text
    assert "rain: rain &gt;= 0.2 mm" in text and "+1.000" in text and "probability given, all leads" in text
    assert "frost: " not in text  # it never came


def test_names_from_files_cannot_put_markup_into_the_page(pairs: Pairs) -> None:
    text = "\n".join(page({"<script>": replace(pairs, network="<script>")}, ["<b>"], "<i>"))
    assert "<script>" not in text and "<b>" not in text and "<i>" not in text


def test_curves_are_root_mean_squares_on_common_pairs(pairs: Pairs) -> None:
    lines = curves(pairs, 0)["RMSE"]
    error = pairs.means[MODEL][:, :, 0] - 20.0
    np.testing.assert_allclose(lines[MODEL], np.sqrt((error**2).mean(axis=0)))
    half = pairs.means[PERSISTENCE].copy()
    half[::2] = np.nan
    fewer = curves(replace(pairs, means={**pairs.means, PERSISTENCE: half}), 0)["RMSE"]
    np.testing.assert_allclose(fewer[MODEL], np.sqrt((error[1::2] ** 2).mean(axis=0)))


def test_an_even_pit_fills_its_classes_evenly(pairs: Pairs) -> None:
    np.testing.assert_allclose(pit_counts(pairs, 0), np.diff([0, *QUANTILES, 1]), atol=0.02)
    ties = np.zeros((*SHAPE, 2))
    ties[..., 1] = 1.0  # nothing known of where the reading lies
    np.testing.assert_allclose(pit_counts(replace(pairs, pit=ties), 0), np.diff([0, *QUANTILES, 1]), atol=0.02)


def rainy(pairs: Pairs, given: dict[str, np.ndarray]) -> Pairs:
    """Rain at every third origin, with probabilities of rain by source."""
    came = np.full(SHAPE, 0.0)
    came[::3, :, OUTPUT_VARIABLES.index("rain")] = 1.0
    odds = {source: np.full((*SHAPE[:2], len(NAMED_EVENTS)), np.nan) for source in given}
    for source, p in given.items():
        odds[source][..., 0] = p
    return replace(pairs, came=came, chances=odds)


def test_reliability_of_a_sure_and_right_forecast_is_the_diagonal(pairs: Pairs) -> None:
    right = np.where(np.arange(SHAPE[0])[:, None] % 3, 0.0, 1.0).repeat(7, 1)
    often = np.full(SHAPE[:2], 1 / 3)
    sure = rainy(pairs, {MODEL: right, CLIMATOLOGY: often, PERSISTENCE: 1.0 - right})
    given, share, n = reliability(sure, RAIN_EVENT, slice(0, 1))
    assert given.tolist() == share.tolist() == [0.0, 1.0] and n.sum() == SHAPE[0]
    found = told(sure, RAIN_EVENT)
    assert (found.n, found.came, found.brier) == (7 * SHAPE[0], 7 * SHAPE[0] // 3, 0.0)
    assert found.skill == {CLIMATOLOGY: 1.0, PERSISTENCE: 1.0}
    assert told(rainy(pairs, {MODEL: often, CLIMATOLOGY: often}), RAIN_EVENT).skill[CLIMATOLOGY] == pytest.approx(0.0)


def test_parts_by_season_and_daylight_are_told_apart(pairs: Pairs) -> None:
    parts = slices(pairs, 0)
    assert {"all", "day", "night", "Sep-Nov"} == set(parts)  # a month from 13 September
    assert parts["all"].ratio == pytest.approx(1 / 1.15, rel=0.02)
    assert np.abs(parts["all"].coverage - 0.8).max() < 0.04 and np.abs(parts["all"].coverage90 - 0.9).max() < 0.03
    assert slices(scaled(pairs, 0.5), 0)["day"].ratio == pytest.approx(0.5 * parts["day"].ratio)
    assert len(PAIRED_LEADS_S) == 7


def test_a_regression_is_dressed_with_errors_that_were_known_at_the_origin() -> None:
    rng = np.random.default_rng(4)
    times = 3600 * np.arange(1000)
    mean = np.full((1000, 7, 8), 20.0)
    came = mean + rng.normal(0, 1, mean.shape)
    scores = distributions._by_residuals(times, mean, came)
    some = times % 10_800 == 0
    assert np.isnan(scores[~some]).all() and np.isnan(scores[:48]).all()
    honest = np.nanmean(scores[some, :, 0])
    assert honest == pytest.approx(1 / np.sqrt(np.pi), rel=0.06)  # of a normal distribution that is right
    changed = came.copy()
    changed[600:] += 50.0
    again = distributions._by_residuals(times, mean, changed)
    np.testing.assert_array_equal(again[:600], scores[:600])
