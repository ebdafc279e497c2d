"""Comparisons that are shared by all stations: what they see, and what they need."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from edge_agent.errors import ConfigError
from model_factory.training.data import StationFile, station_files
from model_factory.verification import pooled
from model_factory.verification.features import LEAD_STEPS, base_forecasts
from model_factory.verification.pairs import held_out_origins, load_record, observed
from model_factory.verification.zero_shot import zero_shot_forecasts
from tests.factory.test_evaluate import rmse, write_data


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[StationFile]:
    data = tmp_path_factory.mktemp("data")
    for network in ("here", "there", "left-out"):
        write_data(data, network, 14)
    return station_files(data)


def test_trees_of_all_stations_forecast_one_that_they_never_saw(files: list[StationFile], tmp_path: Path) -> None:
    """And beat plain persistence there; what was kept is used again, and changes with the data."""
    made = pooled.pooled_forecasts(files, ("left-out",), 0.2, tmp_path)
    assert set(made) == {("here", "one"), ("there", "one"), ("left-out", "one")}
    one = load_record(next(file for file in files if file.network == "left-out"), 0.2)
    at = held_out_origins(one, 900)
    whole = pooled.at_origins(made["left-out", "one"], one, at)
    hours = one.steps[at] % 3600 == 0
    assert np.isnan(whole[~hours]).all() and not np.isnan(whole[hours, :, 0]).any()
    assert np.isnan(whole[..., 1:]).all()  # nothing else was read
    truth, plain = observed(one, at)[hours], base_forecasts(one, at, cycle=False)[hours]
    k = LEAD_STEPS.index(12)
    assert rmse(whole[hours, k, 0], truth[:, 11, 0]) < 0.8 * rmse(plain[:, 11, 0], truth[:, 11, 0])
    [kept] = tmp_path.glob("all-stations--*.npz")
    before = kept.stat().st_mtime_ns
    again = pooled.pooled_forecasts(files, ("left-out",), 0.2, tmp_path)
    np.testing.assert_array_equal(again["here", "one"], made["here", "one"])
    assert kept.stat().st_mtime_ns == before


def test_a_model_that_is_not_installed_is_named(
    files: list[StationFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fracast", None)
    one = load_record(files[0], 0.2)
    with pytest.raises(ConfigError, match="pip install --no-deps fracast"):
        zero_shot_forecasts(one, held_out_origins(one, 3600), tmp_path)
    assert not list(tmp_path.iterdir())
