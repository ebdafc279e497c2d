"""Whether an event came: one rule for forecasts, scores and training, that roundings do not decide."""

from __future__ import annotations

import numpy as np
import pytest

from edge_agent.bundle.station_task import RAIN_EVENT
from edge_agent.config import Station
from edge_agent.forecast import MIN_HISTORY_S, persistence
from edge_agent.forecast.hindcast import hindcast
from edge_agent.forecast.nowcast import Nowcaster
from edge_agent.history import History
from edge_agent.variables import convert

START = 1_700_006_400
TIPS = {
    "two tips of 0.1 mm": 0.1 + 0.1,
    "four of 0.05 mm": sum([0.05] * 4),
    "two of 0.1 mm in single precision": float(np.float32(0.1) + np.float32(0.1)),
    "between two totals": 1000.3 - 1000.1,
    "inches with five digits": convert("rain", 0.00787, "in"),
    "centimetres": convert("rain", 0.02, "cm"),
    "metres": convert("rain", 0.0002, "m"),
    "a tip of 0.01 in": convert("rain", 0.01, "in"),
}


@pytest.mark.parametrize("rain", TIPS.values(), ids=TIPS)
def test_rain_of_0_2_mm_counts_however_it_was_summed_or_converted(rain):
    assert RAIN_EVENT.came(np.array([rain, np.float32(rain)])).tolist() == [1.0, 1.0]


def test_what_a_gauge_can_tell_from_it_does_not_count_and_missing_stays_missing():
    np.testing.assert_array_equal(RAIN_EVENT.came(np.array([0.0, 0.19, 0.198, np.nan])), [0.0, 0.0, 0.0, np.nan])


def test_baselines_and_outcomes_go_by_it():
    just = convert("rain", 0.00787, "in")
    x = np.full((1, 2880), just, np.float32)
    assert persistence.event_probability(x, RAIN_EVENT, cycle=False).tolist() == [1.0]
    assert persistence.event_probability(x, RAIN_EVENT)[0] > 0.95
    times = np.arange(START, START + 2 * MIN_HISTORY_S, 900)
    past = History(times, {"rain": np.full(len(times), just)}, [])
    station = Station(id="roof", latitude=47.0, longitude=8.0, elevation_m=400.0)
    [part] = hindcast(past, station, Nowcaster(None), np.array([START + MIN_HISTORY_S]))
    assert (part.outcome[..., 0] == 1.0).all() and (part.chance["persistence"][..., 0] == 1.0).all()
