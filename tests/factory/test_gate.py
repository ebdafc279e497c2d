"""The promotion gate: what is worse is refused, what is better is taken, and luck is told from skill."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.bundle.station_task import OUTPUT_VARIABLES
from edge_agent.errors import DataError
from edge_agent.forecast import QUANTILES
from edge_agent.verification import resolution_of
from model_factory.verification.aims import SETTLED_S
from model_factory.verification.gate import CHAMPION, judge, read_verdict, squared_errors, write_verdict
from model_factory.verification.paired import PAIRED_LEADS_S, Pairs, load, load_all, pit_interval, save
from model_factory.verification.scoring import ANOMALY, MODEL, PERSISTENCE, RIDGE
from model_factory.verification.significance import diebold_mariano, false_discovery, over_stations, paired

HOURS, STATIONS = 720, 2
SHAPE = (HOURS * STATIONS, len(PAIRED_LEADS_S), len(OUTPUT_VARIABLES))


def made(seed: int = 0, network: str = "made") -> Pairs:
    """A network whose errors hang together from hour to hour and from station to station, as those of weather do."""
    rng = np.random.default_rng(seed)
    weather = np.zeros((HOURS, *SHAPE[1:]))
    for t in range(1, HOURS):
        weather[t] = 0.7 * weather[t - 1] + rng.normal(0, 1, SHAPE[1:])
    error = np.concatenate([weather, weather]) + rng.normal(0, 0.5, SHAPE)
    came = np.full(SHAPE, 20.0)
    means = {MODEL: came + error}
    for source, more in ((PERSISTENCE, 1.3), (ANOMALY, 1.15), (RIDGE, 1.05)):
        means[source] = came + more * error + 0.1 * rng.normal(0, 1, SHAPE)
    low = rng.uniform(0, 1, SHAPE)
    hours = 1_600_000_200 // 3600 * 3600 + 3600 * np.arange(HOURS)
    return Pairs(
        "final-period", network, ("one", "two"), np.array([[47.0, 8.0], [47.1, 8.1]]),
        np.repeat(hours[0] - SETTLED_S, 2), np.repeat([0, 1], HOURS), np.tile(hours, 2), came, means, {},
        np.stack([low, low], axis=-1), {},
    )  # fmt: skip


def scaled(pairs: Pairs, by: float) -> Pairs:
    """The model's errors made larger or smaller by a factor."""
    error = pairs.means[MODEL] - pairs.came
    return replace(pairs, means={**pairs.means, MODEL: pairs.came + by * error})


def with_crps(pairs: Pairs, by: float = 1.0) -> Pairs:
    """With a CRPS: that of a sure forecast, the absolute error; the model's `by` times as large."""
    scores = {source: np.abs(mean - pairs.came) for source, mean in pairs.means.items()}
    return replace(pairs, crps={**scores, MODEL: by * scores[MODEL]})


def widened(pairs: Pairs, by: float) -> Pairs:
    """Intervals made narrower: observations move outwards in them."""
    return replace(pairs, pit=np.clip(0.5 + by * (pairs.pit - 0.5), 0, 1))


@pytest.fixture(scope="module")
def champion() -> dict[str, Pairs]:
    return {"made": made(), "other": made(1, "other")}


def test_a_candidate_made_five_percent_worse_is_refused(champion: dict[str, Pairs]) -> None:
    verdict = judge({name: scaled(pairs, 1.05) for name, pairs in champion.items()}, champion)
    assert not verdict.promoted
    against = [cell for cell in verdict.cells if cell.rival == CHAMPION]
    assert all(cell.worse and cell.ratio == pytest.approx(1.05, abs=2e-3) for cell in against)
    assert len(against) == 56 and any("above that of champion" in why for why in verdict.why)


def test_what_was_evaluated_otherwise_is_not_compared(champion: dict[str, Pairs]) -> None:
    other = {**champion, "made": replace(champion["made"], setting="final-period, adapted")}
    with pytest.raises(DataError, match='made: the candidate\'s pairs are of "final-period, adapted"'):
        judge(other, champion)
    with pytest.raises(DataError, match="was judged on other as well"):
        judge({"made": champion["made"]}, champion)
    judge(champion, {"made": champion["made"]})


