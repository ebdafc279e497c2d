"""The aims beside what was reached: met or missed by the figures of the pairs; another for what a run never saw."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from edge_agent.bundle.station_task import OUTPUT_VARIABLES
from model_factory.verification.aims import Aim, aims
from model_factory.verification.paired import NAMED_EVENTS, Pairs
from model_factory.verification.scoring import CLIMATOLOGY, HELD_OUT, LIGHTGBM, MODEL, PERSISTENCE, RIDGE
from tests.factory.test_gate import SHAPE, made, scaled, with_crps


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    """LightGBM makes the errors of the model 1.05 times, ridge 1.2 times."""
    bare = made()
    error = bare.means[MODEL] - bare.came
    rivals = {LIGHTGBM: bare.came + 1.05 * error, RIDGE: bare.came + 1.2 * error}
    return with_crps(replace(bare, means={**bare.means, **rivals}))


def found(pairs: Pairs, about: str) -> Aim:
    [aim] = [aim for aim in aims({"made": pairs}) if aim.about == about]
    return aim


def test_a_known_network_is_held_against_the_better_of_its_regressions(pairs: Pairs) -> None:
    aim = found(pairs, "RMSE / better of ridge and LightGBM")
    assert aim.got == pytest.approx(1 / 1.05, abs=1e-6) and aim.met and aim.verdict == "met"
    worse = found(scaled(pairs, 1.05), "RMSE / better of ridge and LightGBM")
    assert worse.got == pytest.approx(1.0) and worse.met is False and worse.verdict == "missed by 0.040"
    assert not [aim for aim in aims({"made": pairs}) if "anomaly" in aim.about]


def test_the_worst_cell_is_named(pairs: Pairs) -> None:
    means = {**pairs.means, MODEL: pairs.means[MODEL].copy()}
    column = OUTPUT_VARIABLES.index("pressure")
    means[MODEL][:, 2, column] = pairs.came[:, 2, column] + 1.1 * (pairs.means[LIGHTGBM] - pairs.came)[:, 2, column]
    aim = found(replace(pairs, means=means), "RMSE / better of ridge and LightGBM, worst cell")
    assert aim.got == pytest.approx(1.1, abs=1e-6) and aim.where == "pressure, 60 min" and not aim.met


def test_an_unseen_network_is_held_against_anomaly_persistence_and_its_own_ridge(pairs: Pairs) -> None:
    assert found(replace(pairs, setting=f"{HELD_OUT}, adapted"), "RMSE / its own ridge").bound == 1.0
    unseen = replace(pairs, setting=HELD_OUT)
    assert found(unseen, "RMSE / anomaly persistence").got == pytest.approx(1 / 1.15, rel=0.01)
    assert found(unseen, "RMSE / its own ridge").got == pytest.approx(1 / 1.2, abs=1e-6)
    assert not [aim for aim in aims({"made": unseen}) if "better of" in aim.about]


def test_crps_is_held_against_the_dressed_regressions(pairs: Pairs) -> None:
    assert found(pairs, "CRPS / dressed LightGBM").got == pytest.approx(1 / 1.05, abs=1e-6)
    assert found(with_crps(pairs, 1.1), "CRPS / dressed LightGBM").met is False
    assert found(pairs, "CRPS / dressed ridge").got < found(with_crps(pairs, 1.1), "CRPS / dressed ridge").got


def test_honest_intervals_meet_their_aims_and_narrow_ones_are_called_so(pairs: Pairs) -> None:
    assert found(pairs, "80 % interval off by").met and found(pairs, "90 % interval off by, any lead").met
    narrow = replace(pairs, pit=np.clip(0.5 + 1.2 * (pairs.pit - 0.5), 0, 1))
    aim = found(narrow, "80 % interval off by")
    assert aim.got == pytest.approx(0.8 - 0.8 / 1.2, abs=0.02) and "too narrow" in aim.where and not aim.met


def test_coverage_is_not_judged_in_the_first_sixty_days(pairs: Pairs) -> None:
    fresh = replace(pairs, since=np.repeat(pairs.origin.min(), 2))
    aim = found(fresh, "80 % interval off by")
    assert math.isnan(aim.got) and aim.met is None and aim.verdict == "nothing to judge by"


def test_an_event_needs_to_have_come_to_be_judged(pairs: Pairs) -> None:
    came = pairs.came.copy()
    column = OUTPUT_VARIABLES.index("temperature")
    came[..., column] = 5.0
    odds = {source: np.full((*SHAPE[:2], len(NAMED_EVENTS)), 0.25) for source in (MODEL, CLIMATOLOGY, PERSISTENCE)}
    never = replace(pairs, came=came, chances=odds)
    assert found(never, "Brier skill of frost over climatology").met is None
    came = came.copy()
    came[::4, :, column] = -5.0
    skilful = {**odds, MODEL: odds[MODEL].copy()}
    skilful[MODEL][..., 1] = np.where(np.arange(SHAPE[0]) % 4, 0.0, 1.0)[:, None]
    aim = found(replace(never, came=came, chances=skilful), "Brier skill of frost over climatology")
    assert aim.got == 1.0 and aim.met
    assert found(replace(never, came=came), "Brier skill of frost over persistence").met is False


def test_without_regressions_there_is_nothing_to_judge_by(pairs: Pairs) -> None:
    bare = replace(pairs, means={k: v for k, v in pairs.means.items() if k != RIDGE}, crps={})
    assert found(bare, "RMSE / better of ridge and LightGBM").met is None
    assert not [aim for aim in aims({"made": bare}) if "CRPS" in aim.about]