def test_a_candidate_three_percent_better_is_taken(champion: dict[str, Pairs]) -> None:
    verdict = judge({name: scaled(pairs, 0.97) for name, pairs in champion.items()}, champion)
    assert verdict.promoted and verdict.why == ()
    assert all(cell.better for cell in verdict.cells if cell.rival == CHAMPION)


def test_worse_at_one_lead_of_one_variable_is_worse(champion: dict[str, Pairs]) -> None:
    worse = {}
    for name, pairs in champion.items():
        changed = scaled(pairs, 0.97).means[MODEL].copy()
        changed[:, 3, 0] = scaled(pairs, 1.05).means[MODEL][:, 3, 0]
        worse[name] = replace(pairs, means={**pairs.means, MODEL: changed})
    verdict = judge(worse, champion)
    assert {(c.variable, c.lead_s) for c in verdict.cells if c.worse} == {("temperature", PAIRED_LEADS_S[3])}
    assert not verdict.promoted


def test_the_champion_itself_is_not_worse_than_itself(champion: dict[str, Pairs]) -> None:
    verdict = judge(champion, champion)
    assert verdict.promoted
    assert all(cell.ratio == 1.0 and not cell.worse for cell in verdict.cells if cell.rival == CHAMPION)


def test_a_candidate_behind_a_baseline_is_refused_though_it_beats_the_champion(champion: dict[str, Pairs]) -> None:
    poor = {name: scaled(pairs, 1.2) for name, pairs in champion.items()}
    verdict = judge({name: scaled(pairs, 1.15) for name, pairs in champion.items()}, poor)
    assert not verdict.promoted and {cell.rival for cell in verdict.cells if cell.worse} == {RIDGE}


def test_lost_coverage_is_refused_though_the_error_is_smaller(champion: dict[str, Pairs]) -> None:
    candidate = {name: widened(scaled(pairs, 0.97), 1.15) for name, pairs in champion.items()}
    verdict = judge(candidate, champion)
    assert not verdict.promoted and all("central 80 %" in why for why in verdict.why)
    assert judge(candidate, {name: widened(pairs, 1.15) for name, pairs in champion.items()}).promoted


def test_a_worse_crps_in_one_network_is_refused_though_the_error_is_the_same(champion: dict[str, Pairs]) -> None:
    before = {name: with_crps(pairs) for name, pairs in champion.items()}
    after = {**before, "other": with_crps(champion["other"], 1.05)}
    assert judge(before, before).promoted
    verdict = judge(after, before)
    assert not verdict.promoted and all("CRPS" in why for why in verdict.why if "champion" in why)
    worse = [cell for cell in verdict.cells if cell.worse and cell.rival == CHAMPION]
    assert {(cell.score, cell.network) for cell in worse} == {("crps", "other")} and len(worse) == 56
    assert all(cell.ratio == pytest.approx(1.05, abs=2e-3) for cell in worse)


def test_pairs_come_in_any_order_and_only_shared_ones_count(champion: dict[str, Pairs]) -> None:
    order = np.random.default_rng(3).permutation(SHAPE[0])[: SHAPE[0] * 3 // 4]
    fewer = {}
    for name, p in champion.items():
        rows = {key: getattr(p, key)[order] for key in ("station", "origin", "came", "pit")}
        fewer[name] = replace(p, **rows, means={k: v[order] for k, v in p.means.items()})
    verdict = judge({name: scaled(pairs, 0.97) for name, pairs in fewer.items()}, champion)
    assert all(c.ratio == pytest.approx(0.97, abs=1e-3) for c in verdict.cells if c.rival == CHAMPION)


def test_without_ridge_or_shared_origins_there_is_no_verdict(champion: dict[str, Pairs]) -> None:
    bare = {n: replace(p, means={k: v for k, v in p.means.items() if k != RIDGE}) for n, p in champion.items()}
    with pytest.raises(DataError, match="ridge"):
        judge(bare, champion)
    elsewhere = {name: replace(pairs, origin=pairs.origin + 1800) for name, pairs in champion.items()}
    with pytest.raises(DataError, match="champion"):
        judge(champion, elsewhere)


def test_luck_is_seldom_called_skill() -> None:
    """Two forecasts of the same quality whose errors last for hours: about 5 % of tests are
    below 0.05, in samples of this length at most 10 %."""
    rng = np.random.default_rng(5)
    hours = 3600 * np.arange(1000)
    below = []
    for _ in range(400):
        x = np.convolve(rng.normal(0, 1, 1011), np.ones(12), "valid")  # as errors at a lead of 12 hours
        difference = paired(hours, x, 12 * 3600)
        assert difference is not None
        below.append(diebold_mariano(difference).p_worse < 0.05)
    assert 0.02 < np.mean(below) < 0.1


def test_stations_side_by_side_are_one_witness() -> None:
    rng = np.random.default_rng(6)
    hours, x = 3600 * np.arange(300), rng.normal(0.1, 1, 300)
    once, often = paired(hours, x, 900), paired(np.tile(hours, 9), np.tile(x, 9), 900)
    assert once is not None and often is not None and once.n == often.n == 300
    assert once.mean == pytest.approx(often.mean) and once.variance == pytest.approx(often.variance)
    times, mean = over_stations(np.array([0, 0, 900]), np.array([1.0, 3.0, np.nan]))
    assert times.tolist() == [0] and mean.tolist() == [2.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_adjusted_p_values_keep_their_order_and_only_grow(p: list[float]) -> None:
    adjusted = false_discovery(p)
    assert (adjusted >= np.array(p) - 1e-12).all() and (adjusted <= 1).all()
    assert (np.diff(adjusted[np.argsort(p)]) >= -1e-12).all()


def test_tied_readings_of_an_honest_forecast_have_a_flat_pit() -> None:
    """Calm in a third of cases, and readings in whole numbers: the randomized PIT is uniform all the same."""
    rng = np.random.default_rng(7)
    n = 40_000
    wind = np.maximum(rng.normal(2, 4, n), 0.0)
    sample = np.sort(np.maximum(rng.normal(2, 4, 200_000), 0.0))
    q = np.tile(np.quantile(sample, QUANTILES), (n, 1))
    for came, resolution in ((wind, 0.0), (np.round(wind), 1.0)):
        low, high = pit_interval("wind_speed", q, came, resolution).T
        u = low + rng.uniform(0, 1, n) * (high - low)
        counts, _ = np.histogram(u, (0, 0.1, 0.3, 0.5, 0.7, 0.9, 1))
        np.testing.assert_allclose(counts / n, [0.1, 0.2, 0.2, 0.2, 0.2, 0.1], atol=0.02)


def test_the_step_of_a_series_is_found() -> None:
    assert resolution_of(np.array([1013.0, 1012.0, np.nan, 1015.0, 1014.0])) == 1.0
    assert resolution_of(np.round(np.random.default_rng(0).normal(0, 5, 999), 1)) == pytest.approx(0.1)
    assert resolution_of(np.array([3.0])) == 0.0


def test_pairs_and_verdict_come_back_as_they_were_written(champion: dict[str, Pairs], tmp_path: Path) -> None:
    for pairs in champion.values():
        save(pairs, tmp_path)
    back = load_all(tmp_path)
    assert set(back) == {"made", "other"} and back["made"].stations == ("one", "two")
    np.testing.assert_allclose(back["made"].means[RIDGE], champion["made"].means[RIDGE], rtol=1e-6)
    verdict = judge(back, None)
    write_verdict(verdict, tmp_path)
    assert read_verdict(tmp_path) == verdict and CHAMPION not in verdict.rivals
    (tmp_path / "pairs" / "made.npz").write_bytes(b"PK\x03\x04 not pairs")
    with pytest.raises(DataError, match="evaluate again"):
        load(tmp_path / "pairs" / "made.npz")


def test_pairs_of_an_earlier_release_can_still_be_compared_with(tmp_path: Path) -> None:
    """A registry's champion may be older than probabilities of several events."""
    path = save(made(), tmp_path)
    with np.load(path) as held:
        arrays = {name: held[name] for name in held.files if name != "since" and not name.startswith("chance:")}
    np.savez_compressed(path, **arrays, probability=np.full(SHAPE[:2], 0.1))
    old = load(path)
    assert old.chances == {} and old.since.tolist() == [0, 0]
    assert judge({"made": made()}, {"made": old}).promoted


def test_directions_are_apart_on_the_circle() -> None:
    pairs = made()
    column = OUTPUT_VARIABLES.index("wind_direction")
    turned = np.full(SHAPE, 355.0)
    assert np.allclose(squared_errors(replace(pairs, came=np.full(SHAPE, 5.0)), turned)[..., column], 100.0)
